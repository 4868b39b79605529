//! Timed runs: requests take time, and the clock moves only when nothing else is enabled.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use blockyard_runtime::{IoBuffer, Storage};
use blockyard_sim::{
    Budgets, Explorer, Latency, Limits, Outcome, RandomWalk, Reduction, Setup, Summary, Time,
    Verdict, World, run_once,
};
use blockyard_sync::door::{self, world::Quiet};
use blockyard_units::ByteRange;
use common::{Board, FAULTLESS, Small, program, setup, task};

fn timed(budgets: Budgets) -> Setup {
    Setup { time: Time::Timed, ..setup(budgets) }
}

/// What `look` sees at the ends of timed runs with these seeds; nothing is broken in them.
fn seen<T: Ord + 'static>(
    small: Small,
    setup: Setup,
    seeds: std::ops::Range<u64>,
    look: impl Fn(&Board) -> T + 'static,
) -> BTreeSet<T> {
    let seen: Arc<Quiet<BTreeSet<T>>> = Arc::default();
    let seeing = seen.clone();
    let small = small.checked(move |board| {
        seeing.with(|seen| seen.insert(look(board)));
        Ok(())
    });
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(&small, setup, Limits::default(), &mut go_on);
    let verdict = explorer.random(seeds).verdict;
    assert_eq!(verdict, Verdict::Clean { exhausted: false });
    seen.with(std::mem::take)
}

/// A read of `b`; beside it two writes and a flush of `a`, one after another. Each notes when it ended.
fn requests() -> Small {
    program(|runtime, board| {
        let (clock, other) = (runtime.clone(), board.clone());
        task(runtime, "reader", async move {
            let read = other.disks[1].read(ByteRange::new(0, 1000)).await;
            read.expect("nothing fails");
            other.values[0].write(|value| *value = clock.now_ns());
        });
        let clock = runtime.clone();
        task(runtime, "writer", async move {
            for index in 1..3 {
                let written = board.disks[0].write(0, IoBuffer::zeroes(100), index == 2).await;
                written.expect("nothing fails");
                board.values[index].write(|value| *value = clock.now_ns());
            }
            board.disks[0].flush().await.expect("nothing fails");
            board.values[3].write(|value| *value = clock.now_ns());
        });
    })
}

fn latency(jitter_ns: u64) -> Latency {
    let bandwidth = 1_000_000_000;
    Latency { read_ns: 7_000, write_ns: 400, flush_ns: 2_000, jitter_ns, bandwidth }
}

#[test]
fn requests_end_when_access_and_transfer_are_over() {
    let mut setup = timed(FAULTLESS);
    setup.images.iter_mut().for_each(|image| image.latency = latency(0));
    let times = seen(requests(), setup, 0..50, Board::first_values::<4>);
    assert_eq!(times, BTreeSet::from([[8_000, 500, 500 + 2_500, 3_000 + 2_000]]));
}

#[test]
fn jitter_goes_by_the_seed_and_not_by_the_schedule() {
    let draw = |seeds| {
        let mut setup = timed(FAULTLESS);
        setup.images.iter_mut().for_each(|image| image.latency = latency(100));
        seen(requests(), setup, seeds, Board::first_values::<4>)
    };
    let all = draw(0..50);
    assert!(all.len() > 40, "{} of 50 runs differ", all.len());
    for seed in 0..50 {
        let alone = draw(seed..seed + 1);
        assert!(alone.len() == 1 && alone.is_subset(&all), "seed {seed}");
    }
    // The same world in other orders: what happens at one moment comes in another one, and at the same time.
    let Setup { mut images, budgets, .. } = timed(FAULTLESS);
    images.iter_mut().for_each(|image| image.latency = latency(100));
    let times: Arc<Quiet<BTreeSet<[u64; 4]>>> = Arc::default();
    let seeing = times.clone();
    let small = requests().checked(move |board| {
        seeing.with(|seen| seen.insert(board.first_values()));
        Ok(())
    });
    let mut world = World::new(&images, budgets, 7);
    world.time = Time::Timed;
    let mut order = |walk| {
        let limits = Limits::default();
        run_once(&mut world, &small, &mut RandomWalk::new(walk), limits, &mut |_, _| ()).hash
    };
    let orders: BTreeSet<u64> = (0..20).map(&mut order).collect();
    assert!(orders.len() > 1 && times.with(|times| times.len()) == 1, "{orders:?}");
    let late = |times: &[u64; 4]| [8_000, 500, 3_000, 5_000].iter().zip(times).all(|(a, b)| a <= b);
    assert!(all.iter().all(late), "{all:?}");
}

#[test]
fn the_clock_moves_only_when_nothing_else_can_happen() {
    let spinning = || {
        program(|runtime, board| {
            let (clock, other) = (runtime.clone(), board.clone());
            task(runtime, "sleeper", async move {
                clock.sleep(1).await;
                other.values[0].write(|value| *value = 1);
            });
            task(runtime, "spinner", async move {
                for _ in 0..50 {
                    door::boundary().await;
                }
                let slept = board.values[0].read(|value| *value);
                board.values[1].write(|value| *value = slept);
            });
        })
    };
    let slept = |board: &Board| board.first_values::<2>()[1];
    assert_eq!(seen(spinning(), timed(FAULTLESS), 0..50, slept), BTreeSet::from([0]));
    assert!(seen(spinning(), setup(FAULTLESS), 0..50, slept).contains(&1), "untimed, it may");
}

#[test]
fn faults_and_their_end_leave_timed_runs_whole() {
    let families = "eio,eio-late,stuck".parse().expect("they are families");
    let reading = program(|runtime, board| {
        let clock = runtime.clone();
        task(runtime, "t", async move {
            let read = board.disks[0].read(ByteRange::new(0, 512)).await;
            let failed = u64::from(read.is_err());
            board.values[0].write(|value| *value = failed);
            let at_once = u64::from(clock.now_ns() < Latency::default().read_ns);
            board.values[1].write(|value| *value = at_once);
        });
    });
    let ends = seen(reading, timed(Budgets { faults: 1, families, crashes: 0 }), 0..100, |board| {
        board.first_values::<2>()
    });
    assert_eq!(ends, BTreeSet::from([[0, 0], [1, 0]]));
}

#[test]
fn a_timed_run_is_replayed_by_its_tape() {
    let broken = || requests().checked(|_| Err("always".into()));
    let mut go_on = |_: &Summary| true;
    let (small, setup) = (broken(), timed(FAULTLESS));
    let mut explorer = Explorer::new(&small, setup.clone(), Limits::default(), &mut go_on);
    let Verdict::Violated { tape, hash, seed, .. } = explorer.random(3..4).verdict else {
        panic!("nothing was found");
    };
    let setup = Setup { seed: seed.expect("it was drawn"), ..setup };
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(&small, setup, Limits::default(), &mut go_on);
    let (report, _) = explorer.replay(tape.into_iter().map(|line| line.event).collect());
    assert!(matches!(report.outcome, Outcome::Violated(_)), "{report:?}");
    assert_eq!(report.hash, hash);
}

#[test]
#[should_panic(expected = "searches-are-untimed")]
fn reductions_refuse_timed_runs() {
    let mut go_on = |_: &Summary| true;
    let (small, setup) = (requests(), timed(FAULTLESS));
    let mut explorer = Explorer::new(&small, setup, Limits::default(), &mut go_on);
    explorer.depth_first(Reduction::Optimal);
}
