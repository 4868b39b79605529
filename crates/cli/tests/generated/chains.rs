//! Chains of images, and jobs that overlap on them.

use blockyard_scenario::generate::{ChainPlan, Generate};
use blockyard_scenario::{JOBS_AT_ONCE, LAYERS, POWER_LOSSES};
use blockyard_sim::{Exploration, Summary, Verdict};
use blockyard_units::{Design, Mutant};

use crate::{check_plans, check_swaps, explore, first_to_notice, with_mutant};

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

/// Bugs that chains find, and what each breaks.
const PLANTS: &[(Mutant, &str)] = &[
    (Mutant::WriteAcknowledgedEarly, "guest-consistency"),
    (Mutant::BackupLetsGoBeforeRead, "point-in-time"),
    (Mutant::PivotKeepsFilterParent, "graph-validity"),
    (Mutant::DrainSkipsInFlight, "drained-means-quiet"),
    (Mutant::StreamNamesBaseFirst, "durability"),
    (Mutant::DrainEndForgetsParked, "progress"),
    (Mutant::VanishingBitmap, "bitmap-soundness"),
    (Mutant::JobCancelUntold, "job-protocol"),
];

#[test]
fn chains_find_what_breaks_each_property() {
    let check = |what: &str, design, property: &str| {
        let noticed = first_to_notice::<ChainPlan>(design, 300);
        let (seed, finding) = noticed.unwrap_or_else(|| panic!("{what} is not noticed"));
        println!("{what}: seed {seed}: {}", finding.property);
        assert_eq!(finding.property, property, "{what}, seed {seed}: {}", finding.message);
    };
    for &(mutant, property) in PLANTS {
        check(mutant.word(), with_mutant(mutant), property);
    }
    let mut marks = Design::default();
    marks.set("unchanged-marks", "yes").expect("there is such a decision");
    check("unchanged-marks=yes", marks, "bitmap-precision");
}
