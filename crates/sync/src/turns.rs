//! A value that is taken in turns: who asks first is served first. What the fair primitives are made of.
//!
//! Asking writes the tail; being served, giving back, trying with success and giving up a turn write the head; a
//! failed try reads both.
//!
//! Invariant `turns-are-kept`: a number is served only when every lower one was served or given up.

use std::sync::Arc;

use crate::door::{self, BEGINNING};
use crate::shared::Shared;

pub(crate) struct Turns<S> {
    /// The next number to be drawn.
    tail: Shared<u64>,
    head: Shared<Head<S>>,
}

struct Head<S> {
    /// The lowest number that was neither served nor given up.
    serving: u64,
    state: S,
    /// How much of the state is free.
    free: fn(&S) -> u64,
    /// How much was free when the turn came, and each step since that freed more.
    freed: Vec<(u32, u64)>,
}

impl<S> Head<S> {
    /// Since which step it is this number's turn and as much is free as it asks for. Meanwhile nobody else takes
    /// anything, so that it was not before, and that it stays so.
    fn serves(&self, number: u64, asked: u64) -> Option<u32> {
        let enough = |(_, free): &&(u32, u64)| *free >= asked;
        let (step, _) = self.freed.iter().find(enough).filter(|_| self.serving == number)?;
        Some(*step)
    }

    fn serve<R>(&mut self, take: impl FnOnce(&mut S) -> R) -> R {
        self.serving += 1;
        self.take(take)
    }

    fn take<R>(&mut self, take: impl FnOnce(&mut S) -> R) -> R {
        let taken = take(&mut self.state);
        self.freed.clear();
        self.note_free();
        taken
    }

    fn give<R>(&mut self, give: impl FnOnce(&mut S) -> R) -> R {
        let given = give(&mut self.state);
        self.note_free();
        given
    }

    fn note_free(&mut self) {
        let free = (self.free)(&self.state);
        if self.freed.last().is_none_or(|(_, before)| *before < free) {
            self.freed.push((door::world::step(), free));
        }
    }
}

impl<S: Send + 'static> Turns<S> {
    /// A state of which `free` tells how much is free. It is taken in turns only, or by a try that nobody waits for.
    pub fn new(state: S, free: fn(&S) -> u64) -> Arc<Self> {
        let freed = Vec::from([(BEGINNING, free(&state))]);
        let head = Shared::new(Head { serving: 0, state, free, freed });
        Arc::new(Self { tail: Shared::new(0), head })
    }

    /// Waits until it is the caller's turn and as much is free as it asks for, and runs `take` in the same step. A
    /// caller that goes away before leaves its turn to a task of its own, which passes it on.
    pub async fn turn<R>(
        self: &Arc<Self>,
        asked: u64,
        take: impl FnOnce(&mut S) -> R + Unpin,
    ) -> R {
        let number = self.tail.write(|tail| {
            *tail += 1;
            *tail - 1
        });
        let mut drawn = Drawn { turns: Some(self.clone()), number };
        let guard = move |head: &Head<S>| head.serves(number, asked);
        let taken = self.head.wait_since(guard, |head| head.serve(take)).await;
        drawn.turns = None;
        taken
    }

    /// Runs `take` if nobody waits for a turn and as much is free as it asks for.
    pub fn try_turn<R>(&self, asked: u64, take: impl FnOnce(&mut S) -> R) -> Option<R> {
        let drawn = self.tail.read(|tail| *tail);
        let may = |head: &Head<S>| head.serves(drawn, asked).is_some();
        if !self.head.read(may) {
            return None;
        }
        // Looked at again: between the two passages another thread may have been served.
        self.head.write(|head| may(head).then(|| head.take(take)))
    }

    /// Waits for a state that it can be known since when it is so, see [`Shared::wait_since`], whoever's turn it is;
    /// runs `give` in the same step, which takes nothing of what is free.
    pub async fn wait_since<R>(
        &self,
        since: impl Fn(&S) -> Option<u32> + Send + 'static,
        give: impl FnOnce(&mut S) -> R + Unpin,
    ) -> R {
        let give = |head: &mut Head<S>| head.give(give);
        self.head.wait_since(move |head| since(&head.state), give).await
    }

    /// Changes the state: gives back what was taken.
    pub fn change(&self, change: impl FnOnce(&mut S)) {
        self.head.write(|head| head.give(change));
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
                let guard = move |head: &Head<S>| head.serves(number, 0);
                turns.head.wait_since(guard, |head| head.serve(|_| ())).await;
            }));
        }
    }
}
