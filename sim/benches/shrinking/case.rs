//! Failures of the whole block layer with a known bug, from random search, and what shrinking makes of them.

use std::sync::Arc;

use blockyard::{ScenarioProgram, setup_of};
use blockyard_scenario::{Parameters, Script, builtin};
use blockyard_sim::{Explorer, Finding, Limits, Setup, Shrunk, Summary, TapeLine, Verdict};
use blockyard_units::Design;

/// Replays of one shrinking, as the command has them.
const REPLAYS: u64 = 100_000;
/// Seeds that are tried for failures.
const TRIED: u64 = 1_000_000;

/// A scenario with a bug.
pub struct Case {
    pub program: ScenarioProgram,
    pub setup: Setup,
}

impl Case {
    /// Of a scenario, `KEY=VALUE` of the design or a mutant, and faults.
    pub fn new((scenario, bug, faults): (&str, &str, u32)) -> Self {
        let text = builtin(scenario).expect("the scenario is built in");
        let script = Script::compile(text, &Parameters::new()).expect("the scenario is right");
        let mut setup = setup_of(&script, 0);
        setup.budgets.faults = faults;
        let mut design = Design::default();
        match bug.split_once('=') {
            Some((key, value)) => design.set(key, value).expect("the decision is there"),
            None => {
                let mutant = bug.parse().expect("the mutant is there");
                design.set_mutant(mutant).expect("mutants are built in");
            }
        }
        Self { program: ScenarioProgram { script: Arc::new(script), design }, setup }
    }

    fn explore<T>(&self, limits: Limits, explore: impl FnOnce(&mut Explorer<'_>) -> T) -> T {
        let mut go_on = |_: &Summary| true;
        explore(&mut Explorer::new(&self.program, self.setup.clone(), limits, &mut go_on))
    }

    /// The failures of the first seeds that fail.
    pub fn failures(&self, count: usize) -> Vec<(Finding, Vec<TapeLine>)> {
        let limits = Limits { executions: u64::MAX, ..Limits::default() };
        let mut failures = Vec::new();
        let mut next = 0;
        while failures.len() < count {
            let found = self.explore(limits, |explorer| explorer.random(next..TRIED));
            let Verdict::Violated { finding, tape, seed: Some(seed), .. } = found.verdict else {
                break;
            };
            failures.push((finding, tape));
            next = seed + 1;
        }
        failures
    }

    /// The least of a failure's kind.
    pub fn shrink(&self, finding: &Finding, tape: Vec<TapeLine>) -> Shrunk {
        let limits = Limits { executions: REPLAYS, ..Limits::default() };
        let same = |other: &Finding| other.property == finding.property;
        let tape = tape.into_iter().map(|line| line.event).collect();
        self.explore(limits, |explorer| explorer.shrink(tape, &same, limits)).expect("it fails")
    }
}
