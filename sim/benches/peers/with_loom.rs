//! The small programs under loom: depth first, with its reduction, to the end or so many executions.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use loom::model::Builder;

use crate::figure::Figure;
use crate::machine;

use loom as rt;

#[path = "threads.rs"]
pub mod threads;

const MOST: u64 = 10_000;
/// Of an exploration whose rate is measured.
const FEW: u64 = 1_000;

static EXECUTIONS: AtomicU64 = AtomicU64::new(0);

/// Executions run; at most so many.
fn explore(program: fn(), most: u64) -> u64 {
    EXECUTIONS.store(0, Relaxed);
    let mut builder = Builder::new();
    builder.max_branches = 10_000;
    // It looks whether to end before every execution whose number is a multiple.
    builder.checkpoint_interval = most as usize + 1;
    builder.max_permutations = Some(most as usize + 1);
    builder.check(move || {
        EXECUTIONS.fetch_add(1, Relaxed);
        program();
    });
    EXECUTIONS.load(Relaxed)
}

pub fn exhaust(program: fn()) -> Figure {
    let executions = explore(program, MOST);
    Figure::executions(executions, executions == MOST)
}

/// Ends this process when it finds something: unwinding from a finding may abort.
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
    Figure::mean(threads::SMALL[1..].iter().map(rate))
}

/// Three tasks of three yields; loom has no tasks, so each is a thread that blocks on one.
pub fn yields() {
    let spawn = |_| {
        loom::thread::spawn(|| {
            loom::future::block_on(async {
                for _ in 0..3 {
                    Yield::default().await;
                }
            });
        })
    };
    let handles: Vec<_> = (0..3).map(spawn).collect();
    handles.into_iter().for_each(|handle| handle.join().expect("no-thread-panics"));
}

/// Yields once.
#[derive(Default)]
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
