//! What flushes owe: which children have done the writes since.
//!
//! Invariant `nothing-is-forgotten-before-it-lasts`: a write that some children did not do is remembered until a flush
//! that began after it has made it last in enough of those that did. Writes that all did need no memory.

use alloc::collections::BTreeMap;

use blockyard_sync::Shared;

use super::Quorum;
use super::votes::Answers;

/// Some of them, by their places in [`Quorum::CHILDREN`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Children(u32);

impl Children {
    /// Those that succeeded.
    pub fn that_did(answers: &Answers<()>) -> Self {
        let place = |child: &&str| Quorum::CHILDREN.iter().position(|name| name == child);
        let did = answers.iter().filter(|(_, answer)| answer.is_ok());
        let places = did.filter_map(|(child, _)| place(child));
        Self(places.fold(0, |set, place| set | 1 << place))
    }

    fn in_common(self, other: Self) -> usize {
        (self.0 & other.0).count_ones() as usize
    }
}

/// The writes that not all children have done, since a flush last kept what they promise.
#[derive(Default)]
pub(super) struct Promises(Shared<State>);

#[derive(Clone, Default)]
struct State {
    /// Who did a write, and the number of the last such write.
    done_by: BTreeMap<Children, u64>,
    last: u64,
}

/// Those of one moment.
pub(super) struct Promised(State);

impl Promises {
    /// A write that not all have done was done by these.
    pub fn write_was_done_by(&self, children: Children) {
        self.0.write(|state| {
            state.last += 1;
            state.done_by.insert(children, state.last);
        });
    }

    /// What a flush that begins now owes.
    pub fn as_of_now(&self) -> Promised {
        Promised(self.0.read(State::clone))
    }

    /// A flush has kept these; what came later stays.
    pub fn are_kept(&self, promised: &Promised) {
        if !promised.0.done_by.is_empty() {
            self.0.write(|state| state.done_by.retain(|_, last| *last > promised.0.last));
        }
    }
}

impl Promised {
    /// Whether enough of those that did a write have `flushed` it, of each.
    pub fn are_kept_by(&self, flushed: Children, enough: usize) -> bool {
        self.0.done_by.keys().all(|children| children.in_common(flushed) >= enough)
    }
}
