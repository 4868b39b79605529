//! The one way to the image's file: whatever is written there passes here.
//!
//! Invariant `structures-are-not-overwritten`: a write that would touch a structure that is known, other than the one
//! that it is a part of, is not made. Then the image is marked corrupt, durably if that can be had, and nothing else is
//! written to it: what is there now is what there is to repair.
//!
//! Source: QEMU's documented option `overlap-check`, the event BLOCK_IMAGE_CORRUPTED, and the specification's "Corrupt
//! bit". Differs: reading goes on, by what is in memory, which then may be more than was to be kept there; QEMU gives
//! nothing of such an image any more. What is discarded is judged like what is written.

use alloc::vec::Vec;

use blockyard_runtime::IoBuffer;
use blockyard_sync::door::Kind as Access;
use blockyard_units::ByteRange;

use super::{Image, Zeroes};
use crate::entry::L1Entry;
use crate::error::ImageError;
use crate::file::{Files, ImageFile};
use crate::header::incompatible;
use crate::meta::Meta;
use crate::overlap::{Clusters, Kept, Overlap, OverlapChecks, Ranges, Structure};
use crate::snapshot::Snapshot;

/// The key of what is known of structures' places, behind that of the length.
const PLACES: u64 = super::LEN + 1;
/// Where in the header the incompatible features stand.
const FEATURES: u64 = 72;
/// Bytes of a table that are read at once.
const AT_ONCE: u64 = 1 << 20;

impl Image {
    /// Writes `data` at `offset`. `own`: the sort of structure that they are a part of, if it is known already.
    pub(super) async fn put(
        &self,
        files: &Files<'_>,
        own: Option<Structure>,
        offset: u64,
        data: IoBuffer,
    ) -> Result<(), ImageError> {
        self.guard(files, own, ByteRange::new(offset, data.len() as u64)).await?;
        Ok(files.image.write(offset, data).await?)
    }

    /// Makes `range`, which is no structure yet, read as zeroes.
    pub(super) async fn put_zeroes(
        &self,
        files: &Files<'_>,
        range: ByteRange,
    ) -> Result<(), ImageError> {
        self.put_zeroes_for(files, range, Zeroes { may_unmap: true, no_fallback: false }).await
    }

    /// The same, in a way that is asked for.
    pub(super) async fn put_zeroes_for(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        how: Zeroes,
    ) -> Result<(), ImageError> {
        self.guard(files, None, range).await?;
        Ok(files.image.write_zeroes_for(range, how).await?)
    }

    /// Writes guest data to the file that has them.
    pub(super) async fn put_data(
        &self,
        files: &Files<'_>,
        host: u64,
        data: IoBuffer,
    ) -> Result<(), ImageError> {
        match self.geometry.external {
            true => Ok(files.data.write(host, data).await?),
            false => self.put(files, None, host, data).await,
        }
    }

    /// Writes the header, all of it.
    pub(super) async fn put_header(
        &self,
        files: &Files<'_>,
        bytes: Vec<u8>,
    ) -> Result<(), ImageError> {
        let range = ByteRange::new(0, bytes.len() as u64);
        self.guard(files, Some(Structure::MainHeader), range).await?;
        // In the step in which it is known that there is no mark that this would take away.
        self.meta.write(|meta| {
            meta.refuse_if_corrupt()?;
            (meta.header_is_unknown, meta.header_is_on_its_way) = (true, true);
            Ok::<_, ImageError>(())
        })?;
        let written = files.image.write(0, bytes.into()).await;
        self.meta.write(|meta| meta.header_is_on_its_way = false);
        Ok(written?)
    }

    /// Whether `range` may be written.
    pub(super) async fn guard(
        &self,
        files: &Files<'_>,
        own: Option<Structure>,
        range: ByteRange,
    ) -> Result<(), ImageError> {
        let found = self.meta.trusted([(Access::Read, PLACES, PLACES + 1)], |meta| {
            meta.refuse_if_corrupt()?;
            Ok::<_, ImageError>(meta.overlapped(range, own, &self.geometry))
        })?;
        match found {
            None => Ok(()),
            Some(structure) => Err(self.mark_corrupt(files, Overlap { range, structure }).await),
        }
    }

