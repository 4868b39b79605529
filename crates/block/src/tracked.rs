//! The requests in flight in a node, and what they leave behind: how many have written since the last flush, and what
//! was counted.
//!
//! A trusted type. Its footprint has two spaces of byte ranges, that of plain requests and that of serialising ones:
//! a plain request adds itself to the first and reads the second, a serialising one writes the second and reads the
//! first. That is sound because a plain request looks for overlapping serialising ones only, and a serialising one
//! for overlapping ones of both. Beside them there is a key for each thing that requests leave: they add to it at their
//! end, and whoever looks reads it.
//!
//! Invariants: `waits-are-for-earlier`: a request is listed before it waits, and waits only for those listed earlier,
//! so waits make no cycle. `flushed-is-what-succeeded`: a generation counts as flushed only if a flush that began after
//! it ended well. One flush at a time: whether one is under way is a flag of its own, not a comparison of generations.

use alloc::boxed::Box;
use alloc::vec::Vec;

use blockyard_runtime::BoxFuture;
use blockyard_sync::door::Kind;
use blockyard_sync::{Shared, sometimes};
use blockyard_units::ByteRange;

use crate::stats::{Counted, Outcome, Stats};

/// Where the space of serialising requests begins; disks are shorter.
const SERIALISING: u64 = 1 << 62;
/// Behind all that requests touch.
pub(crate) const FAR_END: u64 = SERIALISING - 1;
/// Where the longest node ends, in bytes: whole blocks and clusters around it are still before [`FAR_END`].
pub const LONGEST: u64 = 1 << 61;
/// Writes that ended.
const WRITTEN: u64 = 1 << 63;
/// What was counted.
const STATS: u64 = WRITTEN + 1;
/// Whether durations are.
const TIMED: u64 = WRITTEN + 2;
/// What is flushed, and whether a flush is under way.
const FLUSHED: u64 = WRITTEN + 3;

struct Entry {
    number: u64,
    range: ByteRange,
    serialising: bool,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    numbers: u64,
    written: u64,
    flushed: u64,
    flushing: bool,
    /// The generation of the last flush that began.
    started: u64,
    stats: Stats,
    timed: bool,
}

/// See the file head.
#[derive(Default)]
pub(crate) struct Tracked(Shared<State>);

/// A request in flight.
#[derive(Clone, Copy)]
pub(crate) struct InFlight {
    number: u64,
    /// What it keeps others out of, or is kept out of.
    range: ByteRange,
    serialising: bool,
    /// It has to wait, or had to: what was known before may not hold.
    pub waits: bool,
    /// Whoever ends it says how long it took.
    pub timed: bool,
}

/// How a request is counted at its end.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    pub kind: Counted,
    pub range: ByteRange,
    pub outcome: Outcome,
    pub took_ns: Option<u64>,
}

impl InFlight {
    /// The node's own.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl State {
    fn must_wait(&self, number: u64, range: ByteRange, serialising: bool) -> bool {
        self.entries.iter().any(|other| {
            other.number < number
                && other.range.overlaps(&range)
                && (serialising || other.serialising)
        })
    }
}

/// What becomes of a flush that is asked for.
enum Turn {
    Covered,
    Later,
    Now(u64),
}

fn one(kind: Kind, key: u64) -> (Kind, u64, u64) {
    (kind, key, key + 1)
}

impl Tracked {
    fn touched(range: ByteRange, serialising: bool, looks: bool) -> [(Kind, u64, u64); 2] {
        let (from, to) = (range.start(), range.end());
        let in_serialising = |kind| (kind, SERIALISING + from, SERIALISING + to);
        match (serialising, looks) {
            (false, false) => [(Kind::Add, from, to), (Kind::Add, from, to)],
            (false, true) => [(Kind::Add, from, to), in_serialising(Kind::Read)],
            (true, false) => [in_serialising(Kind::Write), in_serialising(Kind::Write)],
            (true, true) => [(Kind::Read, from, to), in_serialising(Kind::Write)],
        }
    }

