//! The bytes of a disk, with every version of an atom that a power loss could leave.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use blockyard_runtime::IoBuffer;
use blockyard_units::{ByteLen, ByteOffset, ByteRange};

use super::fate::{Claim, Fate};
use super::{Cache, DiskImage};
use crate::event::Kept;
use crate::explore::Steps;
use crate::process::BEGINNING;

/// What the power loss has left of an atom; nobody has looked yet.
pub(crate) struct Undecided {
    /// How many later versions there are.
    pub newest: u32,
    /// Those that nothing forbids; never empty.
    pub permitted: Vec<Kept>,
}

#[derive(Clone)]
struct Version {
    /// By its number; none for what was there before.
    write: Option<usize>,
    /// The whole atom.
    bytes: Vec<u8>,
}

#[derive(Clone)]
struct Atom {
    /// The durable one, then the later ones.
    versions: Vec<Version>,
    /// Which of them a read would find depends on a power loss.
    undecided: bool,
}

/// Whose write it is, and the step in which it takes effect.
#[derive(Clone, Copy)]
pub(crate) struct Author {
    pub request: u32,
    pub effect: u32,
}

#[derive(Clone)]
struct Write {
    request: u32,
    range: ByteRange,
    /// How many power losses there were before.
    era: u32,
    effect: u32,
    completed: Option<u32>,
    /// The how-manieth completed write of the disk it was, where flushes may lose what they cover.
    order: Option<u64>,
    /// Whether it is durable, as far as can be told before power is lost.
    durable: bool,
    /// A flush that failed lost it.
    dropped: bool,
    fua: bool,
    /// The steps that promised that it is durable; known once its era has ended.
    promises: Steps,
}

impl Write {
    fn is_dirty(&self, covers: u64) -> bool {
        self.order.is_some_and(|order| order <= covers) && !self.durable && !self.dropped
    }
}

#[derive(Clone)]
struct Flush {
    submitted: u32,
    completed: u32,
}

#[derive(Clone)]
pub(super) struct Versions {
    image: IoBuffer,
    atom: ByteLen,
    cache: Cache,
    torn: bool,
    /// What a read finds, except in undecided atoms.
    bytes: Vec<u8>,
    touched: Vec<ByteRange>,
    /// Those with several versions, by offset.
    atoms: BTreeMap<u64, Atom>,
    writes: Vec<Write>,
    /// Those completed since power was lost.
    flushes: Vec<Flush>,
    era: u32,
    track: bool,
}

impl Versions {
    pub fn new(image: &DiskImage) -> Self {
        let mut bytes = image.bytes.to_vec();
        bytes.resize(image.capacity.as_usize(), 0);
        Self {
            image: bytes.clone().into(),
            atom: image.atom,
            cache: image.cache,
            torn: image.torn,
            bytes,
            touched: Vec::new(),
            atoms: BTreeMap::new(),
            writes: Vec::new(),
            flushes: Vec::new(),
            era: 0,
            track: false,
        }
    }

    pub fn reset(&mut self, track: bool) {
        for range in self.touched.drain(..) {
            let range = as_indices(range);
            self.bytes[range.clone()].copy_from_slice(&self.image[range]);
        }
        self.atoms.clear();
        self.writes.clear();
        self.flushes.clear();
        self.era = 0;
        self.track = track;
    }

    /// Whether versions are kept apart, for a power loss to come.
    pub fn tracks(&self) -> bool {
        self.track
    }

    /// Whether the order in which writes take effect is kept.
    pub fn keeps_order(&self) -> bool {
        self.cache == Cache::Ordered
    }

