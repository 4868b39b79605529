//! The fault model: what a device promises, what we break, and why a layer above must live with it.
//!
//! A device promises what `Storage` says: a request takes effect once, between submission and completion; a read
//! returns what the effects before it left; a request that fails may have had any part of its effect; what completed
//! before a flush is durable once the flush has completed. Each family of faults breaks one of these sentences in a
//! way that disks, cables, firmware and kernels are known to:
//!
//! - `eio`: a request fails without effect, and the next one works: a cable, a reset, a path that is switched. So one
//!   error is no reason to give up a disk, and what failed must be tried again.
//! - `eio-late`: a write fails likewise, but it had its effect: what was lost is the answer. So an error says nothing
//!   about the bytes: what was not to be written may be there, and must be known to be.
//! - `sticky-eio`: a sector cannot be read until it is written anew (the drive then takes a spare one), or cannot be
//!   written at all (no spare is left; what was there can still be read). So retries must end, and a mirror must read
//!   from, or write to, the other side.
//! - `enospc`: a thinly provisioned device is full: every write to it fails with ENOSPC, reads work. Space comes back
//!   when somebody makes room, so a job may pause and must not give up data.
//!   Zeroes that make a disk longer take space too.
//! - `short` and `torn`: the power of the drive's head, or a reset, ends a write in the middle: a prefix of its
//!   sectors, or others of them, are new, the rest is old, and the write fails. So what failed is neither old nor new,
//!   and a write that was to make a disk longer may have done so, wholly or in part.
//! - `lost`: firmware says done and writes nothing (the head did not reach the track, the cache forgot a line). Only a
//!   checksum kept elsewhere, or another copy, can tell.
//! - `misdirected`: the right data go to the wrong address: the right place keeps its old bytes, and another place is
//!   overwritten, perhaps somebody else's; or a read brings another place's bytes. Checksums must cover the address.
//! - `bit-rot`: a bit on the medium turns over, and every read sees it until the place is rewritten. So copies must be
//!   compared while there is still a good one.
//! - `stuck`: a request never ends: a controller hangs, a network path is gone. It may have had its effect or not.
//!   Nobody may take its silence for an end, and draining has to wait until somebody switches the path.
//! - `flush`: a flush fails. What it covered may be kept for the next flush; or may be marked clean and dropped, as
//!   kernels have done, so that the next flush succeeds and the data are gone; or a part was written and the rest
//!   dropped. So a flush that succeeds after one that failed proves nothing: all must be written again.
//!
//! A cancelled request is no fault but a promise: whoever drops its future still has to live with its effect, later.
//!
//! Faults are *overlays* over pristine bytes. What a device that keeps its promises would hold is kept apart, and is
//! what observers see; what lasts of faults lies over it, is cut by the writes that mend it, and can be switched off
//! (`World::end_faults`, the event `calm`). So a checker knows the truth, and [`SimDisk::excuses`](super::SimDisk)
//! says whether a loss was our doing.
//!
//! A fault is one alternative of a request's effect or completion. It is offered while fewer were injected than the
//! budget says, and while of each group of copies ([`World::declare_copies`](crate::World::declare_copies)) one would
//! stay good. Both are questions about the *set* of faults injected so far, never about their order, and the answer
//! only ever turns to no: every order of the same steps gives the same answers, so that neither the budget nor the
//! copies are objects, and two requests' faults commute.
//!
//! Parameters (which sector, where to) come from small canonical sets: the first or last sector, the place before or
//! behind. They stand for the others, so that a search can be exhaustive.

use alloc::format;
use alloc::string::{String, ToString};

use blockyard_units::{ByteLen, ByteRange};
use serde::{Deserialize, Serialize};

use super::families::Family;
use crate::handle::Operation;

