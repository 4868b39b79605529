//! Time, random numbers, wake-ups, panics and hangs in the simulated world.

mod common;

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use blockyard_sim::{Explorer, Limits, Reduction, Summary, Verdict};
use blockyard_sync::door::{self, world::Quiet};
use blockyard_sync::first_of;
use common::{FAULTLESS, Small, outcomes, program, setup, task};

/// The property that a search finds broken, the end of the tape, and how many executions that took.
fn violation(program: &Small, reduction: Reduction) -> (String, Vec<String>, u64) {
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(program, setup(FAULTLESS), Limits::default(), &mut go_on);
    let exploration = explorer.depth_first(reduction);
    let Verdict::Violated { finding, tape, .. } = exploration.verdict else {
        panic!("{reduction:?} found nothing");
    };
    let tape = tape.into_iter().map(|line| line.event).collect();
    (finding.property, tape, exploration.summary.executions)
}

fn drawing(seed: u64) -> BTreeSet<[u64; 4]> {
    let small = program(|runtime, board| {
        for index in 0..2 {
            let (runtime, board) = (runtime.clone(), board.clone());
            task(&runtime.clone(), &format!("t{index}"), async move {
                for draw in 0..2 {
                    let number = runtime.random_u64();
                    board.values[2 * index + draw].write(|value| *value = number);
                    board.values[7].write(|value| *value += 1);
                    door::boundary().await;
                }
            });
        }
    });
    let seen: Arc<Quiet<BTreeSet<_>>> = Arc::default();
    let seeing = seen.clone();
    let small = small.checked(move |board| {
        seeing.with(|seen| seen.insert(board.first_values()));
        Ok(())
    });
    let mut setup = setup(FAULTLESS);
    setup.seed = seed;
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(&small, setup, Limits::default(), &mut go_on);
    let exploration = explorer.depth_first(Reduction::SourceSets);
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
    assert!(exploration.summary.executions >= 6);
    seen.with(std::mem::take)
}

#[test]
fn random_numbers_depend_on_task_and_seed_and_not_on_the_schedule() {
    let (one, two) = (drawing(1), drawing(2));
    assert_eq!((one.len(), two.len()), (1, 1));
    let different: BTreeSet<u64> = one.into_iter().chain(two).flatten().collect();
    assert_eq!(different.len(), 8);
}

/// A task waits while another changes the value twice; `spurious` wakes the task without a reason.
fn disturbed(spurious: bool) -> Small {
    program(move |runtime, board| {
        let wakers: Arc<Quiet<Option<Waker>>> = Arc::default();
        let (waiting, noted) = (board.clone(), wakers.clone());
        task(runtime, "waits", async move {
            let mut wait = pin!(waiting.values[0].wait_until(|value| *value == 3));
            poll_fn(|context| {
                noted.with(|waker| *waker = Some(context.waker().clone()));
                wait.as_mut().poll(context)
            })
            .await;
            waiting.saw(0, waiting.values[0].read(|value| *value));
        });
        task(runtime, "changes", async move {
            for _ in 0..4 {
                board.values[0].write(|value| *value += 1);
                if spurious {
                    wakers.with(|waker| waker.iter().for_each(Waker::wake_by_ref));
                }
                door::boundary().await;
                if board.values[0].read(|value| *value) == 3 {
                    board.seen[0].wait_until(|seen| *seen > 0).await;
                }
            }
        });
    })
}

#[test]
fn spurious_polls_change_no_outcome() {
    let look =
        |board: &common::Board| (board.first_values::<1>(), board.seen[0].read(|seen| *seen));
    let undisturbed = outcomes(disturbed(false), look);
    assert_eq!(undisturbed.len(), 1);
    assert_eq!(outcomes(disturbed(true), look), undisturbed);
}

#[test]
fn nobody_wakes_before_its_deadline() {
    let order = outcomes(
        program(|runtime, board| {
            for (index, duration_ns) in [(1, 20), (2, 10), (3, 10)] {
                let (sleeper, board) = (runtime.clone(), board.clone());
                task(runtime, &format!("t{index}"), async move {
                    sleeper.sleep(duration_ns).await;
                    board.values[index].write(|value| *value = sleeper.now_ns());
                });
            }
        }),
        |board| board.first_values::<4>(),
    );
    // Whoever begins to sleep after another woke sleeps longer.
    assert!(order.contains(&[0, 20, 10, 10]));
    for [_, first, second, third] in order {
        assert!(first >= 20 && second >= 10 && third >= 10);
    }
}

#[test]
fn tasks_whose_timers_fired_run_in_any_order() {
    let order = outcomes(
        program(|runtime, board| {
            let sleeper = runtime.clone();
            task(runtime, "t", async move {
                for (digit, duration_ns) in [(1, 20), (2, 10), (3, 10)] {
                    let (runtime, board) = (sleeper.clone(), board.clone());
                    let mut sleep = Box::pin(async move { runtime.sleep(duration_ns).await });
                    // Armed by this step already.
                    poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context).is_ready())).await;
                    task(&sleeper, &format!("t{digit}"), async move {
                        sleep.await;
                        board.values[0].write(|order| *order = *order * 10 + digit);
                    });
                }
            });
        }),
        |board| board.first_values::<1>(),
    );
    let all = [[123], [132], [213], [231], [312], [321]];
    assert_eq!(order, BTreeSet::from(all), "a task may be polled long after its timer fired");
}

