//! Wakeup trees: the sequences of events that are still to be explored from one place, merged where they agree.
//!
//! Source: Abdulla, Aronsson, Jonsson, Sagonas, "Optimal Dynamic Partial Order Reduction" (POPL 2014), section 6.
//! Differs: an event's footprint is known only once it has run. That of the event that a sequence was made for is
//! taken from the order it was seen in, and decides nothing but conflicts within its own sequence. A sequence that
//! ends inside the tree goes on at a leaf: two leaves of which each was left out for the other's sake would lose
//! what neither begins with. One that turns out to be impossible is given up, and the search goes on freely.
//! A sequence is left out only for an event that occurs in it, as in source sets: then whoever explores that event
//! finds the rest by itself, also if another explores it at the same time; the price is a few blocked executions.

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
            if let Some(index) = begins(&branch.first.event, &sequence) {
                sequence.remove(index);
                return branch.rest.insert(sequence);
            }
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

    /// Every event, each before what follows it, and how many events it follows.
    pub fn walk(&self) -> Vec<(usize, &Seen)> {
        let mut left: Vec<_> = self.0.iter().rev().map(|branch| (0, branch)).collect();
        let mut walk = Vec::new();
        while let Some((depth, branch)) = left.pop() {
            walk.push((depth, &branch.first));
            left.extend(branch.rest.0.iter().rev().map(|branch| (depth + 1, branch)));
        }
        walk
    }

    /// The tree that is walked so, if there is one.
    pub fn from_walk(walk: Vec<(usize, Seen)>) -> Option<Self> {
        // Backwards: what follows an event is there before it. Of each depth, those whose elder is yet to come.
        let mut open: Vec<Vec<Branch>> = Vec::new();
        if walk.iter().any(|(depth, _)| *depth >= walk.len()) {
            return None;
        }
        for (depth, first) in walk.into_iter().rev() {
            if open.len() < depth + 2 {
                open.resize_with(depth + 2, Vec::new);
            }
            let mut rest = core::mem::take(&mut open[depth + 1]);
            rest.reverse();
            open[depth].push(Branch { first, rest: Self(rest) });
        }
        let mut open = open.into_iter();
        let mut tree = open.next().unwrap_or_default();
        tree.reverse();
        open.all(|left| left.is_empty()).then_some(Self(tree))
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

/// Where an event stands in a sequence, if an execution that is equivalent to one that begins so begins with it.
///
/// It must occur there: one that is only independent of the sequence may be woken behind it, before it runs, and
/// whoever runs the event first would have to find that from there.
pub fn begins(event: &Event, sequence: &[Seen]) -> Option<usize> {
    let index = sequence.iter().position(|other| other.event.path == event.path)?;
    let Seen { event: other, accesses, .. } = &sequence[index];
    let barred = sequence[..index].iter().any(|earlier| conflicts(&earlier.accesses, accesses));
    (other.same(event) && !barred).then_some(index)
}
