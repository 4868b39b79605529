//! Whole explorations: many executions, what they add up to, and the tape of the first that broke something.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use blockyard_sync::door::world as door_world;

use super::chooser::{Chooser, FromBytes, Pick, Replay};
use super::happens_before::Traced;
use super::sampling::Sampling;
use super::search::{DepthFirst, Reduction};
use super::{Finding, Limits, Outcome, Program, Report, Setup, Watched, run_once};
use crate::event::{Action, Event};
use crate::paths::PathId;
use crate::tape::{Divergence, TapeLine};
use crate::world::World;

/// The choices of one execution, for running it again in the same world.
pub(crate) type Choices = Vec<(PathId, Action)>;

/// What an exploration did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Executions begun.
    pub executions: u64,
    /// Of them, those given up because they led to nothing new.
    pub blocked: u64,
    /// Events run.
    pub steps: u64,
    /// Of a sampled exploration: how many different traces its executions had, the broken one included.
    pub new_traces: u64,
    /// The same, by the strategy that ran.
    pub sampled: BTreeMap<Sampling, Sampled>,
    /// Every trace met, with what it led to, if they were asked for.
    pub traces: BTreeSet<(u64, u64)>,
    /// Every mark reached.
    pub marks: BTreeSet<&'static str>,
}

/// What one strategy added to a sampled exploration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Executions drawn by it.
    pub executions: u64,
    /// Of them, those whose trace no earlier execution had.
    pub new_traces: u64,
}

/// What an exploration found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing broken in what was run.
    Clean {
        /// Whether that was everything there is.
        exhausted: bool,
    },
    /// A property was broken.
    Violated {
        /// Which, and how.
        finding: Finding,
        /// The choices that lead there.
        tape: Vec<TapeLine>,
        /// The run's hash.
        hash: u64,
        /// The seed of the random run, if it was one.
        seed: Option<u64>,
    },
    /// The caller asked to stop.
    Interrupted,
}

/// The result of an exploration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exploration {
    /// What was found.
    pub verdict: Verdict,
    /// How much was run.
    pub summary: Summary,
}

/// Explores one program in one world.
pub struct Explorer<'p> {
    pub(super) program: &'p dyn Program,
    pub(super) setup: Setup,
    /// When to stop.
    pub limits: Limits,
    /// Whether to keep every trace in the summary.
    pub keep_traces: bool,
    /// Asked after each execution; false stops.
    pub go_on: &'p mut dyn FnMut(&Summary) -> bool,
}

impl<'p> Explorer<'p> {
    /// An explorer of `program`.
    pub fn new(
        program: &'p dyn Program,
        setup: Setup,
        limits: Limits,
        go_on: &'p mut dyn FnMut(&Summary) -> bool,
    ) -> Self {
        Self { program, setup, limits, keep_traces: false, go_on }
    }

    pub(super) fn world(&self, seed: u64) -> World {
        let Setup { images, budgets, granularity, .. } = &self.setup;
        let mut world = World::new(images, *budgets, seed);
        world.granularity = *granularity;
        world
    }

    /// Depth first, until everything is explored or the limit is reached.
    pub fn depth_first(&mut self, reduction: Reduction) -> Exploration {
        let mut world = self.world(self.setup.seed);
        let mut search = DepthFirst::new(reduction);
        search.traces = self.keep_traces;
        let mut summary = Summary::default();
        loop {
            let (report, choices, digest) = self.run(&mut world, &mut search, &mut summary);
            if let Some(digest) = digest.filter(|_| report.outcome == Outcome::Ended) {
                summary.traces.insert((search.trace(), digest));
            }
            if let Some(verdict) = self.judge(&mut world, report, &choices, &mut summary, None) {
                return Exploration { verdict, summary };
            }
            if !search.advance() {
                return Exploration { verdict: Verdict::Clean { exhausted: true }, summary };
            }
            if let Some(verdict) = self.stop(&summary) {
                return Exploration { verdict, summary };
            }
        }
    }

    /// At random, a run for each seed.
    pub fn random(&mut self, seeds: core::ops::Range<u64>) -> Exploration {
        self.sample(Sampling::Random, seeds)
    }

    /// Draws executions as `strategy` does, a run for each seed. The same seeds from the same first one on are the same
    /// runs; but strategies learn from run to run, so a single run is repeated by the verdict's tape and not by its
    /// seed.
    pub fn sample(&mut self, strategy: Sampling, seeds: core::ops::Range<u64>) -> Exploration {
        let mut summary = Summary::default();
        let mut world = self.world(self.setup.seed);
        let mut sampler = strategy.sampler();
        let mut traces = BTreeSet::new();
        for seed in seeds {
            world.reseed(seed);
            sampler.begin(seed);
            let mut traced = Traced::new(&mut *sampler);
            let (report, choices, digest) = self.run(&mut world, &mut traced, &mut summary);
            let trace = traced.hash();
            let is_new = u64::from(traces.insert(trace));
            summary.new_traces += is_new;
            let sampled = summary.sampled.entry(sampler.running()).or_default();
            sampled.executions += 1;
            sampled.new_traces += is_new;
            if let Some(digest) = digest.filter(|_| report.outcome == Outcome::Ended) {
                summary.traces.insert((trace, digest));
            }
            let verdict = self.judge(&mut world, report, &choices, &mut summary, Some(seed));
            if let Some(verdict) = verdict.or_else(|| self.stop(&summary)) {
                return Exploration { verdict, summary };
            }
        }
        Exploration { verdict: Verdict::Clean { exhausted: false }, summary }
    }