#[test]
fn dropped_sleep_disarms_its_timer() {
    let dropping = program(|runtime, _| {
        let sleeper = runtime.clone();
        task(runtime, "t", async move {
            let mut sleep = Box::pin(sleeper.sleep(10));
            poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context).is_ready())).await;
            drop(sleep);
            door::boundary().await;
        });
    });
    let explored = common::explore(&dropping, Reduction::Plain, FAULTLESS);
    assert_eq!(explored.verdict, Verdict::Clean { exhausted: true });
    // Nothing fires; the run is repeated once, which does not count.
    assert_eq!((explored.summary.executions, explored.summary.steps), (1, 2));
}

#[test]
fn timeout_may_come_before_what_it_waits_for_is_looked_at() {
    let ends = outcomes(
        program(|runtime, board| {
            let sleeper = runtime.clone();
            board.values[0].write(|value| *value = 1);
            task(runtime, "t", async move {
                let set = board.values[0].wait_until(|value| *value == 1);
                assert!(first_of(set, sleeper.sleep(2)).await);
                board.values[1].write(|value| *value = sleeper.now_ns());
            });
        }),
        |board| board.first_values::<2>(),
    );
    assert_eq!(ends, BTreeSet::from([[1, 0], [1, 2]]));
}

#[test]
fn panic_in_a_task_is_a_finding_with_a_tape() {
    let panicking = program(|runtime, board| {
        for index in 0..2 {
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move {
                let before = board.values[0].write(|value| (*value += 1, *value).1);
                assert_ne!((index, before), (0, 2), "zero comes first");
            });
        }
    });
    for reduction in [Reduction::Plain, Reduction::SourceSets] {
        let (property, tape, executions) = violation(&panicking, reduction);
        assert_eq!(property, "no-panic");
        assert_eq!((tape, executions), (vec!["poll t1".into(), "poll t0".into()], 2));
    }
}

#[test]
fn panic_of_a_step_that_spawned_leaves_nothing_to_the_next_execution() {
    let panicking = program(|runtime, _| {
        let asleep = runtime.clone();
        task(runtime, "t", async move {
            let sleeper = asleep.clone();
            let mut sleep = Box::pin(async move { sleeper.sleep(10).await });
            // Armed by this step already.
            poll_fn(|context| Poll::Ready(sleep.as_mut().poll(context).is_ready())).await;
            drop(asleep.spawn("child", sleep));
            panic!("after spawning");
        });
    });
    let (property, tape, _) = violation(&panicking, Reduction::SourceSets);
    assert_eq!((property.as_str(), tape.len()), ("no-panic", 1));
}

#[test]
fn wake_up_lost_by_registering_late_is_found_within_ten_executions() {
    let losing = program(|runtime, board| {
        let setting = board.clone();
        task(runtime, "waits", async move {
            if board.values[0].read(|value| *value == 0) {
                door::boundary().await;
                board.queue.register().wait().await;
            }
        });
        task(runtime, "sets", async move {
            setting.values[0].write(|value| *value = 1);
            setting.queue.notify_all();
        });
    });
    for reduction in [Reduction::Plain, Reduction::SleepSets, Reduction::SourceSets] {
        let (property, _, executions) = violation(&losing, reduction);
        assert_eq!(property, "progress");
        assert!(executions <= 10, "{reduction:?}: {executions} executions");
    }
}

#[test]
fn wake_up_registered_for_before_looking_is_never_lost() {
    let ends = outcomes(
        program(|runtime, board| {
            let setting = board.clone();
            task(runtime, "waits", async move {
                let ticket = board.queue.register();
                door::boundary().await;
                if board.values[0].read(|value| *value == 0) {
                    ticket.wait().await;
                }
            });
            task(runtime, "sets", async move {
                setting.values[0].write(|value| *value = 1);
                door::boundary().await;
                setting.queue.notify_all();
            });
        }),
        |board| board.first_values::<1>(),
    );
    assert_eq!(ends, BTreeSet::from([[1]]));
}

#[test]
fn locks_taken_in_two_orders_are_found_to_hang() {
    let inverted = program(|runtime, board| {
        for index in 0..2 {
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move {
                let first = board.mutexes[index].lock().await;
                let second = board.mutexes[1 - index].lock().await;
                second.unlock();
                first.unlock();
            });
        }
    });
    for reduction in [Reduction::Plain, Reduction::SleepSets, Reduction::SourceSets] {
        let (property, _, executions) = violation(&inverted, reduction);
        assert_eq!(property, "progress");
        assert!(executions <= 50, "{reduction:?}: {executions} executions");
    }
}