/// What goes wrong with a request. Offsets are bytes on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Fault {
    /// It fails with EIO and has no effect.
    Eio,
    /// A write that had its effect fails with EIO.
    EioLate,
    /// It fails with EIO, and so do later requests: reads of a range that was being read, until it is rewritten; writes
    /// to a range that was being written, until faults end.
    StickyEio,
    /// A write fails with ENOSPC, and so does every later one to the disk until faults end.
    Enospc,
    /// A write fails with EIO when the bytes before this offset have been written.
    Short(u64),
    /// A write fails with EIO when all of it but the sector at this offset has been written.
    Torn(u64),
    /// A write is said to be done, and nothing was written.
    Lost,
    /// A write goes to this offset instead, or a read comes from there; it is said to be done.
    Misdirected(u64),
    /// A bit of the byte at this offset turns over before the read, and stays so until it is rewritten.
    BitRot(u64),
    /// It takes effect and completes only when faults have ended.
    Stuck,
    /// It had its effect, and completes only when faults have ended.
    StuckLate,
    /// A flush fails with EIO and has no effect: what it covers is kept for the next one.
    FlushKept,
    /// A flush fails with EIO, and what it covers is lost: the bytes are again those that were durable.
    FlushDropped,
    /// A flush fails with EIO; of what it covers the write behind all others is lost, and the rest is durable.
    FlushPartly,
}

impl Fault {
    /// The family that it belongs to.
    pub fn family(self) -> Family {
        match self {
            Self::Eio => Family::Eio,
            Self::EioLate => Family::EioLate,
            Self::StickyEio => Family::StickyEio,
            Self::Enospc => Family::Enospc,
            Self::Short(_) => Family::Short,
            Self::Torn(_) => Family::Torn,
            Self::Lost => Family::Lost,
            Self::Misdirected(_) => Family::Misdirected,
            Self::BitRot(_) => Family::BitRot,
            Self::Stuck | Self::StuckLate => Family::Stuck,
            Self::FlushKept | Self::FlushDropped | Self::FlushPartly => Family::Flush,
        }
    }

    /// Whether it comes after the effect, in the place of the completion.
    pub(crate) fn is_late(self) -> bool {
        matches!(self, Self::EioLate | Self::StuckLate)
    }

    /// The fault that hits before the effect instead of after it.
    pub(crate) fn earlier(self) -> Option<Self> {
        match self {
            Self::EioLate => Some(Self::Eio),
            Self::StuckLate => Some(Self::Stuck),
            _ => None,
        }
    }

    /// For the run's hash: a number of its own.
    pub(crate) fn number(self) -> u64 {
        let far = |kind: u64, offset: u64| 1 << 63 | kind << 56 | offset;
        match self {
            Self::Eio => 3,
            Self::EioLate => 6,
            Self::StickyEio => far(0, 0),
            Self::Enospc => far(0, 1),
            Self::Lost => far(0, 2),
            Self::Stuck => far(0, 3),
            Self::StuckLate => far(0, 4),
            Self::FlushKept => far(0, 5),
            Self::FlushDropped => far(0, 6),
            Self::FlushPartly => far(0, 7),
            Self::Short(offset) => far(1, offset),
            Self::Torn(offset) => far(2, offset),
            Self::Misdirected(offset) => far(3, offset),
            Self::BitRot(offset) => far(4, offset),
        }
    }

    /// A tape's verb, and what stands behind the operation.
    pub(crate) fn words(self) -> (&'static str, String) {
        match self {
            Self::Eio => ("fail", String::new()),
            Self::EioLate => ("fail-late", String::new()),
            Self::StickyEio => ("fail", " for good".to_string()),
            Self::Enospc => ("fail", " ENOSPC".to_string()),
            Self::Short(offset) => ("cut", format!(" at {offset}")),
            Self::Torn(offset) => ("tear", format!(" at {offset}")),
            Self::Lost => ("lose", String::new()),
            Self::Misdirected(offset) => ("misdirect", format!(" to {offset}")),
            Self::BitRot(offset) => ("rot", format!(" at {offset}")),
            Self::Stuck => ("stall", String::new()),
            Self::StuckLate => ("stall-late", String::new()),
            Self::FlushKept => ("fail", " kept".to_string()),
            Self::FlushDropped => ("fail", " dropped".to_string()),
            Self::FlushPartly => ("fail", " dropped in part".to_string()),
        }
    }

    /// The bytes that it concerns: those of the request, and those that come in by mistake. A flush concerns all.
    pub(crate) fn hits(self, operation: &Operation) -> [ByteRange; 2] {
        let other = match (self, operation) {
            (Self::Misdirected(offset), Operation::Write { data, .. }) => {
                ByteRange::new(offset, data.len() as u64)
            }
            _ => ByteRange::new(0, 0),
        };
        match operation {
            Operation::Flush { .. } => [ByteRange::new(0, u64::MAX), other],
            _ => [operation.range(), other],
        }
    }

