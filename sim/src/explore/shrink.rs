//! Shrinking: a failing tape is edited while it gets simpler and breaks the same property.
//!
//! Source: delta debugging (Zeller, Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", TSE 2002).
//! Differs: an edited tape is replayed leniently, and what counts is the tape that was really run, so each result
//! replays exactly; fewer preemptions count before fewer steps. Of results of equal cost the one with fewer detours
//! from the policy is simpler, and the last is written as its trace's least linearisation, if that costs no more.
//!
//! Invariant `every-result-fails`: the tape in hand always breaks the same property.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::edits::{
    Run, early_fault, lower_choices, without_detour, without_fault, without_preemption,
};
use super::explorer::{Explorer, Summary};
use super::lenient::{Cost, Lenient, Line, Step};
use super::linear::linearised;
use super::runs::{Recorded, describe};
use super::{Finding, Limits, Outcome, Program, Replay, run_once};
use crate::event::Action;
use crate::paths::PathId;
use crate::tape::TapeLine;
use crate::time::Time;
use crate::world::World;

/// Longer runs are neither linearised nor searched for races.
pub(super) const ANALYSED_STEPS: usize = 1_000;

/// What shrinking made of a tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// The choices; notes say which faults and preemptions are necessary, and which two steps race.
    pub tape: Vec<TapeLine>,
    /// What it breaks.
    pub finding: Finding,
    /// The run's hash.
    pub hash: u64,
    /// Of the tape given.
    pub cost_before: Cost,
    /// Of the tape returned.
    pub cost_after: Cost,
    /// Runs that it took.
    pub replays: u64,
    /// No edit that was known makes it simpler. False if shrinking was stopped before that was sure.
    pub minimal: bool,
    /// No execution at all breaks the same property and is simpler. False if there were too many to be sure.
    pub least: bool,
}

impl Explorer<'_> {
    /// Makes a failing tape simpler while what it breaks is still the `same`. Of `limits`, `executions` bounds the
    /// replays.
    ///
    /// # Errors
    /// How the replay of the tape ended, if that was not a finding that is the same.
    ///
    /// # Panics
    /// `searches-are-untimed`: if requests take time.
    pub fn shrink(
        &mut self,
        tape: Vec<String>,
        same: &dyn Fn(&Finding) -> bool,
        limits: Limits,
    ) -> Result<Shrunk, Outcome> {
        assert_eq!(self.setup.time, Time::Untimed, "searches-are-untimed");
        let mut world = self.world(self.setup.seed);
        let mut summary = Summary::default();
        let (report, choices, _) =
            self.runs().run(&mut world, &mut Replay::new(tape), &mut summary);
        let finding = match report.outcome {
            Outcome::Violated(finding) if same(&finding) => finding,
            outcome => return Err(outcome),
        };
        let plan: Vec<_> = choices.into_iter().map(|(path, act)| Line::Take(path, act)).collect();
        let (program, go_on) = (self.program, &mut *self.go_on);
        let best = Run { steps: Vec::new(), cost: Cost::default(), finding, hash: report.hash };
        let stopped = false;
        let mut shrinker = Shrinker { world, program, same, limits, go_on, summary, stopped, best };
        match shrinker.attempt(&plan) {
            Some(run) => shrinker.best = run,
            None => return Err(Outcome::Blocked),
        }
        Ok(shrinker.shrink())
    }
}

pub(super) struct Shrinker<'a> {
    pub(super) world: World,
    pub(super) program: &'a dyn Program,
    pub(super) same: &'a dyn Fn(&Finding) -> bool,
    pub(super) limits: Limits,
    pub(super) go_on: &'a mut dyn FnMut(&Summary) -> bool,
    pub(super) summary: Summary,
    stopped: bool,
    pub(super) best: Run,
}

