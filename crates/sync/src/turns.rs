//! A value that is taken in turns: who asks first is served first. What the fair primitives are made of.
//!
//! Asking writes the tail; being served, giving back, trying with success and giving up a turn write the head; a
//! failed try reads both.
//!
//! Invariant `turns-are-kept`: a number is served only when every lower one was served or given up.

use std::sync::Arc;

use crate::door;
use crate::shared::Shared;

pub(crate) struct Turns<S> {
    /// The next number to be drawn.
    tail: Shared<u64>,
    head: Shared<Head<S>>,
    /// Whether one at a time takes the state, and nobody else changes it until it is given back.
    exclusive: bool,
}

struct Head<S> {
    /// The lowest number that was neither served nor given up.
    serving: u64,
    state: S,
}

impl<S: Send + 'static> Turns<S> {
    /// Several may be served before one of them gives back what it took.
    pub fn shared(state: S) -> Arc<Self> {
        Self::new(state, false)
    }

    /// Whoever is served has the state for itself: so that it may be is the work of one step.
    pub fn exclusive(state: S) -> Arc<Self> {
        Self::new(state, true)
    }

    fn new(state: S, exclusive: bool) -> Arc<Self> {
        let head = Shared::new(Head { serving: 0, state });
        Arc::new(Self { tail: Shared::new(0), head, exclusive })
    }

    /// Waits until it is the caller's turn and `may` holds, and runs `take` in the same step. A caller that goes away
    /// before leaves its turn to a task of its own, which passes it on.
    pub async fn turn<R>(
        self: &Arc<Self>,
        may: impl Fn(&S) -> bool + Send + 'static,
        take: impl FnOnce(&mut S) -> R + Unpin,
    ) -> R {
        let number = self.tail.write(|tail| {
            *tail += 1;
            *tail - 1
        });
        let mut drawn = Drawn { turns: Some(self.clone()), number };
        let guard = move |head: &Head<S>| head.serving == number && may(&head.state);
        let serve = |head: &mut Head<S>| {
            head.serving += 1;
            take(&mut head.state)
        };
        let served = match self.exclusive {
            true => self.head.wait_handed(guard, serve),
            false => self.head.wait_for(guard, serve),
        };
        let taken = served.await;
        drawn.turns = None;
        taken
    }

    /// Runs `take` if nobody waits for a turn and `may` holds.
    pub fn try_turn<R>(
        &self,
        may: impl Fn(&S) -> bool,
        take: impl FnOnce(&mut S) -> R,
    ) -> Option<R> {
        let drawn = self.tail.read(|tail| *tail);
        let free = |head: &Head<S>| head.serving == drawn && may(&head.state);
        if !self.head.read(free) {
            return None;
        }
        // Looked at again: between the two passages another thread may have been served.
        self.head.write(|head| free(head).then(|| take(&mut head.state)))
    }

    /// Waits for a state, whoever's turn it is, and runs `take` in the same step.
    pub async fn wait_for<R>(
        &self,
        may: impl Fn(&S) -> bool + Send + 'static,
        take: impl FnOnce(&mut S) -> R + Unpin,
    ) -> R {
        let guard = move |head: &Head<S>| may(&head.state);
        self.head.wait_for(guard, |head| take(&mut head.state)).await
    }

    /// Changes the state: gives back what was taken.
    pub fn change(&self, change: impl FnOnce(&mut S)) {
        self.head.write(|head| change(&mut head.state));
    }

    /// Changes the state a step later, in a task of its own: for destructors.
    pub fn bequeath_change(self: Arc<Self>, change: impl FnOnce(&mut S) + Send + 'static) {
        door::bequeath(Box::pin(async move { self.change(change) }));
    }
}

/// A number that was drawn and not served yet.
struct Drawn<S: Send + 'static> {
    turns: Option<Arc<Turns<S>>>,
    number: u64,
}

impl<S: Send + 'static> Drop for Drawn<S> {
    fn drop(&mut self) {
        let number = self.number;
        if let Some(turns) = self.turns.take() {
            door::bequeath(Box::pin(async move {
                let guard = move |head: &Head<S>| head.serving == number;
                turns.head.wait_for(guard, |head| head.serving += 1).await;
            }));
        }
    }
}
