//! A simulated disk: what a device promises, what we break, and why the layer must survive it.
//!
//! Promises: a request takes effect once, at some moment between its submission and its completion, in any order
//! with other requests in flight; a read returns what the effects before it left. A write that completed may live in
//! a volatile cache: it is durable once a flush that was submitted after its completion has completed, or at its own
//! completion with FUA.
//!
//! Broken on demand: requests go wrong, as `faults` tells.
//!
//! Power is lost: the tasks are gone, and each atom (an aligned atomic unit) keeps any of its versions that no
//! completed flush or FUA write forbids, so that a write in flight may leave any subset of its atoms. Drives cache
//! writes and destage them in an order of their own, sector by sector; what they promise is the flush. A layer that
//! loses acknowledged and flushed data then, or cannot open what it finds, has a bug. How far a device goes is the
//! disk's [`Cache`], and tearing inside an atom is a flag of its own: drives with capacitors write through; controllers
//! with a log destage in order; cheap drives and hosts with unsafe settings lie about flushes, and there a layer can
//! keep its metadata's checksums honest, but promises nothing.
//!
//! Neither the moment of a power loss nor what it left is decided before somebody looks: when a request of recovery
//! needs an atom with several versions, the one it kept is a choice of that request, made before its effect (`keep src
//! 512 version 1 of 3`; 0 is the durable one). A write of whole atoms decides nothing. So states that recovery cannot
//! tell apart are one; `fate` has the rules, and why they leave nothing out.
//!
//! Invariants: `bytes-are-the-promise`: what a disk should hold is kept apart from the damage that faults do.
//! `damage-is-an-overlay`: what a read sees is that, overlaid with what lasts of faults. `looked-at-is-decided`: what a
//! request reads, or writes in part, is no longer undecided.

mod copies;
mod families;
mod fate;
mod faults;
mod faulty;
mod losses;
mod overlays;
mod versions;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_runtime::{Access, BoxFuture, Io, IoBuffer, IoErrorKind, Storage};
use blockyard_sync::Shared;
use blockyard_sync::door::world::Quiet;
use blockyard_sync::door::{self, Kind};
use blockyard_units::{ByteLen, ByteRange};

use crate::event::Kept;
use crate::footprint;
use crate::handle::{Operation, Post, SimHandle};
use crate::time::Latency;
pub(crate) use copies::Copies;
pub use families::{Families, Family};
pub use fate::Cut;
pub(crate) use fate::Fate;
pub use faults::{Fault, Loss};
pub(crate) use faults::{at_completion, before_effect};
pub use losses::{Left, PowerLosses};
use overlays::Overlays;
pub(crate) use versions::Author;
pub(crate) use versions::Undecided;
use versions::Versions;

/// What a disk makes of writes until they are durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cache {
    /// A completed write is durable.
    WriteThrough,
    /// A completed flush makes durable what had completed before it was submitted; FUA makes durable its own write.
    #[default]
    Volatile,
    /// The same, and writes become durable in the order in which they took effect: whoever finds one finds all earlier
    /// ones of the disk.
    Ordered,
    /// Flush and FUA promise nothing.
    Lying,
}

impl Cache {
    /// Every one.
    pub const ALL: &'static [Self] =
        &[Self::WriteThrough, Self::Volatile, Self::Ordered, Self::Lying];

    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::WriteThrough => "write-through",
            Self::Volatile => "volatile-cache",
            Self::Ordered => "ordered",
            Self::Lying => "lying-cache",
        }
    }
}

/// A disk as every execution finds it.
#[derive(Clone)]
pub struct DiskImage {
    /// Its name, unique in the world.
    pub name: String,
    /// Its bytes.
    pub bytes: IoBuffer,
    /// How long it can become; not less than it is. If it can become longer, it is a file: writes behind its end make
    /// it longer, and it can be truncated. A change of length is durable as soon as it has had its effect.
    pub capacity: ByteLen,
    /// Bytes, a power of two: what is not aligned to it is refused, but for the end of the disk.
    pub alignment: u32,
    /// The unit that is written whole or not at all at a power loss: 512 or 4096 bytes.
    pub atom: ByteLen,
    /// What a power loss may take.
    pub cache: Cache,
    /// An atom of a write that is not durable may keep the write's first half only.
    pub torn: bool,
    /// How long it takes, in timed runs.
    pub latency: Latency,
}

