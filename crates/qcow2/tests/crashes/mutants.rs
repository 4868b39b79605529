//! Each flush and each order that is given up is noticed, and so is each known bug.

use std::fmt::Write;

use blockyard_sim::{Budgets, Exploration, Families, Verdict};
use blockyard_units::{Design, Mutant};

use crate::cases::{Case, all};

/// Those that need no backing file.
const MUTANTS: &[Mutant] = &[
    Mutant::Qcow2ReftableBeforeBlocks,
    Mutant::Qcow2L2BeforeReferred,
    Mutant::Qcow2EvictsL2Alone,
    Mutant::Qcow2FlushSkipsFile,
    Mutant::Qcow2FlushSkipsDataFile,
    Mutant::Qcow2ReleasesBeforeFlush,
    Mutant::Qcow2ReleasesInUse,
    Mutant::Qcow2HeaderBeforeReferred,
    Mutant::Qcow2HeaderNotFlushed,
    Mutant::Qcow2HeaderForgotten,
    Mutant::Qcow2MadeNotFlushed,
    Mutant::Qcow2ReftableGrowsOverDirty,
    Mutant::Qcow2L1GrowsOverDirty,
    Mutant::Qcow2ShrinksOverDirty,
    Mutant::Qcow2SnapshotFreesFirst,
    Mutant::Qcow2SharesCopied,
    Mutant::Qcow2SnapshotOverDirty,
    Mutant::Qcow2ZeroFreesFirst,
    Mutant::Qcow2AbortFreesReused,
    Mutant::Qcow2L2CowFreesFirst,
    Mutant::Qcow2LateDiscard,
    Mutant::Qcow2BlockOverData,
    Mutant::Qcow2WaitsWithTurn,
    Mutant::Qcow2BitmapsOverDirty,
    Mutant::Qcow2BitmapsFreedFirst,
    Mutant::Qcow2BitmapsDisownedLate,
    Mutant::BitmapStoreErrorFreesWrongClusters,
    Mutant::Qcow2AmendsOverDirty,
];

/// Executions until a bug is noticed, and by which property and case.
fn hunt(mutant: Mutant, cases: &[Case]) -> Option<String> {
    let mut design = Design::default();
    design.set_mutant(mutant).expect("tests are built with mutants");
    let faults = Families::DEFAULT;
    let ways = [
        Budgets { crashes: 1, ..Budgets::NONE },
        Budgets { faults: 1, families: faults, crashes: 0 },
        Budgets { faults: 1, families: faults, crashes: 1 },
    ];
    let mut executions = 0;
    for budgets in ways {
        for case in
            cases.iter().filter(|case| budgets.faults * budgets.crashes == 0 || case.is_small)
        {
            let Exploration { verdict, summary } = case.explore_design(budgets, design, 2_000);
            executions += summary.executions;
            if let Verdict::Violated { finding, .. } = verdict {
                let name = case.name;
                return Some(format!(
                    "{:<42} {executions:>6} executions, {name}: {}: {}",
                    mutant.word(),
                    finding.property,
                    finding.message
                ));
            }
        }
    }
    None
}

#[test]
fn every_mutant_is_noticed() {
    let cases = all();
    let mut missed = String::new();
    for &mutant in MUTANTS {
        match hunt(mutant, &cases) {
            Some(line) => println!("{line}"),
            None => writeln!(missed, "{mutant} is not noticed").expect("a String takes everything"),
        }
    }
    assert!(missed.is_empty(), "{missed}");
}
