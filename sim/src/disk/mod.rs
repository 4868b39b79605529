//! A simulated disk: what a device promises, what we break, and why the layer must survive it.
//!
//! Promises: a request takes effect once, at some moment between its submission and its completion, in any order
//! with other requests in flight; a read returns what the effects before it left. A write that completed may live in
//! a volatile cache: it is durable once a flush that was submitted after its completion has completed, or at its own
//! completion with FUA.
//!
//! Broken on demand: requests go wrong, as `faults` tells; at a power loss each atom (an aligned atomic unit) keeps any
//! of its versions that no completed flush or FUA write forbids, so that a write in flight may leave any subset of its
//! atoms. Real devices do all of this; a layer that loses acknowledged data then has a bug.
//!
//! Invariants: `bytes-are-base-plus-log`: what a disk should hold is the durable bytes overlaid with the log in order.
//! `damage-is-an-overlay`: what a read sees is that, overlaid with what lasts of faults.

mod copies;
mod families;
mod faults;
mod faulty;
mod overlays;
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

use crate::footprint;
use crate::handle::{Operation, Post, SimHandle};
pub(crate) use copies::Copies;
pub use families::{Families, Family};
pub use faults::{Fault, Loss};
pub(crate) use faults::{at_completion, before_effect};
use overlays::Overlays;
pub use versions::PowerLoss;
use versions::Versions;

/// A disk as every execution finds it.
#[derive(Clone)]
pub struct DiskImage {
    /// Its name, unique in the world.
    pub name: String,
    /// Its bytes.
    pub bytes: IoBuffer,
    /// The unit that is written whole or not at all at a power loss: 512 or 4096 bytes.
    pub atom: ByteLen,
}

/// A disk of a simulated world. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    pub(crate) number: u32,
    name: Arc<str>,
    len: ByteLen,
    /// The unit that faults and power losses leave whole.
    sector: ByteLen,
    medium: Arc<Quiet<Medium>>,
    handle: SimHandle,
}

struct Medium {
    versions: Versions,
    overlays: Overlays,
}

impl SimDisk {
    pub(crate) fn new(number: u32, image: &DiskImage, handle: SimHandle) -> Self {
        Self {
            number,
            name: image.name.as_str().into(),
            len: ByteLen(image.bytes.len() as u64),
            sector: image.atom,
            medium: Arc::new(Quiet::new(Medium {
                versions: Versions::new(image),
                overlays: Overlays::default(),
            })),
            handle,
        }
    }

    /// Back to its image. `track`: keep versions apart, for power losses.
    pub(crate) fn reset(&self, track: bool) {
        self.medium.with(|medium| {
            medium.versions.reset(track);
            medium.overlays.reset();
        });
    }

    /// The request's effect: what its submitter will learn.
    pub(crate) fn take_effect(&self, operation: &Operation, request: u64) -> Io<IoBuffer> {
        match operation {
            Operation::Read(range) => {
                door::enter(self.bytes(Kind::Read, *range));
                self.medium.with(|medium| medium.read(*range))
            }
            Operation::Write { data, .. } => {
                let range = operation.range();
                self.enter_space();
                door::enter(self.bytes(Kind::Write, range));
                self.medium.with(|medium| {
                    medium.overlays.may_write(range)?;
                    medium.write_part(range, data, range, request);
                    Ok(IoBuffer::default())
                })
            }
            Operation::Flush { covers } => {
                self.enter_durability(Kind::Write);
                self.medium.with(|medium| medium.versions.flush(*covers));
                Ok(IoBuffer::default())
            }
        }
    }

    /// Its sector's and its own length.
    pub(crate) fn sizes(&self) -> (ByteLen, ByteLen) {
        (self.sector, self.len)
    }

    /// The request's completion, if it had an effect.
    pub(crate) fn complete(&self, operation: &Operation, request: u64) {
        if let Operation::Write { fua, .. } = operation {
            self.enter_durability(Kind::Add);
            let index = self.number as usize;
            let order = self.handle.mailbox.with(|mailbox| {
                mailbox.completed[index] += 1;
                mailbox.completed[index]
            });
            self.medium.with(|medium| medium.versions.completed(request, order, *fua));
        }
    }

    /// Power is lost: of each atom one permitted version stays, as `fate` picks.
    pub(crate) fn lose_power(&self, fate: &mut PowerLoss<'_>) {
        self.medium.with(|medium| medium.versions.lose_power(&self.name, fate));
    }

    /// What the disk should hold, were there no damage, for observers: reads the whole disk through the door.
    pub fn observe<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        let whole = ByteRange::new(0, self.len.0);
        door::enter(self.bytes(Kind::Read, whole));
        self.observe_quietly(look)
    }

    /// The same of this disk and another one, at one moment.
    pub fn observe_both<R>(&self, other: &Self, look: impl FnOnce(&[u8], &[u8]) -> R) -> R {
        let whole = |disk: &Self| disk.bytes(Kind::Read, ByteRange::new(0, disk.len.0));
        door::enter_all([whole(self), whole(other)]);
        self.observe_quietly(|own| other.observe_quietly(|others| look(own, others)))
    }

    /// What the disk should hold, when nothing runs any more.
    pub fn observe_quietly<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        self.medium.with(|medium| medium.versions.look(look))
    }

    fn bytes(&self, kind: Kind, range: ByteRange) -> door::Access {
        footprint::disk_bytes(self.number, kind, range.start(), range.end())
    }

    fn enter_durability(&self, kind: Kind) {
        // Without power losses nobody reads what is durable.
        if self.handle.mailbox.with(|mailbox| mailbox.track_durability) {
            door::enter(footprint::durability(self.number, kind));
        }
    }

    fn submit(&self, operation: Operation) -> BoxFuture<'static, Io<IoBuffer>> {
        let slot = Arc::new(Shared::new(None));
        self.handle.post(Post::Request { disk: self.number, operation, slot: slot.clone() });
        Box::pin(async move {
            slot.wait_handed(Option::is_some, |slot| slot.take().expect("guard-holds")).await
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