    pub fn look<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        look(&self.bytes)
    }

    pub fn read(&self, range: ByteRange) -> Vec<u8> {
        self.bytes[as_indices(range)].to_vec()
    }

    /// The atoms that `range` touches.
    pub fn atoms_of(&self, range: ByteRange) -> ByteRange {
        let disk = ByteRange::new(0, self.bytes.len() as u64);
        range.align_outward(self.atom).intersection(&disk)
    }

    pub fn atom_at(&self, offset: u64) -> ByteRange {
        self.atoms_of(ByteRange::new(offset, 1))
    }

    /// A write takes effect. No atom that it covers in part is undecided.
    pub fn write(&mut self, offset: u64, data: &IoBuffer, by: Author, fua: bool) {
        let range = ByteRange::new(offset, data.len() as u64);
        if !self.track {
            // What nobody has looked at is gone, and power is not lost again.
            let within = |atom: &u64| *atom < range.end() && range.start() < *atom + self.atom.0;
            self.atoms.retain(|atom, _| !within(atom));
            return self.settle(range, data);
        }
        let number = self.writes.len();
        let Author { request, effect } = by;
        self.writes.push(Write {
            request,
            range,
            era: self.era,
            effect,
            completed: None,
            order: None,
            durable: false,
            dropped: false,
            fua,
            promises: Steps::default(),
        });
        let offsets: Vec<u64> = self.offsets(range).collect();
        for offset in &offsets {
            let (whole, bytes) = (as_indices(self.atom_at(*offset)), &self.bytes);
            let durable = || Version { write: None, bytes: bytes[whole].to_vec() };
            let fresh = || Atom { versions: Vec::from([durable()]), undecided: false };
            self.atoms.entry(*offset).or_insert_with(fresh);
        }
        self.settle(range, data);
        for offset in offsets {
            let bytes = self.read(self.atom_at(offset));
            let atom = self.atoms.get_mut(&offset).expect("just-entered");
            atom.versions.push(Version { write: Some(number), bytes });
            atom.undecided = false;
        }
    }

    fn offsets(&self, range: ByteRange) -> impl Iterator<Item = u64> + use<> {
        let size = self.atom.0;
        let atoms = if range.is_empty() { range } else { self.atoms_of(range) };
        (0..atoms.len().0.div_ceil(size)).map(move |index| atoms.start() + index * size)
    }

    /// A write completed well, as the disk's `order`-th.
    pub fn wrote(&mut self, request: u32, step: u32, order: u64) {
        let mut latest_first = self.writes.iter_mut().rev();
        if let Some(write) = latest_first.find(|write| write.request == request) {
            write.completed = Some(step);
            write.order = Some(order);
            write.durable = write.fua || self.cache == Cache::WriteThrough;
        }
    }

    /// A flush of the first `covers` completed writes takes effect.
    pub fn flush(&mut self, covers: u64) {
        let covered = self.writes.iter_mut().filter(|write| write.is_dirty(covers));
        covered.for_each(|write| write.durable = true);
    }

    /// What a flush of the first `covers` completed writes would make durable: which writes, and where.
    pub fn dirty(&self, covers: u64) -> Vec<(ByteRange, usize)> {
        let dirty = self.writes.iter().enumerate().filter(|(_, write)| write.is_dirty(covers));
        dirty.map(|(number, write)| (write.range, number)).collect()
    }

    /// These writes are lost, and no later flush makes them durable.
    pub fn drop_dirty(&mut self, writes: &[usize]) {
        writes.iter().for_each(|number| self.writes[*number].dropped = true);
    }

    /// The bytes of these writes that nothing lies over, and what is durable there.
    pub fn undone(&self, writes: &[usize]) -> Vec<(ByteRange, IoBuffer)> {
        let mut undone = Vec::new();
        for (offset, atom) in &self.atoms {
            let written = |version: &Version| version.write.map(|write| &self.writes[write]);
            let is_durable = |version: &Version| written(version).is_none_or(|w| w.durable);
            let durable = atom.versions.iter().rposition(is_durable).expect("the-first-is-durable");
            let picked = |version: &Version| version.write.is_some_and(|w| writes.contains(&w));
            for (index, version) in atom.versions.iter().enumerate().skip(durable + 1) {
                let Some(write) = written(version).filter(|_| picked(version)) else { continue };
                let mut shown = Vec::from([write.range.intersection(&self.atom_at(*offset))]);
                for later in atom.versions[index + 1..].iter().filter(|later| !picked(later)) {
                    let hole = written(later).expect("later-ones-are-written").range;
                    shown = shown.into_iter().flat_map(|part| outside(part, hole)).collect();
                }
                undone.extend(shown.into_iter().map(|part| {
                    let from = (part.start() - offset) as usize;
                    let bytes = &atom.versions[durable].bytes[from..from + part.len().as_usize()];
                    (part, bytes.to_vec().into())
                }));
            }
        }
        undone
    }

    /// A flush completed well.
    pub fn flushed(&mut self, submitted: u32, completed: u32) {
        if self.track {
            self.flushes.push(Flush { submitted, completed });
        }
    }

    fn settle(&mut self, range: ByteRange, data: &[u8]) {
        self.bytes[as_indices(range)].copy_from_slice(data);
        self.touched.push(range);
    }

    /// Power is lost at some moment of the era that ends. `track`: it may be lost again.
    pub fn lose_power(&mut self, fate: &mut Fate, track: bool) {
        self.end_era(fate);
        self.track = track;
        let mut decided = Vec::new();
        let mut atoms = core::mem::take(&mut self.atoms);
        for (offset, atom) in &mut atoms {
            let permitted = self.permitted(*offset, &atom.versions, fate);
            match &permitted[..] {
                [(only, _)] => decided.push(*only),
                several => several.iter().for_each(|(_, claim)| fate.offer(claim)),
            }
            atom.undecided = true;
        }
        self.atoms = atoms;
        decided.into_iter().for_each(|only| self.keep(only, fate));
    }

    /// Finds out what was promised since power was lost last.
    pub fn end_era(&mut self, fate: &Fate) {
        for write in self.writes.iter_mut().filter(|write| write.era == self.era) {
            write.promises = promises(self.cache, &self.flushes, write, fate);
        }
        self.era += 1;
        self.flushes.clear();
    }

    /// Of each atom that was written, every version that may be left after the era that has ended.
    pub fn left(&self, fate: &Fate) -> impl Iterator<Item = (ByteRange, Vec<u8>, Claim)> {
        self.atoms.iter().flat_map(|(offset, atom)| {
            let permitted = self.permitted(*offset, &atom.versions, fate).into_iter();
            permitted
                .map(|(kept, claim)| (self.atom_at(*offset), bytes_of(&atom.versions, kept), claim))
        })
    }

    /// Where nothing was written.
    pub fn unwritten(&self) -> impl Iterator<Item = ByteRange> {
        let starts = [0].into_iter().chain(self.atoms.keys().map(|offset| offset + self.atom.0));
        let ends = self.atoms.keys().copied().chain([self.bytes.len() as u64]);
        let between = |(start, end)| (start < end).then(|| ByteRange::between(start, end));
        starts.zip(ends).filter_map(between)
    }

    /// The first undecided atom of `range`; if `covers`, of those that it covers in part.
    pub fn undecided(&self, range: ByteRange, covers: bool, fate: &Fate) -> Option<Undecided> {
        if self.atoms.is_empty() || range.is_empty() {
            return None;
        }
        let start = ByteOffset(range.start()).align_down(self.atom).0;
        let matters = |(offset, atom): &(&u64, &Atom)| {
            let whole = self.atom_at(**offset);
            atom.undecided && !(covers && range.intersection(&whole) == whole)
        };
        let (offset, atom) = self.atoms.range(start..range.end()).find(matters)?;
        Some(Undecided {
            newest: u32::try_from(atom.versions.len() - 1).expect("versions-are-few"),
            permitted: {
                let permitted = self.permitted(*offset, &atom.versions, fate);
                permitted.into_iter().map(|(kept, _)| kept).collect()
            },
        })
    }

    fn permitted(&self, atom: u64, versions: &[Version], fate: &Fate) -> Vec<(Kept, Claim)> {
        let all = self.all(atom, versions).into_iter();
        let claims = all.map(|kept| (kept, self.claim(kept, versions, fate)));
        claims.filter(|(_, claim)| fate.permits(claim)).collect()
    }

    fn all(&self, atom: u64, versions: &[Version]) -> Vec<Kept> {
        let mut all: Vec<Kept> = Vec::new();
        for version in 0..u32::try_from(versions.len()).expect("versions-are-few") {
            let half = |over| Kept { atom, version, over: Some(over) };
            // What is one of the two whole ones claims more than that, and adds nothing.
            let is_new = |kept: &Kept| {
                let bytes = bytes_of(versions, *kept);
                let mut whole = [kept.over, Some(version)].into_iter().flatten();
                whole.all(|version| versions[version as usize].bytes != bytes)
            };
            if self.torn {
                all.extend(self.beneath(versions, version).map(half).filter(is_new));
            }
            all.push(Kept { atom, version, over: None });
        }
        all
    }

    /// The versions that a write may have found: the one before, if that was not undecided.
    fn beneath(&self, versions: &[Version], version: u32) -> core::ops::Range<u32> {
        let era =
            |version: u32| versions[version as usize].write.map(|write| self.writes[write].era);
        match version.checked_sub(1) {
            Some(before) if era(before) == era(version) => before..version,
            _ => 0..version,
        }
    }

    /// What it says about the power losses that this is what recovery finds.
    fn claim(&self, kept: Kept, versions: &[Version], fate: &Fate) -> Claim {
        let oldest = kept.over.unwrap_or(kept.version) as usize;
        let own = [kept.version as usize, oldest].map(|version| versions[version].write);
        let newer = versions[oldest + 1..].iter().filter_map(|version| version.write);
        let mut claim = Claim::default();
        for number in own.into_iter().flatten() {
            let effect = self.writes[number].effect;
            claim.happened.union_with(fate.before(effect));
            claim.happened.insert(effect as usize);
            if self.keeps_order() {
                let era = self.writes[number].era;
                let earlier = self.writes[..number].iter().filter(|write| write.era == era);
                earlier.for_each(|write| claim.kept.insert(write.effect as usize));
            }
        }
        let mut last_era = None;
        for number in newer {
            let Write { effect, era, ref promises, .. } = self.writes[number];
            claim.never.union_with(promises);
            if self.keeps_order() && last_era.replace(era) != Some(era) {
                // What is lost loses what is behind it, of its era.
                claim.lost.insert(effect as usize);
                let later = self.writes[number..].iter().filter(|write| write.era == era);
                later.for_each(|write| claim.never.union_with(&write.promises));
            }
        }
        claim
    }

    /// What all versions say that could be found.
    pub fn claims(&self, offset: u64, fate: &Fate) -> Claim {
        let mut claims = Claim::default();
        let versions = &self.atoms[&offset].versions;
        for kept in self.all(offset, versions) {
            claims.join(&self.claim(kept, versions, fate));
        }
        claims
    }

    /// This is what recovery finds.
    pub fn keep(&mut self, kept: Kept, fate: &mut Fate) {
        let Atom { versions, .. } = self.atoms.remove(&kept.atom).expect("the-atom-is-undecided");
        fate.pick(&self.claim(kept, &versions, fate));
        let bytes = bytes_of(&versions, kept);
        self.settle(self.atom_at(kept.atom), &bytes);
    }
}