impl DiskImage {
    /// A disk of atoms of 512 bytes behind a volatile cache.
    pub fn new(name: &str, bytes: impl Into<IoBuffer>) -> Self {
        let (name, bytes) = (name.into(), bytes.into());
        let (capacity, atom) = (ByteLen(bytes.len() as u64), ByteLen(512));
        let (cache, latency) = (Cache::default(), Latency::default());
        Self { name, bytes, capacity, alignment: 1, atom, cache, torn: false, latency }
    }
}

/// A disk of a simulated world. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    pub(crate) number: u32,
    name: Arc<str>,
    capacity: ByteLen,
    /// As it was found, and whether it can change.
    image_len: ByteLen,
    resizable: bool,
    alignment: u32,
    /// The unit that faults and power losses leave whole.
    sector: ByteLen,
    medium: Arc<Quiet<Medium>>,
    handle: SimHandle,
}

struct Medium {
    versions: Versions,
    overlays: Overlays,
    /// Behind it all bytes are zeroes.
    len: ByteLen,
}

/// Where the footprint of a disk's length lies; disks are shorter.
const LEN: u64 = 1 << 62;

impl SimDisk {
    pub(crate) fn new(number: u32, image: &DiskImage, handle: SimHandle) -> Self {
        let image_len = ByteLen(image.bytes.len() as u64);
        assert!(image.capacity >= image_len, "capacity-holds-the-image: {}", image.name);
        Self {
            number,
            name: image.name.as_str().into(),
            capacity: image.capacity,
            image_len,
            resizable: image.capacity > image_len,
            alignment: image.alignment,
            sector: image.atom,
            medium: Arc::new(Quiet::new(Medium {
                versions: Versions::new(image),
                overlays: Overlays::default(),
                len: image_len,
            })),
            handle,
        }
    }

    /// Back to its image. `track`: keep versions apart, for power losses.
    pub(crate) fn reset(&self, track: bool) {
        self.medium.with(|medium| {
            medium.versions.reset(track);
            medium.overlays.reset();
            medium.len = self.image_len;
        });
    }

    /// The atom whose fate has to be decided next before the request can have its effect. `beneath`: what a write will
    /// lie over matters too.
    pub(crate) fn undecided(
        &self,
        operation: &Operation,
        beneath: bool,
        fate: &Fate,
    ) -> Option<Undecided> {
        let covers = matches!(operation, Operation::Write { .. }) && !beneath;
        self.undecided_in(operation.range(), covers, fate)
    }

    fn undecided_in(&self, range: ByteRange, covers: bool, fate: &Fate) -> Option<Undecided> {
        self.medium.with(|medium| medium.versions.undecided(range, covers, fate))
    }

    /// This is what an undecided atom kept through the power loss.
    pub(crate) fn keep(&self, kept: Kept, fate: &mut Fate) {
        let atom = self.medium.with(|medium| medium.versions.atom_at(kept.atom));
        door::enter(self.bytes(Kind::Write, atom));
        self.enter_fate(Kind::Write, kept.atom, fate);
        self.medium.with(|medium| medium.versions.keep(kept, fate));
    }

    /// What an atom keeps that no constraint links to another is nobody else's business.
    fn enter_fate(&self, kind: Kind, atom: u64, fate: &Fate) {
        if self.medium.with(|medium| fate.is_linked(&medium.versions.claims(atom, fate))) {
            door::enter(footprint::fate(kind));
        }
    }

    /// Decides what the request needs and the other choices left only one version of, which is no choice.
    pub(crate) fn settle(&self, operation: &Operation, beneath: bool, fate: &mut Fate) {
        while let Some(Undecided { permitted, .. }) = self.undecided(operation, beneath, fate) {
            self.enter_fate(Kind::Read, permitted[0].atom, fate);
            self.medium.with(|medium| medium.versions.keep(permitted[0], fate));
        }
    }

