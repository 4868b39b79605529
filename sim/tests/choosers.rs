//! The sampling strategies: they find planted bugs, repeat themselves, and count traces as the reduction does.

mod common;

use std::collections::BTreeMap;
use std::ops::Range;

use blockyard_runtime::Storage;
use blockyard_sim::{
    Budgets, Chooser, Exploration, Explorer, FromBytes, Limits, Outcome, RandomWalk, Reduction,
    Sampled, Sampling, Verdict, Watched, World, run_once,
};
use blockyard_sync::door;
use common::programs::{generate, of_tasks};
use common::{FAULTLESS, Small, explore, program, setup, task};

/// How many generated programs are sampled.
const PROGRAMS: u64 = 40;

fn sample(program: &Small, strategy: Sampling, seeds: Range<u64>, budgets: Budgets) -> Exploration {
    let limits = Limits { executions: u64::MAX, ..Limits::default() };
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let mut explorer = Explorer::new(program, setup(budgets), limits, &mut go_on);
    explorer.keep_traces = true;
    explorer.sample(strategy, seeds)
}

/// Two tasks add one each, by reading and then writing.
fn lost_update() -> Small {
    let program = program(|runtime, board| {
        for name in ["a", "b"] {
            let board = board.clone();
            task(runtime, name, async move {
                let read = board.values[0].read(|value| *value);
                door::boundary().await;
                board.values[0].write(|value| *value = read + 1);
            });
        }
    });
    program.checked(|board| match board.first_values() {
        [2] => Ok(()),
        [sum] => Err(format!("the sum is {sum}")),
    })
}

/// A long task opens a window for one step; a short one must look just then, after steps of its own.
fn needle() -> Small {
    let program = program(|runtime, board| {
        let opener = board.clone();
        task(runtime, "opener", async move {
            for step in 0..12 {
                opener.values[0].write(|value| *value = u64::from(step == 8));
                door::boundary().await;
            }
        });
        task(runtime, "looker", async move {
            for _ in 0..3 {
                board.values[2].write(|value| *value += 1);
                door::boundary().await;
            }
            let open = board.values[0].read(|value| *value);
            board.values[1].write(|value| *value = open);
        });
    });
    program.checked(|board| match board.first_values() {
        [_, 0] => Ok(()),
        _ => Err("seen".into()),
    })
}

/// Three tasks take two of three locks each, in a ring.
fn ring_of_locks() -> Small {
    program(|runtime, board| {
        for index in 0..3 {
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move {
                let first = board.mutexes[index].lock().await;
                door::boundary().await;
                let second = board.mutexes[(index + 1) % 3].lock().await;
                door::boundary().await;
                second.unlock();
                first.unlock();
            });
        }
    })
}

/// A write whose failure after its effect nobody expects.
fn unexpected_fault() -> Small {
    let program = program(|runtime, board| {
        for (name, offset) in [("a", 0), ("b", 512)] {
            let board = board.clone();
            task(runtime, name, async move {
                let written = board.disks[0].write(offset, vec![1; 512].into(), false).await;
                let read = board.disks[0].read(blockyard_units::ByteRange::new(offset, 1)).await;
                let late = written.is_err() && read.is_ok_and(|bytes| bytes[0] == 1);
                board.values[0].add(|value| *value += u64::from(late));
            });
        }
    });
    program.checked(|board| match board.first_values() {
        [0] => Ok(()),
        _ => Err("a failed write had its effect".into()),
    })
}

