//! Computations on stacks of their own, which pause from however deep inside and go on when they are resumed. It knows
//! neither tasks nor what they pause for.
//!
//! Stacks are pooled by thread: there are as many as there ever were computations under way at once.
//!
//! Invariant `running-is-set`: while a computation runs, [`RUNNING`] is its own way out. Whoever switches away from it
//! sets it once more around the switch, so that it is as before when the computation goes on, whatever others set
//! meanwhile. While none runs, it may be anything and is not looked at.
#![forbid(unsafe_code)]
// Which computation runs is a property of the thread, and no exploration sees it.
#![allow(clippy::disallowed_macros)]

use std::cell::Cell;

use corosensei::stack::DefaultStack;
use corosensei::{CoroutineResult, Yielder};

scoped_tls::scoped_thread_local!(static RUNNING: Yielder<(), ()>);

thread_local! {
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    static IDLE: Cell<Vec<DefaultStack>> = const { Cell::new(Vec::new()) };
}

/// Pauses the running computation until it is resumed. Does nothing where none runs, nor while a panic unwinds it:
/// nobody else can run before that has come to its end.
pub fn pause() {
    if IS_RUNNING.get() && !std::thread::panicking() {
        away(|yielder| yielder.suspend(()));
    }
}

/// Leaves the running computation and comes back to it.
fn away<R>(switch: impl FnOnce(&Yielder<(), ()>) -> R) -> R {
    RUNNING.with(|yielder| RUNNING.set(yielder, || switch(yielder)))
}

/// Runs what switches to another computation, whose pauses count or do not.
fn switch_to<R>(may_pause: bool, switch: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IS_RUNNING.set(self.0);
        }
    }
    let restore = Restore(IS_RUNNING.replace(may_pause));
    if restore.0 { away(|_| switch()) } else { switch() }
}

/// A computation that may be under way. Dropped before its end, it is unwound: destructors run, and do not pause.
pub struct Coroutine<R: 'static>(Option<corosensei::Coroutine<(), (), R>>);

impl<R: 'static> Coroutine<R> {
    /// A computation that has not begun.
    ///
    /// # Panics
    /// If there is no memory for a stack.
    pub fn new(body: impl FnOnce() -> R + 'static) -> Self {
        let mut idle = IDLE.take();
        let stack = idle.pop().unwrap_or_default();
        IDLE.set(idle);
        let body = move |yielder: &Yielder<(), ()>, ()| RUNNING.set(yielder, body);
        Self(Some(corosensei::Coroutine::with_stack(stack, body)))
    }

    /// Runs it until it pauses, or to its end: then what it returns.
    ///
    /// # Panics
    /// As it does itself; and if it has ended.
    pub fn resume(&mut self) -> Option<R> {
        let inner = self.0.as_mut().expect("it-is-there-until-it-is-dropped");
        match switch_to(true, || inner.resume(())) {
            CoroutineResult::Yield(()) => None,
            CoroutineResult::Return(result) => Some(result),
        }
    }
}

impl<R: 'static> Drop for Coroutine<R> {
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take() else { return };
        switch_to(false, || inner.force_unwind());
        // While the thread ends there is no pool any more, and the stack goes as well.
        let _ = IDLE.try_with(|pool| {
            let mut idle = pool.take();
            idle.push(inner.into_stack());
            pool.set(idle);
        });
    }
}

#[cfg(test)]
mod tests;
