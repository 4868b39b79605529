//! Changing the length of the guest's disk.

use blockyard_block::{Preallocation, Truncate};
use blockyard_crypto::SECTOR;
use blockyard_units::{ByteLen, ByteRange, Mutant};

use super::Image;
use super::change::Zeroes;
use crate::error::ImageError;
use crate::file::Files;
use crate::header::L1_MAX;
use crate::meta::{Table, table_bytes};

impl Image {
    /// Makes the guest's disk `truncate.len` bytes long. What is added reads as zeroes, whatever is below. Nobody else
    /// writes to the image meanwhile; but a commit's base grows while guests read it through what is above.
    ///
    /// # Errors
    /// A file failed; or the length or the way to allocate is not supported. Behind a shorter end data may be gone.
    ///
    /// # Yields
    /// As the files do.
    pub async fn truncate(&self, files: &Files<'_>, truncate: Truncate) -> Result<(), ImageError> {
        self.disown_bitmaps(files).await?;
        let (old, new) = (self.len().0, truncate.len.0);
        if self.is_encrypted() && !new.is_multiple_of(SECTOR as u64) {
            let message = "the length of an encrypted image must be a multiple of 512 bytes";
            return Err(ImageError::Unsupported(message.into()));
        }
        let snapshots = self.meta.read(|meta| meta.header.snapshots);
        if new < old {
            if truncate.preallocation != Preallocation::Off {
                let message = "nothing can be preallocated where a disk becomes shorter";
                return Err(ImageError::Unsupported(message.into()));
            }
            if snapshots > 0 {
                return Err(ImageError::Unsupported(
                    "an image with internal snapshots cannot shrink".into(),
                ));
            }
            return self.shrink(files, old, new).await;
        }
        self.grow(files, old, truncate).await
    }

    async fn shrink(&self, files: &Files<'_>, old: u64, new: u64) -> Result<(), ImageError> {
        let edge =
            if self.raw { old } else { new.next_multiple_of(self.geometry.cluster()).min(old) };
        let zeroes = Zeroes { may_unmap: self.raw, no_fallback: false };
        // Should it grow again, nothing of this is to be seen.
        self.write_zeroes(files, ByteRange::between(new, edge), zeroes).await?;
        self.abandon(files, ByteRange::between(edge, old)).await?;
        self.set_size(files, new).await?;
        if self.geometry.external {
            // What is left is only space.
            let _left = files.data.truncate(new, Preallocation::Off).await;
        }
        Ok(())
    }

    async fn grow(
        &self,
        files: &Files<'_>,
        old: u64,
        truncate: Truncate,
    ) -> Result<(), ImageError> {
        let Truncate { len: ByteLen(new), preallocation: how } = truncate;
        let needed = self.geometry.l1_needed(new);
        let turn = self.turn.lock().await;
        let grown = self.grow_l1(files, needed).await;
        turn.unlock();
        grown?;
        if self.geometry.external && files.data.len()? < new {
            let how = if how == Preallocation::Metadata { Preallocation::Off } else { how };
            files.data.truncate(new, how).await?;
        }
        let grown = async {
            let cluster = self.geometry.cluster();
            let added = ByteRange::between(old.next_multiple_of(cluster).min(new), new);
            if how != Preallocation::Off {
                self.preallocate_added(files, added, how).await?;
            }
            if self.design.is_mutant(Mutant::Qcow2GrowShowsBacking) {
                self.set_size(files, new).await?;
            }
            self.hide_added(files, old, new).await?;
            self.set_size(files, new).await
        };
        let grown = grown.await;
        if grown.is_err() {
            // Nobody sees it; what cannot be given back is space.
            let behind = ByteRange::between(old, new.next_multiple_of(self.geometry.cluster()));
            let _left = self.abandon(files, behind).await;
        }
        grown
    }

    /// Has what is to be added read as zeroes, whatever the backing file has there.
    async fn hide_added(&self, files: &Files<'_>, old: u64, new: u64) -> Result<(), ImageError> {
        // What is encrypted is written in whole sectors.
        let shown = files.backing_len().next_multiple_of(SECTOR as u64).min(new);
        if shown <= old {
            return Ok(());
        }
        let zeroes = Zeroes { may_unmap: true, no_fallback: false };
        self.write_zeroes(files, ByteRange::between(old, shown), zeroes).await
    }

    async fn set_size(&self, files: &Files<'_>, size: u64) -> Result<(), ImageError> {
        let turn = self.turn.lock().await;
        let written = if self.design.is_mutant(Mutant::Qcow2ShrinksOverDirty) {
            Ok(())
        } else {
            self.write_back(files).await
        };
        let result = match written {
            Ok(()) => self.change_header(files, |header| header.size = size).await,
            failed => failed,
        };
        turn.unlock();
        result
    }

    /// Moves the L1 table to where it has `needed` entries, if it has fewer. For who has the turn.
    async fn grow_l1(&self, files: &Files<'_>, needed: u64) -> Result<(), ImageError> {
        let geometry = &self.geometry;
        let (entries, old) =
            self.meta.read(|meta| (meta.l1.entries.clone(), meta.header.l1_offset));
        if entries.len() as u64 >= needed {
            return Ok(());
        }
        if needed * 8 > L1_MAX {
            let message = "the disk would be longer than clusters of this size can map";
            return Err(ImageError::Unsupported(message.into()));
        }
        let mut entries = entries;
        let old_clusters = geometry.clusters_for(entries.len() as u64 * 8);
        entries.resize(usize::try_from(needed).expect("tables-are-in-memory"), 0);
        let (host, _) = self.allocate(files, geometry.clusters_for(needed * 8), true).await?;
        self.put(files, None, host, table_bytes(&entries).into()).await?;
        // The counts of its clusters, and what it refers to, are to be durable before the header refers to it.
        if !self.design.is_mutant(Mutant::Qcow2L1GrowsOverDirty) {
            self.write_back(files).await?;
        }
        self.change_header(files, |header| {
            header.l1_offset = host;
            header.l1_entries = u32::try_from(needed).expect("tables-are-in-memory");
        })
        .await?;
        self.meta.write(|meta| meta.l1 = Table::of(entries));
        let first = old / geometry.cluster();
        for cluster in first..first + old_clusters {
            self.set_count(files, cluster, 0).await?;
        }
        Ok(())
    }
}
