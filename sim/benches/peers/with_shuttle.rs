//! The small programs under shuttle: depth first, without a reduction, to the end or so many executions; and at random.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shuttle::future::{block_on, spawn, yield_now};
use shuttle::scheduler::{DfsScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};

use crate::figure::Figure;
use crate::machine;

use shuttle as rt;

#[path = "threads.rs"]
#[allow(clippy::duplicate_mod)] // one text for two tools
pub mod threads;

const MOST: u64 = 100_000;
/// Of an exploration whose rate is measured.
const FEW: u64 = 10_000;

static EXECUTIONS: AtomicU64 = AtomicU64::new(0);

fn run(scheduler: impl Scheduler + 'static, program: fn()) -> u64 {
    EXECUTIONS.store(0, Relaxed);
    let mut config = Config::new();
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(move || {
        EXECUTIONS.fetch_add(1, Relaxed);
        program();
    });
    EXECUTIONS.load(Relaxed)
}

fn explore(program: fn(), most: u64) -> u64 {
    run(DfsScheduler::new(Some(most as usize), false), program)
}

pub fn exhaust(program: fn()) -> Figure {
    let executions = explore(program, MOST);
    Figure::executions(executions, executions == MOST)
}

/// Ends this process when it finds something, as with the other.
pub fn find(program: fn()) -> Figure {
    std::panic::set_hook(Box::new(|_| {
        machine::finish(Figure::executions(EXECUTIONS.load(Relaxed), false))
    }));
    Figure::executions(explore(program, MOST), true)
}

pub fn rates() -> Figure {
    let rate = |(name, program): &(&str, fn())| {
        (name.to_string(), machine::rate(|| explore(*program, FEW)))
    };
    Figure::mean(threads::SMALL.iter().map(rate))
}

fn yielding(tasks: usize, times: usize) {
    block_on(async move {
        let task = |_| {
            spawn(async move {
                for _ in 0..times {
                    yield_now().await;
                }
            })
        };
        let handles: Vec<_> = (0..tasks).map(task).collect();
        for handle in handles {
            handle.await.expect("no-task-is-aborted");
        }
    });
}

/// Three tasks of three yields.
pub fn yields() {
    yielding(3, 3);
}

/// Yields a second, of ten tasks at random.
pub fn steps() -> Figure {
    let steps = || run(RandomScheduler::new_from_seed(1, 20), || yielding(10, 100)) * 10 * 100;
    Figure { value: machine::rate(steps), ..Figure::default() }
}
