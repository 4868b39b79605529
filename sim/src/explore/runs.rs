//! Executions one by one: each is counted and judged, and one that broke something is run again for its tape.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use blockyard_sync::door::world as door_world;

use super::chooser::{Chooser, Pick};
use super::explorer::{Summary, Verdict};
use super::{Counts, Finding, Limits, Outcome, Program, Report, Watched, run_once};
use crate::event::{Action, Event};
use crate::paths::PathId;
use crate::tape::{Divergence, TapeLine};
use crate::world::World;

/// The choices of one execution, for running it again in the same world.
pub(crate) type Choices = Vec<(PathId, Action)>;

/// What is run.
#[derive(Clone, Copy)]
pub struct Runs<'p> {
    /// Of which all are executions.
    pub program: &'p dyn Program,
    /// When one of them is too long.
    pub limits: Limits,
    /// Whether to keep every trace in the summary.
    pub keep_traces: bool,
}

impl Runs<'_> {
    pub(super) fn run(
        &self,
        world: &mut World,
        chooser: &mut dyn Chooser,
        summary: &mut Summary,
    ) -> (Report, Choices, Option<u64>) {
        let mut choices = Choices::new();
        let (mut digest, mut counts) = (None, Counts::new());
        let mut watch = |world: &World, watched: Watched<'_>| match watched {
            Watched::Before(event, _) => choices.push((event.path, event.action)),
            Watched::End(execution) => {
                digest = self.keep_traces.then(|| execution.digest(world));
                counts = execution.counts();
            }
            Watched::After(_) => {}
        };
        let report = run_once(world, self.program, chooser, self.limits, &mut watch);
        summary.executions += 1;
        summary.steps += u64::from(report.steps);
        summary.blocked += u64::from(report.outcome == Outcome::Blocked);
        let marks = core::mem::take(&mut world.marks);
        summary.marks.extend(marks.into_iter().map(Cow::Borrowed));
        summary.add_counts(counts);
        (report, choices, digest)
    }

    pub(super) fn judge(
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
