//! Wakeup trees: the sequences of events that are still to be explored from one place, merged where they agree.
//!
//! Source: Abdulla, Aronsson, Jonsson, Sagonas, "Optimal Dynamic Partial Order Reduction" (POPL 2014), section 6.
//! Differs: an event's footprint is known only once it has run. That of the event that a sequence was made for is
//! taken from the order it was seen in, and decides nothing but conflicts within its own sequence. A sequence that
//! ends inside the tree goes on at a leaf: two leaves of which each was left out for the other's sake would lose
//! what neither begins with. One that turns out to be impossible is given up, and the search goes on freely.

use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::door::Access;

use crate::event::Event;
use crate::footprint::conflicts;

/// An event with the footprint that it had when it was seen.
#[derive(Clone)]
pub struct Seen {
    pub event: Event,
    pub accesses: Arc<[Access]>,
    /// Whether it has that footprint where it is to run now, too.
    pub exact: bool,
}

/// Sequences that begin at one place, in the order they are to be explored in.
#[derive(Clone, Default)]
pub struct Wakeup(Vec<Branch>);

#[derive(Clone)]
struct Branch {
    first: Seen,
    rest: Wakeup,
}

impl Wakeup {
    /// Adds `sequence`; as far as sequences of the tree lead to the same, it follows them, and what is left of it goes
    /// on from their end.
    pub fn insert(&mut self, mut sequence: Vec<Seen>) {
        for branch in &mut self.0 {
            match begins(&branch.first, &sequence) {
                Begin::Never => continue,
                Begin::At(index) => drop(sequence.remove(index)),
                Begin::Apart => {}
            }
            return branch.rest.insert(sequence);
        }
        let chain = sequence
            .into_iter()
            .rev()
            .fold(Self::default(), |rest, first| Self(Vec::from([Branch { first, rest }])));
        self.0.extend(chain.0);
    }

    /// Adds one event.
    pub fn insert_one(&mut self, event: Seen) {
        self.insert(Vec::from([event]));
    }

    /// Adds one event, to be explored next: so that of a process's events all have been, before others are that leave
    /// them asleep.
    pub fn insert_first(&mut self, event: Seen) {
        let branch = match self.0.iter().position(|branch| branch.first.event.same(&event.event)) {
            Some(index) => self.0.remove(index),
            None => Branch { first: event, rest: Self::default() },
        };
        self.0.insert(0, branch);
    }

    /// Whether it has no sequence.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out the branch to explore next where `enabled` is what may happen: its first event, and what follows it.
    /// Branches that begin with what is `asleep` lead to nothing new. Where an event turns out to be impossible,
    /// another of its process's takes its place, which may have others here than where it was seen; or the sequences
    /// that were to follow it go on without it.
    pub fn take(
        &mut self,
        enabled: &[Event],
        asleep: impl Fn(&Event) -> bool,
    ) -> Option<(Event, Self)> {
        while !self.0.is_empty() {
            let Branch { first, rest } = self.0.remove(0);
            match enabled.iter().find(|event| event.same(&first.event)) {
                Some(event) if !asleep(event) => return Some((*event, rest)),
                Some(_) => {}
                None => {
                    let own = |event: &&Event| event.path == first.event.path && !asleep(event);
                    match enabled.iter().find(own) {
                        Some(event) => return Some((*event, rest)),
                        None => drop(self.0.splice(0..0, rest.0)),
                    }
                }
            }
        }
        None
    }
}

/// Whether a sequence leads only to what was explored from `asleep`, at a place where `enabled` is what may happen and
/// `now` is being explored. A process that is not in the sequence may go on behind it with any of its events: what has
/// been explored of them must leave room for the sequence, and what has not will have its own races.
pub fn covered(asleep: &[&Seen], now: Event, enabled: &[Event], sequence: &[Seen]) -> bool {
    let makes_room = |event: &Event| match asleep.iter().find(|seen| seen.event.same(event)) {
        Some(seen) => matches!(begins(seen, sequence), Begin::Apart),
        None => !now.same(event),
    };
    asleep.iter().any(|seen| match begins(seen, sequence) {
        Begin::At(_) => true,
        Begin::Apart => enabled.iter().filter(|e| e.path == seen.event.path).all(makes_room),
        Begin::Never => false,
    })
}

enum Begin {
    /// It is the sequence's event at this index, and no earlier one bars it.
    At(usize),
    /// Its process does not occur, and nothing in the sequence depends on it.
    Apart,
    Never,
}

/// Whether an execution equivalent to one that begins with `sequence` begins with `event`.
fn begins(event: &Seen, sequence: &[Seen]) -> Begin {
    let of_process = sequence.iter().position(|other| other.event.path == event.event.path);
    let conflict = |a: &Seen, b: &Seen| conflicts(&a.accesses, &b.accesses);
    match of_process {
        Some(index) => {
            let other = &sequence[index];
            let barred = sequence[..index].iter().any(|earlier| conflict(earlier, other));
            if other.event.same(&event.event) && !barred { Begin::At(index) } else { Begin::Never }
        }
        None if event.exact && !sequence.iter().any(|other| conflict(other, event)) => Begin::Apart,
        None => Begin::Never,
    }
}
