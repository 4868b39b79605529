//! Guest consistency: the disk behind a guest device is, per word, a register under concurrency.
//!
//! A history is accepted iff each word has a *linearization*: every operation takes effect at one instant between its
//! invocation and its response, and a read returns what the last effect before it left there.
//! - A write that succeeded took effect. One that failed did so between invocation and response, or never.
//! - `write zeroes` is a write of zeroes. A discard is one that may, even if it succeeds, never take effect: the guest
//!   finds old data or zeroes, the same at each read.
//! - An operation without a response may take effect at any time, or never.
//!
//! How: each segment (a range that no operation cuts) keeps every [`State`] in which some linearization of the past
//! may have left it. An effect is delayed until a response needs it: its own, or that of a later one in the order.
//! Nothing is lost, because the order stays and each effect stays between its invocation and its response. Reads do not
//! change the register, so they need no place in the order: a read may return what the register held at any time since
//! the read's invocation, which the state remembers in `seen`. So the set is exact, and empties iff there is no
//! linearization. It grows with 2^n for n writes in flight at one place.
//!
//! Invariant `pending-covers-whole-segments`: an operation in flight covers all of a segment or nothing.
//! Differs: a word (8 aligned bytes) that no operation cuts is one register, not eight: no medium tears there, and a
//! whole word names its writer.
//! Source: Herlihy and Wing, Linearizability (1990); Lowe, Testing for linearizability (2017), "just-in-time".

use crate::Violation;
use crate::data::{matching_len, piece_len};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use blockyard_units::ByteRange;

mod message;

/// One guest-visible device. Begins as zeroes.
///
/// Operation numbers are the caller's, unique per device; `u64::MAX` is taken.
pub struct GuestRegister {
    name: String,
    /// States by the first byte of their segment, which ends where the next begins.
    segments: BTreeMap<u64, Vec<State>>,
    pending: Vec<Op>,
    /// What had a response and may have changed the disk; read by messages only.
    past: Vec<(Op, Outcome)>,
    /// Counts observations.
    now: u64,
}

/// Where some linearization of the past may have left a segment.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// Tag of the contents.
    value: u64,
    /// Operations in flight that took effect; sorted.
    done: Vec<u64>,
    /// Per read in flight, the values since its invocation; sorted.
    seen: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    WriteZeroes,
    Discard,
    ByHand,
}

#[derive(Clone, Copy)]
struct Op {
    op: u64,
    kind: Kind,
    range: ByteRange,
    tag: u64,
    invoked: u64,
}

struct Outcome {
    responded: u64,
    certain: bool,
}

/// The operation that replaces contents by hand.
const BY_HAND: u64 = u64::MAX;

