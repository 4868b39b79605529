//! Space for guest data before there are any.
//!
//! Source: QEMU's documented option `preallocation`. What is not written yet is read from the file, which has zeroes
//! there; with subclusters nothing is said to be data.

use blockyard_block::Preallocation;
use blockyard_units::ByteRange;

use super::Image;
use crate::entry::{COPIED, Entry};
use crate::error::ImageError;
use crate::file::Files;
use crate::meta::Looked;

impl Image {
    /// Gives each cluster of a new image one of its own, in a file without anything behind its structures.
    ///
    /// # Errors
    /// A file failed: clusters may have leaked.
    ///
    /// # Yields
    /// As the files do.
    pub(crate) async fn preallocate(
        &self,
        files: &Files<'_>,
        how: Preallocation,
    ) -> Result<(), ImageError> {
        let size = self.len().0;
        if !self.geometry.external && how != Preallocation::Metadata {
            files.image.truncate(self.estimated_end(files)?, how).await?;
        }
        let (mut at, mut last) = (0, 0);
        while at < size {
            let turn = self.turn.lock().await;
            let done = self.preallocate_in_turn(files, ByteRange::between(at, size)).await;
            turn.unlock();
            let (host, len) = done?;
            at += len;
            last = host + len;
        }
        self.close(files).await?;
        if !self.geometry.external && files.image.len()? < last {
            files.image.truncate(last, Preallocation::Off).await?;
        }
        Ok(files.image.flush().await?)
    }

    /// Where a file ends whose image has all of its clusters, or a little behind it.
    fn estimated_end(&self, files: &Files<'_>) -> Result<u64, ImageError> {
        let geometry = &self.geometry;
        let size = self.len().0;
        let used = geometry.clusters_for(files.image.len()?);
        let clusters = used + geometry.clusters_for(size) + geometry.l1_needed(size);
        let blocks = clusters.div_ceil(geometry.block_counts() - 1);
        let table = geometry.clusters_for(blocks * 12);
        Ok((clusters + blocks + table) * geometry.cluster())
    }

    /// The same for the beginning of `range`; returns where its clusters are, and how many bytes. For who has the
    /// turn.
    async fn preallocate_in_turn(
        &self,
        files: &Files<'_>,
        range: ByteRange,
    ) -> Result<(u64, u64), ImageError> {
        let geometry = &self.geometry;
        let first = range.start();
        self.ensure_table(files, first).await?;
        let wanted = self.count_new(files, range).await?;
        let (host, clusters) = match geometry.external {
            true => (first, wanted),
            false => self.allocate(files, wanted, false).await?,
        };
        // All of them are in one slice, and that is brought in by this.
        self.entry(files, first).await?;
        self.meta.write(|meta| {
            for offset in (0..clusters).map(|index| index * geometry.cluster()) {
                let Looked::Found(_) = meta.entry(first + offset, geometry)? else {
                    unreachable!("an-allocation-is-in-one-slice")
                };
                let new = if geometry.extended {
                    Entry { descriptor: (host + offset) | COPIED, bitmap: 0 }
                } else {
                    Entry::data(host + offset, geometry)
                };
                meta.set_entry(first + offset, new, geometry)?;
            }
            Ok::<_, ImageError>(())
        })?;
        Ok((host, clusters * geometry.cluster()))
    }
}
