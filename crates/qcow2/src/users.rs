//! The requests under way in an image, by the guest range they are over.
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

/// A request under way.
#[must_use = "who comes has to go"]
pub struct User {
    number: u64,
    range: ByteRange,
}

impl Users {
    /// Lists a request over `range`, before it looks where its data are.
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
        let overlaps =
            |state: &mut State| state.entries.iter().any(|(_, other)| other.overlaps(&range));
        !self.0.trusted([(Kind::Read, range.start(), range.end())], overlaps)
    }
}