impl GuestRegister {
    /// The device `name`, all zeroes.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            segments: BTreeMap::from([(0, Vec::from([State::default()]))]),
            pending: Vec::new(),
            past: Vec::new(),
            now: 0,
        }
    }

    /// Initial contents: `range` has the data of `tag`.
    pub fn fill(&mut self, range: ByteRange, tag: u64) {
        self.replace_contents(range, tag);
    }

    /// The contents of `range` were changed by hand (another medium, another child) to the data of `tag`, at this
    /// instant.
    pub fn replace_contents(&mut self, range: ByteRange, tag: u64) {
        self.invoke(BY_HAND, Kind::ByHand, range, tag);
        self.respond(BY_HAND, true);
    }

    /// The guest begins to write the data of `tag`; no two writes share one.
    pub fn invoke_write(&mut self, op: u64, range: ByteRange, tag: u64) {
        self.invoke(op, Kind::Write, range, tag);
    }

    /// The guest begins to write zeroes.
    pub fn invoke_write_zeroes(&mut self, op: u64, range: ByteRange) {
        self.invoke(op, Kind::WriteZeroes, range, 0);
    }

    /// The guest begins to discard.
    pub fn invoke_discard(&mut self, op: u64, range: ByteRange) {
        self.invoke(op, Kind::Discard, range, 0);
    }

    /// The guest begins to read.
    pub fn invoke_read(&mut self, op: u64, range: ByteRange) {
        self.invoke(op, Kind::Read, range, 0);
        for (_, states) in self.segments.range_mut(range.start()..range.end()) {
            for state in states {
                insert(&mut state.seen, (op, state.value));
            }
        }
    }

    /// A write, write zeroes or discard ended.
    ///
    /// # Errors
    /// None as yet: a write is judged by the reads after it.
    pub fn respond_write(&mut self, op: u64, ok: bool) -> Result<(), Violation> {
        self.respond(op, ok);
        Ok(())
    }

    /// Any operation failed.
    ///
    /// # Errors
    /// None as yet: what a failed write left is judged by the reads after it.
    pub fn respond_failed(&mut self, op: u64) -> Result<(), Violation> {
        self.respond(op, false);
        Ok(())
    }

    /// A read ended with `data`.
    ///
    /// # Errors
    /// The first byte that no linearization permits.
    ///
    /// # Panics
    /// If `data` has not the length of the read.
    pub fn respond_read(&mut self, op: u64, data: &[u8]) -> Result<(), Violation> {
        let read = self.in_flight(op);
        assert_eq!(data.len(), read.range.len().as_usize(), "data-fits-read");
        let runs = self.runs(&read, data)?;
        for (start, _) in &runs {
            self.split(*start);
        }
        for (start, tags) in runs {
            let states = self.segments.get_mut(&start).expect("split-made-a-segment");
            settle(states, &self.pending, start, |state| {
                tags.iter().any(|tag| state.seen.contains(&(op, *tag)))
            });
        }
        self.respond(op, true);
        Ok(())
    }

    fn in_flight(&self, op: u64) -> Op {
        let found = self.pending.iter().find(|pending| pending.op == op);
        *found.expect("an-operation-that-responds-was-invoked")
    }

    fn invoke(&mut self, op: u64, kind: Kind, range: ByteRange, tag: u64) {
        self.now += 1;
        self.split(range.start());
        self.split(range.end());
        let known = self.pending.iter().any(|pending| pending.op == op);
        assert!(!known, "operation-numbers-are-unique: {op}");
        self.pending.push(Op { op, kind, range, tag, invoked: self.now });
    }

    /// Cuts the segment at `start` in two, unless one begins there.
    fn split(&mut self, start: u64) {
        let (key, states) =
            self.segments.range(..=start).next_back().expect("a-segment-begins-at-0");
        if *key != start {
            let states = states.clone();
            self.segments.insert(start, states);
        }
    }

    /// Ends `op`. If it is certain to have taken effect, only states in which it has remain.
    fn respond(&mut self, op: u64, ok: bool) {
        self.now += 1;
        let ended = self.in_flight(op);
        let certain = ok && ended.kind != Kind::Discard;
        for (start, states) in self.segments.range_mut(ended.range.start()..ended.range.end()) {
            if ended.kind != Kind::Read {
                let without = if certain { Vec::new() } else { states.clone() };
                settle(states, &self.pending, *start, |state| state.done.contains(&op));
                states.extend(without);
            }
            for state in states.iter_mut() {
                state.done.retain(|done| *done != op);
                state.seen.retain(|(read, _)| *read != op);
            }
            states.sort_unstable();
            states.dedup();
        }
        self.pending.retain(|pending| pending.op != op);
        if ended.kind != Kind::Read {
            self.past.push((ended, Outcome { responded: self.now, certain }));
        }
        self.merge(ended.range);
    }

    /// Joins segments that have come to be in equal states again, where no operation in flight keeps them apart.
    fn merge(&mut self, range: ByteRange) {
        let cuts: Vec<u64> =
            self.segments.range(range.start()..=range.end()).map(|segment| *segment.0).collect();
        for cut in cuts {
            let below = self.segments.range(..cut).next_back();
            let equal = below.is_some_and(|(_, states)| *states == self.segments[&cut]);
            let holds = |op: &Op| op.range.start() == cut || op.range.end() == cut;
            if equal && !self.pending.iter().any(holds) {
                self.segments.remove(&cut);
            }
        }
    }

    /// Splits what a read returned into runs, each with the tags whose data it is and that it may have returned there.
    fn runs(&self, read: &Op, data: &[u8]) -> Result<Vec<(u64, Vec<u64>)>, Violation> {
        let mut runs = Vec::new();
        let mut segments = self.segments.range(read.range.start()..read.range.end()).peekable();
        while let Some((start, states)) = segments.next() {
            let end = segments.peek().map_or(read.range.end(), |next| *next.0);
            let permitted = permitted(states, &self.pending, *start, read.op);
            let mut at = *start;
            while at < end {
                let rest =
                    &data[(at - read.range.start()) as usize..(end - read.range.start()) as usize];
                let piece = &rest[..piece_len(at, rest.len())];
                let lens = permitted.iter().map(|tag| (*tag, matching_len(*tag, at, piece)));
                let matching: Vec<_> = lens.filter(|(_, len)| *len > 0).collect();
                // Two tags may fit a cut word, which is matched whole; never a whole word. So all lengths agree.
                let Some((_, len)) = matching.first().copied() else {
                    return Err(self.not_permitted(read, at, piece, &permitted));
                };
                runs.push((at, matching.into_iter().map(|(tag, _)| tag).collect()));
                at += len as u64;
            }
        }
        Ok(runs)
    }
}

/// Lets pending writes take effect in each state, in every order, until the state is `wanted`; drops those that
/// cannot get there.
fn settle(states: &mut Vec<State>, pending: &[Op], at: u64, wanted: impl Fn(&State) -> bool) {
    let mut next = 0;
    while let Some(state) = states.get(next) {
        let writes = undone(state, pending, at).filter(|_| !wanted(state));
        let after: Vec<_> = writes.map(|write| state.after(write, pending, at)).collect();
        for state in after {
            if !states.contains(&state) {
                states.push(state);
            }
        }
        next += 1;
    }
    states.retain(wanted);
}

/// Operations in flight at `at` that may still take effect.
fn undone<'a>(state: &'a State, pending: &'a [Op], at: u64) -> impl Iterator<Item = &'a Op> {
    let writes = pending.iter().filter(move |op| op.kind != Kind::Read && op.covers(at));
    writes.filter(|op| !state.done.contains(&op.op))
}

/// The tags that `read` may return at `at`.
fn permitted(states: &[State], pending: &[Op], at: u64, read: u64) -> BTreeSet<u64> {
    let mut tags = BTreeSet::new();
    for state in states {
        tags.extend(state.seen.iter().filter(|seen| seen.0 == read).map(|seen| seen.1));
        tags.extend(undone(state, pending, at).map(|write| write.tag));
    }
    tags
}

/// Inserts into a sorted list without duplicates: these are too small for anything cleverer.
fn insert<T: Ord>(sorted: &mut Vec<T>, item: T) {
    if let Err(place) = sorted.binary_search(&item) {
        sorted.insert(place, item);
    }
}

impl State {
    fn after(&self, write: &Op, pending: &[Op], at: u64) -> Self {
        let mut after = Self { value: write.tag, ..self.clone() };
        insert(&mut after.done, write.op);
        for read in pending.iter().filter(|op| op.kind == Kind::Read && op.covers(at)) {
            insert(&mut after.seen, (read.op, write.tag));
        }
        after
    }
}

impl Op {
    fn covers(&self, at: u64) -> bool {
        self.range.start() <= at && at < self.range.end()
    }
}

#[cfg(test)]
mod tests;