    /// The request's effect: what its submitter will learn.
    pub(crate) fn take_effect(&self, operation: &Operation, by: Author) -> Io<IoBuffer> {
        match operation {
            Operation::Read(range) => {
                door::enter(self.bytes(Kind::Read, *range));
                self.medium.with(|medium| medium.read(*range))
            }
            Operation::Write { data, fua, .. } => {
                let range = operation.range();
                self.enter_space();
                self.enter_write(range);
                self.enter_growth(range);
                self.medium.with(|medium| {
                    medium.overlays.may_write(range)?;
                    medium.write_part((range, data), range, by, *fua);
                    medium.grow(range.end());
                    Ok(IoBuffer::default())
                })
            }
            Operation::Truncate { from, len, .. } => {
                if operation.is_growing_zeroes() {
                    self.enter_space();
                    let added = ByteRange::between(*from, len.0);
                    self.medium.with(|medium| medium.overlays.may_write(added))?;
                }
                self.enter_len(Kind::Write);
                let old = self.medium.with(|medium| medium.len);
                let cut = ByteRange::between(*from, old.0);
                // Nobody reads behind the end, so that growing changes no bytes.
                self.enter_write(cut);
                self.medium.with(|medium| {
                    let zeroes = IoBuffer::zeroes(cut.len().as_usize());
                    if !cut.is_empty() {
                        medium.write_part((cut, &zeroes), cut, by, false);
                    }
                    medium.len = *len;
                });
                Ok(IoBuffer::default())
            }
            Operation::Flush { covers } => {
                self.enter_durability(Kind::Write);
                self.medium.with(|medium| medium.versions.flush(*covers));
                Ok(IoBuffer::default())
            }
        }
    }

    fn enter_write(&self, range: ByteRange) {
        let (ordered, atoms) = self.medium.with(|medium| {
            let Medium { versions, .. } = medium;
            // Versions are of whole atoms: their order is that of the writes to any part.
            let atoms = if versions.tracks() { versions.atoms_of(range) } else { range };
            (versions.tracks() && versions.keeps_order(), atoms)
        });
        door::enter(self.bytes(Kind::Write, atoms));
        if ordered {
            door::enter(footprint::order(self.number));
        }
    }

    /// Behind what is its end until now.
    fn enter_growth(&self, range: ByteRange) {
        let grows = range.end() > self.medium.with(|medium| medium.len.0);
        self.enter_len(if grows { Kind::Write } else { Kind::Read });
    }

    fn enter_len(&self, kind: Kind) {
        if self.resizable {
            door::enter(self.bytes(kind, ByteRange::new(LEN, 1)));
        }
    }

    /// Its sector's length, and what it can hold.
    pub(crate) fn sizes(&self) -> (ByteLen, ByteLen) {
        (self.sector, self.capacity)
    }

    /// The completion, in the step `step`, of a request that was submitted in the step `submitted` and had an effect.
    pub(crate) fn complete(&self, operation: &Operation, request: u32, submitted: u32, step: u32) {
        match operation {
            Operation::Write { .. } | Operation::Truncate { .. } => {
                self.enter_durability(Kind::Add);
                let index = self.number as usize;
                let order = self.handle.mailbox.with(|mailbox| {
                    mailbox.completed[index] += 1;
                    mailbox.completed[index]
                });
                self.medium.with(|medium| medium.versions.wrote(request, step, order));
            }
            Operation::Flush { .. } => {
                self.medium.with(|medium| medium.versions.flushed(submitted, step));
            }
            Operation::Read(_) => {}
        }
    }

    /// Power is lost at some moment since it was lost last. `track`: it may be lost again.
    pub(crate) fn lose_power(&self, fate: &mut Fate, track: bool) {
        self.medium.with(|medium| medium.versions.lose_power(fate, track));
    }

    /// What the disk should hold, were there no damage, for observers: reads the whole disk through the door.
    pub fn observe<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        door::enter(self.bytes(Kind::Read, ByteRange::new(0, self.capacity.0)));
        self.enter_len(Kind::Read);
        self.observe_quietly(look)
    }

    /// The same of this disk and another one, at one moment.
    pub fn observe_both<R>(&self, other: &Self, look: impl FnOnce(&[u8], &[u8]) -> R) -> R {
        let whole = |disk: &Self| disk.bytes(Kind::Read, ByteRange::new(0, disk.capacity.0));
        door::enter_all([whole(self), whole(other)]);
        self.enter_len(Kind::Read);
        other.enter_len(Kind::Read);
        self.observe_quietly(|own| other.observe_quietly(|others| look(own, others)))
    }

    /// What the disk should hold, when nothing runs any more. Undecided atoms look as if they had lost nothing: who
    /// judges a recovery goes by what it read.
    pub fn observe_quietly<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        self.medium.with(|medium| {
            let len = medium.len.as_usize();
            medium.versions.look(|bytes| look(&bytes[..len]))
        })
    }

    fn bytes(&self, kind: Kind, range: ByteRange) -> door::Access {
        footprint::disk_bytes(self.number, kind, range.start(), range.end())
    }

    fn enter_durability(&self, kind: Kind) {
        // Flushes that fail and lose what they cover look at it; what power losses leave, happens-before tells.
        if self.handle.mailbox.with(|mailbox| mailbox.may_lose) {
            door::enter(footprint::durability(self.number, kind));
        }
    }

    fn submit(&self, operation: Operation) -> BoxFuture<'static, Io<IoBuffer>> {
        let slot = Arc::new(Shared::new(None));
        let (disk, spared) = (self.number, self.handle.mailbox.with(|mailbox| mailbox.spared));
        self.handle.post(Post::Request { disk, operation, slot: slot.clone(), spared });
        Box::pin(async move {
            slot.wait_handed(Option::is_some, |slot| slot.take().expect("guard-holds")).await
        })
    }

    fn cut(&self, from: u64, len: ByteLen) -> BoxFuture<'static, Io<()>> {
        let done = self.submit(Operation::Truncate { from, len, capacity: self.capacity });
        Box::pin(async move { done.await.map(drop) })
    }

    /// `longest`: as long as the disk may be when the request has had its effect.
    fn check(&self, range: ByteRange, longest: ByteLen) -> Io<()> {
        let aligned = range.align_outward(ByteLen(u64::from(self.alignment)));
        let ends = range.end() == aligned.end() || range.end() >= self.len().0;
        if aligned.start() == range.start() && ends && range.end() <= longest.0 {
            Ok(())
        } else {
            Err(IoErrorKind::InvalidInput)
        }
    }
}

