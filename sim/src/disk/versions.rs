//! The bytes of a disk, with every version that a power loss could leave.

use alloc::vec::Vec;

use blockyard_runtime::IoBuffer;
use blockyard_units::{ByteLen, ByteRange};

use super::DiskImage;

/// Picks which version an atom keeps: (disk, atom's offset, how many versions are permitted, oldest first).
pub type PowerLoss<'a> = dyn FnMut(&str, u64, usize) -> usize + 'a;

/// A write that took effect and is not known to be durable.
struct Version {
    request: u64,
    /// The how-manieth completed write of the disk it was, once it completed.
    completed: Option<u64>,
    range: ByteRange,
    data: IoBuffer,
}

pub(super) struct Versions {
    image: IoBuffer,
    atom: ByteLen,
    /// Durable bytes if versions are tracked, else all of them.
    base: Vec<u8>,
    touched: Vec<ByteRange>,
    log: Vec<Version>,
    track: bool,
}

impl Versions {
    pub fn new(image: &DiskImage) -> Self {
        Self {
            image: image.bytes.clone(),
            atom: image.atom,
            base: image.bytes.to_vec(),
            touched: Vec::new(),
            log: Vec::new(),
            track: false,
        }
    }

    pub fn reset(&mut self, track: bool) {
        for range in self.touched.drain(..) {
            let range = as_indices(range);
            self.base[range.clone()].copy_from_slice(&self.image[range]);
        }
        self.log.clear();
        self.track = track;
    }

    pub fn read(&self, range: ByteRange) -> Vec<u8> {
        let mut bytes = self.base[as_indices(range)].to_vec();
        for version in &self.log {
            version.overlay(range, &mut bytes);
        }
        bytes
    }

    pub fn look<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        if self.log.is_empty() {
            return look(&self.base);
        }
        look(&self.read(ByteRange::new(0, self.base.len() as u64)))
    }

    pub fn write(&mut self, offset: u64, data: &IoBuffer, request: u64) {
        let range = ByteRange::new(offset, data.len() as u64);
        if self.track {
            self.log.push(Version { request, completed: None, range, data: data.clone() });
        } else {
            self.settle(range, data);
        }
    }

    /// A write completed as the disk's `order`-th.
    pub fn completed(&mut self, request: u64, order: u64, fua: bool) {
        for version in self.log.iter_mut().filter(|version| version.request == request) {
            version.completed = Some(order);
        }
        if fua {
            self.make_durable(|version| version.request == request);
        }
    }

    /// Every write among the first `covers` completed ones is durable.
    pub fn flush(&mut self, covers: u64) {
        self.flush_without(covers, &[]);
    }

    /// Which requests wrote what a flush of the first `covers` completed ones makes durable, and where.
    pub fn dirty(&self, covers: u64) -> Vec<(ByteRange, u64)> {
        let covered = |version: &&Version| version.is_covered(covers);
        self.log.iter().filter(covered).map(|version| (version.range, version.request)).collect()
    }

    /// Like a flush, but what `requests` wrote stays as it is.
    pub fn flush_without(&mut self, covers: u64, requests: &[u64]) {
        self.make_durable(|version| {
            version.is_covered(covers) && !requests.contains(&version.request)
        });
    }

    /// The bytes of these requests that nothing lies over, and what is durable there.
    pub fn undone(&self, requests: &[u64]) -> Vec<(ByteRange, IoBuffer)> {
        let picked = |version: &Version| requests.contains(&version.request);
        let mut undone = Vec::new();
        for (index, version) in self.log.iter().enumerate().filter(|(_, version)| picked(version)) {
            let mut shown = Vec::from([version.range]);
            for later in self.log[index + 1..].iter().filter(|later| !picked(later)) {
                shown = shown.into_iter().flat_map(|part| outside(part, later.range)).collect();
            }
            let durable = |part: ByteRange| (part, self.base[as_indices(part)].to_vec().into());
            undone.extend(shown.into_iter().map(durable));
        }
        undone
    }

    /// The versions picked become the oldest that a power loss can leave: their atoms go into the base with what lies
    /// beneath them, since an atom is written whole.
    fn make_durable(&mut self, picked: impl Fn(&Version) -> bool) {
        while let Some(index) = self.log.iter().position(&picked) {
            let version = self.log.remove(index);
            if version.range.is_empty() {
                continue;
            }
            let disk = ByteRange::new(0, self.base.len() as u64);
            let atoms = version.range.align_outward(self.atom).intersection(&disk);
            let mut bytes = self.base[as_indices(atoms)].to_vec();
            let beneath: Vec<Version> = self.log.drain(..index).collect();
            beneath.iter().chain([&version]).for_each(|version| version.overlay(atoms, &mut bytes));
            let rest = beneath.into_iter().flat_map(|older| older.without(atoms));
            let rest: Vec<Version> = rest.collect();
            self.log.splice(0..0, rest);
            self.settle(atoms, &bytes);
        }
    }

    fn settle(&mut self, range: ByteRange, data: &[u8]) {
        self.base[as_indices(range)].copy_from_slice(data);
        self.touched.push(range);
    }

    pub fn lose_power(&mut self, name: &str, fate: &mut PowerLoss<'_>) {
        let log = core::mem::take(&mut self.log);
        let mut offset = 0;
        while offset < self.base.len() as u64 {
            let end = (offset + self.atom.0).min(self.base.len() as u64);
            let atom = ByteRange::between(offset, end);
            let versions: Vec<_> = log.iter().filter(|v| v.range.overlaps(&atom)).collect();
            if !versions.is_empty() {
                // Keeping version n of an atom keeps what the earlier ones left of it.
                let kept = fate(name, offset, versions.len() + 1);
                let mut bytes = self.base[as_indices(atom)].to_vec();
                versions[..kept].iter().for_each(|version| version.overlay(atom, &mut bytes));
                self.settle(atom, &bytes);
            }
            offset = end;
        }
    }
}

impl Version {
    fn is_covered(&self, covers: u64) -> bool {
        self.completed.is_some_and(|order| order <= covers)
    }

    /// Puts its part of `range` over `bytes`, which are those of `range`.
    fn overlay(&self, range: ByteRange, bytes: &mut [u8]) {
        overlay((self.range, &self.data), range, bytes);
    }

    /// What is left of it outside `range`.
    fn without(self, range: ByteRange) -> Vec<Version> {
        let part = |part: ByteRange| {
            let from = (part.start() - self.range.start()) as usize;
            let data = self.data.slice(from..from + part.len().as_usize());
            Version { request: self.request, completed: self.completed, range: part, data }
        };
        outside(self.range, range).map(part).collect()
    }
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
