//! Wakeup trees: the sequences of events that are still to be explored from one place, merged where they agree.
//!
//! Source: Abdulla, Aronsson, Jonsson, Sagonas, "Optimal Dynamic Partial Order Reduction" (POPL 2014), section 6.
//! Differs: an event's footprint is known only once it has run. That of the event that a sequence was made for is
//! taken from the order it was seen in, and decides nothing but conflicts within its own sequence. A sequence that
//! ends inside the tree goes on at a leaf: two leaves of which each was left out for the other's sake would lose
//! what neither begins with. One that turns out to be impossible is given up, and the search goes on freely.

use alloc::vec::Vec;

use blockyard_sync::door::Access;

use crate::event::Event;
use crate::footprint::conflicts;

/// An event with the footprint that it had when it was seen.
#[derive(Clone)]
pub struct Seen {
    pub event: Event,
    pub accesses: Vec<Access>,
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

    /// Takes out the branch to explore next that `enters` finds possible: its first event, and what follows it.
    pub fn take(&mut self, enters: impl Fn(&Event) -> Option<Event>) -> Option<(Event, Self)> {
        while !self.0.is_empty() {
            let branch = self.0.remove(0);
            if let Some(event) = enters(&branch.first.event) {
                return Some((event, branch.rest));
            }
        }
        None
    }
}

/// Whether a sequence leads only to what was explored from `asleep`, some of the events `enabled` in one place. Of a
/// process that the sequence leaves out every alternative must be asleep: any of them may follow the sequence.
pub fn covered(asleep: &[&Seen], enabled: &[Event], sequence: &[Seen]) -> bool {
    let is_apart = |event: &Event| {
        let seen = asleep.iter().find(|seen| seen.event.same(event));
        seen.is_some_and(|seen| matches!(begins(seen, sequence), Begin::Apart))
    };
    asleep.iter().any(|seen| match begins(seen, sequence) {
        Begin::At(_) => true,
        Begin::Apart => enabled.iter().filter(|event| event.path == seen.event.path).all(is_apart),
        Begin::Never => false,
    })
}

enum Begin {
    /// It is the sequence's event at this index, and no earlier one bars it.
    At(usize),
    /// It does not occur, and nothing in the sequence depends on it.
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
