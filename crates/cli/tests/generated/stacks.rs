//! Stacks of nodes above chains of images.

use std::collections::BTreeSet;

use blockyard_scenario::generate::{Generate, StackPlan};
use blockyard_scenario::{GRAPH_EDITS, PIVOT_BELOW, SNAPSHOT_BELOW};
use blockyard_sim::{Exploration, Summary, Verdict};
use blockyard_units::{Design, Mutant};

use crate::{check_plans, check_swaps, explore, first_to_notice, with_mutant};

/// The graph edits that others have.
const NOT_HERE: &[&str] = &[
    "blockdev-insert-medium",
    "blockdev-remove-medium",
    "blockdev-set-active",
    "x-blockdev-replace-child",
];

#[test]
fn every_stack_is_a_scenario_and_so_is_every_simpler_one() {
    check_plans::<StackPlan>();
}

#[test]
fn independent_steps_of_stacks_commute() {
    check_swaps::<StackPlan>(10);
}

#[test]
fn shrinking_what_always_fails_comes_to_no_stack() {
    for seed in 0..20 {
        let simplest = StackPlan::from_seed(seed).simplest(&mut |_| true);
        assert!(simplest.0.stack.is_empty() && simplest.smaller().is_empty(), "{seed}");
    }
}

#[test]
fn stacks_are_clean_and_snapshots_and_pivots_take_place_below_them() {
    let mut total = Summary::default();
    for seed in 0..500 {
        let plan = StackPlan::from_seed(seed);
        let Exploration { verdict, summary } = explore(&plan, Design::default(), seed..seed + 1);
        let again = format!("blockyard fuzz --generate=stacks --seeds {seed}..{}", seed + 1);
        assert_eq!(verdict, Verdict::Clean { exhausted: false }, "{again}\n{plan:?}");
        total.add(summary);
    }
    let Summary { marks, counts, .. } = total;
    let missed: Vec<_> = StackPlan::MARKS.iter().filter(|mark| !marks.contains(**mark)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}; reached: {marks:?}");
    for name in GRAPH_EDITS.iter().filter(|name| !NOT_HERE.contains(name)) {
        let [tried, succeeded, _] = counts.get(*name).copied().unwrap_or_default();
        // Of a hundred stacks one has a node that can be deleted.
        assert!(succeeded > 2, "{name}: {tried} tried, {succeeded} succeeded");
    }
    for what in [SNAPSHOT_BELOW, PIVOT_BELOW] {
        let pairs: BTreeSet<&str> =
            counts.keys().filter_map(|name| name.strip_prefix(what)).collect();
        assert!(pairs.len() >= 12, "{what} {pairs:?}");
    }
}

#[test]
fn stacks_find_what_quorums_do_wrong() {
    // Few of them fail a request to the first child and read from that afterwards.
    let design = with_mutant(Mutant::QuorumReadsWhoMissedWrite);
    let noticed = first_to_notice::<StackPlan>(design, 300..600);
    let (seed, finding) = noticed.expect("that a child missed a write is noticed");
    assert_eq!(finding.property, "point-in-time", "seed {seed}: {}", finding.message);
}
