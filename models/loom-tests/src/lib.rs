//! What the loom models share: how they are explored, and a block layer to explore.
//!
//! The twin packages beside this one build the sources of the block layer with loom's locks, so every
//! passage through the door is a point where loom may switch threads. Loom looks for what the simulator
//! cannot see: two threads inside one step.
//!
//! Not for: the order of whole steps (the simulator explores that), or waits on time and disks: there is
//! no world here, and asking for one is a panic.
#![forbid(unsafe_code)]

extern crate alloc;

mod layer;

pub use layer::{Null, empty_layer, new_node};

use alloc::sync::Arc;
use alloc::task::Wake;
use core::future::Future;
use core::mem::{self, ManuallyDrop};
use core::task::{Context, Poll, Waker};

use blockyard_sync::door;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};

/// More switches away from a thread that could go on are not tried. The planted bugs need up to four.
const PREEMPTIONS: usize = 5;

/// More than any model here passes in one execution.
const MAX_BRANCHES: usize = 10_000;

/// Runs `model` in every order of its threads, up to the bound.
///
/// # Panics
/// What the model panics with in some order; a deadlock is a panic too.
pub fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = MAX_BRANCHES;
    builder.check(model);
}

/// Explores a model with a planted bug.
///
/// # Panics
/// `planted-bugs-are-found`: if no order panics with a message that contains `expected`.
pub fn explore_finds(expected: &str, model: impl Fn() + Send + Sync + 'static) {
    let outcome = door::world::catch_panic(|| explore(model));
    // What the broken execution left behind holds locks of a loom that is gone; nobody may touch them.
    mem::forget(door::take_orphans());
    let message = outcome.expect_err("planted-bugs-are-found");
    assert!(message.contains(expected), "planted-bugs-are-found: {expected:?} in {message:?}");
}

/// Two threads `pass` a lock; what it is given to run is the section that the lock guards.
///
/// # Panics
/// `one-owner`: if both are in the section.
pub fn two_inside<L: Send + Sync + 'static>(lock: L, pass: fn(&L, &dyn Fn())) {
    let state = Arc::new((lock, AtomicUsize::new(0)));
    let run = {
        let state = state.clone();
        move || {
            pass(&state.0, &|| {
                assert_eq!(state.1.fetch_add(1, Ordering::SeqCst), 0, "one-owner");
                state.1.fetch_sub(1, Ordering::SeqCst);
            });
        }
    };
    let other = thread::spawn(run.clone());
    run();
    join(other);
}

/// Waits for a loom thread's end.
pub fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("a-panic-ends-the-execution")
}

/// Runs a future to its end on this loom thread.
///
/// Differs: loom's own passes its scheduler while it unwinds from a deadlock, which aborts; and so would
/// a wait that is dropped then. Here only what has ended is dropped.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let signal = Arc::new(Signal { woken: Mutex::new(false), changed: Condvar::new() });
    let waker = Waker::from(signal.clone());
    let mut future = ManuallyDrop::new(Box::pin(future));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            drop(ManuallyDrop::into_inner(future));
            return output;
        }
        signal.wait();
    }
}

/// Whether a loom thread's future was woken.
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn wait(&self) {
        let mut woken = self.woken.lock().expect("loom-locks-are-not-poisoned");
        while !*woken {
            woken = self.changed.wait(woken).expect("loom-locks-are-not-poisoned");
        }
        *woken = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().expect("loom-locks-are-not-poisoned") = true;
        self.changed.notify_one();
    }
}
