//! Whole explorations: many executions, what they add up to, and the tape of the first that broke something.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::door::world::Quiet;
use serde::{Deserialize, Serialize};

use super::chooser::{FromBytes, Replay};
use super::happens_before::Traced;
use super::runs::{Runs, describe};
use super::sampling::Sampling;
use super::search::{Reduction, WorkItem};
use super::searcher::{Ran, Searcher, Tree};
use super::{Counts, Finding, Limits, Outcome, Program, Report, Setup};
use crate::paths::Numbers;
use crate::tape::TapeLine;
use crate::world::World;

/// What an exploration did so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    pub marks: BTreeSet<Cow<'static, str>>,
    /// The sums of what the executions counted that came to their end.
    pub counts: Counts,
}

impl Summary {
    /// Adds what somebody else did, in other executions.
    pub fn add(&mut self, other: Summary) {
        let Summary { executions, blocked, steps, new_traces, sampled, traces, marks, counts } =
            other;
        self.executions += executions;
        self.blocked += blocked;
        self.steps += steps;
        self.new_traces += new_traces;
        for (strategy, other) in sampled {
            let sampled = self.sampled.entry(strategy).or_default();
            sampled.executions += other.executions;
            sampled.new_traces += other.new_traces;
        }
        self.traces.extend(traces);
        self.marks.extend(marks);
        self.add_counts(counts);
    }

    /// Adds what an execution counted.
    pub(super) fn add_counts(&mut self, counts: Counts) {
        for (name, numbers) in counts {
            let sums = self.counts.entry(name).or_default();
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        }
    }
}

/// What one strategy added to a sampled exploration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Of sampled explorations: the traces that are not new any more. Several explorers may have the same.
    pub known_traces: Arc<Quiet<BTreeSet<u64>>>,
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
        let known_traces = Arc::default();
        Self { program, setup, limits, keep_traces: false, known_traces, go_on }
    }

    pub(super) fn world(&self, seed: u64) -> World {
        self.setup.world(seed, Numbers::default())
    }

    /// Depth first, until everything is explored or the limit is reached.
    pub fn depth_first(&mut self, reduction: Reduction) -> Exploration {
        let mut searcher = Searcher::new(self.runs(), &self.setup, &Tree::new(reduction));
        searcher.adopt(WorkItem::whole());
        let verdict = loop {
            match searcher.run() {
                Ran::Broken(verdict) => break verdict,
                Ran::Done => break Verdict::Clean { exhausted: true },
                Ran::On => {}
            }
            if let Some(verdict) = self.stop(&searcher.summary) {
                break verdict;
            }
        };
        Exploration { verdict, summary: searcher.summary }
    }

    /// At random, a run for each seed.
    pub fn random(&mut self, seeds: core::ops::Range<u64>) -> Exploration {
        self.sample(Sampling::Random, seeds)
    }

    /// Draws executions as `strategy` does, a run for each seed. The same seeds from the same first one on are the same
    /// runs; but strategies learn from run to run, so a single run is repeated by the verdict's tape and not by its
    /// seed.
    pub fn sample(
        &mut self,
        strategy: Sampling,
        seeds: impl IntoIterator<Item = u64>,
    ) -> Exploration {
        let mut summary = Summary::default();
        let mut world = self.world(self.setup.seed);
        let mut sampler = strategy.sampler();
        for seed in seeds {
            world.reseed(seed);
            sampler.begin(seed);
            let mut traced = Traced::new(&mut *sampler);
            let (report, choices, digest) = self.runs().run(&mut world, &mut traced, &mut summary);
            let trace = traced.hash();
            let is_new = u64::from(self.known_traces.with(|known| known.insert(trace)));
            summary.new_traces += is_new;
            let sampled = summary.sampled.entry(sampler.running()).or_default();
            sampled.executions += 1;
            sampled.new_traces += is_new;
            if let Some(digest) = digest.filter(|_| report.outcome == Outcome::Ended) {
                summary.traces.insert((trace, digest));
            }
            let verdict = self.runs().judge(&mut world, report, &choices, &mut summary, Some(seed));
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
        let (report, choices, _) = self.runs().run(&mut world, &mut chooser, &mut summary);
        let verdict = self.runs().judge(&mut world, report, &choices, &mut summary, None);
        let verdict = verdict.unwrap_or(Verdict::Clean { exhausted: false });
        Exploration { verdict, summary }
    }

    /// Follows a tape, and tells what each step did.
    pub fn replay(&mut self, tape: Vec<alloc::string::String>) -> (Report, Vec<TapeLine>) {
        let mut world = self.world(self.setup.seed);
        describe(&mut world, self.program, &mut Replay::new(tape), self.limits)
    }

    pub(super) fn runs(&self) -> Runs<'p> {
        Runs { program: self.program, limits: self.limits, keep_traces: self.keep_traces }
    }

    fn stop(&mut self, summary: &Summary) -> Option<Verdict> {
        if !(self.go_on)(summary) {
            return Some(Verdict::Interrupted);
        }
        let spent = summary.executions >= self.limits.executions;
        spent.then_some(Verdict::Clean { exhausted: false })
    }
}