impl Shrinker<'_> {
    fn shrink(mut self) -> Shrunk {
        let cost_before = self.best.cost;
        self.simplify();
        let (simplified, minimal) = (self.best.hash, !self.stopped);
        let least = self.search().is_ok();
        let is_other = self.best.hash != simplified;
        if is_other && !least {
            self.simplify();
        }
        let minimal = least || minimal && !(is_other && self.stopped);
        // The marks take a few replays more, even if the limit was reached.
        let marks = self.marks();
        let choices = self.best.steps.iter().map(|step| (step.path, step.action)).collect();
        let mut recorded = Recorded::new(choices);
        let (_, mut tape) = describe(&mut self.world, self.program, &mut recorded, self.limits);
        for (step, mark) in marks {
            tape[step].notes.push(mark.to_string());
        }
        let Run { cost: cost_after, finding, hash, .. } = self.best;
        let replays = self.summary.executions;
        Shrunk { tape, finding, hash, cost_before, cost_after, replays, minimal, least }
    }

    fn simplify(&mut self) {
        self.settle(Run::key);
        while self.linearise() && self.settle(|run| (run.cost, 0)) {}
    }

    /// Runs a plan; nothing if it does not break the same property.
    pub(super) fn replay(&mut self, plan: &[Line]) -> (Vec<Step>, Option<Run>) {
        let mut lenient = Lenient::new(plan);
        let limits = self.limits;
        let report = run_once(&mut self.world, self.program, &mut lenient, limits, &mut |_, _| ());
        self.summary.executions += 1;
        self.summary.steps += u64::from(report.steps);
        let Lenient { steps, cost, .. } = lenient;
        match report.outcome {
            Outcome::Violated(finding) if (self.same)(&finding) => {
                let run = Run { steps, cost, finding, hash: report.hash };
                (Vec::new(), Some(run))
            }
            _ => (steps, None),
        }
    }

    fn attempt(&mut self, plan: &[Line]) -> Option<Run> {
        // The first run of all is needed to know what the tape is.
        let is_first = self.best.steps.is_empty();
        if !self.may_go_on() && !is_first {
            return None;
        }
        self.replay(plan).1
    }

    /// Whether nobody has said stop, and the limit of replays is not reached.
    pub(super) fn may_go_on(&mut self) -> bool {
        let spent = self.summary.executions >= self.limits.executions;
        self.stopped |= spent || !(self.go_on)(&self.summary);
        !self.stopped
    }

    /// Takes what a plan leads to if that is simpler.
    fn improve<K: Ord>(&mut self, plan: &[Line], key: fn(&Run) -> K) -> bool {
        match self.attempt(plan) {
            Some(run) if key(&run) < key(&self.best) => {
                self.best = run;
                true
            }
            _ => false,
        }
    }

    /// Tries every edit until none helps; whether one did.
    fn settle<K: Ord>(&mut self, key: fn(&Run) -> K) -> bool {
        let mut helped = false;
        loop {
            let mut again = self.cut_tail(key);
            again |= self.edit_each(key, |run, place| Vec::from_iter(without_fault(run, place)));
            again |= self.edit_each(key, |run, place| Vec::from_iter(early_fault(run, place)));
            again |= self.drop_chunks(key);
            again |= self.move_families(key);
            again |= self.edit_each(key, without_preemption);
            again |= self.edit_each(key, lower_choices);
            again |= self.edit_each(key, without_detour);
            helped |= again;
            if !again || self.stopped {
                return helped;
            }
        }
    }

    fn cut_tail<K: Ord>(&mut self, key: fn(&Run) -> K) -> bool {
        let mut helped = false;
        let mut size = self.best.steps.len();
        while size > 0 {
            let keep = self.best.steps.len().saturating_sub(size);
            let plan = &self.best.lines()[..keep];
            if self.improve(plan, key) {
                helped = true;
            } else {
                size /= 2;
            }
        }
        helped
    }

    fn drop_chunks<K: Ord>(&mut self, key: fn(&Run) -> K) -> bool {
        let mut helped = false;
        let mut size = self.best.steps.len() / 2;
        while size > 0 {
            let mut start = 0;
            while start < self.best.steps.len() {
                let mut plan = self.best.lines();
                let end = plan.len().min(start + size);
                plan.drain(start..end);
                if self.improve(&plan, key) {
                    helped = true;
                } else {
                    start += size;
                }
            }
            size /= 2;
        }
        helped
    }

    /// What a task does, and what it began, comes last or first.
    fn move_families<K: Ord>(&mut self, key: fn(&Run) -> K) -> bool {
        let mut helped = false;
        let tasks = self.best.places(|step| step.action == Action::Poll);
        let tasks: BTreeSet<PathId> =
            tasks.iter().map(|step| self.best.steps[*step].path).collect();
        for task in tasks {
            let label = self.world.paths.label(task);
            let inside = |step: &&Step| self.world.paths.label(step.path).starts_with(label);
            let (own, others): (Vec<_>, Vec<_>) = self.best.steps.iter().partition(inside);
            let [own, others] = [own, others]
                .map(|steps: Vec<&Step>| steps.into_iter().map(Step::line).collect::<Vec<_>>());
            helped |= self.improve(&others, key) || self.improve(&[own, others].concat(), key);
        }
        helped
    }

    /// Tries, at each step, the plans that `edit` has for it.
    fn edit_each<K: Ord>(
        &mut self,
        key: fn(&Run) -> K,
        edit: impl Fn(&Run, usize) -> Vec<Vec<Line>>,
    ) -> bool {
        let mut helped = false;
        let mut place = 0;
        while place < self.best.steps.len() {
            let plans = edit(&self.best, place);
            if plans.iter().any(|plan| self.improve(plan, key)) {
                helped = true;
            } else {
                place += 1;
            }
        }
        helped
    }

    /// Writes the trace in its simplest order; whether that is another and costs no more.
    fn linearise(&mut self) -> bool {
        if self.best.steps.len() > ANALYSED_STEPS {
            return false;
        }
        let plan = linearised(&self.world, &self.best.steps);
        let run = self.attempt(&plan).filter(|run| run.cost <= self.best.cost);
        let changed = run.filter(|run| run.lines() != self.best.lines());
        let is_other = changed.is_some();
        self.best = changed.unwrap_or_else(|| self.best.clone());
        is_other
    }
}