fn failed<T: Send + 'static>(kind: IoErrorKind) -> BoxFuture<'static, Io<T>> {
    Box::pin(async move { Err(kind) })
}

impl Storage for SimDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> ByteLen {
        self.enter_len(Kind::Read);
        self.medium.with(|medium| medium.len)
    }

    fn alignment(&self) -> u32 {
        self.alignment
    }

    fn reopen(&self, _access: Access) -> Result<Arc<dyn Storage>, String> {
        Ok(Arc::new(self.clone()))
    }

    fn grows(&self) -> bool {
        self.resizable
    }

    fn read(&self, range: ByteRange) -> BoxFuture<'static, Io<IoBuffer>> {
        match self.check(range, self.len()) {
            Ok(()) => self.submit(Operation::Read(range)),
            Err(kind) => failed(kind),
        }
    }

    fn write(&self, offset: u64, data: IoBuffer, fua: bool) -> BoxFuture<'static, Io<()>> {
        let end = offset.checked_add(data.len() as u64);
        let Some(end) = end else { return failed(IoErrorKind::InvalidInput) };
        if end > self.capacity.0 && self.resizable {
            return failed(IoErrorKind::NoSpace);
        }
        if let Err(kind) = self.check(ByteRange::between(offset, end), self.capacity) {
            return failed(kind);
        }
        let written = self.submit(Operation::Write { offset, data, fua });
        Box::pin(async move { written.await.map(drop) })
    }

    fn truncate(&self, len: ByteLen, _reserve: bool) -> BoxFuture<'static, Io<()>> {
        if !self.resizable {
            return failed(IoErrorKind::Unsupported);
        }
        if len > self.capacity {
            return failed(IoErrorKind::NoSpace);
        }
        self.cut(len.0, len)
    }

    /// Zeroes that make a file longer take what others write behind them meanwhile: some file systems are so.
    fn write_zeroes(&self, range: ByteRange, _may_unmap: bool) -> BoxFuture<'static, Io<()>> {
        if self.resizable && range.end() > self.len().0 && range.end() <= self.capacity.0 {
            return self.cut(range.start(), ByteLen(range.end()));
        }
        self.write(range.start(), IoBuffer::zeroes(range.len().as_usize()), false)
    }

    /// What has no use any more reads as zeroes.
    fn discard(&self, range: ByteRange) -> BoxFuture<'static, Io<()>> {
        self.write_zeroes(range, true)
    }

    fn flush(&self) -> BoxFuture<'static, Io<()>> {
        self.enter_durability(Kind::Read);
        let covers = self.handle.mailbox.with(|mailbox| mailbox.completed[self.number as usize]);
        let flushed = self.submit(Operation::Flush { covers });
        Box::pin(async move { flushed.await.map(drop) })
    }
}

/// What the disks of a world should hold, for observers.
pub(crate) fn digest(disks: &[SimDisk]) -> Vec<u64> {
    let hash = |bytes: &[u8]| {
        let mut hash = crate::hash::Rolling::EMPTY;
        hash.feed_bytes(bytes);
        hash.0
    };
    disks.iter().map(|disk| disk.observe_quietly(hash)).collect()
}
