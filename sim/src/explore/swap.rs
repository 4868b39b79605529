//! The swap check: adjacent steps that are called independent are swapped, and must lead to the same end.

use alloc::format;
use alloc::vec::Vec;

use blockyard_sync::door::Access;

use super::chooser::{Chooser, Pick};
use super::runs::{Choices, Recorded};
use super::{Finding, Limits, Outcome, Program, Watched, run_once};
use crate::event::Event;
use crate::footprint::conflicts;
use crate::world::World;

/// Keeps, for each step of a run, what it touched and what was possible instead.
struct Observed<'a> {
    inner: &'a mut dyn Chooser,
    choices: Choices,
    steps: Vec<(Vec<Access>, Vec<Event>)>,
}

impl Chooser for Observed<'_> {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let pick = self.inner.pick(world, enabled);
        if let Pick::Event(index) = pick {
            self.choices.push((enabled[index].path, enabled[index].action));
            self.steps.push((Vec::new(), enabled.to_vec()));
        }
        pick
    }

    fn ran(&mut self, world: &World, event: Event, accesses: &[Access]) {
        self.steps.last_mut().expect("a-step-was-picked").0 = accesses.to_vec();
        self.inner.ran(world, event, accesses);
    }
}

/// Runs `program` once under `chooser`, then again with each pair of adjacent independent steps swapped. Returns how
/// many pairs were swapped.
///
/// # Errors
/// A finding, if a swap led to another end (property `determinism`), or the run itself broke a property.
pub fn swap_check(
    world: &mut World,
    program: &dyn Program,
    chooser: &mut dyn Chooser,
    limits: Limits,
) -> Result<usize, Finding> {
    let mut observed = Observed { inner: chooser, choices: Vec::new(), steps: Vec::new() };
    let digest = digest_of(world, program, &mut observed, limits)?;
    let Observed { choices, steps, .. } = observed;
    let mut swapped = 0;
    for first in 0..choices.len().saturating_sub(1) {
        let second = first + 1;
        let enabled_before =
            steps[first].1.iter().any(|event| (event.path, event.action) == choices[second]);
        let same_process = choices[first].0 == choices[second].0;
        if same_process || !enabled_before || conflicts(&steps[first].0, &steps[second].0) {
            continue;
        }
        let mut order = choices.clone();
        order.swap(first, second);
        let swap = digest_of(world, program, &mut Recorded::new(order), limits);
        if swap.as_ref() != Ok(&digest) {
            let label = |step: usize| world.paths.label(choices[step].0);
            let (a, b) = (label(first), label(second));
            let why = swap.map_or_else(|finding| finding.message, |_| "another end".into());
            let message = format!("steps {first} ({a}) and {second} ({b}) do not commute: {why}");
            return Err(Finding { property: "determinism".into(), message });
        }
        swapped += 1;
    }
    Ok(swapped)
}

fn digest_of(
    world: &mut World,
    program: &dyn Program,
    chooser: &mut dyn Chooser,
    limits: Limits,
) -> Result<u64, Finding> {
    let mut digest = 0;
    let mut watch = |world: &World, watched: Watched<'_>| {
        if let Watched::End(execution) = watched {
            digest = execution.digest(world);
        }
    };
    let determinism = |message| Err(Finding { property: "determinism".into(), message });
    match run_once(world, program, chooser, limits, &mut watch).outcome {
        Outcome::Ended => Ok(digest),
        Outcome::Violated(finding) => Err(finding),
        Outcome::Diverged(divergence) => determinism(format!("{divergence}")),
        Outcome::Blocked => determinism("the run went on where it had ended".into()),
    }
}
