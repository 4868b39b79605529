//! The reduction sees what plain search sees, each trace once.

mod common;

use std::sync::Arc;

use blockyard_runtime::Storage;
use blockyard_sim::{Budgets, Reduction, Verdict};
use blockyard_sync::door;
use blockyard_units::ByteRange;
use common::{Board, Small, explore, task};

const FAULTLESS: Budgets = Budgets { faults: 0, crashes: 0 };

fn program(body: impl Fn(&blockyard_runtime::Runtime, Arc<Board>) + 'static) -> Small {
    Small { body: Box::new(body), check: |_| Ok(()) }
}

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
    assert_eq!(executions(&private_then_shared(5, 3, 0), Reduction::SourceSets), (1, 0));
}

#[test]
fn one_shared_step_each_needs_every_order_once() {
    assert_eq!(executions(&private_then_shared(4, 2, 1), Reduction::SourceSets), (24, 0));
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
    let (executions, blocked) = executions(&program, Reduction::SourceSets);
    assert!(executions - blocked <= 90, "{executions} executions, {blocked} blocked");
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

/// One small program for a number: tasks of two or three operations on few objects.
fn generated(number: u64) -> Small {
    program(move |runtime, board| {
        let mut dice = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678;
        let mut roll = |below: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 33) % below
        };
        let tasks = 2 + roll(2);
        for index in 0..tasks as usize {
            let operations: Vec<(u64, usize)> =
                (0..1 + roll(4 - tasks)).map(|_| (roll(12), roll(4) as usize / 3)).collect();
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move {
                for (operation, object) in operations {
                    operate(&board, index, operation, object).await;
                }
            });
        }
    })
}

async fn operate(board: &Arc<Board>, task: usize, operation: u64, object: usize) {
    match operation {
        0 => board.saw(task, board.values[object].read(|value| *value)),
        1 => board.values[object].write(|value| *value = *value * 2 + 1),
        2 | 3 => board.values[object].add(|value| *value += 1),
        4 => {
            let mut guard = board.mutexes[object].lock().await;
            *guard += 1;
            board.saw(task, *guard);
            door::boundary().await;
            guard.unlock();
        }
        5 => {
            let range = ByteRange::new(512 * object as u64, 1024);
            let read = board.disks[0].read(range).await;
            board.saw(task, read.map_or(99, |bytes| u64::from(bytes[0]) + u64::from(bytes[512])));
        }
        6 | 7 => {
            let data = vec![task as u8 + 1; 512].into();
            let written = board.disks[0].write(512 * object as u64, data, false).await;
            board.saw(task, u64::from(written.is_ok()));
        }
        8 => board.queue.notify_all(),
        9 => {
            // Waits for a value that some other task may set; a timer sees to it that one does.
            let runtime = board.runtime.clone();
            let waker = board.clone();
            drop(runtime.spawn("helper", async move {
                waker.values[4 + object].write(|value| *value += 1);
            }));
            board.values[4 + object].wait_until(|value| *value > 0).await;
        }
        10 => {
            board.runtime.sleep(1 + object as u64).await;
            board.saw(task, board.runtime.now_ns());
        }
        _ => {
            let chosen = board.runtime.choose(2).await;
            board.saw(task, u64::from(chosen));
        }
    }
    // The others wait anyway; these would run together with what follows.
    if matches!(operation, 0..=3 | 8) {
        door::boundary().await;
    }
}

#[test]
fn reduced_search_sees_the_traces_of_plain_search_each_once() {
    let mut large = 0;
    for number in 0..600 {
        let program = generated(number);
        let faults = u32::from(number % 3 == 0);
        let budgets = Budgets { faults, crashes: 0 };
        let plain = explore(&program, Reduction::Plain, budgets);
        if plain.verdict != (Verdict::Clean { exhausted: true }) {
            continue;
        }
        for reduction in [Reduction::SleepSets, Reduction::SourceSets] {
            let reduced = explore(&program, reduction, budgets);
            assert_eq!(reduced.verdict, plain.verdict, "program {number}, {reduction:?}");
            let traces = &reduced.summary.traces;
            assert_eq!(traces, &plain.summary.traces, "program {number}, {reduction:?}");
            let complete = reduced.summary.executions - reduced.summary.blocked;
            assert_eq!(complete, traces.len() as u64, "program {number}, {reduction:?}");
        }
        large += u64::from(plain.summary.traces.len() >= 20);
    }
    assert!(large >= 4, "only {large} programs had 20 traces or more");
}
