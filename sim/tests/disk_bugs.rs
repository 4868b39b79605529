//! Known mistakes with failing disks, which the families of faults must find, and their repairs, which they must not.

mod common;

use std::sync::Arc;

use blockyard_sim::{Budgets, Families, Family, Sampling, Verdict};
use blockyard_sync::door::world::Quiet;
use common::planted::retrying::{Retry, copied, flushing, retrying};
use common::sectors::Request::{Read, Write};
use common::sectors::{ask, explore_all};
use common::{Small, program, setup, task};

fn budgets(faults: u32, families: &[Family]) -> Budgets {
    let families = families.iter().fold(Families::NONE, |all, family| all.with(*family));
    Budgets { faults, families, ..Budgets::NONE }
}

#[test]
fn retry_that_forgets_a_part_is_found_by_whatever_fails_a_write_before_its_effect() {
    for family in [Family::Eio, Family::Short, Family::Torn] {
        let budgets = budgets(2, &[family]);
        let sound = explore_all(&retrying(Retry::Whole), budgets).verdict;
        assert_eq!(sound, Verdict::Clean { exhausted: true }, "{family:?}");
        for retry in [Retry::Rest, Retry::Elsewhere] {
            // Whoever believes in prefixes is only wrong where what failed is no prefix.
            let believes_rightly = retry == Retry::Rest && family == Family::Short;
            let found = explore_all(&retrying(retry), budgets).verdict;
            let is_found = matches!(found, Verdict::Violated { .. });
            assert_eq!(is_found, !believes_rightly, "{family:?}");
        }
    }
}

#[test]
fn failed_write_that_is_forgotten_is_found_by_whatever_fails_it_with_an_effect() {
    for family in [Family::Eio, Family::EioLate, Family::Short, Family::Torn] {
        let budgets = budgets(2, &[family]);
        let sound = explore_all(&copied(false), budgets).verdict;
        assert_eq!(sound, Verdict::Clean { exhausted: true }, "{family:?}");
        let found = explore_all(&copied(true), budgets).verdict;
        let is_found = matches!(found, Verdict::Violated { .. });
        assert_eq!(is_found, family != Family::Eio, "{family:?}");
    }
}

#[test]
fn flush_that_succeeds_after_one_that_failed_is_found_to_prove_nothing() {
    let budgets = budgets(2, &[Family::Flush]);
    let sound = explore_all(&flushing(true), budgets).verdict;
    assert_eq!(sound, Verdict::Clean { exhausted: true });
    let Verdict::Violated { finding, tape, .. } = explore_all(&flushing(false), budgets).verdict
    else {
        panic!("the data are gone");
    };
    assert_eq!(finding.message, "said to be durable, and is gone");
    let failed = tape.iter().filter(|line| line.event.starts_with("fail "));
    assert!(failed.map(|line| &line.event).any(|event| event.contains("dropped")), "{tape:?}");
}

#[test]
fn both_mistakes_are_found_by_swarm_among_all_families() {
    // Only transient faults: the writers would try for ever against the others.
    let families = [Family::Eio, Family::Short, Family::Torn, Family::Flush];
    for (mistake, repaired, families) in [
        (retrying(Retry::Elsewhere), retrying(Retry::Whole), &families[..]),
        (flushing(false), flushing(true), &families[3..]),
    ] {
        let mut go_on = |_: &blockyard_sim::Summary| true;
        let mut sample = |program: &Small| {
            let setup = setup(budgets(2, families));
            let limits = blockyard_sim::Limits::default();
            let mut explorer = blockyard_sim::Explorer::new(program, setup, limits, &mut go_on);
            explorer.sample(Sampling::Swarm, 0..500).verdict
        };
        assert!(matches!(sample(&mistake), Verdict::Violated { .. }));
        assert_eq!(sample(&repaired), Verdict::Clean { exhausted: false });
    }
}

/// Reads one copy, and the other if that fails; `trusts` a read that was said to be done.
fn reading(trusts: bool) -> Small {
    let wrong: Arc<Quiet<bool>> = Arc::default();
    let shown = wrong.clone();
    let program = program(move |runtime, board| {
        wrong.with(|wrong| *wrong = false);
        let wrong = wrong.clone();
        task(runtime, "reader", async move {
            for disk in &board.disks {
                ask(disk, Write(0, 1, 1)).await;
            }
            for disk in &board.disks {
                let read = ask(disk, Read(0, 1)).await;
                // Who does not trust compares with what is known of the bytes elsewhere.
                if read == "1" || trusts && read != "EIO" {
                    wrong.with(|wrong| *wrong = read != "1");
                    break;
                }
            }
        });
    });
    program.checked(move |_| match shown.with(|wrong| *wrong) {
        false => Ok(()),
        true => Err("wrong bytes were taken for right ones".into()),
    })
}

#[test]
fn reader_that_trusts_what_it_reads_is_found_by_silent_damage_only() {
    for &family in Family::ALL {
        let silent = matches!(family, Family::Lost | Family::Misdirected | Family::BitRot);
        let trusting = explore_all(&reading(true), budgets(1, &[family])).verdict;
        let fails_to_write = matches!(family, Family::Eio | Family::StickyEio | Family::Enospc);
        let is_found = matches!(trusting, Verdict::Violated { .. });
        assert_eq!(is_found, silent || fails_to_write, "{family:?}");
        let checking = explore_all(&reading(false), budgets(1, &[family])).verdict;
        assert_eq!(checking, Verdict::Clean { exhausted: true }, "{family:?}");
    }
}