/// The steps that promise that a write is durable.
fn promises(cache: Cache, flushes: &[Flush], write: &Write, fate: &Fate) -> Steps {
    let mut promises = Steps::default();
    let Some(completed) = write.completed.filter(|_| !write.dropped) else { return promises };
    // A flush covers the writes that completed before it was submitted, in every order of independent steps: if they
    // did so only in this order, there is an equivalent one in which they did not, and no less was acknowledged.
    let covers =
        |flush: &&Flush| flush.submitted != BEGINNING && fate.orders(completed, flush.submitted);
    let all: Vec<u32> = match cache {
        Cache::WriteThrough => Vec::from([completed]),
        Cache::Volatile | Cache::Ordered => {
            let flushes = flushes.iter().filter(covers).map(|flush| flush.completed);
            flushes.chain(write.fua.then_some(completed)).collect()
        }
        Cache::Lying => Vec::new(),
    };
    all.into_iter().for_each(|step| promises.insert(step as usize));
    promises
}

fn bytes_of(versions: &[Version], kept: Kept) -> Vec<u8> {
    let mut bytes = versions[kept.version as usize].bytes.clone();
    if let Some(over) = kept.over {
        let half = bytes.len() / 2;
        bytes[half..].copy_from_slice(&versions[over as usize].bytes[half..]);
    }
    bytes
}

/// Puts the part of `range` that a piece has over `bytes`, which are those of `range`.
pub(super) fn overlay((place, data): (ByteRange, &IoBuffer), range: ByteRange, bytes: &mut [u8]) {
    let common = place.intersection(&range);
    if common.is_empty() {
        return;
    }
    let to = (common.start() - range.start()) as usize;
    let from = (common.start() - place.start()) as usize;
    let len = common.len().as_usize();
    bytes[to..to + len].copy_from_slice(&data[from..from + len]);
}

/// The parts of `range` before and behind `hole`.
pub(super) fn outside(range: ByteRange, hole: ByteRange) -> impl Iterator<Item = ByteRange> {
    let before = ByteRange::between(range.start(), range.end().min(hole.start()));
    let after = ByteRange::between(range.start().max(hole.end()), range.end());
    [before, after].into_iter().filter(|part| !part.is_empty())
}

fn as_indices(range: ByteRange) -> core::ops::Range<usize> {
    range.start() as usize..range.end() as usize
}
