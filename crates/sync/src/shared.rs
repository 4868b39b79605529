//! A value that several tasks see, and the one way to wait: for a guard over such a value.
//!
//! Invariant `guards-are-pure`: a guard looks at the value it is given and at what it owns, nothing else. It is
//! examined by whoever changes the value (no footprint: that a task became ready is no operation) and again by the
//! waiting task's own step, where the read is recorded. The look at registration is a peek: no operation, but known to
//! the search, since a guard that fell before leaves no step to race with. A guard that held at registration may be
//! false again in the task's step: that finds so, changes nothing, and the task waits on; so equivalent orders may
//! differ by steps that do nothing.

use std::future::Future;
use std::ops::DerefMut;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use blockyard_units::Id;

use crate::door::{self, Access, Kind, Reason};

#[cfg(feature = "loom")]
use loom::sync::Mutex as Lock;
#[cfg(not(feature = "loom"))]
use std::sync::Mutex as Lock;

type Guard<T> = Box<dyn Fn(&T) -> bool + Send>;

struct Waiter<T> {
    key: u64,
    guard: Guard<T>,
    waker: Waker,
}

struct State<T> {
    value: T,
    waiters: Vec<Waiter<T>>,
    next_key: u64,
}

/// A value behind the door. Closures run whole: they cannot await.
pub struct Shared<T> {
    object: Id,
    state: Lock<State<T>>,
}

impl<T> Shared<T> {
    /// A new object of the running task.
    pub fn new(value: T) -> Self {
        let state = State { value, waiters: Vec::new(), next_key: 0 };
        Self { object: door::new_object(), state: Lock::new(state) }
    }

    fn lock(&self) -> impl DerefMut<Target = State<T>> {
        // A panic ends the run as a finding; the value behind it is not looked at for sense.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Looks at the value.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        door::enter(Access::whole(self.object, Kind::Read));
        look(&self.lock().value)
    }

    /// Changes the value.
    pub fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        door::enter(Access::whole(self.object, Kind::Write));
        self.change(change)
    }

    /// Changes the value in a way that commutes with every other `add`.
    pub fn add(&self, change: impl FnOnce(&mut T)) {
        door::enter(Access::whole(self.object, Kind::Add));
        self.change(change);
    }

    /// For trusted types, which refine their footprint by range: each says at its definition why what `change`
    /// looks at and changes lies within `ranges` (of the type's own unit).
    pub fn trusted<R>(
        &self,
        ranges: impl IntoIterator<Item = (Kind, u64, u64)>,
        change: impl FnOnce(&mut T) -> R,
    ) -> R {
        for (kind, from, to) in ranges {
            door::enter(Access { object: self.object, kind, from, to });
        }
        self.change(change)
    }

    fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state.value);
        wake_ready(state);
        result
    }

    /// Waits until `guard` holds, then runs `then` on the value in the same step.
    ///
    /// # Yields
    /// Always, at least once; when it returns, `guard` holds, and anything else may have changed.
    pub fn wait_for<R, A>(
        &self,
        guard: impl Fn(&T) -> bool + Send + 'static,
        then: A,
    ) -> WaitFor<'_, T, A>
    where
        A: FnOnce(&mut T) -> R + Unpin,
    {
        self.trusted_wait(Kind::Write, 0, u64::MAX, guard, then)
    }

    /// Waits until `guard` holds.
    ///
    /// # Yields
    /// Always, at least once; when it returns, `guard` holds, and anything else may have changed.
    pub fn wait_until(
        &self,
        guard: impl Fn(&T) -> bool + Send + 'static,
    ) -> WaitFor<'_, T, impl FnOnce(&mut T) + Unpin> {
        self.trusted_wait(Kind::Read, 0, u64::MAX, guard, |_: &mut T| ())
    }

    /// For trusted types: a wait whose guard and action touch only `from..to`, as `kind` says.
    pub fn trusted_wait<R, A>(
        &self,
        kind: Kind,
        from: u64,
        to: u64,
        guard: impl Fn(&T) -> bool + Send + 'static,
        then: A,
    ) -> WaitFor<'_, T, A>
    where
        A: FnOnce(&mut T) -> R + Unpin,
    {
        let access = Access { object: self.object, kind, from, to };
        WaitFor { shared: self, access, guard: Some(Box::new(guard)), key: None, then: Some(then) }
    }
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// A wait for a guard; see [`Shared::wait_for`]. Dropping it ends the wait and changes nothing.
pub struct WaitFor<'a, T, A> {
    shared: &'a Shared<T>,
    access: Access,
    guard: Option<Guard<T>>,
    key: Option<u64>,
    then: Option<A>,
}

impl<T, A> Unpin for WaitFor<'_, T, A> {}

impl<T, R, A: FnOnce(&mut T) -> R> Future for WaitFor<'_, T, A> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R> {
        let Some(key) = self.key else {
            self.register(context.waker());
            return Poll::Pending;
        };
        door::enter_guard(self.access);
        let mut state = self.shared.lock();
        let index = position(&state.waiters, key);
        if !(state.waiters[index].guard)(&state.value) {
            state.waiters[index].waker.clone_from(context.waker());
            return Poll::Pending;
        }
        state.waiters.remove(index);
        self.key = None;
        let then = self.then.take().expect("a-wait-ends-once");
        let result = then(&mut state.value);
        // Others may wait for what the action changed.
        wake_ready(state);
        Poll::Ready(result)
    }
}

impl<T, A> WaitFor<'_, T, A> {
    fn register(&mut self, waker: &Waker) {
        let guard = self.guard.take().expect("a-wait-begins-once");
        door::peek(Access { kind: Kind::Read, ..self.access });
        let mut state = self.shared.lock();
        let holds = guard(&state.value);
        let key = state.next_key;
        state.next_key += 1;
        state.waiters.push(Waiter { key, guard, waker: waker.clone() });
        drop(state);
        self.key = Some(key);
        if holds {
            door::wake_because(Reason::Guard, waker);
        }
    }
}

impl<T, A> Drop for WaitFor<'_, T, A> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let mut state = self.shared.lock();
            let index = position(&state.waiters, key);
            state.waiters.remove(index);
        }
    }
}

/// Unlocks, then wakes everyone whose guard holds: all of them after every change, also those already woken, since
/// each change that leaves a guard true is a reason of its own for the task to be ready.
fn wake_ready<T>(state: impl DerefMut<Target = State<T>>) {
    if state.waiters.is_empty() {
        return;
    }
    let holds = |waiter: &&Waiter<T>| (waiter.guard)(&state.value);
    let ready: Vec<Waker> =
        state.waiters.iter().filter(holds).map(|waiter| waiter.waker.clone()).collect();
    drop(state);
    ready.iter().for_each(|waker| door::wake_because(Reason::Guard, waker));
}

fn position<T>(waiters: &[Waiter<T>], key: u64) -> usize {
    waiters.iter().position(|waiter| waiter.key == key).expect("a-waiter-is-listed-until-it-ends")
}
