//! Images whose power is lost at any moment, and whose disk fails once: whatever is left opens, has every reference
//! counted, and shows the guest nothing older than what it was promised to keep.

mod cases;
mod mutants;
mod plain;
mod prepared;
mod program;

use blockyard_sim::{Budgets, Families, Family, Verdict};
use cases::{Case, all};

/// As a test prints it.
fn line(case: &Case, what: &str, budgets: Budgets) -> String {
    let exploration = case.explore(budgets);
    let summary = &exploration.summary;
    let states = summary.counts.get("crash states").map_or(0, |counts| counts[0]);
    let line = format!(
        "{:<28} {what:<12} {:>7} executions, {:>7} crash states",
        case.name, summary.executions, states
    );
    match exploration.verdict {
        Verdict::Clean { exhausted: true } => line,
        Verdict::Violated { finding, tape, .. } => {
            tape.iter().for_each(|line| println!("    {line}"));
            panic!("{line}: {finding:?}")
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_power_loss_leaves_an_image_that_keeps_its_promises() {
    for case in all() {
        println!("{}", line(&case, "power loss", Budgets { crashes: 1, ..Budgets::NONE }));
    }
}

#[test]
fn a_fault_leaves_an_image_that_keeps_its_promises() {
    for case in all() {
        let faults = Budgets { faults: 1, crashes: 1, ..Budgets::NONE };
        if case.is_small {
            println!("{}", line(&case, "both", faults));
        }
        for family in [Family::Eio, Family::EioLate, Family::Enospc, Family::Short, Family::Torn] {
            let families = Families::NONE.with(family);
            let budgets = Budgets { faults: 1, families, crashes: 0 };
            println!("{}", line(&case, family.word(), budgets));
        }
    }
}
