//! Stacks: what filters, in whatever order, do to the jobs and snapshots of the chain below them.

use super::draw::{Source, numbers};
use super::smaller::without;
use super::{ChainPlan, ChainStep, DebugRule, Filter, Generate, JobKind, StackNode, chain};

/// A [`ChainPlan`] with nodes between the chain and its device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackPlan(pub ChainPlan);

/// The most nodes of a stack.
const MOST: u32 = 5;

impl StackPlan {
    fn draw(source: &mut Source<'_>) -> Self {
        let mut plan = ChainPlan::draw(source);
        let count = 1 + source.index(MOST);
        plan.stack = source.list(count, node);
        for step in &mut plan.admin {
            if let ChainStep::Snapshot { below, .. } = step {
                *below = !source.one_in(3);
            }
        }
        if source.one_in(6) {
            plan.admin.push(ChainStep::RemoveCopy(source.index(MOST)));
        }
        for job in plan.operators.iter_mut().flatten() {
            if let JobKind::Mirror { below, .. } = &mut job.kind {
                *below = !source.one_in(3);
            }
        }
        Self(plan)
    }
}

fn node(source: &mut Source<'_>) -> StackNode {
    match source.below(11) {
        0 => StackNode::Filter(Filter::Throttle { limited: false }),
        1 => StackNode::Filter(Filter::Raw),
        2 => StackNode::Filter(Filter::CopyOnRead),
        3 => StackNode::Filter(Filter::Blkdebug(DebugRule::Nothing)),
        4 => StackNode::Compress,
        5 => StackNode::Luks,
        6 => StackNode::Blkverify,
        7 => StackNode::Blklogwrites,
        8 => StackNode::Preallocate,
        _ => StackNode::Quorum { copies: 2 + source.index(2), fifo: source.one_in(3) },
    }
}

impl Generate for StackPlan {
    const MARKS: &'static [&'static str] = chain::MARKS;

    fn from_seed(seed: u64) -> Self {
        Self::draw(&mut Source(&mut numbers(seed)))
    }

    fn scenario(&self, name: &str) -> String {
        self.0.text(name)
    }

    fn smaller(&self) -> Vec<Self> {
        let fewer = without(&self.0.stack).map(|stack| ChainPlan { stack, ..self.0.clone() });
        fewer.chain(self.0.simpler_by_one()).map(Self).collect()
    }

    fn budgets(&mut self) -> [&mut u32; 2] {
        self.0.budgets()
    }
}
