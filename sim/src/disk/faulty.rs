//! What a request does to a disk when it goes wrong.

use alloc::vec::Vec;

use blockyard_runtime::{Io, IoBuffer, IoErrorKind, Storage};
use blockyard_sync::door::{self, Kind};
use blockyard_units::{ByteLen, ByteRange};

use super::faults::{Fault, Loss};
use super::{Author, Fate, Medium, SimDisk};
use crate::footprint;
use crate::handle::Operation;

impl SimDisk {
    /// The request's effect with a fault: what its submitter will learn.
    pub(crate) fn take_faulty_effect(
        &self,
        operation: &Operation,
        fault: Fault,
        by: Author,
        fate: &mut Fate,
    ) -> Io<IoBuffer> {
        self.note(operation, fault);
        match operation {
            Operation::Read(range) => self.read_badly(*range, fault, fate),
            Operation::Write { .. } => self.write_badly(operation, fault, by),
            Operation::Flush { covers } => self.flush_badly(*covers, fault),
            Operation::Truncate { .. } if fault == Fault::Enospc => self.fill(),
            Operation::Truncate { .. } => Err(IoErrorKind::Io),
        }
    }

    /// Remembers that a fault was injected.
    pub(crate) fn note(&self, operation: &Operation, fault: Fault) {
        self.medium.with(|medium| {
            let hits = || fault.hits(operation).into_iter().filter(|range| !range.is_empty());
            medium.overlays.note(fault, hits());
            if fault.damages(operation) {
                medium.overlays.note_damage(hits());
            }
        });
    }

    fn read_badly(&self, range: ByteRange, fault: Fault, fate: &mut Fate) -> Io<IoBuffer> {
        match fault {
            Fault::StickyEio => {
                door::enter(self.bytes(Kind::Write, range));
                self.medium.with(|medium| medium.overlays.forbid_reading(range));
                Err(IoErrorKind::Io)
            }
            Fault::Misdirected(offset) => {
                let other = ByteRange::new(offset, range.len().0);
                // Of what a power loss may have left there the oldest stands for all: no more choices for a fault.
                while let Some(undecided) = self.undecided_in(other, false, fate) {
                    self.keep(undecided.permitted[0], fate);
                }
                door::enter(self.bytes(Kind::Read, other));
                self.medium.with(|medium| medium.read(other))
            }
            Fault::BitRot(offset) => {
                let rotten = ByteRange::new(offset, 1);
                door::enter(self.bytes(Kind::Read, range));
                door::enter(self.bytes(Kind::Write, rotten));
                self.medium.with(|medium| {
                    let mut byte = medium.held(rotten);
                    byte[0] ^= 0x80;
                    medium.overlays.cover(rotten, byte.into());
                    medium.read(range)
                })
            }
            _ => Err(IoErrorKind::Io),
        }
    }

    fn write_badly(&self, operation: &Operation, fault: Fault, by: Author) -> Io<IoBuffer> {
        let Operation::Write { offset, data, fua } = operation else {
            unreachable!("only-writes-are-written")
        };
        let range = operation.range();
        match fault {
            Fault::Eio => return Err(IoErrorKind::Io),
            Fault::StickyEio => {
                door::enter(self.bytes(Kind::Write, range));
                self.medium.with(|medium| medium.overlays.forbid_writing(range));
                return Err(IoErrorKind::Io);
            }
            Fault::Enospc => return self.fill(),
            _ => {}
        }
        self.enter_space();
        self.enter_write(range);
        self.enter_growth(range);
        if let Fault::Misdirected(offset) = fault {
            door::enter(self.bytes(Kind::Write, ByteRange::new(offset, range.len().0)));
        }
        self.medium.with(|medium| {
            medium.overlays.may_write(range)?;
            match fault {
                Fault::Short(end) => {
                    let part = ByteRange::between(*offset, end);
                    medium.write_part((range, data), part, by, *fua);
                    medium.grow(part.end());
                    Err(IoErrorKind::Io)
                }
                Fault::Torn(hole) => {
                    let hole = ByteRange::new(hole, self.sector.0);
                    for part in super::versions::outside(range, hole) {
                        medium.write_part((range, data), part, by, *fua);
                        medium.grow(part.end());
                    }
                    Err(IoErrorKind::Io)
                }
                _ => {
                    let held = medium.held(range).into();
                    medium.write_part((range, data), range, by, *fua);
                    // How long a file is, is not among what is lost.
                    medium.grow(range.end());
                    medium.overlays.cover(range, held);
                    if let Fault::Misdirected(offset) = fault {
                        medium.overlays.cover(ByteRange::new(offset, range.len().0), data.clone());
                    }
                    Ok(IoBuffer::default())
                }
            }
        })
    }