/// Every strategy breaks the program within so many runs, each time in the same way.
fn check_found(program: &Small, budgets: Budgets, property: &str, runs: u64) {
    for &strategy in Sampling::ALL {
        let exploration = sample(program, strategy, 0..runs, budgets);
        let Verdict::Violated { finding, tape, hash, .. } = &exploration.verdict else {
            panic!("{strategy:?}: nothing in {runs} runs");
        };
        println!("{property} {strategy:?}: {} runs", exploration.summary.executions);
        assert_eq!(finding.property, property, "{strategy:?}");
        assert_eq!(sample(program, strategy, 0..runs, budgets), exploration, "{strategy:?}");
        // What was learnt in earlier runs is not needed to see it again.
        let mut go_on = |_: &blockyard_sim::Summary| true;
        let mut explorer = Explorer::new(program, setup(budgets), Limits::default(), &mut go_on);
        let (report, _) = explorer.replay(tape.iter().map(|line| line.event.clone()).collect());
        assert_eq!(report.outcome, Outcome::Violated(finding.clone()), "{strategy:?}");
        assert_eq!(report.hash, *hash, "{strategy:?}");
    }
}

#[test]
fn every_strategy_finds_a_lost_update() {
    check_found(&lost_update(), FAULTLESS, "check", 50);
}

#[test]
fn every_strategy_finds_a_needle() {
    check_found(&needle(), FAULTLESS, "check", 1000);
}

#[test]
fn every_strategy_finds_a_ring_of_locks() {
    check_found(&ring_of_locks(), FAULTLESS, "progress", 200);
}

#[test]
fn every_strategy_finds_a_fault() {
    check_found(&unexpected_fault(), Budgets { faults: 1, ..Budgets::NONE }, "check", 50);
}

/// The events of each run, in words.
fn tapes(program: &Small, runs: u64, mut run: impl FnMut(u64, &mut Run<'_>)) -> Vec<Vec<String>> {
    let setup = setup(Budgets { faults: 1, ..Budgets::NONE });
    let mut world = World::new(&setup.images, setup.budgets, 0);
    let tape_of = |seed| {
        let mut tape = Vec::new();
        run(seed, &mut |chooser| {
            let mut watch = |world: &World, watched: Watched<'_>| {
                if let Watched::Before(event, _) = watched {
                    tape.push(world.describe(event));
                }
            };
            run_once(&mut world, program, chooser, Limits::default(), &mut watch);
        });
        tape
    };
    (0..runs).map(tape_of).collect()
}

type Run<'a> = dyn FnMut(&mut dyn Chooser) + 'a;

fn sampled_tapes(program: &Small, strategy: Sampling) -> Vec<Vec<String>> {
    let mut sampler = strategy.sampler();
    tapes(program, 20, |seed, run| {
        sampler.begin(seed);
        run(&mut *sampler);
    })
}

#[test]
fn a_strategy_run_twice_chooses_the_same() {
    for number in 0..PROGRAMS {
        let program = of_tasks(generate(number));
        for &strategy in Sampling::ALL {
            let tapes = sampled_tapes(&program, strategy);
            assert_eq!(tapes, sampled_tapes(&program, strategy), "{number} {strategy:?}");
            assert!(tapes.iter().all(|tape| !tape.is_empty()));
        }
    }
}

#[test]
fn the_random_strategy_is_the_walk_of_each_seed() {
    for number in 0..PROGRAMS {
        let program = of_tasks(generate(number));
        let walks = tapes(&program, 20, |seed, run| run(&mut RandomWalk::new(seed)));
        assert_eq!(sampled_tapes(&program, Sampling::Random), walks, "{number}");
    }
}

#[test]
fn sampled_traces_are_traces_of_the_reduction() {
    let mut met = BTreeMap::<Sampling, u64>::new();
    for number in 0..PROGRAMS {
        let program = of_tasks(generate(number));
        let exhaustive = explore(&program, Reduction::SourceSets, FAULTLESS);
        assert_eq!(exhaustive.verdict, Verdict::Clean { exhausted: true });
        let all = exhaustive.summary.traces;
        for &strategy in Sampling::ALL {
            let summary = sample(&program, strategy, 0..100, FAULTLESS).summary;
            assert!(summary.traces.is_subset(&all), "{number} {strategy:?}: traces that are not");
            assert_eq!(summary.new_traces, summary.traces.len() as u64, "{number} {strategy:?}");
            let executions = summary.sampled.values().map(|sampled| sampled.executions);
            let new_traces = summary.sampled.values().map(|sampled| sampled.new_traces);
            assert_eq!(executions.sum::<u64>(), summary.executions);
            assert_eq!(new_traces.sum::<u64>(), summary.new_traces);
            *met.entry(strategy).or_default() += summary.new_traces;
        }
    }
    println!("{met:?}");
}

