//! Known mistakes with failing disks, which the families of faults must find, and their repairs, which they must not.

mod common;

use std::sync::Arc;

use blockyard_sim::{Budgets, Families, Family, Sampling, SimDisk, Verdict};
use blockyard_sync::door::world::Quiet;
use common::sectors::Request::{Flush, Read, Write};
use common::sectors::{ask, explore_all};
use common::{Small, program, setup, task};

fn budgets(faults: u32, families: &[Family]) -> Budgets {
    let families = families.iter().fold(Families::NONE, |all, family| all.with(*family));
    Budgets { faults, families, ..Budgets::NONE }
}

/// Writes four sectors in two halves; `retry` says what a failed first half makes it do.
#[derive(Clone, Copy, PartialEq)]
enum Retry {
    /// All of it, until it is done.
    Whole,
    /// Only its second sector: "the first one was written".
    Rest,
    /// The next place: "this one is bad".
    Elsewhere,
}

async fn write_all(disk: &SimDisk, retry: Retry) {
    for half in [0, 2] {
        let mut request = Write(half, 2, 1);
        while ask(disk, request).await != "ok" {
            request = match retry {
                Retry::Whole => Write(half, 2, 1),
                Retry::Rest => Write(half + 1, 1, 1),
                Retry::Elsewhere => Write(half + 2, 2, 1),
            };
        }
    }
}

fn retrying(retry: Retry) -> Small {
    let program = program(move |runtime, board| {
        task(runtime, "writer", async move {
            write_all(&board.disks[0], retry).await;
            // A read may fail: it is tried again.
            let mut read = ask(&board.disks[0], Read(0, 4)).await;
            while read == "EIO" {
                read = ask(&board.disks[0], Read(0, 4)).await;
            }
            board.values[0].write(|value| *value = u64::from(read == "1111"));
        });
    });
    program.checked(|board| match board.first_values() {
        [1] => Ok(()),
        _ => Err("said to be written, and is not".into()),
    })
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

/// Writes two sectors and has them flushed; a flush that fails is tried again, after the writes if it `rewrites`.
fn flushing(rewrites: bool) -> Small {
    let program = program(move |runtime, board| {
        task(runtime, "writer", async move {
            let disk = &board.disks[0];
            let write = async || {
                for sector in 0..2 {
                    assert_eq!(ask(disk, Write(sector, 1, 1)).await, "ok");
                }
            };
            write().await;
            while ask(disk, Flush).await != "ok" {
                if rewrites {
                    write().await;
                }
            }
            let read = ask(disk, Read(0, 2)).await;
            board.values[0].write(|value| *value = u64::from(read == "11"));
        });
    });
    program.checked(|board| match board.first_values() {
        [1] => Ok(()),
        _ => Err("said to be durable, and is gone".into()),
    })
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