    /// Whether the medium no longer holds, or will no longer take, what it should where this fault hits.
    pub(crate) fn damages(self, operation: &Operation) -> bool {
        match self {
            Self::Misdirected(_) => matches!(operation, Operation::Write { .. }),
            Self::StickyEio | Self::Short(_) | Self::Torn(_) | Self::Lost | Self::BitRot(_) => true,
            Self::FlushDropped | Self::FlushPartly => true,
            _ => false,
        }
    }

    /// Whether such a loss may follow where it hit.
    pub(crate) fn explains(self, loss: Loss) -> bool {
        match loss {
            Loss::Hang => self.family() == Family::Stuck,
            Loss::WrongBytes => !matches!(self, Self::Stuck | Self::StuckLate | Self::FlushKept),
            Loss::Error => !matches!(
                self,
                Self::Stuck
                    | Self::StuckLate
                    | Self::Lost
                    | Self::Misdirected(_)
                    | Self::BitRot(_)
                    | Self::FlushDropped
                    | Self::FlushPartly
            ),
        }
    }
}

/// What a checker finds amiss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A request failed.
    Error,
    /// Bytes are not those of the last write that was said to be done.
    WrongBytes,
    /// A request did not end.
    Hang,
}

/// The faults of `family` that a request may meet before its effect, in order.
pub(crate) fn before_effect(
    family: Family,
    operation: &Operation,
    (sector, disk): (ByteLen, ByteLen),
    offer: &mut dyn FnMut(Fault),
) {
    let range = operation.range();
    if let Operation::Flush { covers } = operation {
        match family {
            Family::Stuck => offer(Fault::Stuck),
            Family::Flush => {
                offer(Fault::FlushKept);
                if *covers > 0 {
                    offer(Fault::FlushDropped);
                }
                if *covers > 1 {
                    offer(Fault::FlushPartly);
                }
            }
            _ => {}
        }
        return;
    }
    if matches!(operation, Operation::Truncate { .. }) {
        // Without an effect; the other families are about bytes.
        match family {
            Family::Eio => offer(Fault::Eio),
            Family::Enospc if operation.is_growing_zeroes() => offer(Fault::Enospc),
            Family::Stuck => offer(Fault::Stuck),
            _ => {}
        }
        return;
    }
    let is_write = matches!(operation, Operation::Write { .. });
    let sectors = range.align_outward(sector);
    let several = sectors.len() > sector;
    // Where the sectors of the request end, apart from its own end.
    let first_end = sectors.start() + sector.0;
    let last_start = sectors.end().saturating_sub(sector.0);
    match family {
        Family::Eio => offer(Fault::Eio),
        _ if range.is_empty() => {}
        Family::StickyEio => offer(Fault::StickyEio),
        Family::Enospc if is_write => offer(Fault::Enospc),
        Family::Short if is_write && several => {
            offer(Fault::Short(first_end));
            if last_start > first_end {
                offer(Fault::Short(last_start));
            }
        }
        Family::Torn if is_write && several => {
            offer(Fault::Torn(sectors.start()));
            if last_start > first_end {
                offer(Fault::Torn(first_end));
            }
        }
        Family::Lost if is_write => offer(Fault::Lost),
        Family::Misdirected => {
            if let Some(before) = range.start().checked_sub(sectors.len().0) {
                offer(Fault::Misdirected(before));
            }
            if range.end() + sectors.len().0 <= disk.0 {
                offer(Fault::Misdirected(range.start() + sectors.len().0));
            }
        }
        Family::BitRot if !is_write => {
            offer(Fault::BitRot(range.start()));
            if several {
                offer(Fault::BitRot(last_start));
            }
        }
        Family::Stuck => offer(Fault::Stuck),
        _ => {}
    }
}

/// The faults of `family` that a request may meet at its completion; `well`: it had its effect.
pub(crate) fn at_completion(
    family: Family,
    operation: &Operation,
    well: bool,
    offer: &mut dyn FnMut(Fault),
) {
    let is_write = matches!(operation, Operation::Write { .. });
    match family {
        Family::EioLate if well && (is_write || operation.is_growing_zeroes()) => {
            offer(Fault::EioLate);
        }
        Family::Stuck => offer(Fault::StuckLate),
        _ => {}
    }
}
