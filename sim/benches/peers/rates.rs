//! How fast executions and steps are, with everything on that an exploration needs: recording, the hash, resetting the
//! world, and repeating some runs to see that they are the same.

use std::sync::Arc;

use blockyard::{ScenarioProgram, setup_of};
use blockyard_scenario::{Parameters, Script, builtin};
use blockyard_sim::{Explorer, Reduction, Sampling};
use blockyard_units::Design;

use crate::figure::{Figure, Row, Target};
use crate::long;
use crate::machine::rate;
use crate::programs::{self, Body, Small};
use crate::search::{bare, clean, explore};
use crate::{with_loom, with_shuttle};

/// So many executions are run from the beginning of a search.
const FEW: u64 = 10_000;

/// Executions a second of searches from their beginning.
fn executions(small: &[(&str, Body, usize)], reduction: Reduction) -> Figure {
    Figure::mean(small.iter().map(|&(name, body, tasks)| {
        let program = Small::new(body, tasks);
        let search = || {
            let search = |explorer: &mut Explorer<'_>| explorer.depth_first(reduction);
            clean(explore(&program, &bare(), FEW, search)).executions
        };
        (name.to_owned(), rate(search))
    }))
}

fn steps(runs: u64, how: impl Fn(&mut Explorer<'_>) -> blockyard_sim::Exploration) -> Figure {
    let of = [("adding", long::adding as Body), ("meddling", long::meddling)];
    Figure::mean(of.map(|(name, body)| {
        let program = Small::new(body, 10);
        (name.to_owned(), rate(|| clean(explore(&program, &bare(), runs, &how)).steps))
    }))
}

fn scenario() -> Figure {
    let text = builtin("resurrected-filter").expect("the scenario is built in");
    let script = Script::compile(text, &Parameters::new()).expect("the scenario is right");
    let setup = setup_of(&script, 0);
    let program = ScenarioProgram { script: Arc::new(script), design: Design::default() };
    let search = |explorer: &mut Explorer<'_>| explorer.depth_first(Reduction::Optimal);
    let value = rate(|| clean(explore(&program, &setup, FEW, search)).executions);
    Figure { value, ..Figure::default() }
}

/// As the others' are named and sized. The first has one trace: for searches that are reduced it is no measure.
const SMALL: &[(&str, Body, usize)] = &[
    ("disjoint 3x3", programs::disjoint, 3),
    ("shared 4x(2+1)", programs::shared, 4),
    ("counter 3x2", programs::counter, 3),
    ("lost update 3", programs::lost_update, 3),
    ("readers 1+3", programs::readers, 4),
    ("drain 2", programs::drain, 3),
    ("channel 2x2", programs::channel, 3),
];

pub const ROWS: &[Row] = &[
    Row {
        name: "depth-first",
        what: "small programs, depth first: executions a second",
        target: Target::AtLeast(1_000_000),
        sides: [None, Some(with_shuttle::rates), Some(|| executions(SMALL, Reduction::Plain))],
    },
    Row {
        name: "reduced",
        what: "small programs, reduced: executions a second",
        target: Target::AtLeast(500_000),
        sides: [Some(with_loom::rates), None, Some(|| executions(&SMALL[1..], Reduction::Optimal))],
    },
    Row {
        name: "steps-random",
        what: "10 tasks, 2 passages a step, at random: steps a second",
        target: Target::AtLeast(10_000_000),
        sides: [
            None,
            Some(with_shuttle::steps),
            Some(|| steps(100, |explorer| explorer.sample(Sampling::Random, 0..100))),
        ],
    },
    Row {
        name: "steps-reduced",
        what: "the same, reduced, 1,000 events: steps a second",
        target: Target::AtLeast(3_000_000),
        sides: [
            None,
            None,
            Some(|| steps(100, |explorer| explorer.depth_first(Reduction::Optimal))),
        ],
    },
    Row {
        name: "full-stack",
        what: "resurrected-filter, whole stack and models: executions a second",
        target: Target::AtLeast(20_000),
        sides: [None, None, Some(scenario)],
    },
];
