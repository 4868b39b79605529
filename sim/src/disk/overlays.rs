//! What lasts of faults, over the bytes that a device without them would hold.

use alloc::vec::Vec;

use blockyard_runtime::{Io, IoBuffer, IoErrorKind};
use blockyard_units::ByteRange;

use super::faults::{Fault, Loss};
use super::versions::{outside, overlay};

/// The overlays of a disk, and which faults were injected.
#[derive(Default)]
pub(super) struct Overlays {
    /// Reads that touch these fail.
    unreadable: Vec<ByteRange>,
    /// Writes that touch these fail.
    unwritable: Vec<ByteRange>,
    full: bool,
    /// What the medium holds instead, later ones over earlier ones.
    instead: Vec<(ByteRange, IoBuffer)>,
    /// What was injected since the beginning, and where: not forgotten when it is mended.
    injected: Vec<(Fault, ByteRange)>,
    damaged: Vec<ByteRange>,
}

impl Overlays {
    pub fn reset(&mut self) {
        self.end();
        self.injected.clear();
        self.damaged.clear();
    }

    /// The medium holds and does what it should.
    pub fn end(&mut self) {
        self.unreadable.clear();
        self.unwritable.clear();
        self.instead.clear();
        self.full = false;
    }

    pub fn may_read(&self, range: ByteRange) -> Io<()> {
        let fails = self.unreadable.iter().any(|bad| bad.overlaps(&range));
        if fails { Err(IoErrorKind::Io) } else { Ok(()) }
    }

    pub fn may_write(&self, range: ByteRange) -> Io<()> {
        if self.full {
            return Err(IoErrorKind::NoSpace);
        }
        let fails = self.unwritable.iter().any(|bad| bad.overlaps(&range));
        if fails { Err(IoErrorKind::Io) } else { Ok(()) }
    }

    /// Puts what the medium holds over `bytes`, which are those of `range`.
    pub fn show(&self, range: ByteRange, bytes: &mut [u8]) {
        self.instead.iter().for_each(|(place, held)| overlay((*place, held), range, bytes));
    }

    /// `range` was written: what is wrong there is mended.
    pub fn mend(&mut self, range: ByteRange) {
        if !self.unreadable.is_empty() {
            let left = self.unreadable.drain(..).flat_map(|bad| outside(bad, range));
            self.unreadable = left.collect();
        }
        if self.instead.iter().any(|(place, _)| place.overlaps(&range)) {
            let left = self.instead.drain(..).flat_map(|(place, held)| {
                outside(place, range).map(move |part| {
                    let from = (part.start() - place.start()) as usize;
                    (part, held.slice(from..from + part.len().as_usize()))
                })
            });
            self.instead = left.collect();
        }
    }

    /// From now on the medium holds these bytes in `range`.
    pub fn cover(&mut self, range: ByteRange, held: IoBuffer) {
        self.instead.push((range, held));
    }

    pub fn forbid_reading(&mut self, range: ByteRange) {
        self.unreadable.push(range);
    }

    pub fn forbid_writing(&mut self, range: ByteRange) {
        self.unwritable.push(range);
    }

    pub fn fill(&mut self) {
        self.full = true;
    }

    pub fn note(&mut self, fault: Fault, hits: impl Iterator<Item = ByteRange>) {
        self.injected.extend(hits.map(|range| (fault, range)));
    }

    pub fn note_damage(&mut self, hits: impl Iterator<Item = ByteRange>) {
        self.damaged.extend(hits);
    }

    /// What was ever damaged.
    pub fn damaged(&self) -> &[ByteRange] {
        &self.damaged
    }

    pub fn excuses(&self, range: ByteRange, loss: Loss) -> bool {
        let here = |(fault, place): &(Fault, ByteRange)| {
            (place.overlaps(&range) || *place == range) && fault.explains(loss)
        };
        self.injected.iter().any(here)
    }
}
