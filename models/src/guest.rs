//! Guest consistency: the disk behind a guest device is, per word, a register under concurrency.
//!
//! A history is accepted iff each word has a *linearization*: every operation takes effect at one instant between its
//! invocation and its response, and a read returns what the last effect before it left there.
//! - A write that succeeded took effect. One that failed did so between invocation and response, or never.
//! - `write zeroes` is a write of zeroes. A discard is one that may, even if it succeeds, never take effect: the guest
//!   finds old data or zeroes, the same at each read.
//! - A copy takes effect once per word as a write of something that its source held between its invocation and its
//!   response; two words need not be of one instant, nor of one order of what overlapped it.
//! - An operation without a response may take effect at any time, or never.
//! - Where something is said to be zeroes, a read that returned zeroes would have been right.
//!
//! How: each segment (a range that no operation cuts) keeps every [`State`] in which some linearization of the past
//! may have left it. An effect is delayed until a response needs it: its own, or that of a later one in the order.
//! Nothing is lost, because the order stays and each effect stays between its invocation and its response. Reads do not
//! change the register, so they need no place in the order: a read may return what the register held at any time since
//! the read's invocation, which the state remembers in `seen`. So the set is exact, and empties iff there is no
//! linearization. It grows with 2^n for n writes in flight at one place. A copy is a read of its source, whose seen
//! values it may write; how the two places hang together beyond that is not remembered, so with copies the set may
//! be too large, never too small.
//!
//! Invariants: `pending-covers-whole-segments`: an operation in flight covers all of a segment or nothing.
//! `copies-have-equal-cuts`: the source of a copy in flight is cut where its destination is.
//! Differs: a word (8 aligned bytes) that no operation cuts is one register, not eight: no medium tears there, and a
//! whole word names its writer.
//! Source: Herlihy and Wing, Linearizability (1990); Lowe, Testing for linearizability (2017), "just-in-time".

use crate::data::{WORD, matching_len, piece_len};
use crate::{Property, Violation};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use blockyard_units::{ByteLen, ByteRange};

mod message;

/// One guest-visible device. Begins as zeroes.
///
/// Operation numbers are the caller's, unique per device, and below 2^63.
#[derive(Clone)]
pub struct GuestRegister {
    name: String,
    property: Property,
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
    value: Data,
    /// Operations in flight that took effect; sorted.
    done: Vec<u64>,
    /// Per read in flight, the values since its invocation; sorted.
    seen: Vec<(u64, Data)>,
}

/// Whose data, and how far behind where they were written first: copies carry them on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Data {
    tag: u64,
    /// Bytes, a multiple of a word; 0 of zeroes.
    shift: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    WriteZeroes,
    Discard,
    ByHand,
    /// From a place so many bytes before; the reading half has a number of its own.
    Copy {
        shift: i64,
    },
}

#[derive(Clone, Copy)]
struct Op {
    op: u64,
    kind: Kind,
    range: ByteRange,
    /// Of a copy none.
    tag: u64,
    invoked: u64,
}

/// The operations in flight at a place that may take effect, each with what it may write.
type Offers = Vec<(u64, BTreeSet<Data>)>;

#[derive(Clone)]
struct Outcome {
    responded: u64,
    certain: bool,
}

/// The operation that replaces contents by hand.
const BY_HAND: u64 = u64::MAX;
/// With this bit: the reading half of the copy of this number.
const READER: u64 = 1 << 63;

