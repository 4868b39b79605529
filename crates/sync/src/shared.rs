//! A value that several tasks see, and the one way to wait: for a guard over such a value.
//!
//! Invariant `guards-are-pure`: a guard looks at the value it is given and at what it owns, nothing else. It is
//! examined by whoever changes the value (no footprint: that a task became ready is no operation) and again by the
//! waiting task's own step, where the read is recorded. The look at registration is a peek: no operation, but known to
//! the search, since a guard that fell before leaves no step to race with.
//!
//! Invariant `ready-is-exact`: a simulated world learns each time that a guard begins to hold or ceases to, so that a
//! task that waits can be polled exactly while a guard of it holds.

use std::future::Future;
use std::ops::DerefMut;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use blockyard_units::Id;

use crate::door::{self, Access, BEGINNING, Kind, Past, Reason, Wait};
use crate::memory::Memory;

#[cfg(feature = "loom")]
use loom::sync::Mutex as Lock;
#[cfg(not(feature = "loom"))]
use std::sync::{Mutex as Lock, TryLockError};

/// A guard that holds tells since which step it can be known to, see [`Reason::Since`].
type Guard<T> = Box<dyn Fn(&T) -> Option<u32> + Send>;

struct Waiter<T> {
    key: u64,
    guard: Guard<T>,
    /// Whether the guard holds for the value as it is.
    holds: bool,
    /// Why the task is ready while it does.
    reason: Reason,
    waker: Waker,
}

struct State<T> {
    value: T,
    waiters: Vec<Waiter<T>>,
    next_key: u64,
    memory: Option<Memory<T>>,
}

impl<T> State<T> {
    /// The value is about to change.
    fn remember(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.note(&self.value);
        }
    }

    /// Tells a search what the guard of a wait would have said before.
    fn note_past(&self, wait: Wait, guard: &Guard<T>) {
        if let Some(memory) = self.memory.as_ref().filter(|_| door::wants_pasts()) {
            let holds = |value: &T| guard(value).is_some();
            let (since, held) = memory.held(holds);
            door::note_past(Past { wait, since, held, holds: holds(&self.value) });
        }
    }
}

/// A value behind the door. Closures run whole: they cannot await.
pub struct Shared<T> {
    object: Id,
    state: Lock<State<T>>,
}

impl<T> Shared<T> {
    /// A new object of the running task.
    pub fn new(value: T) -> Self {
        Self::with_memory(value, None)
    }

    /// The same, of which a search can tell whether a guard would have held earlier, and so tries fewer orders in vain;
    /// nothing changes elsewhere. `copy` copies as much of the value as guards look at, and nothing that does something
    /// when it is dropped.
    pub fn remembered(value: T, copy: fn(&T) -> T) -> Self {
        Self::with_memory(value, Some(Memory::new(copy)))
    }

    fn with_memory(value: T, memory: Option<Memory<T>>) -> Self {
        let state = State { value, waiters: Vec::new(), next_key: 0, memory };
        Self { object: door::new_object(), state: Lock::new(state) }
    }

    #[inline]
    fn lock(&self) -> impl DerefMut<Target = State<T>> {
        // In a simulated world nobody else can give it back meanwhile.
        #[cfg(not(feature = "loom"))]
        if door::is_open() && matches!(self.state.try_lock(), Err(TryLockError::WouldBlock)) {
            panic!("passages-do-not-nest");
        }
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
        let mut changes = false;
        let access = |(kind, from, to)| {
            changes |= kind != Kind::Read;
            Access { object: self.object, kind, from, to }
        };
        door::enter_all(ranges.into_iter().map(access));
        let mut state = self.lock();
        if changes {
            state.remember();
        }
        let result = change(&mut state.value);
        wake_ready(state);
        result
    }

    /// For trusted types: looks at what one part of the value leads to, and that at the next. `follow` says of each
    /// part but the `first` that it looks there, before it does.
    pub fn trusted_follow<R>(
        &self,
        first: (u64, u64),
        follow: impl FnOnce(&T, &dyn Fn(u64, u64)) -> R,
    ) -> R {
        let read = |(from, to)| Access { object: self.object, kind: Kind::Read, from, to };
        door::enter(read(first));
        follow(&self.lock().value, &|from, to| door::enter_within(read((from, to))))
    }

