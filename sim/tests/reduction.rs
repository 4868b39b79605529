//! The reduction sees what plain search sees, each trace once.

mod common;

use std::collections::BTreeSet;

use blockyard_runtime::Storage;
use blockyard_sim::{Budgets, Exploration, Reduction, Verdict};
use blockyard_sync::door;
use common::programs::{Operation, Tasks, generate, of_tasks};
use common::{FAULTLESS, Small, explore, program, task};

/// How many generated programs are searched.
const PROGRAMS: u64 = 200;

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
    let (executions, blocked) = executions(&program, Reduction::Optimal);
    assert_eq!(executions - blocked, 30);
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

/// How many traces plain search sees, if it exhausts the program; the other searches must see the same, each once.
/// Where a guard turns false again, a poll that only finds this out is no part of a trace: then states are compared.
fn compare(tasks: &Tasks, faults: u32) -> Option<usize> {
    let program = of_tasks(tasks.clone());
    let budgets = Budgets { faults, ..Budgets::NONE };
    let plain = explore(&program, Reduction::Plain, budgets);
    if plain.verdict == (Verdict::Clean { exhausted: false }) {
        return None;
    }
    let takes = tasks.iter().flatten().any(|operation| matches!(operation, Operation::Take(_)));
    for reduction in [Reduction::SleepSets, Reduction::SourceSets, Reduction::Optimal] {
        let reduced = explore(&program, reduction, budgets);
        assert_eq!(reduced.verdict, plain.verdict, "{tasks:?}, {reduction:?}");
        assert_eq!(states(&reduced), states(&plain), "{tasks:?}, {reduction:?}");
        if !takes {
            let (found, all) = (&reduced.summary.traces, &plain.summary.traces);
            let counts = format!("{} of {} traces", found.len(), all.len());
            assert!(found == all, "{tasks:?}, {reduction:?}: {counts}");
            let complete = reduced.summary.executions - reduced.summary.blocked;
            assert_eq!(complete, found.len() as u64, "{tasks:?}, {reduction:?}");
            let wasted = reduced.summary.blocked;
            assert!(reduction != Reduction::Optimal || wasted == 0, "{tasks:?}: {wasted} blocked");
        }
    }
    Some(plain.summary.traces.len())
}

fn states(exploration: &Exploration) -> BTreeSet<u64> {
    exploration.summary.traces.iter().map(|(_, state)| *state).collect()
}

#[test]
fn reduced_search_sees_the_traces_of_plain_search_each_once() {
    let (mut exhausted, mut large) = (0, 0);
    for number in 0..PROGRAMS {
        let tasks = generate(number);
        let traces = compare(&tasks, u32::from(number % 3 == 0));
        exhausted += u64::from(traces.is_some());
        large += u64::from(traces.is_some_and(|traces| traces >= 20));
    }
    assert!(exhausted * 2 >= PROGRAMS, "only {exhausted} programs could be exhausted");
    assert!(large * 10 >= exhausted * 3, "only {large} of {exhausted} had 20 traces or more");
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
