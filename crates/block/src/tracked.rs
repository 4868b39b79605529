//! The requests in flight in a node.
//!
//! A trusted type. Its footprint has two spaces of byte ranges, that of plain requests and that of serialising ones:
//! a plain request adds itself to the first and reads the second, a serialising one writes the second and reads the
//! first. That is sound because a plain request looks for overlapping serialising ones only, and a serialising one
//! for overlapping ones of both.
//!
//! Invariant `waits-are-for-earlier`: a request is listed before it waits, and waits only for those listed earlier,
//! so waits make no cycle.

use alloc::vec::Vec;

use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_units::ByteRange;

/// Where the space of serialising requests begins; disks are shorter.
const SERIALISING: u64 = 1 << 62;

struct Entry {
    number: u64,
    range: ByteRange,
    serialising: bool,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    numbers: u64,
}

/// See the file head.
#[derive(Default)]
pub(crate) struct Tracked(Shared<State>);

/// A request in flight.
#[derive(Clone, Copy)]
pub(crate) struct Number(u64);

impl State {
    fn must_wait(&self, number: u64, range: ByteRange, serialising: bool) -> bool {
        self.entries.iter().any(|other| {
            other.number < number
                && other.range.overlaps(&range)
                && (serialising || other.serialising)
        })
    }
}

impl Tracked {
    fn touched(range: ByteRange, serialising: bool, looks: bool) -> Vec<(Kind, u64, u64)> {
        let (from, to) = (range.start(), range.end());
        let in_serialising = |kind| (kind, SERIALISING + from, SERIALISING + to);
        match (serialising, looks) {
            (false, false) => Vec::from([(Kind::Add, from, to)]),
            (false, true) => Vec::from([(Kind::Add, from, to), in_serialising(Kind::Read)]),
            (true, false) => Vec::from([in_serialising(Kind::Write)]),
            (true, true) => Vec::from([(Kind::Read, from, to), in_serialising(Kind::Write)]),
        }
    }

    /// Lists a request; waits for those before it that it must not overlap.
    ///
    /// # Yields
    /// Only if there are any; its range is then listed already.
    pub async fn begin(&self, range: ByteRange, serialising: bool) -> Number {
        let touched = Self::touched(range, serialising, true);
        let (number, wait) = self.0.trusted(touched, |state| {
            state.numbers += 1;
            let number = state.numbers;
            state.entries.push(Entry { number, range, serialising });
            (number, state.must_wait(number, range, serialising))
        });
        if wait {
            let (from, to) = (if serialising { 0 } else { SERIALISING }, u64::MAX);
            let free = move |state: &State| !state.must_wait(number, range, serialising);
            self.0.trusted_wait(Kind::Read, from, to, free, |_: &mut State| ()).await;
        }
        Number(number)
    }

    /// Takes a request off the list.
    pub fn end(&self, number: Number, range: ByteRange, serialising: bool) {
        self.0.trusted(Self::touched(range, serialising, false), |state| {
            state.entries.retain(|entry| entry.number != number.0);
        });
    }

    /// How many are in flight, for the end of a run.
    pub fn count(&self) -> usize {
        self.0.read(|state| state.entries.len())
    }
}