    /// From here on nothing is written any more but the mark, if there is room for it and the file does not fail.
    async fn mark_corrupt(&self, files: &Files<'_>, overlap: Overlap) -> ImageError {
        let is_first = self.meta.write(|meta| {
            let is_first = !meta.is_corrupt;
            if is_first {
                (meta.is_corrupt, meta.untold) = (true, Some(overlap));
            }
            is_first
        });
        if !is_first {
            return ImageError::Unwritable;
        }
        self.meta.wait_until(|meta| !meta.header_is_on_its_way).await;
        let features = self.meta.write(|meta| {
            meta.header.incompatible |= incompatible::CORRUPT;
            (meta.header.version >= 3).then_some(meta.header.incompatible)
        });
        if let Some(features) = features {
            // Who opens it later would have to find out anew. There is nobody to tell that it could not be written.
            let marked = files.image.write(FEATURES, features.to_be_bytes().to_vec().into()).await;
            if marked.is_ok() {
                let _durable = files.image.flush().await;
            }
        }
        ImageError::Overlap(overlap)
    }

    /// Refuses what would change the image if it was found corrupt.
    pub(crate) fn refuse_if_corrupt(&self) -> Result<(), ImageError> {
        self.meta.trusted([(Access::Read, PLACES, PLACES + 1)], |meta| meta.refuse_if_corrupt())
    }

    /// Whether a write would have damaged a structure since it was opened.
    pub fn is_corrupt(&self) -> bool {
        self.refuse_if_corrupt().is_err()
    }

    /// The write that would have damaged a structure, for the first who asks.
    pub fn take_overlap(&self) -> Option<Overlap> {
        self.is_corrupt().then(|| self.meta.write(|meta| meta.untold.take())).flatten()
    }

    /// From here on writes are compared with these structures. For who is the only one.
    pub(super) async fn check_overlaps(
        self,
        file: ImageFile<'_>,
        checks: OverlapChecks,
    ) -> Result<Self, ImageError> {
        self.meta.write(|meta| meta.checks = checks);
        if checks != OverlapChecks::NONE {
            let (snapshots, len) = self.read_snapshots(file).await?;
            let at = self.header().snapshots_offset;
            let kept = self.kept(file, &snapshots, ByteRange::new(at, len)).await?;
            self.meta.write(|meta| meta.kept = kept);
        }
        Ok(self)
    }

    /// What these snapshots take, whose table is at `table`.
    pub(super) async fn kept(
        &self,
        file: ImageFile<'_>,
        snapshots: &[Snapshot],
        table: ByteRange,
    ) -> Result<Kept, ImageError> {
        let fits = |at: u64, len: u64| at.checked_add(len).map(|_| ByteRange::new(at, len));
        let l1 = snapshots.iter().filter_map(|of| fits(of.l1_offset, u64::from(of.l1_entries) * 8));
        let l1 = Ranges::of(l1.collect());
        let l2 = match self.meta.read(|meta| meta.checks.has(Structure::InactiveL2)) {
            true => tables_of(file, &l1).await?,
            false => Clusters::default(),
        };
        Ok(Kept { table: Some(table).filter(|table| !table.is_empty()), l1, l2 })
    }
}

impl Meta {
    fn refuse_if_corrupt(&self) -> Result<(), ImageError> {
        if self.is_corrupt { Err(ImageError::Unwritable) } else { Ok(()) }
    }
}

/// What the L1 tables in `ranges` refer to.
async fn tables_of(file: ImageFile<'_>, ranges: &Ranges) -> Result<Clusters, ImageError> {
    let (all, mut found) = (ByteRange::new(0, file.len()?), Clusters::default());
    for range in ranges.iter().map(|range| range.intersection(&all)) {
        let mut at = range.start();
        while at < range.end() {
            let piece = ByteRange::between(at, range.end().min(at + AT_ONCE));
            for entry in file.read(piece).await?.chunks_exact(8) {
                let entry = L1Entry(u64::from_be_bytes(entry.try_into().expect("eight-bytes")));
                found.add(entry.table().unwrap_or(0));
            }
            at = piece.end();
        }
    }
    Ok(found)
}