    /// Lists a request. If there are some before it that it must not overlap, it is to [wait](Self::wait).
    pub fn list(&self, range: ByteRange, serialising: bool) -> InFlight {
        let [first, second] = Self::touched(range, serialising, true);
        let touched = [first, second, one(Kind::Read, TIMED)];
        let (number, waits, timed) = self.0.trusted(touched, |state| {
            state.numbers += 1;
            let number = state.numbers;
            state.entries.push(Entry { number, range, serialising });
            (number, state.must_wait(number, range, serialising), state.timed)
        });
        sometimes!(waits, "a request waited for one that overlaps it and serialises");
        InFlight { number, range, serialising, waits, timed }
    }

    /// Waits for those before it that a listed request must not overlap. Rare, so it is not to make every request's
    /// future larger.
    ///
    /// `later`, for a mutant: and for those that came after it.
    ///
    /// # Yields
    /// Always.
    pub fn wait(&self, request: InFlight, later: bool) -> BoxFuture<'_, ()> {
        let InFlight { number, range, serialising, .. } = request;
        let (from, to) = (if serialising { 0 } else { SERIALISING }, WRITTEN);
        let free = move |state: &State| {
            let after =
                |other: &Entry| later && other.number > number && other.range.overlaps(&range);
            !state.must_wait(number, range, serialising) && !state.entries.iter().any(after)
        };
        Box::pin(self.0.trusted_wait(Kind::Read, from, to, free, |_: &mut State| ()))
    }

    /// Takes a request off the list, and counts it if it is to be counted. `wrote`: it may have changed something.
    pub fn end(&self, request: InFlight, wrote: bool, count: Option<Count>) {
        let [first, second] = Self::touched(request.range, request.serialising, false);
        let left = match (wrote, count.is_some()) {
            (true, true) => (Kind::Add, WRITTEN, STATS + 1),
            (true, false) => one(Kind::Add, WRITTEN),
            (false, true) => one(Kind::Add, STATS),
            (false, false) => second,
        };
        self.0.trusted([first, second, left], |state| {
            state.entries.retain(|entry| entry.number != request.number);
            state.written += u64::from(wrote);
            if let Some(Count { kind, range, outcome, took_ns }) = count {
                state.stats.count(kind, range.len().0, outcome, took_ns);
                if kind == Counted::Write && outcome == Outcome::Done {
                    let highest = &mut state.stats.write_highest_offset;
                    *highest = (*highest).max(range.end());
                }
            }
        });
    }

    /// How many are in flight, for the end of a run.
    pub fn count(&self) -> usize {
        self.0.read(|state| state.entries.len())
    }

    /// Makes the caller's the one flush under way, unless all that has been written until now is flushed before its
    /// turn comes. Whoever gets a generation [ends](Self::end_flush) the flush with it.
    ///
    /// # Yields
    /// While another flush is under way; `derived`, for a mutant: or the last one has not covered what it was to.
    pub async fn begin_flush(&self, derived: bool) -> Option<u64> {
        let busy = move |state: &State| {
            if derived { state.started != state.flushed } else { state.flushing }
        };
        let wanted = self.0.trusted([one(Kind::Read, WRITTEN)], |state| state.written);
        loop {
            let turn =
                self.0.trusted([one(Kind::Read, WRITTEN), one(Kind::Write, FLUSHED)], |state| {
                    if state.flushed >= wanted {
                        return Turn::Covered;
                    }
                    if state.flushing {
                        return Turn::Later;
                    }
                    state.flushing = true;
                    Turn::Now(state.written)
                });
            match turn {
                Turn::Covered => return None,
                Turn::Now(generation) => return Some(generation),
                Turn::Later => {
                    let free = move |state: &State| !busy(state);
                    let (kind, from, to) = one(Kind::Read, FLUSHED);
                    self.0.trusted_wait(kind, from, to, free, |_: &mut State| ()).await;
                }
            }
        }
    }

    /// The flush under way has ended; what was written up to `generation` is durable if it ended well.
    pub fn end_flush(&self, generation: u64, well: bool) {
        self.0.trusted([one(Kind::Write, FLUSHED)], |state| {
            state.flushing = false;
            if well {
                state.flushed = state.flushed.max(generation);
            }
        });
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        self.0.trusted([one(Kind::Read, STATS)], |state| state.stats.clone())
    }

    /// Changes what is counted. `timed`: whether durations are wanted.
    pub fn set_stats(&self, change: impl FnOnce(&mut Stats) -> bool) {
        self.0.trusted([(Kind::Write, STATS, TIMED + 1)], |state| {
            state.timed = change(&mut state.stats);
        });
    }
}