impl GuestRegister {
    /// The device `name`, all zeroes.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            property: Property::GuestConsistency,
            segments: BTreeMap::from([(0, Vec::from([State::default()]))]),
            pending: Vec::new(),
            past: Vec::new(),
            now: 0,
        }
    }

    /// What the device is now, for somebody who looks back at it: what is under way may be a part of it, and what
    /// begins later is not. Who reads it goes on with the numbers of its operations.
    pub fn as_it_is(&self) -> Self {
        let name = format!("{} as it was", self.name);
        Self { name, property: Property::PointInTime, ..self.clone() }
    }

    /// Whose data may be there, place by place: the tag, and how many bytes behind where that was written first.
    pub fn contents(&self) -> Vec<(ByteRange, BTreeSet<(u64, i64)>)> {
        let ends = self.segments.keys().skip(1).copied().chain([u64::MAX]);
        let segments = self.segments.iter().zip(ends);
        let contents = segments.map(|((start, states), end)| {
            let pending = self.writes_at(*start).flat_map(|op| self.offered(op, *start));
            let all = states.iter().map(|state| state.value).chain(pending);
            (ByteRange::between(*start, end), all.map(|data| (data.tag, data.shift)).collect())
        });
        contents.collect()
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

    /// The guest begins to copy from `from` to `range`.
    ///
    /// # Panics
    /// If the distance is no multiple of a word.
    pub fn invoke_copy(&mut self, op: u64, from: u64, range: ByteRange) {
        let shift = range.start().wrapping_sub(from).cast_signed();
        assert_eq!(shift % WORD as i64, 0, "words-are-copied-whole");
        let source = ByteRange::new(from, range.len().0);
        self.invoke_read(op | READER, source);
        self.invoke(op, Kind::Copy { shift }, range, 0);
        let cuts = |range: ByteRange| self.segments.range(range.start()..range.end());
        let cuts_there: Vec<u64> =
            cuts(source).map(|(cut, _)| cut.wrapping_add_signed(shift)).collect();
        let cuts_here: Vec<u64> =
            cuts(range).map(|(cut, _)| cut.wrapping_add_signed(-shift)).collect();
        cuts_there.into_iter().chain(cuts_here).for_each(|cut| self.split(cut));
    }

    /// The guest begins to read, or to ask what is there.
    pub fn invoke_read(&mut self, op: u64, range: ByteRange) {
        self.invoke(op, Kind::Read, range, 0);
        for (_, states) in self.segments.range_mut(range.start()..range.end()) {
            for state in states {
                insert(&mut state.seen, (op, state.value));
            }
        }
    }

    /// A write, write zeroes, copy or discard ended.
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
        self.saw(&read, data)?;
        self.respond(op, true);
        Ok(())
    }

    /// Asking what is there ended: it is told of the first `len` bytes, and that they are zeroes, if they are.
    ///
    /// # Errors
    /// It is told of nothing, or of more than was asked; or the first byte that is no zero in any linearization.
    pub fn respond_status(&mut self, op: u64, len: ByteLen, zero: bool) -> Result<(), Violation> {
        let read = self.in_flight(op);
        let asked = read.range.len();
        if len > asked || (len.0 == 0 && asked.0 > 0) {
            let (name, range) = (&self.name, read.range);
            let message =
                format!("read {op} of {name} at {range} is told the status of {len} bytes");
            return Err(self.property.broken(message));
        }
        if zero {
            let read = Op { range: ByteRange::new(read.range.start(), len.0), ..read };
            self.saw(&read, &vec![0; len.as_usize()])?;
        }
        self.respond(op, true);
        Ok(())
    }

    fn saw(&mut self, read: &Op, data: &[u8]) -> Result<(), Violation> {
        assert_eq!(data.len(), read.range.len().as_usize(), "data-fits-read");
        self.split(read.range.start());
        self.split(read.range.end());
        let runs = self.runs(read, data)?;
        for (start, _) in &runs {
            self.split(*start);
        }
        for (start, found) in runs {
            self.settle(start, &|state| {
                found.iter().any(|data| state.seen.contains(&(read.op, *data)))
            });
        }
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
            let copies = self.pending.iter().filter_map(Op::copied);
            let elsewhere = copies.flat_map(|(source, range, shift)| {
                let there = source.contains(start).then(|| start.wrapping_add_signed(shift));
                let here = range.contains(start).then(|| start.wrapping_add_signed(-shift));
                [there, here]
            });
            let elsewhere: Vec<u64> = elsewhere.flatten().collect();
            elsewhere.into_iter().for_each(|start| self.split(start));
        }
    }

    /// Ends `op`. If it is certain to have taken effect, only states in which it has remain.
    fn respond(&mut self, op: u64, ok: bool) {
        self.now += 1;
        let ended = self.in_flight(op);
        let certain = ok && ended.kind != Kind::Discard;
        let within = ended.range.start()..ended.range.end();
        let starts: Vec<u64> = self.segments.range(within).map(|(start, _)| *start).collect();
        for start in starts {
            if ended.kind != Kind::Read {
                let without = if certain { Vec::new() } else { self.segments[&start].clone() };
                self.settle(start, &|state| state.done.contains(&op));
                self.states(start).extend(without);
            }
            let states = self.states(start);
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
        if matches!(ended.kind, Kind::Copy { .. }) {
            self.respond(op | READER, true);
        }
        self.merge(ended.range);
    }

    fn states(&mut self, start: u64) -> &mut Vec<State> {
        self.segments.get_mut(&start).expect("split-made-a-segment")
    }

    /// Joins segments that have come to be in equal states again, where no operation in flight keeps them apart.
    fn merge(&mut self, range: ByteRange) {
        let cuts: Vec<u64> =
            self.segments.range(range.start()..=range.end()).map(|segment| *segment.0).collect();
        for cut in cuts {
            let below = self.segments.range(..cut).next_back();
            let states = &self.segments[&cut];
            let equal = below.is_some_and(|(_, below)| below == states);
            // Of several states, and of what a read may have seen, the two halves of a word may have different ones.
            let equal =
                equal && (cut % WORD == 0 || matches!(&states[..], [state] if state.is_certain()));
            let holds = |op: &Op| {
                let copied = op
                    .copied()
                    .is_some_and(|(source, range, _)| source.contains(cut) || range.contains(cut));
                copied || op.range.start() == cut || op.range.end() == cut
            };
            if equal && !self.pending.iter().any(holds) {
                self.segments.remove(&cut);
            }
        }
    }

    /// Splits what a read returned into runs, each with whose data it is and may be there.
    fn runs(&self, read: &Op, data: &[u8]) -> Result<Vec<(u64, Vec<Data>)>, Violation> {
        let mut runs = Vec::new();
        let mut segments = self.segments.range(read.range.start()..read.range.end()).peekable();
        while let Some((start, _)) = segments.next() {
            let end = segments.peek().map_or(read.range.end(), |next| *next.0);
            let permitted = self.permitted(*start, read.op);
            let mut at = *start;
            while at < end {
                let rest =
                    &data[(at - read.range.start()) as usize..(end - read.range.start()) as usize];
                let piece = &rest[..piece_len(at, rest.len())];
                let lens = permitted.iter().map(|data| (*data, data.matching_len(at, piece)));
                let matching: Vec<_> = lens.filter(|(_, len)| *len > 0).collect();
                // Two tags may fit a cut word, which is matched whole; never a whole word. So all lengths agree.
                let Some((_, len)) = matching.first().copied() else {
                    return Err(self.not_permitted(read, at, piece, &permitted));
                };
                runs.push((at, matching.into_iter().map(|(data, _)| data).collect()));
                at += len as u64;
            }
        }
        Ok(runs)
    }

    /// The states of the segment that `at` is in.
    fn states_at(&self, at: u64) -> &[State] {
        self.segments.range(..=at).next_back().expect("a-segment-begins-at-0").1
    }

    /// The operations in flight at `at` that may change it.
    fn writes_at(&self, at: u64) -> impl Iterator<Item = &Op> {
        self.pending.iter().filter(move |op| op.kind != Kind::Read && op.covers(at))
    }

    /// What the operations in flight at `at` may write there.
    fn offers(&self, at: u64) -> Offers {
        self.writes_at(at).map(|op| (op.op, self.offered(op, at))).collect()
    }

    /// A copy may write what its source held, and what others may write there meanwhile; of these, copies carry on what
    /// theirs held. Each is followed once to each place.
    fn offered(&self, op: &Op, at: u64) -> BTreeSet<Data> {
        let mut offered = BTreeSet::new();
        let mut met = BTreeSet::from([(op.op, at)]);
        let mut to_follow = vec![(*op, at)];
        while let Some((op, place)) = to_follow.pop() {
            let Kind::Copy { shift } = op.kind else {
                offered.insert(Data::of(op.tag).moved(at.wrapping_sub(place).cast_signed()));
                continue;
            };
            let from = place.wrapping_add_signed(-shift);
            let moved = at.wrapping_sub(from).cast_signed();
            for state in self.states_at(from) {
                let seen = state.seen.iter().filter(|seen| seen.0 == op.op | READER);
                offered.extend(seen.map(|seen| seen.1.moved(moved)));
                let undone = self.writes_at(from).filter(|other| !state.done.contains(&other.op));
                to_follow.extend(
                    undone.filter(|other| met.insert((other.op, from))).map(|op| (*op, from)),
                );
            }
        }
        offered
    }

    /// What `read` may return at `at`.
    fn permitted(&self, at: u64, read: u64) -> BTreeSet<Data> {
        let offers = self.offers(at);
        let mut permitted = BTreeSet::new();
        for state in self.states_at(at) {
            permitted.extend(state.seen.iter().filter(|seen| seen.0 == read).map(|seen| seen.1));
            permitted.extend(undone(state, &offers).map(|(_, data)| data));
        }
        permitted
    }

    /// Lets pending writes take effect in each state of the segment at `start`, in every order, until the state is
    /// `wanted`; drops those that cannot get there.
    fn settle(&mut self, start: u64, wanted: &dyn Fn(&State) -> bool) {
        let offers = self.offers(start);
        let reads = self.pending.iter().filter(|op| op.kind == Kind::Read && op.covers(start));
        let reads: Vec<u64> = reads.map(|op| op.op).collect();
        let states = self.states(start);
        let mut known: BTreeSet<State> = states.iter().cloned().collect();
        let mut next = 0;
        while let Some(state) = states.get(next) {
            let writes = undone(state, &offers).filter(|_| !wanted(state));
            let after: Vec<_> = writes.map(|(op, data)| state.after(op, data, &reads)).collect();
            for state in after {
                if known.insert(state.clone()) {
                    states.push(state);
                }
            }
            next += 1;
        }
        states.retain(wanted);
    }
}

