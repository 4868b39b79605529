//! Space for guest data before there are any.
//!
//! In a new file there are zeroes already: what is not written yet is read from it, and with subclusters nothing is
//! said to be data. Elsewhere, and in an encrypted image, a cluster that has space is a zero cluster until it is
//! written, and in version 2, which has none, is written with zeroes.
//!
//! Source: QEMU's documented option `preallocation`.
//! Differs: what QEMU allocates when a disk becomes longer is data; and what it allocates in an encrypted image reads
//! as noise.

use blockyard_block::Preallocation;
use blockyard_runtime::IoBuffer;
use blockyard_units::{ByteLen, ByteRange};

use super::Image;
use super::change::Zeroes;
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
            let rest = ByteRange::between(at, size);
            let done = self.preallocate_in_turn(files, rest, None).await;
            turn.unlock();
            let (host, len) = done?;
            at += len;
            last = host + len;
        }
        self.flush(files).await?;
        if !self.geometry.external && files.image.len()? < last {
            files.image.truncate(last, Preallocation::Off).await?;
        }
        self.close(files).await
    }

    /// Gives each cluster of `range`, behind the end of the guest's disk, one of its own.
    ///
    /// # Errors
    /// A file failed: some have one.
    ///
    /// # Yields
    /// As the files do.
    pub(super) async fn preallocate_added(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        how: Preallocation,
    ) -> Result<(), ImageError> {
        let (mut at, mut last) = (range.start(), 0);
        while at < range.end() {
            let turn = self.turn.lock().await;
            let rest = ByteRange::between(at, range.end());
            let done = self.preallocate_in_turn(files, rest, Some(how)).await;
            turn.unlock();
            let (host, len) = done?;
            at += len;
            last = last.max(host + len);
        }
        if !self.geometry.external && files.image.len()? < last {
            files.image.truncate(last, Preallocation::Off).await?;
        }
        Ok(())
    }

    /// Has the space of `host`, which may have been used before, as it is wanted: with zeroes, if it has to be.
    async fn fill(
        &self,
        files: &Files<'_>,
        host: ByteRange,
        how: Preallocation,
    ) -> Result<(), ImageError> {
        /// Bytes that are written at once.
        const AT_ONCE: u64 = 1 << 20;
        let shows = !self.geometry.has_zero;
        match how {
            Preallocation::Off | Preallocation::Metadata if !shows => return Ok(()),
            Preallocation::Off | Preallocation::Metadata | Preallocation::Falloc
                if !(shows && self.is_encrypted()) =>
            {
                let zeroes = Zeroes { may_unmap: false, no_fallback: false };
                return self.put_zeroes_for(files, host, zeroes).await;
            }
            _ => {}
        }
        let mut at = host.start();
        while at < host.end() {
            let len = AT_ONCE.min(host.end() - at);
            let zeroes = IoBuffer::zeroes(ByteLen(len).as_usize());
            if shows {
                self.write_data(files, at, zeroes).await?;
            } else {
                self.put(files, None, at, zeroes).await?;
            }
            at += len;
        }
        Ok(())
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

    /// The same for the beginning of `range`; returns where its clusters are, and how many bytes. `added`: the file is
    /// not a new one, and they are to be had so. For who has the turn.
    async fn preallocate_in_turn(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        added: Option<Preallocation>,
    ) -> Result<(u64, u64), ImageError> {
        let geometry = &self.geometry;
        let first = range.start();
        self.ensure_table(files, first).await?;
        let wanted = self.count_new(files, range).await?;
        let (host, clusters) = match geometry.external {
            true => (first, wanted),
            false => self.allocate(files, wanted, false).await?,
        };
        if let Some(how) = added.filter(|_| !geometry.external) {
            let filled =
                self.fill(files, ByteRange::new(host, clusters * geometry.cluster()), how).await;
            if filled.is_err() {
                self.unallocate(files, host, clusters).await;
            }
            filled?;
        }
        let is_blank = added.is_none() || geometry.external;
        let zero = geometry.has_zero && (self.is_encrypted() || !is_blank);
        // All of them are in one slice, and that is brought in by this.
        self.entry(files, first).await?;
        self.meta.write(|meta| {
            for offset in (0..clusters).map(|index| index * geometry.cluster()) {
                let Looked::Found(_) = meta.entry(first + offset, geometry)? else {
                    unreachable!("an-allocation-is-in-one-slice")
                };
                let new = if zero {
                    Entry::data(host + offset, geometry).zeroed(true, geometry)
                } else if geometry.extended {
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
