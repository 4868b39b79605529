//! A simulated disk: what a device promises, what we break, and why the layer must survive it.
//!
//! Promises: a request takes effect once, at some moment between its submission and its completion, in any order
//! with other requests in flight; a read returns what the effects before it left. A write that completed may live in
//! a volatile cache: it is durable once a flush that was submitted after its completion has completed, or at its own
//! completion with FUA.
//!
//! Broken on demand: a request fails with EIO, without effect or, for a write, after it. Real devices do; a layer that
//! takes a failed write for done, or for not done, loses data.
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
//! Invariant `looked-at-is-decided`: what a request reads, or writes in part, is no longer undecided.

mod fate;
mod versions;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_runtime::{BoxFuture, Io, IoBuffer, IoErrorKind, Storage};
use blockyard_sync::Shared;
use blockyard_sync::door::world::Quiet;
use blockyard_sync::door::{self, Kind};
use blockyard_units::{ByteLen, ByteRange};

use crate::event::Kept;
use crate::footprint;
use crate::handle::{Operation, Post, SimHandle};
pub use fate::Cut;
pub(crate) use fate::Fate;
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
    /// The unit that is written whole or not at all at a power loss: 512 or 4096 bytes.
    pub atom: ByteLen,
    /// What a power loss may take.
    pub cache: Cache,
    /// An atom of a write that is not durable may keep the write's first half only.
    pub torn: bool,
}

impl DiskImage {
    /// A disk of atoms of 512 bytes behind a volatile cache.
    pub fn new(name: &str, bytes: impl Into<IoBuffer>) -> Self {
        let (bytes, atom) = (bytes.into(), ByteLen(512));
        Self { name: name.into(), bytes, atom, cache: Cache::default(), torn: false }
    }
}

/// A disk of a simulated world. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    pub(crate) number: u32,
    name: Arc<str>,
    len: ByteLen,
    state: Arc<Quiet<Versions>>,
    handle: SimHandle,
}

impl SimDisk {
    pub(crate) fn new(number: u32, image: &DiskImage, handle: SimHandle) -> Self {
        Self {
            number,
            name: image.name.as_str().into(),
            len: ByteLen(image.bytes.len() as u64),
            state: Arc::new(Quiet::new(Versions::new(image))),
            handle,
        }
    }

    /// Back to its image. `track`: keep versions apart, for power losses.
    pub(crate) fn reset(&self, track: bool) {
        self.state.with(|state| state.reset(track));
    }

    /// The atom whose fate has to be decided next before the request can have its effect.
    pub(crate) fn undecided(&self, operation: &Operation, fate: &Fate) -> Option<Undecided> {
        let next = |range, writes| self.state.with(|state| state.undecided(range, writes, fate));
        match operation {
            Operation::Read(range) => next(*range, false),
            Operation::Write { offset, data, .. } => {
                next(ByteRange::new(*offset, data.len() as u64), true)
            }
            Operation::Flush => None,
        }
    }

    /// This is what an undecided atom kept through the power loss.
    pub(crate) fn keep(&self, kept: Kept, fate: &mut Fate) {
        door::enter(self.bytes(Kind::Write, self.state.with(|state| state.atom_at(kept.atom))));
        self.enter_fate(Kind::Write, kept.atom, fate);
        self.state.with(|state| state.keep(kept, fate));
    }

    /// What an atom keeps that no constraint links to another is nobody else's business.
    fn enter_fate(&self, kind: Kind, atom: u64, fate: &Fate) {
        if self.state.with(|state| fate.is_linked(&state.claims(atom, fate))) {
            door::enter(footprint::fate(kind));
        }
    }