#[test]
fn the_portfolio_meets_every_trace_of_a_small_program_and_no_more() {
    let program = lost_update().checked(|_| Ok(()));
    let exhaustive = explore(&program, Reduction::SourceSets, FAULTLESS).summary;
    let summary = sample(&program, Sampling::Portfolio, 0..100, FAULTLESS).summary;
    assert_eq!(summary.traces, exhaustive.traces);
    assert_eq!(summary.new_traces, exhaustive.executions - exhaustive.blocked);
    let members: Vec<(Sampling, u64)> = summary
        .sampled
        .into_iter()
        .map(|(strategy, Sampled { executions, .. })| (strategy, executions))
        .collect();
    let expected: Vec<(Sampling, u64)> =
        Sampling::ALL[..5].iter().map(|strategy| (*strategy, 20)).collect();
    assert_eq!(members, expected);
}

fn from_bytes(program: &Small, bytes: &[u8]) -> Exploration {
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let setup = setup(FAULTLESS);
    Explorer::new(program, setup, Limits::default(), &mut go_on).run_from_bytes(bytes)
}

#[test]
fn bytes_are_a_run_and_some_bytes_lose_an_update() {
    let program = lost_update();
    let mut violated = 0;
    for bits in 0..64_u8 {
        let bytes = [0, 1, 2, 3, 4, 5].map(|bit| bits >> bit & 1);
        let exploration = from_bytes(&program, &bytes);
        assert_eq!(from_bytes(&program, &bytes), exploration, "{bytes:?}");
        let Verdict::Violated { finding, tape, hash, .. } = exploration.verdict else { continue };
        violated += 1;
        assert_eq!(finding.property, "check");
        let mut go_on = |_: &blockyard_sim::Summary| true;
        let mut explorer = Explorer::new(&program, setup(FAULTLESS), Limits::default(), &mut go_on);
        let (report, _) = explorer.replay(tape.into_iter().map(|line| line.event).collect());
        assert_eq!(report.hash, hash, "{bytes:?}");
    }
    assert!((1..64).contains(&violated), "{violated} of 64");
}

#[test]
fn behind_the_end_of_the_bytes_comes_the_first_enabled_event() {
    for number in 0..PROGRAMS {
        let program = of_tasks(generate(number));
        let first = tapes(&program, 1, |_, run| run(&mut blockyard_sim::Replay::new(Vec::new())));
        let none = tapes(&program, 1, |_, run| run(&mut FromBytes::new(&[])));
        assert_eq!(first, none, "{number}");
        let other = tapes(&program, 1, |_, run| run(&mut FromBytes::new(&[255; 400])));
        assert_ne!(first, other, "{number}: the bytes decide nothing");
    }
}

#[test]
fn nobody_starves_whom_a_spinner_waits_for() {
    let program = program(|runtime, board| {
        let waited = board.clone();
        task(runtime, "spinner", async move {
            while waited.values[0].read(|value| *value == 0) {
                waited.runtime.sleep(1).await;
            }
        });
        task(runtime, "waited-for", async move {
            board.runtime.sleep(1).await;
            board.values[0].write(|value| *value = 1);
        });
    });
    for &strategy in Sampling::ALL {
        let verdict = sample(&program, strategy, 0..50, FAULTLESS).verdict;
        assert_eq!(verdict, Verdict::Clean { exhausted: false }, "{strategy:?}");
    }
}
