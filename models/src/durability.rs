//! Durability: what is found after a power loss is not older than what was promised to last.
//!
//! A flush that succeeds promises every write that had ended well before it began; a write with FUA promises itself.
//! Power is lost at a moment that the judge is not told: only which observations had been made by then. What is found
//! at a place may be of any write that some order of the overlapping ones lets be the last there, if none that was
//! promised surely came after it. A discard promises nothing; a write that failed may be found or not. A copy is a
//! write of whatever its source may have held meanwhile.
//!
//! Invariant `monotone`: the more had been observed, the more is demanded; so who knows several moments to be possible
//! asks about the latest.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_units::ByteRange;

use crate::data::{WORD, matching_len, piece_len};
use crate::{Property, Violation};

/// One guest-visible device. Observations are numbered by the caller: a later one never has a smaller number; and so
/// are operations: one that began later has a greater number.
pub struct Durability {
    name: String,
    /// Any of these, each with how many bytes behind where it was written first.
    fill: Vec<(ByteRange, BTreeSet<(u64, i64)>)>,
    writes: BTreeMap<u64, Write>,
    flushes: BTreeMap<u64, Flush>,
}

struct Write {
    op: u64,
    range: ByteRange,
    data: Data,
    kind: WriteKind,
    began: u32,
    ended: Option<Ended>,
}

#[derive(Clone, Copy)]
enum Data {
    Of(u64),
    /// What was so many bytes before.
    Copied(i64),
}

/// What a write promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// To last once a flush that began after it has ended.
    Cached,
    /// To last once it has ended.
    Fua,
    /// Nothing: a discard.
    Discard,
}

struct Flush {
    began: u32,
    ended: Option<Ended>,
}

#[derive(Clone, Copy)]
struct Ended {
    at: u32,
    well: bool,
}

