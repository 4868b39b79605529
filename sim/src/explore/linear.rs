//! The order that the steps of a run must keep, its least linearisation, and orders with one race the other way.

use alloc::vec::Vec;

use super::happens_before::{Steps, happening_before};
use super::lenient::{Line, Step};
use crate::event::Action;
use crate::footprint::conflicts;
use crate::world::World;

/// For each step, those that happen before it.
pub(crate) fn happens_before(steps: &[Step]) -> Vec<Steps> {
    let mut before = Vec::with_capacity(steps.len());
    happening_before(&mut before, steps.iter().map(|step| (step.follows, &step.accesses[..])));
    before
}

/// The same trace in its simplest order: the current task goes on if it may, else the least label comes.
pub(crate) fn linearised(world: &World, steps: &[Step]) -> Vec<Line> {
    let before = happens_before(steps);
    let mut left: Vec<usize> = (0..steps.len()).collect();
    let mut done = Steps::default();
    let mut current = None;
    let mut lines = Vec::with_capacity(steps.len());
    while !left.is_empty() {
        let may_come = |index: &usize| before[*index].iter().all(|step| done.contains(step));
        let key = |index: &usize| {
            let step = &steps[*index];
            let goes_on = step.action == Action::Poll && Some(step.path) == current;
            (!goes_on, world.paths.label(step.path), *index)
        };
        let allowed = left.iter().copied().filter(may_come);
        let next = allowed.min_by_key(key).expect("the-earliest-step-left-may-come");
        left.retain(|index| *index != next);
        done.insert(next);
        let step = &steps[next];
        if step.action == Action::Poll {
            current = Some(step.path);
        }
        lines.push(step.line());
    }
    lines
}

/// Two conflicting steps of different processes, by number.
#[derive(Clone, Copy)]
pub(crate) struct Race {
    pub earlier: usize,
    pub later: usize,
}

/// The pairs of conflicting steps with nothing between them, the last ones first.
pub(crate) fn races(steps: &[Step]) -> Vec<Race> {
    let before = happens_before(steps);
    let mut races = Vec::new();
    for later in (0..steps.len()).rev() {
        for earlier in (0..later).rev() {
            let (a, b) = (&steps[earlier], &steps[later]);
            if a.path == b.path || !conflicts(&a.accesses, &b.accesses) {
                continue;
            }
            let between = |step| before[later].contains(step) && before[step].contains(earlier);
            if !(earlier + 1..later).any(between) {
                races.push(Race { earlier, later });
            }
        }
    }
    races
}

/// The plan in which a race goes the other way, and how many of its lines must fit for it to be that.
pub(crate) fn swapped(steps: &[Step], race: Race) -> (Vec<Line>, usize) {
    let before = happens_before(steps);
    let Race { earlier, later } = race;
    let waits = |step: &usize| before[*step].contains(earlier);
    let (held, free): (Vec<_>, Vec<_>) = (earlier + 1..later).partition(waits);
    let first = (0..earlier).chain(free).chain([later]);
    let mut plan: Vec<Line> = first.map(|step| steps[step].line()).collect();
    let fixed = plan.len();
    let rest = [earlier].into_iter().chain(held).chain(later + 1..steps.len());
    plan.extend(rest.map(|step| steps[step].line()));
    (plan, fixed)
}