    /// Changes the value as a part of the operation on another object, within whose closure this is called.
    pub(crate) fn write_within<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        door::enter_within(Access::whole(self.object, Kind::Write));
        self.change(change)
    }

    fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut state = self.lock();
        state.remember();
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

    /// For trusted types: as [`Shared::wait_for`], for something that is handed to this waiter alone: exactly one step
    /// makes the guard true, and from then on nobody else touches the value until `then` does. So no other order of
    /// steps makes it true earlier.
    pub fn wait_handed<R, A>(
        &self,
        guard: impl Fn(&T) -> bool + Send + 'static,
        then: A,
    ) -> WaitFor<'_, T, A>
    where
        A: FnOnce(&mut T) -> R + Unpin,
    {
        let mut wait = self.wait_for(guard, then);
        wait.reason = Reason::Handed(Access { kind: Kind::Read, ..wait.access });
        wait
    }

    /// For trusted types: as [`Shared::wait_for`], for a guard that names the step since which it holds, before which
    /// it does not in any order of steps that leaves this waiter waiting.
    pub(crate) fn wait_since<R, A>(
        &self,
        guard: impl Fn(&T) -> Option<u32> + Send + 'static,
        then: A,
    ) -> WaitFor<'_, T, A>
    where
        A: FnOnce(&mut T) -> R + Unpin,
    {
        let access = Access::whole(self.object, Kind::Write);
        let reason = Reason::Since(Access { kind: Kind::Read, ..access }, BEGINNING);
        self.wait(access, reason, Box::new(guard), then)
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
        let reason = Reason::Guard(Access { kind: Kind::Read, ..access });
        self.wait(access, reason, Box::new(move |value| guard(value).then_some(BEGINNING)), then)
    }

    fn wait<A>(
        &self,
        access: Access,
        reason: Reason,
        guard: Guard<T>,
        then: A,
    ) -> WaitFor<'_, T, A> {
        WaitFor { shared: self, access, guard: Some(guard), reason, key: None, then: Some(then) }
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
    reason: Reason,
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
        match self.reason {
            Reason::Guard(_) => door::enter_guard(self.access),
            _ => door::enter(self.access),
        }
        let mut state = self.shared.lock();
        let index = position(&state.waiters, key);
        let wait = Wait { access: self.access, key };
        state.note_past(wait, &state.waiters[index].guard);
        if !state.waiters[index].holds {
            state.waiters[index].waker.clone_from(context.waker());
            return Poll::Pending;
        }
        let waiter = state.waiters.remove(index);
        self.key = None;
        let then = self.then.take().expect("a-wait-ends-once");
        if self.access.kind != Kind::Read {
            state.remember();
        }
        let result = then(&mut state.value);
        // Others may wait for what the action changed.
        wake_ready(state);
        door::note_wait(false, wait);
        door::seen_to(waiter.reason, &waiter.waker);
        Poll::Ready(result)
    }
}

impl<T, A> WaitFor<'_, T, A> {
    fn register(&mut self, waker: &Waker) {
        let guard = self.guard.take().expect("a-wait-begins-once");
        let mut state = self.shared.lock();
        let since = guard(&state.value);
        let (key, reason, holds) = (state.next_key, self.reason, since.is_some());
        let wait = Wait { access: self.access, key };
        state.next_key += 1;
        // What its own step changed comes with it, wherever it comes.
        let own = |memory: &Memory<T>| memory.changed_in(door::world::step());
        if !holds && !state.memory.as_ref().is_some_and(own) {
            state.note_past(wait, &guard);
        }
        state.waiters.push(Waiter { key, guard, holds, reason, waker: waker.clone() });
        drop(state);
        self.key = Some(key);
        door::note_wait(true, wait);
        if let Some(since) = since {
            door::wake_because(reason.since(since), waker);
        } else if let Reason::Guard(access) = reason {
            door::peek(access);
        }
    }
}

impl<T, A> Drop for WaitFor<'_, T, A> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let mut state = self.shared.lock();
            let index = position(&state.waiters, key);
            let waiter = state.waiters.remove(index);
            let wait = Wait { access: self.access, key };
            state.note_past(wait, &waiter.guard);
            drop(state);
            door::note_wait(false, wait);
            if waiter.holds {
                door::seen_to(waiter.reason, &waiter.waker);
            }
        }
    }
}

/// Examines all guards again; unlocks, then tells the tasks whose guards began to hold, and the world of those that
/// ceased to.
#[inline]
fn wake_ready<T>(state: impl DerefMut<Target = State<T>>) {
    if !state.waiters.is_empty() {
        examine(state);
    }
}

#[cold]
fn examine<T>(mut state: impl DerefMut<Target = State<T>>) {
    let State { value, waiters, .. } = &mut *state;
    let mut changed: Vec<(Option<u32>, Reason, Waker)> = Vec::new();
    for waiter in waiters {
        let since = (waiter.guard)(value);
        if since.is_some() != waiter.holds {
            waiter.holds = since.is_some();
            changed.push((since, waiter.reason, waiter.waker.clone()));
        }
    }
    drop(state);
    for (since, reason, waker) in changed {
        match since {
            Some(since) => door::wake_because(reason.since(since), &waker),
            None => door::fell(reason, &waker),
        }
    }
}

fn position<T>(waiters: &[Waiter<T>], key: u64) -> usize {
    waiters.iter().position(|waiter| waiter.key == key).expect("a-waiter-is-listed-until-it-ends")
}
