//! Plans for proptest.

use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::{Generate, Plan};

/// Every plan.
#[derive(Clone, Copy, Debug)]
pub struct Plans;

impl Strategy for Plans {
    type Tree = PlanTree;
    type Value = Plan;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let seed = proptest::prelude::any::<u64>().new_tree(runner)?.current();
        Ok(PlanTree::new(Plan::from_seed(seed)))
    }
}

/// A plan, and the simpler ones that are still to be tried.
#[derive(Clone, Debug)]
pub struct PlanTree {
    current: Plan,
    /// What `current` was made simpler from.
    before: Option<Plan>,
    /// Behind this many simpler plans of `before`.
    tried: usize,
}

impl PlanTree {
    fn new(plan: Plan) -> Self {
        Self { current: plan, before: None, tried: 0 }
    }

    fn try_next(&mut self, from: Plan) -> bool {
        let next = from.smaller().into_iter().nth(self.tried);
        self.tried += 1;
        match next {
            Some(simpler) => {
                (self.current, self.before) = (simpler, Some(from));
                true
            }
            None => {
                (self.current, self.before) = (from, None);
                false
            }
        }
    }
}

impl ValueTree for PlanTree {
    type Value = Plan;

    fn current(&self) -> Plan {
        self.current.clone()
    }

    fn simplify(&mut self) -> bool {
        // The present one failed, so what it was made from is forgotten.
        self.tried = 0;
        self.try_next(self.current.clone())
    }

    fn complicate(&mut self) -> bool {
        // The present one passed: the next of what it was made from.
        self.before.take().is_some_and(|before| self.try_next(before))
    }
}
