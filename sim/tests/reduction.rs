//! The reduction sees what plain search sees, each trace once.

mod common;

use std::collections::BTreeSet;

use blockyard_runtime::Storage;
use blockyard_sim::{Exploration, Granularity, Reduction, Verdict};
use blockyard_sync::door;
use common::compare::compare;
use common::programs::generate;
use common::{FAULTLESS, Small, explore, program, task};

/// How many generated programs are searched.
const PROGRAMS: u64 = 400;

/// `tasks` tasks of `private` steps on data of their own, then `shared` steps on one value.
fn private_then_shared(tasks: usize, private: usize, shared: usize) -> Small {
    program(move |runtime, board| {
        for index in 0..tasks {
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move {
                for _ in 0..private {
                    board.values[1 + index].write(|value| *value += 1);
                    door::boundary().await;
                }
                for _ in 0..shared {
                    let value = board.values[0].write(|value| {
                        *value += 1;
                        *value
                    });
                    board.saw(index, value);
                    door::boundary().await;
                }
            });
        }
    })
}

fn executions(program: &Small, reduction: Reduction) -> (u64, u64) {
    let exploration = explore(program, reduction, FAULTLESS);
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
    (exploration.summary.executions, exploration.summary.blocked)
}

#[test]
fn independent_tasks_need_one_execution() {
    assert_eq!(executions(&private_then_shared(5, 3, 0), Reduction::Optimal), (1, 0));
}

#[test]
fn one_shared_step_each_needs_every_order_once() {
    assert_eq!(executions(&private_then_shared(4, 2, 1), Reduction::Optimal), (24, 0));
}

#[test]
fn a_fair_lock_needs_an_execution_for_each_order_of_asking() {
    let program = program(|runtime, board| {
        for index in 0..3 {
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move {
                for _ in 0..2 {
                    let mut guard = board.mutexes[0].lock().await;
                    *guard += 1;
                    board.saw(index, *guard);
                    guard.unlock();
                }
            });
        }
    });
    assert_eq!(executions(&program, Reduction::Optimal), (30, 0));
}

#[test]
fn disjoint_disk_requests_commute_and_overlapping_ones_do_not() {
    let requests = |overlap: u64| {
        program(move |runtime, board| {
            for index in 0..3u64 {
                let disk = board.disks[0].clone();
                task(runtime, &format!("t{index}"), async move {
                    let offset = if overlap == 1 { 0 } else { 512 * index };
                    let data = vec![index as u8 + 1; 512].into();
                    disk.write(offset, data, false).await.expect("no fault is budgeted");
                });
            }
        })
    };
    assert_eq!(executions(&requests(0), Reduction::SourceSets), (1, 0));
    assert_eq!(executions(&requests(1), Reduction::SourceSets), (6, 0));
}

fn states(exploration: &Exploration) -> BTreeSet<u64> {
    exploration.summary.traces.iter().map(|(_, state)| *state).collect()
}

/// Compares the searches of the generated programs, which must be large and numerous enough to mean something.
fn check_generated(reductions: &[(&'static str, Reduction)]) {
    let (mut exhausted, mut large) = (0, 0);
    for number in 0..PROGRAMS {
        let tasks = generate(number);
        let compared = compare(number, &tasks, Granularity::Await, reductions);
        let compared = compared.unwrap_or_else(|differs| panic!("{number} {tasks:?}: {differs}"));
        exhausted += u64::from(compared.is_some());
        large += u64::from(compared.is_some_and(|compared| compared.traces >= 20));
    }
    assert!(exhausted * 10 >= PROGRAMS * 9, "only {exhausted} programs could be exhausted");
    assert!(large * 10 >= exhausted * 3, "only {large} of {exhausted} had 20 traces or more");
}

#[test]
fn source_sets_and_sleep_sets_see_the_traces_of_plain_search_each_once() {
    check_generated(&[
        ("sleep sets", Reduction::SleepSets),
        ("source sets", Reduction::SourceSets),
    ]);
}

#[test]
fn optimal_search_sees_the_traces_of_plain_search_each_once() {
    check_generated(&[("optimal", Reduction::Optimal)]);
}

/// A value that is odd for a moment, and a task that waits for that; who comes too late waits for ever.
fn a_moment_to_wait_for(adders: usize) -> Small {
    let waiting = program(move |runtime, board| {
        for index in 0..adders {
            let board = board.clone();
            task(runtime, &format!("adder{index}"), async move {
                for _ in 0..2 / adders {
                    board.values[0].add(|value| *value += 1);
                    door::boundary().await;
                }
            });
        }
        task(runtime, "waiter", async move {
            board.values[0].wait_until(|value| value % 2 == 1).await;
            board.saw(0, 1);
        });
    });
    waiting.hanging()
}

#[test]
fn a_wait_whose_guard_falls_again_is_seen_to_end_and_to_hang() {
    for adders in [1, 2] {
        let program = a_moment_to_wait_for(adders);
        let plain = states(&explore(&program, Reduction::Plain, FAULTLESS));
        assert_eq!(plain.len(), 2, "{adders} adders");
        for reduction in [Reduction::SleepSets, Reduction::SourceSets, Reduction::Optimal] {
            let reduced = states(&explore(&program, reduction, FAULTLESS));
            assert_eq!(reduced, plain, "{adders} adders, {reduction:?}");
        }
    }
}

/// A task that waits for one of two values and looks at the second only where the first is not set.
#[test]
fn a_wait_that_was_not_looked_at_might_have_ended_first() {
    let small = program(|runtime, board| {
        for (index, name) in ["a", "b"].into_iter().enumerate() {
            let board = board.clone();
            task(runtime, name, async move { board.values[index].write(|value| *value = 1) });
        }
        task(runtime, "waiter", async move {
            let [first, second] = [0, 1].map(|index| {
                let value = &board.values[index];
                async { value.wait_until(|value| *value == 1).await }
            });
            board.saw(0, u64::from(blockyard_sync::first_of(first, second).await));
        });
    });
    let plain = states(&explore(&small, Reduction::Plain, FAULTLESS));
    assert_eq!(plain.len(), 2);
    for reduction in [Reduction::SleepSets, Reduction::SourceSets, Reduction::Optimal] {
        assert_eq!(states(&explore(&small, reduction, FAULTLESS)), plain, "{reduction:?}");
    }
}
