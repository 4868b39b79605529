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

/// The pairs of conflicting steps: those with nothing between them, the last ones first; and the others, the nearest
/// ones first.
pub(crate) fn races(steps: &[Step]) -> [Vec<Race>; 2] {
    let before = happens_before(steps);
    let (mut near, mut far) = (Vec::new(), Vec::new());
    for later in (0..steps.len()).rev() {
        for earlier in (0..later).rev() {
            let (a, b) = (&steps[earlier], &steps[later]);
            if a.path == b.path || !conflicts(&a.accesses, &b.accesses) {
                continue;
            }
            let between = |step| before[later].contains(step) && before[step].contains(earlier);
            let is_far = (earlier + 1..later).any(between);
            if is_far { &mut far } else { &mut near }.push(Race { earlier, later });
        }
    }
    far.sort_by_key(|race| race.later - race.earlier);
    [near, far]
}

/// The plan in which a race goes the other way, since what happens after its earlier step comes later; and how many of
/// its lines must fit for it to be that.
pub(crate) fn swapped(steps: &[Step], race: Race) -> (Vec<Line>, usize) {
    let before = happens_before(steps);
    put_off(steps, race, |step| before[step].contains(race.earlier))
}

/// The same, since whoever does the earlier step does it later, and so do those whom they began.
pub(crate) fn postponed(world: &World, steps: &[Step], race: Race) -> (Vec<Line>, usize) {
    let label = |step: usize| world.paths.label(steps[step].path);
    put_off(steps, race, |step| label(step).starts_with(label(race.earlier)))
}

fn put_off(
    steps: &[Step],
    Race { earlier, later }: Race,
    waits: impl Fn(usize) -> bool,
) -> (Vec<Line>, usize) {
    let (held, free): (Vec<_>, Vec<_>) = (earlier + 1..later).partition(|step| waits(*step));
    let first = (0..earlier).chain(free).chain([later]);
    let mut plan: Vec<Line> = first.map(|step| steps[step].line()).collect();
    let fixed = plan.len();
    let rest = [earlier].into_iter().chain(held).chain(later + 1..steps.len());
    plan.extend(rest.map(|step| steps[step].line()));
    (plan, fixed)
}