    /// One execution, decided by `bytes` as [`FromBytes`] reads them; the same bytes are the same run, which is tried.
    pub fn run_from_bytes(&mut self, bytes: &[u8]) -> Exploration {
        let mut summary = Summary::default();
        let mut world = self.world(self.setup.seed);
        let mut chooser = FromBytes::new(bytes);
        let (report, choices, _) = self.run(&mut world, &mut chooser, &mut summary);
        let verdict = self.judge(&mut world, report, &choices, &mut summary, None);
        let verdict = verdict.unwrap_or(Verdict::Clean { exhausted: false });
        Exploration { verdict, summary }
    }

    /// Follows a tape, and tells what each step did.
    pub fn replay(&mut self, tape: Vec<alloc::string::String>) -> (Report, Vec<TapeLine>) {
        let mut world = self.world(self.setup.seed);
        describe(&mut world, self.program, &mut Replay::new(tape), self.limits)
    }

    pub(super) fn run(
        &self,
        world: &mut World,
        chooser: &mut dyn Chooser,
        summary: &mut Summary,
    ) -> (Report, Choices, Option<u64>) {
        let mut choices = Choices::new();
        let mut digest = None;
        let mut watch = |world: &World, watched: Watched<'_>| match watched {
            Watched::Before(event, _) => choices.push((event.path, event.action)),
            Watched::End(execution) if self.keep_traces => digest = Some(execution.digest(world)),
            Watched::End(_) | Watched::After(_) => {}
        };
        let report = run_once(world, self.program, chooser, self.limits, &mut watch);
        summary.executions += 1;
        summary.steps += u64::from(report.steps);
        summary.blocked += u64::from(report.outcome == Outcome::Blocked);
        summary.marks.append(&mut world.marks);
        (report, choices, digest)
    }

    fn judge(
        &self,
        world: &mut World,
        report: Report,
        choices: &Choices,
        summary: &mut Summary,
        seed: Option<u64>,
    ) -> Option<Verdict> {
        let finding = match report.outcome {
            Outcome::Violated(ref finding) => finding.clone(),
            Outcome::Diverged(divergence) => diverged(&divergence),
            Outcome::Ended | Outcome::Blocked => {
                // A run repeated must be the same run: tried on the first, the second, the fourth …
                if !summary.executions.is_power_of_two() {
                    return None;
                }
                let again = self.again(world, choices);
                if again.hash == report.hash {
                    return None;
                }
                let message = "the same choices led to another run".into();
                Finding { property: "determinism".into(), message }
            }
        };
        let mut recorded = Recorded::new(choices.clone());
        let (_, tape) = describe(world, self.program, &mut recorded, self.limits);
        Some(Verdict::Violated { finding, tape, hash: report.hash, seed })
    }

    fn again(&self, world: &mut World, choices: &Choices) -> Report {
        let mut recorded = Recorded::new(choices.clone());
        run_once(world, self.program, &mut recorded, self.limits, &mut |_, _| ())
    }

    fn stop(&mut self, summary: &Summary) -> Option<Verdict> {
        if !(self.go_on)(summary) {
            return Some(Verdict::Interrupted);
        }
        let spent = summary.executions >= self.limits.executions;
        spent.then_some(Verdict::Clean { exhausted: false })
    }
}

fn diverged(divergence: &Divergence) -> Finding {
    Finding { property: "determinism".into(), message: alloc::format!("{divergence}") }
}

/// Runs once, and tells what each step did.
pub(super) fn describe(
    world: &mut World,
    program: &dyn Program,
    chooser: &mut dyn Chooser,
    limits: Limits,
) -> (Report, Vec<TapeLine>) {
    let mut tape: Vec<TapeLine> = Vec::new();
    door_world::listen(true);
    let mut watch = |world: &World, watched: Watched<'_>| match watched {
        Watched::Before(event, _) => {
            tape.push(TapeLine { event: world.describe(event), notes: Vec::new() });
        }
        Watched::After(_) => {
            let line = tape.last_mut().expect("before-comes-before-after");
            line.notes = world.notes().to_vec();
        }
        Watched::End(_) => {}
    };
    let report = run_once(world, program, chooser, limits, &mut watch);
    door_world::listen(false);
    (report, tape)
}

/// Takes choices recorded in the same world.
pub(crate) struct Recorded {
    choices: Choices,
    position: usize,
}

impl Recorded {
    pub fn new(choices: Choices) -> Self {
        Self { choices, position: 0 }
    }
}

impl Chooser for Recorded {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let Some(&(path, action)) = self.choices.get(self.position) else { return Pick::Blocked };
        self.position += 1;
        let same = |event: &Event| event.path == path && event.action == action;
        match enabled.iter().position(same) {
            Some(index) => Pick::Event(index),
            None => Pick::Diverged(Divergence {
                step: self.position,
                expected: world.paths.label(path).into(),
                possible: enabled.iter().map(|event| world.describe(*event)).collect(),
            }),
        }
    }
}