    /// The request's effect: what its submitter will learn.
    pub(crate) fn take_effect(
        &self,
        operation: &Operation,
        request: u32,
        step: u32,
        fate: &mut Fate,
    ) -> IoBuffer {
        // What the other choices left only one version of is no choice.
        while let Some(Undecided { permitted, .. }) = self.undecided(operation, fate) {
            self.enter_fate(Kind::Read, permitted[0].atom, fate);
            self.state.with(|state| state.keep(permitted[0], fate));
        }
        match operation {
            Operation::Read(range) => {
                door::enter(self.bytes(Kind::Read, *range));
                self.state.with(|state| state.read(*range).into())
            }
            Operation::Write { offset, data, fua } => {
                self.enter_write(ByteRange::new(*offset, data.len() as u64));
                self.state.with(|state| state.write(*offset, data, *fua, request, step));
                IoBuffer::default()
            }
            Operation::Flush => IoBuffer::default(),
        }
    }

    fn enter_write(&self, range: ByteRange) {
        let (tracks, ordered, atoms) =
            self.state.with(|s| (s.tracks(), s.keeps_order(), s.atoms_of(range)));
        // Versions are of whole atoms: their order is that of the writes to any part.
        door::enter(self.bytes(Kind::Write, if tracks { atoms } else { range }));
        if tracks && ordered {
            door::enter(footprint::order(self.number));
        }
    }

    /// The completion, in the step `step`, of a request that was submitted in the step `submitted` and had an effect.
    pub(crate) fn complete(&self, operation: &Operation, request: u32, submitted: u32, step: u32) {
        self.state.with(|state| match operation {
            Operation::Write { .. } => state.wrote(request, step),
            Operation::Flush => state.flushed(submitted, step),
            Operation::Read(_) => (),
        });
    }

    /// Power is lost at some moment since it was lost last. `track`: it may be lost again.
    pub(crate) fn lose_power(&self, fate: &mut Fate, track: bool) {
        self.state.with(|state| state.lose_power(fate, track));
    }

    /// What the disk holds, for observers: reads the whole disk through the door.
    pub fn observe<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        let whole = ByteRange::new(0, self.len.0);
        door::enter(self.bytes(Kind::Read, whole));
        self.observe_quietly(look)
    }

    /// What the disk holds, when nothing runs any more. Undecided atoms look as if they had lost nothing: who judges a
    /// recovery goes by what it read.
    pub fn observe_quietly<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        self.state.with(|state| state.look(look))
    }

    fn bytes(&self, kind: Kind, range: ByteRange) -> door::Access {
        footprint::disk_bytes(self.number, kind, range.start(), range.end())
    }

    fn submit(&self, operation: Operation) -> BoxFuture<'static, Io<IoBuffer>> {
        let slot = Arc::new(Shared::new(None));
        self.handle.post(Post::Request { disk: self.number, operation, slot: slot.clone() });
        Box::pin(async move {
            slot.wait_for(Option::is_some, |slot| slot.take().expect("guard-holds")).await
        })
    }

    fn check(&self, range: ByteRange) -> Io<()> {
        if range.end() > self.len.0 { Err(IoErrorKind::InvalidInput) } else { Ok(()) }
    }
}

impl Storage for SimDisk {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> ByteLen {
        self.len
    }

    fn read(&self, range: ByteRange) -> BoxFuture<'static, Io<IoBuffer>> {
        match self.check(range) {
            Ok(()) => self.submit(Operation::Read(range)),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }

    fn write(&self, offset: u64, data: IoBuffer, fua: bool) -> BoxFuture<'static, Io<()>> {
        let fits = offset.checked_add(data.len() as u64).is_some_and(|end| end <= self.len.0);
        if !fits {
            return Box::pin(async { Err(IoErrorKind::InvalidInput) });
        }
        let written = self.submit(Operation::Write { offset, data, fua });
        Box::pin(async move { written.await.map(drop) })
    }

    fn flush(&self) -> BoxFuture<'static, Io<()>> {
        let flushed = self.submit(Operation::Flush);
        Box::pin(async move { flushed.await.map(drop) })
    }
}

/// All disks of a world, for observers.
pub(crate) fn digest(disks: &[SimDisk]) -> Vec<u64> {
    let hash = |bytes: &[u8]| {
        let mut hash = crate::hash::Rolling::EMPTY;
        hash.feed_bytes(bytes);
        hash.0
    };
    disks.iter().map(|disk| disk.observe_quietly(hash)).collect()
}