impl Durability {
    /// The device `name`, all zeroes.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            fill: Vec::new(),
            writes: BTreeMap::new(),
            flushes: BTreeMap::new(),
        }
    }

    /// Initial contents: `range` has the data of `tag`.
    pub fn fill(&mut self, range: ByteRange, tag: u64) {
        self.fill_with_any(range, BTreeSet::from([(tag, 0)]));
    }

    /// Initial contents: in each place of `range` are the data of one of these tags, so many bytes behind where they
    /// were written first.
    pub fn fill_with_any(&mut self, range: ByteRange, data: BTreeSet<(u64, i64)>) {
        self.fill.push((range, data));
    }

    /// The guest begins to write the data of `tag`: 0 is zeroes.
    pub fn begin_write(&mut self, op: u64, range: ByteRange, tag: u64, kind: WriteKind, now: u32) {
        let data = Data::Of(tag);
        self.writes.insert(op, Write { op, range, data, kind, began: now, ended: None });
    }

    /// The guest begins to copy from `from` to `range`, a multiple of a word away.
    pub fn begin_copy(&mut self, op: u64, from: u64, range: ByteRange, kind: WriteKind, now: u32) {
        let data = Data::Copied(range.start().wrapping_sub(from).cast_signed());
        self.writes.insert(op, Write { op, range, data, kind, began: now, ended: None });
    }

    /// The guest begins to flush.
    pub fn begin_flush(&mut self, op: u64, now: u32) {
        self.flushes.insert(op, Flush { began: now, ended: None });
    }

    /// A write or a flush ended; other operations are not known here.
    pub fn end(&mut self, op: u64, well: bool, now: u32) {
        let ended = Some(Ended { at: now, well });
        if let Some(write) = self.writes.get_mut(&op) {
            write.ended = ended;
        }
        if let Some(flush) = self.flushes.get_mut(&op) {
            flush.ended = ended;
        }
    }

    /// The sectors of 512 bytes that were written to, once each; without those of the longest writes, which cut a
    /// disk off or are too many to look at.
    pub fn sectors(&self) -> BTreeSet<ByteRange> {
        const LONGEST: u64 = 1 << 20;
        let sectors = |write: &Write| {
            let (first, end) = (write.range.start() / 512, write.range.end().div_ceil(512));
            (first..end).map(|sector| ByteRange::new(sector * 512, 512))
        };
        let writes = self.writes.values().filter(|write| write.range.len().0 <= LONGEST);
        writes.flat_map(sectors).collect()
    }

    /// Judges `found`, the bytes of `range` after a power loss before which the observations were made that `happened`
    /// says.
    ///
    /// # Errors
    /// The first place where something is found that is too old, or that nobody wrote.
    ///
    /// # Panics
    /// If the bytes' length is not the range's.
    pub fn check(
        &self,
        range: ByteRange,
        found: &[u8],
        happened: &dyn Fn(u32) -> bool,
    ) -> Result<(), Violation> {
        assert_eq!(found.len(), range.len().as_usize(), "data-fits-range");
        let covering: Vec<&Write> =
            self.writes.values().filter(|write| write.range.overlaps(&range)).collect();
        let edges = self.edges();
        let mut at = range.start();
        while at < range.end() {
            let next = edges.range(at + 1..).next().copied().unwrap_or(u64::MAX);
            let part = ByteRange::between(at, next.min(range.end()));
            let bytes = &found[(part.start() - range.start()) as usize..][..part.len().as_usize()];
            self.check_part(part, bytes, &covering, happened)?;
            at = part.end();
        }
        Ok(())
    }

    /// Judges a bitmap that is vouched for after such a power loss, and has recorded everything: these granules are
    /// `dirty`, of so many bytes each.
    ///
    /// # Errors
    /// A write that had ended well is not marked.
    pub fn check_marked(
        &self,
        bitmap: &str,
        granularity: u64,
        dirty: &BTreeSet<u64>,
        happened: &dyn Fn(u32) -> bool,
    ) -> Result<(), Violation> {
        let has_ended = |write: &&Write| {
            let ended = write.ended.is_some_and(|ended| ended.well && happened(ended.at));
            ended && write.kind != WriteKind::Discard
        };
        for write in self.writes.values().filter(has_ended) {
            let end = write.range.end().div_ceil(granularity);
            let mut granules = write.range.start() / granularity..end;
            if let Some(granule) = granules.find(|granule| !dirty.contains(granule)) {
                let (name, range) = (&self.name, write.range);
                return Err(Property::BitmapSoundness.broken(format!(
                    "{name}: bitmap {bitmap} is vouched for and lacks granule {granule}: {range} was written"
                )));
            }
        }
        Ok(())
    }

    /// Where writes begin and end, and in copies what they carry.
    fn edges(&self) -> BTreeSet<u64> {
        let ranges = self.writes.values().map(|write| write.range);
        let ranges = ranges.chain(self.fill.iter().map(|(range, _)| *range));
        let mut edges: BTreeSet<u64> =
            ranges.flat_map(|range| [range.start(), range.end()]).collect();
        let copied = |write: &Write| match write.data {
            Data::Of(_) => None,
            Data::Copied(shift) => Some((write.range, shift)),
        };
        let copies: Vec<_> = self.writes.values().filter_map(copied).collect();
        // A copy of a copy carries on what that one carried; none is longer than all of them.
        for _ in 0..copies.len() {
            for (range, shift) in &copies {
                let from = range.start().wrapping_add_signed(-shift);
                let inside = edges.range(from..from + range.len().0);
                let carried: Vec<u64> =
                    inside.map(|edge| edge.wrapping_add_signed(*shift)).collect();
                edges.extend(carried);
            }
        }
        edges
    }

    /// The same, of a range that no write cuts.
    fn check_part<'a>(
        &'a self,
        part: ByteRange,
        mut found: &[u8],
        covering: &[&'a Write],
        happened: &dyn Fn(u32) -> bool,
    ) -> Result<(), Violation> {
        let here = |write: &&&Write| write.range.overlaps(&part);
        let here: Vec<&Write> = covering.iter().filter(here).copied().collect();
        let promised = |write: &&&Write| self.is_promised(write, happened);
        let promised: Vec<&Write> = here.iter().filter(promised).copied().collect();
        let initial = self.initial(part.start());
        let superseded = |write: &Write| promised.iter().find(|later| write.precedes(later));
        let mut at = part.start();
        while !found.is_empty() {
            let piece = &found[..piece_len(at, found.len())];
            // The longest run that one who may be found here has written.
            let fits = |write| self.fits(write, at, piece, &mut Vec::new());
            let fits_initial = fits_any(&initial, at, piece);
            let of_writes =
                here.iter().filter(|w| superseded(w).is_none()).map(|write| fits(write));
            let of_initial = promised.is_empty().then_some(fits_initial);
            let len = of_writes.chain(of_initial).max().unwrap_or(0);
            if len == 0 {
                let old = here.iter().find(|write| fits(write) > 0);
                let (what, by) = match old {
                    Some(write) => (format!("the write of {}", write.range), superseded(write)),
                    None if fits_initial > 0 => {
                        ("what was there at the beginning".into(), promised.first())
                    }
                    None => ("what nobody wrote".into(), promised.first()),
                };
                return Err(self.broken(at, &what, by.copied()));
            }
            at += len as u64;
            found = &found[len..];
        }
        Ok(())
    }

    /// What may have been at `at` at the beginning.
    fn initial(&self, at: u64) -> BTreeSet<(u64, i64)> {
        let filled = self.fill.iter().rfind(|(range, _)| range.contains(at));
        filled.map_or_else(|| BTreeSet::from([(0, 0)]), |(_, data)| data.clone())
    }

    /// How many leading bytes of one piece at `at` may be those of `write`. `path`: the copies that this is asked for.
    fn fits<'a>(
        &'a self,
        write: &'a Write,
        at: u64,
        piece: &[u8],
        path: &mut Vec<&'a Write>,
    ) -> usize {
        let shift = match write.data {
            Data::Of(tag) => return matching_len(tag, at, piece),
            Data::Copied(_) if path.iter().any(|copy| core::ptr::eq(*copy, write)) => return 0,
            Data::Copied(shift) => shift,
        };
        // What is copied is judged word by word, as its source may be of many.
        let piece = &piece[..piece.len().min(WORD as usize)];
        let at = at.wrapping_add_signed(-shift);
        let here = |other: &&Write| other.range.contains(at);
        // Whether it had ended before the copy began, and surely took effect.
        let settled = |other: &&Write| {
            let well = other.ended.is_some_and(|ended| ended.well);
            well && other.kind != WriteKind::Discard && other.precedes(write)
        };
        let over: Vec<&Write> = self.writes.values().filter(here).filter(settled).collect();
        let replaced = |other: &&Write| over.iter().any(|later| other.precedes(later));
        let came_later = |other: &&Write| write.precedes(other);
        let could = self.writes.values().filter(here);
        let could = could.filter(|other| !replaced(other) && !came_later(other));
        let initial = over.is_empty().then(|| fits_any(&self.initial(at), at, piece));
        path.push(write);
        let longest = could.map(|other| self.fits(other, at, piece, path)).chain(initial).max();
        path.pop();
        longest.unwrap_or(0)
    }

    fn is_promised(&self, write: &Write, happened: &dyn Fn(u32) -> bool) -> bool {
        let lasts = |ended: Ended| ended.well && happened(ended.at);
        let Some(ended) = write.ended.filter(|ended| ended.well) else { return false };
        let flushed = |flush: &Flush| ended.at <= flush.began && flush.ended.is_some_and(lasts);
        match write.kind {
            WriteKind::Fua if lasts(ended) => true,
            WriteKind::Cached | WriteKind::Fua => self.flushes.values().any(flushed),
            WriteKind::Discard => false,
        }
    }

    fn broken(&self, at: u64, found: &str, promised: Option<&Write>) -> Violation {
        let name = &self.name;
        let promised = promised.map_or_else(String::new, |write| {
            let how = if write.kind == WriteKind::Fua { "by FUA" } else { "by a flush" };
            format!(", though a later write of {} was made durable {how}", write.range)
        });
        Property::Durability.broken(format!("{name}: {found} is found at {at}{promised}"))
    }
}

/// How many leading bytes of one piece at `at` are one of these.
fn fits_any(data: &BTreeSet<(u64, i64)>, at: u64, piece: &[u8]) -> usize {
    let fits =
        |(tag, shift): &(u64, i64)| matching_len(*tag, at.wrapping_add_signed(-shift), piece);
    data.iter().map(fits).max().unwrap_or(0)
}

impl Write {
    fn precedes(&self, later: &Write) -> bool {
        // One that needs nobody may begin and end at the same moment, and does not come before itself.
        self.op < later.op && self.ended.is_some_and(|ended| ended.at <= later.began)
    }
}

#[cfg(test)]
mod tests;
