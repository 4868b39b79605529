//! New refcounts from the references alone, where the old ones cannot be put right: behind the end of everything, and
//! durable before the header refers to them. Until then the image is as it was.

use alloc::vec;
use alloc::vec::Vec;

use super::CheckOptions;
use super::pass::{Action, Pass, run};
use super::tally::{MANY_MAX, Tally};
use crate::error::ImageError;
use crate::file::ImageFile;
use crate::header::{Header, REFTABLE_MAX};
use crate::meta::set_count_in;

/// Where in the header the place of the refcount table stands.
const REFTABLE_FIELDS: u64 = 48;

/// Counts all references of a sound image anew, in refcounts of 2 to the power of `order` bits.
///
/// # Errors
/// A cluster has more references than that has room for, or the file failed: the image is as it was.
pub(crate) async fn count_anew(file: ImageFile<'_>, order: u32) -> Result<(), ImageError> {
    run((file, None), CheckOptions::default(), Action::Widen(order), &mut |_| true).await.map(drop)
}

/// Where the new refcounts are to be. All numbers are of clusters.
pub struct Rebuilt {
    /// The first of the new blocks; the table is behind them.
    first: u64,
    blocks: u64,
    /// One behind the last cluster of the table, which is the last one that is counted.
    pub end: u64,
}

impl Pass<'_, '_> {
    /// Where they are to be, if this pass is for them.
    pub(super) fn begin_rebuilding(&mut self) -> Result<Option<Rebuilt>, ImageError> {
        if !self.action.rebuilds() {
            return Ok(None);
        }
        let geometry = self.geometry;
        let first = self.clusters();
        let (mut blocks, mut table) = (1, 1);
        loop {
            let end = first + blocks + table;
            let needed = (end.div_ceil(geometry.block_counts()), geometry.clusters_for(blocks * 8));
            if table * geometry.cluster() > REFTABLE_MAX {
                let message = "the refcounts of a file of this length cannot be made anew";
                return Err(ImageError::Unsupported(message.into()));
            }
            if needed.0 <= blocks && needed.1 <= table {
                return Ok(Some(Rebuilt { first, blocks, end }));
            }
            (blocks, table) = (needed.0.max(blocks), needed.1.max(table));
        }
    }

    /// Writes the blocks of a window.
    pub(super) async fn rebuild_window(
        &mut self,
        tally: &Tally,
        rebuilt: &mut Rebuilt,
    ) -> Result<(), ImageError> {
        let geometry = self.geometry;
        let (cluster, counts) = (geometry.cluster(), geometry.block_counts());
        let most = u64::from(MANY_MAX).min(geometry.refcount_max());
        for index in tally.start / counts..(tally.end() / counts).min(rebuilt.blocks) {
            let mut block = vec![0; usize::try_from(cluster).expect("clusters-are-small")];
            for count in 0..counts {
                let number = index * counts + count;
                let references = u64::from(tally.marks(number) & MANY_MAX);
                let own = (rebuilt.first..rebuilt.end).contains(&number);
                let references = references.max(u64::from(own));
                if references > most && self.action != Action::Rebuild {
                    let bits = 1 << geometry.refcount_order;
                    let message = alloc::format!(
                        "refcounts of {bits} bits have no room for the {references} references to cluster {number}"
                    );
                    return Err(ImageError::Unsupported(message));
                }
                let references = references.min(most);
                set_count_in(&mut block, count, references, geometry.refcount_order);
            }
            let at = (rebuilt.first + index) * cluster;
            self.told(at)?;
            self.file.write(at, block.into()).await?;
        }
        Ok(())
    }

    /// Writes the table, then the header.
    pub(super) async fn finish_rebuilding(&mut self, rebuilt: &Rebuilt) -> Result<(), ImageError> {
        let cluster = self.geometry.cluster();
        let Rebuilt { first, blocks, end } = *rebuilt;
        let table = end - first - blocks;
        let mut bytes: Vec<u8> =
            (first..first + blocks).flat_map(|block| (block * cluster).to_be_bytes()).collect();
        bytes.resize(usize::try_from(table * cluster).expect("tables-are-in-memory"), 0);
        let at = (first + blocks) * cluster;
        self.file.write(at, bytes.into()).await?;
        self.file.flush().await?;
        let clusters = u32::try_from(table).expect("tables-are-in-memory");
        if let Action::Widen(refcount_order) = self.action {
            let header = self.header.clone();
            let (reftable_offset, reftable_clusters) = (at, clusters);
            let header = Header { reftable_offset, reftable_clusters, refcount_order, ..header };
            self.file.write(0, header.bytes()?.into()).await?;
            return Ok(self.file.flush().await?);
        }
        let mut fields = at.to_be_bytes().to_vec();
        fields.extend_from_slice(&clusters.to_be_bytes());
        Ok(self.file.write(REFTABLE_FIELDS, fields.into()).await?)
    }
}
