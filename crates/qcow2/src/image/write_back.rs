//! How the structures get to the file, and in which order.
//!
//! | written | only once this is durable | invariant |
//! |---|---|---|
//! | refcount blocks | – | counts only go up before references, and down after them |
//! | refcount table | the blocks | a block that is found is there |
//! | L2 tables | the counts, the data | `counts-cover-references`, `data-precede-references` |
//! | L1 table | the L2 tables as they were made, with their counts | a table that is found is there |
//! | a header that refers to other tables | those, with their counts | a table that is found is there |
//! | what the guest wrote | that the bitmaps of the directory are in use | `vouched-is-unchanged` |
//! | lower counts | the tables | `counts-cover-references` |

use core::future::ready;
use core::ops::Range;

use blockyard_sync::first_of;
use blockyard_units::{ByteRange, Mutant};

use super::Image;
use crate::error::ImageError;
use crate::file::Files;
use crate::meta::{Freed, Which};
use crate::overlap::Structure;

impl Image {
    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// A file failed: nothing is known to be durable. The next time writes what was not written; what a file said to
    /// have written and lost when its own flush failed is not written again.
    ///
    /// # Yields
    /// As the files do.
    pub async fn flush(&self, files: &Files<'_>) -> Result<(), ImageError> {
        let turn = self.turn.lock().await;
        let result = self.flush_in_turn(files).await;
        turn.unlock();
        result
    }

    /// The same, and gives back all clusters that have no use any more. For who is the last. An image that was found
    /// corrupt stays as it is.
    ///
    /// # Errors
    /// A file failed; what a crash would have left is left.
    ///
    /// # Yields
    /// As the files do.
    pub async fn close(&self, files: &Files<'_>) -> Result<(), ImageError> {
        if self.is_corrupt() {
            return Ok(());
        }
        self.flush(files).await?;
        self.flush(files).await
    }

    pub(super) async fn flush_in_turn(&self, files: &Files<'_>) -> Result<(), ImageError> {
        self.write_back(files).await?;
        if self.design.is_mutant(Mutant::Qcow2ReleasesBeforeFlush) {
            self.release_freed(files).await?;
        }
        self.barrier(files, Mutant::Qcow2FlushSkipsFile).await?;
        self.release_freed(files).await
    }

    /// Makes durable what was written, but for a mutant that forgets to.
    pub(super) async fn barrier(
        &self,
        files: &Files<'_>,
        forgets: Mutant,
    ) -> Result<(), ImageError> {
        if self.design.is_mutant(forgets) { Ok(()) } else { self.flush_files(files).await }
    }

    async fn flush_files(&self, files: &Files<'_>) -> Result<(), ImageError> {
        if self.geometry.external && !self.design.is_mutant(Mutant::Qcow2FlushSkipsDataFile) {
            files.data.flush().await?;
        }
        Ok(files.image.flush().await?)
    }

    /// Writes all structures that have changed. The last of them need not be durable. For who has the turn.
    pub(super) async fn write_back(&self, files: &Files<'_>) -> Result<(), ImageError> {
        self.settle_header(files).await?;
        self.write_slices(files, Which::Counts, 0..u64::MAX).await?;
        if self.meta.read(|meta| meta.reftable.is_dirty()) {
            self.barrier(files, Mutant::Qcow2ReftableBeforeBlocks).await?;
            self.write_table(files, Structure::RefcountTable).await?;
        }
        let (l2, l1) = self.meta.read(|meta| (meta.l2.is_dirty(), meta.l1.is_dirty()));
        if !l2 && !l1 {
            return Ok(());
        }
        self.barrier(files, Mutant::Qcow2L2BeforeReferred).await?;
        self.write_slices(files, Which::L2, 0..u64::MAX).await?;
        if l1 {
            // Needs no flush: what the L2 table was when it was made is durable by the one before.
            self.write_table(files, Structure::ActiveL1).await?;
        }
        Ok(())
    }

    /// Writes the changed slices within `offsets`.
    pub(super) async fn write_slices(
        &self,
        files: &Files<'_>,
        which: Which,
        offsets: Range<u64>,
    ) -> Result<(), ImageError> {
        let own = match which {
            Which::L2 => Structure::ActiveL2,
            Which::Counts => Structure::RefcountBlock,
        };
        let mut from = offsets.start;
        loop {
            let next = self.meta.write(|meta| {
                let dirty = meta.cache(which).first_dirty(from)?;
                (dirty < offsets.end).then(|| (dirty, meta.cache(which).take_dirty(dirty)))
            });
            let Some((offset, bytes)) = next else { return Ok(()) };
            if let Err(error) = self.put(files, Some(own), offset, bytes.into()).await {
                self.meta.write(|meta| meta.cache(which).mark_dirty(offset));
                return Err(error);
            }
            from = offset + 1;
        }
    }

    /// Writes what has changed of the L1 table or the refcount table.
    async fn write_table(&self, files: &Files<'_>, own: Structure) -> Result<(), ImageError> {
        loop {
            let next = self.meta.write(|meta| {
                let (table, start) = meta.table(own);
                table.take_dirty().map(|(offset, bytes)| (start + offset, offset, bytes))
            });
            let Some((at, offset, bytes)) = next else { return Ok(()) };
            if let Err(error) = self.put(files, Some(own), at, bytes.into()).await {
                self.meta.write(|meta| meta.table(own).0.mark_dirty(offset));
                return Err(error);
            }
        }
    }

    /// Lowers the counts of what is durably not referred to any more, unless requests that came before may still use
    /// it: that has time until the next flush. For who has the turn, right after a flush.
    async fn release_freed(&self, files: &Files<'_>) -> Result<(), ImageError> {
        let all = self.meta.write(|meta| core::mem::take(&mut meta.freed));
        let mut kept = alloc::vec::Vec::new();
        let mut result = Ok(());
        for freed in all {
            let hasty = self.design.is_mutant(Mutant::Qcow2ReleasesInUse);
            if result.is_err() || !(hasty || self.users.is_idle(freed.guest)) {
                kept.push(freed);
            } else if let Err((error, rest)) = self.release(files, freed).await {
                result = Err(error);
                kept.push(rest);
            }
        }
        self.meta.write(|meta| meta.freed.extend(kept));
        result
    }

    /// Gives one back, cluster by cluster; what is left is returned with the error.
    async fn release(&self, files: &Files<'_>, freed: Freed) -> Result<(), (ImageError, Freed)> {
        let cluster = self.geometry.cluster();
        let mut at = freed.host.start();
        while at < freed.host.end() {
            let next = (at / cluster + 1) * cluster;
            if let Err(error) = self.release_cluster(files, at / cluster, freed.discard).await {
                let host = ByteRange::between(at, freed.host.end());
                return Err((error, Freed { host, ..freed }));
            }
            at = next;
        }
        Ok(())
    }

    pub(super) async fn release_cluster(
        &self,
        files: &Files<'_>,
        cluster: u64,
        discard: bool,
    ) -> Result<(), ImageError> {
        let count = self.count(files, cluster).await?;
        if count == 1 && discard {
            let bytes = self.geometry.cluster();
            let range = ByteRange::new(cluster * bytes, bytes);
            self.guard(files, None, range).await?;
            // Before anybody can be given it. Whether it succeeds is nobody's business.
            let discard = files.image.discard(range);
            if self.design.is_mutant(Mutant::Qcow2LateDiscard) {
                first_of(discard, ready(())).await;
            } else {
                discard.await;
            }
        }
        self.set_count(files, cluster, count.saturating_sub(1)).await
    }
}
