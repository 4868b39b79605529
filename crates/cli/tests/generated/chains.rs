//! Chains of images, and jobs that overlap on them.

use std::collections::BTreeSet;
use std::sync::Arc;

use blockyard::ScenarioProgram;
use blockyard_models::Property;
use blockyard_scenario::generate::{ChainPlan, Generate};
use blockyard_scenario::{JOBS_AT_ONCE, LAYERS, POWER_LOSSES, Script};
use blockyard_sim::{Execution, Exploration, Program, Summary, Verdict, World};
use blockyard_sync::door::world::Quiet;
use blockyard_units::{Design, Mutant};

use crate::{check_plans, check_swaps, compile, explore, first_to_notice, run, with_mutant};

#[test]
fn every_chain_is_a_scenario_and_so_is_every_simpler_one() {
    check_plans::<ChainPlan>();
}

#[test]
fn independent_steps_of_chains_commute() {
    check_swaps::<ChainPlan>(30);
}

#[test]
fn shrinking_what_always_fails_comes_to_a_device_without_jobs() {
    for seed in 0..20 {
        let simplest = ChainPlan::from_seed(seed).simplest(&mut |_| true);
        assert_eq!(simplest.smaller(), [], "{seed}");
        let nothing = ChainPlan {
            sectors: 1,
            layers: Vec::new(),
            stack: Vec::new(),
            short: 0,
            guests: Vec::new(),
            operators: Vec::new(),
            admin: Vec::new(),
            bitmaps: Vec::new(),
            faults: 0,
            crashes: 0,
        };
        assert_eq!(simplest, nothing, "{seed}");
    }
}

#[test]
fn chains_are_clean_and_most_have_two_jobs_three_layers_and_a_power_loss() {
    const SEEDS: u64 = 500;
    let mut total = Summary::default();
    for seed in 0..SEEDS {
        let plan = ChainPlan::from_seed(seed);
        let Exploration { verdict, summary } = explore(&plan, Design::default(), seed..seed + 1);
        let again = format!("blockyard fuzz --generate=chains --seeds {seed}..{}", seed + 1);
        assert_eq!(verdict, Verdict::Clean { exhausted: false }, "{again}\n{plan:?}");
        total.add(summary);
    }
    let Summary { marks, counts, .. } = total;
    let missed: Vec<_> = ChainPlan::MARKS.iter().filter(|mark| !marks.contains(**mark)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}; reached: {marks:?}");
    for (what, at_least) in [(JOBS_AT_ONCE, 2), (LAYERS, 3), (POWER_LOSSES, 1)] {
        let has = |name: &str| {
            let number = name.strip_suffix(what)?.trim_end().parse::<u64>().ok()?;
            (number >= at_least).then_some(())
        };
        let runs: u64 =
            counts.iter().filter(|(name, _)| has(name).is_some()).map(|(_, [runs, ..])| runs).sum();
        assert!(runs * 2 > SEEDS, "{at_least} {what}: in {runs} runs");
    }
}

/// Bugs that chains find, what each breaks, and the seed from which on they are looked for: where a bug breaks several
/// things, or a rare one, chains before show something else, or nothing.
const PLANTS: &[(Mutant, &str, u64)] = &[
    (Mutant::WriteAcknowledgedEarly, "guest-consistency", 0),
    (Mutant::BackupLetsGoBeforeRead, "point-in-time", 0),
    (Mutant::MirrorConvergeCheckOutsideDrain, "mirror-convergence", 4500),
    (Mutant::PivotKeepsFilterParent, "graph-validity", 0),
    (Mutant::DrainSkipsInFlight, "drained-means-quiet", 0),
    (Mutant::StreamNamesBaseFirst, "durability", 0),
    (Mutant::Qcow2ZeroFreesFirst, "metadata-integrity", 700),
    (Mutant::DrainEndForgetsParked, "progress", 0),
    (Mutant::VanishingBitmap, "bitmap-soundness", 0),
    (Mutant::JobCancelUntold, "job-protocol", 0),
    (Mutant::StoppedGuestsGoOn, "accounting", 0),
];

/// A program that keeps something of one execution for the next: a decision, which is another each time.
struct Keeping {
    script: Arc<Script>,
    started: Quiet<bool>,
}

impl Program for Keeping {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let again = self.started.with(|started| std::mem::replace(started, !*started));
        let mut design = Design::default();
        if again {
            design.set("backup", "filter").expect("there is such a decision");
        }
        ScenarioProgram { script: self.script.clone(), design }.start(world)
    }
}

#[test]
fn chains_find_what_breaks_each_property() {
    let mut found = BTreeSet::from(["determinism".to_owned()]);
    let mut check = |what: &str, design, property: &str, from| {
        let noticed = first_to_notice::<ChainPlan>(design, from..from + 300);
        let (seed, finding) = noticed.unwrap_or_else(|| panic!("{what} is not noticed"));
        println!("{what}: seed {seed}: {}", finding.property);
        assert_eq!(finding.property, property, "{what}, seed {seed}: {}", finding.message);
        found.insert(finding.property);
    };
    for &(mutant, property, from) in PLANTS {
        check(mutant.word(), with_mutant(mutant), property, from);
    }
    let mut marks = Design::default();
    marks.set("unchanged-marks", "yes").expect("there is such a decision");
    check("unchanged-marks=yes", marks, "bitmap-precision", 0);
    let all = Property::ALL.iter().map(|property| property.word().to_owned());
    assert_eq!(found, all.chain(["determinism".into()]).collect());
}

#[test]
fn chains_find_what_one_execution_keeps_for_the_next() {
    let noticed = (0..300).find_map(|seed| {
        let script = Arc::new(compile(&ChainPlan::from_seed(seed)));
        let program = Keeping { script, started: Quiet::default() };
        match run(&program, &program.script, seed..seed + 1).verdict {
            Verdict::Violated { finding, .. } => Some((seed, finding)),
            _ => None,
        }
    });
    let (seed, finding) = noticed.expect("what an execution keeps is noticed");
    assert_eq!(finding.property, "determinism", "seed {seed}: {}", finding.message);
}
