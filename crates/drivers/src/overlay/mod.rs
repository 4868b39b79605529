//! `overlay`: clusters in memory over a child `backing`, which is read where nothing was written yet. Volatile: what a
//! crash leaves of it is nothing, so its flush has nothing to do.
//!
//! A trusted type. Beside the clusters there is the length, with how much of the backing child shows: a key of its own.
//! A request looks at the clusters of its range and at the length, and changes clusters of its range only; a
//! truncation, which is alone in its node, writes the length and every cluster from the new end on.
//!
//! Invariants:
//! - `clusters-stay-allocated`: but for truncations a cluster never goes back to the backing child. So a write may
//!   read what it does not cover before it stores, and nobody has to wait: in the step in which it stores it looks
//!   again, and where another was first, it stores its own bytes only;
//! - `clusters-fit`: none holds more bytes than its size;
//! - `backing-never-comes-back`: neither a discard, nor zeroes, nor a longer end show bytes of the backing child that
//!   were not to be seen before.
//!
//! Source: QEMU's documented qcow2 driver, whose place it takes where only its view of a chain matters. Differs: a
//! length that was not given is the backing child's at the first look.

mod map;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use blockyard_block::{
    BlockDriver, BlockError, Extent, Io, Preallocation, ReadFlags, Write, WriteKind,
};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_units::{ByteLen, ByteRange, Mutant};

use crate::BACKING;
use map::{Fill, Map};

/// The key of the length; clusters have smaller ones.
const LEN: u64 = 1 << 63;

/// Clusters over a backing child.
pub struct Overlay {
    /// Bytes.
    cluster: u64,
    map: Shared<Map>,
}

impl Overlay {
    /// Bytes: the default size of clusters.
    pub const CLUSTER: u64 = 64 << 10;

    /// Whether clusters may have `bytes`: a power of two from 512 to 2 MiB.
    pub fn is_cluster_size(bytes: u64) -> bool {
        bytes.is_power_of_two() && (512..=2 << 20).contains(&bytes)
    }

    /// With nothing in it. `len` bytes, or as many as the backing child has when it is first asked.
    ///
    /// # Panics
    /// `cluster-size-fits`: if clusters may not have `cluster` bytes.
    pub fn new(len: Option<u64>, cluster: u64) -> Self {
        assert!(Self::is_cluster_size(cluster), "cluster-size-fits: {cluster}");
        Self { cluster, map: Shared::new(Map::new(len, cluster)) }
    }

    fn clusters(&self, kind: Kind, range: ByteRange) -> (Kind, u64, u64) {
        (kind, range.start() / self.cluster, range.end().div_ceil(self.cluster))
    }

    fn look<R>(&self, range: ByteRange, look: impl FnOnce(&Map) -> R) -> R {
        let touched = [self.clusters(Kind::Read, range), (Kind::Read, LEN, LEN + 1)];
        self.map.trusted(touched, |map| look(map))
    }

    /// What is below `range`: zeroes where the backing child ends or must not show.
    async fn below(
        &self,
        io: &Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<Vec<u8>, BlockError> {
        let shown = self.look(ByteRange::new(0, 0), |map| map.shown);
        let end = shown.min(io.len(BACKING).unwrap_or_default().0);
        let inside = range.intersection(&ByteRange::new(0, end));
        let mut bytes = Vec::new();
        if !inside.is_empty() {
            bytes.extend_from_slice(&io.read(BACKING, inside, flags).await?);
        }
        bytes.resize(range.len().as_usize(), 0);
        Ok(bytes)
    }

    /// Stores; what of a cluster is not covered is copied up first.
    async fn store(&self, io: &Io, range: ByteRange, fill: Fill<'_>) -> Result<(), BlockError> {
        let bare = self.look(range, |map| map.bare_parts(range));
        let mut copied = BTreeMap::new();
        for whole in bare {
            let flags = ReadFlags::BY_HOOK;
            let covered = range.intersection(&whole);
            let before = ByteRange::between(whole.start(), covered.start());
            let rest = ByteRange::between(covered.end(), whole.end());
            let mut bytes = self.below(io, before, flags).await?;
            let rest_bytes = self.below(io, rest, flags).await?;
            bytes.resize(ByteLen(rest.start() - whole.start()).as_usize(), 0);
            bytes.extend_from_slice(&rest_bytes);
            copied.insert(whole.start() / self.cluster, bytes);
        }
        let touched = [self.clusters(Kind::Write, range), (Kind::Read, LEN, LEN + 1)];
        self.map.trusted(touched, |map| map.store(range, fill, copied));
        Ok(())
    }
}

impl BlockDriver for Overlay {
    fn len(&self, io: &Io) -> ByteLen {
        let touched = |kind| [(kind, LEN, LEN + 1)];
        if let Some(len) = self.map.trusted(touched(Kind::Read), |map| map.len) {
            return ByteLen(len);
        }
        // Without one there is nothing to see yet, and the length may still come with it.
        let Ok(len) = io.len(BACKING) else { return ByteLen(0) };
        ByteLen(self.map.trusted(touched(Kind::Write), |map| *map.len.get_or_insert(len.0)))
    }

    /// It keeps it as data.
    fn compresses(&self) -> bool {
        true
    }

    fn cluster_size(&self) -> ByteLen {
        ByteLen(self.cluster)
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            let pieces = self.look(range, |map| map.pieces(range));
            let mut bytes = Vec::with_capacity(range.len().as_usize());
            for (piece, held) in pieces {
                match held {
                    Some(held) => bytes.extend_from_slice(&held),
                    None => bytes.extend_from_slice(&self.below(io, piece, flags).await?),
                }
            }
            Ok(bytes.into())
        })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let range = write.range;
            match &write.kind {
                WriteKind::Data(_) | WriteKind::Compressed(_) | WriteKind::Copy(_) => {
                    let data = write.bytes().await?;
                    self.store(io, range, Fill::Data(&data)).await
                }
                WriteKind::Zeroes => self.store(io, range, Fill::Zeroes).await,
                WriteKind::Discard => {
                    let touched = [self.clusters(Kind::Write, range), (Kind::Read, LEN, LEN + 1)];
                    self.map.trusted(touched, |map| map.discard(range));
                    Ok(())
                }
                WriteKind::Truncate(truncate) if truncate.preallocation == Preallocation::Off => {
                    let len = truncate.len.0;
                    let touched = [(Kind::Write, len / self.cluster, LEN + 1)];
                    let exposes = io.layer().design().is_mutant(Mutant::GrowExposesBackingData);
                    let has_backing = io.len(BACKING).is_ok() && !exposes;
                    self.map.trusted(touched, |map| map.truncate(len, has_backing));
                    Ok(())
                }
                WriteKind::Truncate(_) => Err(io.unsupported(range)),
            }
        })
    }

    fn block_status<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        Box::pin(async move { Ok(self.look(range, |map| map.extent(range))) })
    }
}