    fn fill(&self) -> Io<IoBuffer> {
        door::enter(footprint::space(self.number, Kind::Write));
        self.medium.with(|medium| medium.overlays.fill());
        Err(IoErrorKind::NoSpace)
    }

    fn flush_badly(&self, covers: u64, fault: Fault) -> Io<IoBuffer> {
        if fault == Fault::FlushKept {
            return Err(IoErrorKind::Io);
        }
        self.enter_durability(Kind::Write);
        self.medium.with(|medium| {
            let mut dirty = medium.versions.dirty(covers);
            // Also where later writes lie over what is dropped: that they do was looked at.
            for (range, _) in &dirty {
                door::enter(self.bytes(Kind::Write, medium.versions.atoms_of(*range)));
            }
            if fault == Fault::FlushPartly {
                // By address, as the order in which writes complete is nobody's business; of one place the last.
                dirty.sort_by_key(|(range, _)| range.start());
                dirty.drain(..dirty.len().saturating_sub(1));
            }
            let dropped: Vec<usize> = dirty.into_iter().map(|(_, write)| write).collect();
            medium.versions.drop_dirty(&dropped);
            medium.versions.flush(covers);
            for (range, durable) in medium.versions.undone(&dropped) {
                medium.overlays.cover(range, durable);
            }
        });
        Err(IoErrorKind::Io)
    }

    /// A write looks whether there is space. Without the family nobody changes that.
    pub(super) fn enter_space(&self) {
        if self.handle.mailbox.with(|mailbox| mailbox.may_fill) {
            door::enter(footprint::space(self.number, Kind::Read));
        }
    }

    /// What lasts of faults is over; what was injected is not forgotten.
    pub(crate) fn end_faults(&self) {
        self.medium.with(|medium| medium.overlays.end());
    }

    /// Whether it ever held, or will take, less than it should because of a fault.
    pub fn is_damaged(&self) -> bool {
        self.damaged(|damaged| !damaged.is_empty())
    }

    /// What was ever damaged.
    pub(super) fn damaged<R>(&self, look: impl FnOnce(&[ByteRange]) -> R) -> R {
        self.medium.with(|medium| look(medium.overlays.damaged()))
    }

    /// Whether such a loss in `range` (bytes) is our doing: a fault that explains it was injected there since the
    /// beginning of the run, whether or not it has been mended. For judging the end of a run: within one, only faults
    /// that leave something on the medium are ordered with the caller's step.
    ///
    /// A checker that finds a loss which is not excused has found a bug.
    pub fn excuses(&self, range: ByteRange, loss: Loss) -> bool {
        door::enter(self.bytes(Kind::Read, range));
        self.medium.with(|medium| medium.overlays.excuses(range, loss))
    }

    /// What a read would bring now, for observers: the bytes with the damage that is in force. Reads the whole disk
    /// through the door.
    pub fn observe_medium<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        let whole = ByteRange::new(0, self.len().0);
        door::enter(self.bytes(Kind::Read, whole));
        self.medium.with(|medium| look(&medium.held(whole)))
    }
}

impl Medium {
    /// The bytes of `range`, if they can be read.
    pub(super) fn read(&self, range: ByteRange) -> Io<IoBuffer> {
        self.overlays.may_read(range)?;
        Ok(self.held(range).into())
    }

    /// The bytes that the medium holds in `range`, damage included.
    fn held(&self, range: ByteRange) -> Vec<u8> {
        let mut bytes = self.versions.read(range);
        self.overlays.show(range, &mut bytes);
        bytes
    }

    /// It is as long as a write that ends there makes it.
    pub(super) fn grow(&mut self, end: u64) {
        self.len = self.len.max(ByteLen(end));
    }

    /// Writes the bytes of `part`, which is inside `range`, where `data` belongs.
    pub(super) fn write_part(
        &mut self,
        (range, data): (ByteRange, &IoBuffer),
        part: ByteRange,
        by: Author,
        fua: bool,
    ) {
        let from = (part.start() - range.start()) as usize;
        let data = data.slice(from..from + part.len().as_usize());
        self.versions.write(part.start(), &data, by, fua);
        self.overlays.mend(part);
    }
}
