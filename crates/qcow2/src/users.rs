//! Who has looked where data are and is on the way there, by the guest range.
//!
//! A trusted type: whoever comes or goes adds within its range, and whoever asks reads the range it asks about.

use alloc::vec::Vec;

use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_units::ByteRange;

#[derive(Default)]
struct State {
    entries: Vec<(u64, ByteRange)>,
    numbers: u64,
}

/// See the file head.
#[derive(Default)]
pub struct Users(Shared<State>);

/// One of them.
#[must_use = "who comes has to go"]
pub struct User {
    number: u64,
    range: ByteRange,
}

impl Users {
    /// Lists who is about to look where the data of `range` are.
    pub fn begin(&self, range: ByteRange) -> User {
        let number = self.0.trusted([(Kind::Add, range.start(), range.end())], |state| {
            state.numbers += 1;
            state.entries.push((state.numbers, range));
            state.numbers
        });
        User { number, range }
    }

    /// It has no use any more for what it found.
    pub fn end(&self, user: User) {
        let User { number, range } = user;
        self.0.trusted([(Kind::Add, range.start(), range.end())], |state| {
            state.entries.retain(|(other, _)| *other != number);
        });
    }

    /// Whether nobody is over `range`.
    pub fn is_idle(&self, range: ByteRange) -> bool {
        self.last_over(range).is_none()
    }

    /// Waits until those who are over `range` now are gone; whoever comes meanwhile looks anew.
    pub async fn wait_for_those_over(&self, range: ByteRange) {
        let Some(last) = self.last_over(range) else { return };
        let gone = move |state: &State| {
            !state.entries.iter().any(|(number, other)| *number <= last && other.overlaps(&range))
        };
        let (from, to) = (range.start(), range.end());
        self.0.trusted_wait(Kind::Read, from, to, gone, |_: &mut State| ()).await;
    }

    /// The number of the last who came over `range`.
    fn last_over(&self, range: ByteRange) -> Option<u64> {
        self.0.trusted([(Kind::Read, range.start(), range.end())], |state| {
            let over = state.entries.iter().filter(|(_, other)| other.overlaps(&range));
            over.map(|(number, _)| *number).max()
        })
    }
}
