//! Compressed clusters: one after the other, as bytes, in clusters that they share.
//!
//! A host cluster is counted once for each guest cluster that has data in it. None of them is written in place.

use blockyard_runtime::IoBuffer;
use blockyard_units::ByteRange;

use super::Image;
use crate::compress::{compress, decompress};
use crate::entry::{Compressed, Entry};
use crate::error::ImageError;
use crate::file::Files;

impl Image {
    /// Whether clusters can be compressed: not in an external data file, which has them where the guest does, nor
    /// where they are encrypted.
    pub fn compresses(&self) -> bool {
        !self.geometry.external && !self.is_encrypted()
    }

    /// Writes `data` at `offset` of the guest's disk, compressed: whole clusters, or up to the end of the disk.
    ///
    /// # Errors
    /// A file failed, or the image is wrong there; or it is no whole clusters.
    ///
    /// # Yields
    /// As the files do, and while others allocate the same clusters.
    pub async fn write_compressed(
        &self,
        files: &Files<'_>,
        offset: u64,
        data: IoBuffer,
    ) -> Result<(), ImageError> {
        self.disown_bitmaps(files).await?;
        let range = ByteRange::new(offset, data.len() as u64);
        let whole = |at: u64| self.geometry.within(at) == 0;
        let fits = whole(offset) && (whole(range.end()) || range.end() == self.len().0);
        if !fits || self.geometry.external {
            let message = "only whole clusters can be compressed, and not in an external data file";
            return Err(ImageError::Unsupported(message.into()));
        }
        if self.is_encrypted() {
            let message = "compressed clusters would not be encrypted, as the rest of the image is";
            return Err(ImageError::Unsupported(message.into()));
        }
        let how = self.meta.read(|meta| meta.header.compression);
        let mut at = range.start();
        while at < range.end() {
            let cluster = ByteRange::new(at, self.geometry.cluster());
            let piece = super::write::part(&data, range, cluster.intersection(&range));
            let mut bytes = piece.to_vec();
            bytes.resize(cluster.len().as_usize(), 0);
            match compress(how, &bytes) {
                Some(compressed) => self.write_one(files, cluster, compressed.into()).await?,
                None => self.write_range(files, cluster.intersection(&range), &piece).await?,
            }
            at = cluster.end();
        }
        Ok(())
    }

    async fn write_one(
        &self,
        files: &Files<'_>,
        guest: ByteRange,
        compressed: IoBuffer,
    ) -> Result<(), ImageError> {
        let len = compressed.len() as u64;
        let host = loop {
            let turn = self.turn.lock().await;
            let busy = self.allocating(guest);
            let host = match busy {
                None => Some(self.allocate_bytes(files, guest, len).await),
                Some(_) => None,
            };
            turn.unlock();
            match (host, busy) {
                (Some(host), _) => break host?,
                (None, Some(busy)) => self.wait_for_allocations(busy).await,
                (None, None) => {}
            }
        };
        let written = self.put(files, None, host, compressed).await;
        let turn = self.turn.lock().await;
        let result = match written {
            Ok(()) => self.link_compressed(files, guest.start(), Compressed::new(host, len)).await,
            failed => failed,
        };
        if result.is_err() {
            let cluster = host / self.geometry.cluster();
            if let Ok(count) = self.count(files, cluster).await {
                // If that fails it has leaked.
                let _leaked = self.set_count(files, cluster, count.saturating_sub(1)).await;
            }
        }
        self.meta.write(|meta| meta.allocating.retain(|other| *other != guest));
        turn.unlock();
        result
    }

    /// Takes `len` bytes, less than a cluster, for guest cluster `guest`. For who has the turn.
    async fn allocate_bytes(
        &self,
        files: &Files<'_>,
        guest: ByteRange,
        len: u64,
    ) -> Result<u64, ImageError> {
        let geometry = &self.geometry;
        self.ensure_table(files, guest.start()).await?;
        let free = self.meta.read(|meta| meta.free_bytes);
        let left = free.map_or(0, |free| free.next_multiple_of(geometry.cluster()) - free);
        let host = match free {
            Some(free) if len <= left => {
                let cluster = free / geometry.cluster();
                let count = self.count(files, cluster).await?;
                if count < geometry.refcount_max() {
                    self.set_count(files, cluster, count + 1).await?;
                    Some(free)
                } else {
                    None
                }
            }
            _ => None,
        };
        let host = match host {
            Some(host) => host,
            None => self.allocate(files, 1, true).await?.0,
        };
        self.meta.write(|meta| {
            let end = host + len;
            meta.free_bytes = (geometry.within(end) != 0).then_some(end);
            meta.allocating.push(guest);
        });
        Ok(host)
    }

    async fn link_compressed(
        &self,
        files: &Files<'_>,
        at: u64,
        data: Compressed,
    ) -> Result<(), ImageError> {
        let old = self.entry(files, at).await?;
        let new = Entry::of_compressed(data, &self.geometry);
        self.meta.write(|meta| {
            meta.set_entry(at, new, &self.geometry)?;
            meta.free_entry(old, at, false, &self.geometry);
            Ok(())
        })
    }

    /// The bytes of the compressed cluster that guest range `piece` is a part of.
    pub(super) async fn read_compressed(
        &self,
        files: &Files<'_>,
        data: Compressed,
        piece: ByteRange,
    ) -> Result<IoBuffer, ImageError> {
        let how = self.meta.read(|meta| meta.header.compression);
        let bytes = files.image.read(ByteRange::new(data.offset, data.len)).await?;
        let len = self.cluster_size().as_usize();
        let cluster = decompress(how, &bytes, len).ok_or(ImageError::Corrupt {
            structure: "a compressed cluster",
            offset: data.offset,
            found: data.len,
            expected: "data that are a whole cluster when they are decompressed",
        })?;
        let from =
            usize::try_from(self.geometry.within(piece.start())).expect("clusters-are-small");
        Ok(IoBuffer::from(cluster).slice(from..from + piece.len().as_usize()))
    }
}