/// Those that may still take effect.
fn undone<'a>(state: &'a State, offers: &'a Offers) -> impl Iterator<Item = (u64, Data)> + 'a {
    let undone = offers.iter().filter(|(op, _)| !state.done.contains(op));
    undone.flat_map(|(op, offered)| offered.iter().map(|data| (*op, *data)))
}

/// Inserts into a sorted list without duplicates: these are too small for anything cleverer.
fn insert<T: Ord>(sorted: &mut Vec<T>, item: T) {
    if let Err(place) = sorted.binary_search(&item) {
        sorted.insert(place, item);
    }
}

impl State {
    /// Whether each read has seen one value.
    fn is_certain(&self) -> bool {
        self.seen.windows(2).all(|pair| pair[0].0 != pair[1].0)
    }

    fn after(&self, op: u64, value: Data, reads: &[u64]) -> Self {
        let mut after = Self { value, ..self.clone() };
        insert(&mut after.done, op);
        reads.iter().for_each(|read| insert(&mut after.seen, (*read, value)));
        after
    }
}

impl Data {
    fn of(tag: u64) -> Self {
        Self { tag, shift: 0 }
    }

    fn moved(self, by: i64) -> Self {
        if self.tag == 0 { self } else { Self { shift: self.shift + by, ..self } }
    }

    fn matching_len(self, at: u64, piece: &[u8]) -> usize {
        matching_len(self.tag, at.wrapping_add_signed(-self.shift), piece)
    }
}

impl Op {
    fn covers(&self, at: u64) -> bool {
        self.range.contains(at)
    }

    /// Of a copy: where from, where to, and how far.
    fn copied(&self) -> Option<(ByteRange, ByteRange, i64)> {
        let Kind::Copy { shift } = self.kind else { return None };
        let from = self.range.start().wrapping_add_signed(-shift);
        Some((ByteRange::new(from, self.range.len().0), self.range, shift))
    }
}

#[cfg(test)]
mod tests;
