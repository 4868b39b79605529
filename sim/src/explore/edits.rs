//! The edits of a failing run: each is a plan that may lead to a simpler one. Not for: running them.

use alloc::vec::Vec;

use super::Finding;
use super::lenient::{Cost, Line, Step};
use crate::event::Action;
use crate::paths::PathId;

/// A run that failed.
#[derive(Clone)]
pub(crate) struct Run {
    pub steps: Vec<Step>,
    pub cost: Cost,
    pub finding: Finding,
    pub hash: u64,
}

impl Run {
    pub fn lines(&self) -> Vec<Line> {
        self.steps.iter().map(Step::line).collect()
    }

    /// What is compared: of equal costs, fewer detours are simpler.
    pub fn key(&self) -> (Cost, usize) {
        (self.cost, self.steps.iter().filter(|step| step.is_detour).count())
    }

    /// The steps at which `wanted` holds.
    pub fn places(&self, wanted: impl Fn(&Step) -> bool) -> Vec<usize> {
        (0..self.steps.len()).filter(|index| wanted(&self.steps[*index])).collect()
    }
}

/// The same event without its fault, or the end without the power loss.
pub(crate) fn without_failure(action: Action) -> Option<Action> {
    match action {
        Action::Fault(fault) if fault.is_late() => Some(Action::Complete),
        Action::Fault(_) => Some(Action::Effect),
        Action::Crash => Some(Action::End),
        _ => None,
    }
}

/// The fault at `place` does not happen.
pub(crate) fn without_fault(run: &Run, place: usize) -> Option<Vec<Line>> {
    let Step { path, action, .. } = &run.steps[place];
    let mut plan = run.lines();
    plan[place] = Line::Take(*path, without_failure(*action)?);
    Some(plan)
}

/// A fault after the effect comes instead of it.
pub(crate) fn early_fault(run: &Run, place: usize) -> Option<Vec<Line>> {
    let Step { path, action: Action::Fault(fault), .. } = run.steps[place] else { return None };
    let earlier = fault.earlier()?;
    let had = |step: &Step| step.path == path && step.action == Action::Effect;
    let effect = run.steps[..place].iter().position(had)?;
    let mut plan = run.lines();
    plan[effect] = Line::Take(path, Action::Fault(earlier));
    plan[place] = Line::Take(path, Action::Complete);
    Some(plan)
}

/// `line` comes before the step at `place`.
pub(crate) fn spliced(run: &Run, place: usize, line: Line) -> Vec<Line> {
    let mut plan = run.lines();
    plan.insert(place, line);
    plan
}

/// The task preempted at `place` goes on: to where it waits, or as far as its next run goes; or its run before comes
/// later.
pub(crate) fn without_preemption(run: &Run, place: usize) -> Vec<Vec<Line>> {
    let steps = &run.steps;
    let Some(task) = steps[place].preempts else { return Vec::new() };
    let mut plans = Vec::from([spliced(run, place, Line::GoOn), run.lines()[..place].to_vec()]);
    let others = |step: &Step| step.action == Action::Poll && step.path != task;
    let Some(next) = (place..steps.len()).find(|index| steps[*index].polls(task)) else {
        return plans;
    };
    let end = (next..steps.len()).find(|index| others(&steps[*index])).unwrap_or(steps.len());
    let begin = (0..place).rev().find(|index| others(&steps[*index])).map_or(0, |last| last + 1);
    plans.push(moved(steps, task, next..end, place));
    plans.push(moved(steps, task, begin..place, next));
    plans
}

/// The polls of `task` in `range` come before the step at `to` instead.
fn moved(steps: &[Step], task: PathId, range: core::ops::Range<usize>, to: usize) -> Vec<Line> {
    let is_moved = |index: &usize| range.contains(index) && steps[*index].polls(task);
    let stays = |index: &usize| !is_moved(index);
    let order = (0..to).filter(stays);
    let order = order.chain(range.clone().filter(is_moved));
    order.chain((to..steps.len()).filter(stays)).map(|index| steps[index].line()).collect()
}

/// The choice at `place` falls on a lower number.
pub(crate) fn lower_choices(run: &Run, place: usize) -> Vec<Vec<Line>> {
    let Step { path, action: Action::Choose(chosen), .. } = run.steps[place] else {
        return Vec::new();
    };
    let lower = (0..chosen).map(|number| {
        let mut plan = run.lines();
        plan[place] = Line::Take(path, Action::Choose(number));
        plan
    });
    lower.collect()
}

/// What the policy takes at `place` comes first, or instead.
pub(crate) fn without_detour(run: &Run, place: usize) -> Vec<Vec<Line>> {
    if !run.steps[place].is_detour {
        return Vec::new();
    }
    let mut instead = run.lines();
    instead[place] = Line::Policy;
    let mut goes_on = spliced(run, place, Line::Policy);
    goes_on.insert(place + 1, Line::GoOn);
    // Who came at `place` preempts the policy's task instead of being preempted.
    let mut turned = spliced(run, place, Line::Policy);
    turned.insert(place + 2, Line::GoOn);
    let turned_only = turned[..place + 3].to_vec();
    Vec::from([goes_on, spliced(run, place, Line::Policy), instead, turned, turned_only])
}
