//! `dedup`: keeps equal clusters once. Which guest cluster has which content stands in its child `metadata`, and each
//! content in a cluster of its child `data`: the first is meant to be fast and small, the second large and slow.
//!
//! The cluster size is the node's request alignment: the node reads what is around a smaller write and keeps others off
//! meanwhile, so whole clusters come here. Each is hashed; zeroes take no space, and what is there already costs no
//! write. Digests of 192 bits decide what is equal, and nothing is compared: a duplicate must not cost a read of the
//! slow disk, and two contents with one digest are found by nobody (2^96 hashes, if somebody looks for them). How
//! often a cluster is referred to is stored nowhere; it is counted when the node is opened, and so cannot be wrong.
//!
//! What has to be durable before what is in `image`, what lies in the children in `format`.
//!
//! Differs: QEMU has no such driver. The length of an image does not change.

mod check;
mod create;
mod format;
mod image;
mod place;
mod table;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use blockyard_block::{BlockDriver, BlockError, Extent, Io, Limits, ReadFlags, Write, WriteKind};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange};

pub use check::{DedupCheck, check, is_metadata, repair};
pub use create::{DedupHeader, create};
use image::Image;

/// The child with the table.
pub(crate) const METADATA: &str = "metadata";
/// The child with the contents.
pub(crate) const DATA: &str = "data";

/// A node that keeps equal clusters once. Until it is opened it has no length.
pub struct Dedup {
    node: String,
    /// Replaced only while nobody uses the node.
    image: Quiet<Option<Arc<Image>>>,
    /// It could not be made ready to be written. Changed only in drained sections.
    refuses: Quiet<bool>,
}

impl Dedup {
    /// Bytes: the default size of clusters.
    pub const CLUSTER: u64 = 4 << 10;
    /// Bytes that are hashed, and clusters that are cleared, between two looks at what others do.
    const AT_ONCE: u64 = 1 << 20;

    /// Of the node `node`.
    pub fn new(node: impl Into<String>) -> Self {
        Self { node: node.into(), image: Quiet::new(None), refuses: Quiet::new(false) }
    }

    fn image(&self) -> Option<Arc<Image>> {
        self.image.with(|image| image.clone())
    }

    fn opened(&self) -> Result<Arc<Image>, BlockError> {
        let closed = || BlockError::Invalid(format!("node {} is not open", self.node));
        self.image().ok_or_else(closed)
    }

    async fn find(&self, io: &Io) -> Result<(), BlockError> {
        let image = Image::open(io, &self.node).await?;
        self.image.with(|slot| *slot = Some(Arc::new(image)));
        Ok(())
    }

    fn writable(&self) -> Result<Arc<Image>, BlockError> {
        if self.refuses.with(|refuses| *refuses) {
            let message = "it is read-only, as it could not be made ready to be written";
            return Err(BlockError::Invalid(format!("node {}: {message}", self.node)));
        }
        self.opened()
    }

    async fn flush_opened(&self, io: &Io) -> Result<(), BlockError> {
        match self.image() {
            Some(image) => image.flush(io).await,
            None => Ok(()),
        }
    }
}

impl BlockDriver for Dedup {
    fn limits(&self) -> Limits {
        let cluster = self.cluster_size().0;
        Limits {
            request_alignment: u32::try_from(cluster).expect("a-cluster-is-small"),
            max_transfer: Self::AT_ONCE,
            max_zeroes: cluster * Self::AT_ONCE,
            max_discard: cluster * Self::AT_ONCE,
            // That something is durable takes the table as well.
            fua: false,
            fua_zeroes: false,
        }
    }

    fn cluster_size(&self) -> ByteLen {
        ByteLen(self.image().map_or(1, |image| image.header.cluster))
    }

    fn len(&self, _io: &Io) -> ByteLen {
        ByteLen(self.image().map_or(0, |image| image.header.len))
    }

    fn open<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.find(io))
    }

    fn close<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.flush_opened(io))
    }

    fn becomes_read_only<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.flush_opened(io))
    }

    fn becomes_writable<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            self.refuses.with(|refuses| *refuses = true);
            // Somebody else may have written it while it was not ours.
            self.find(io).await?;
            self.refuses.with(|refuses| *refuses = false);
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move { self.opened()?.read(io, range, flags).await })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let (image, range) = (self.writable()?, write.range);
            match &write.kind {
                WriteKind::Data(_) | WriteKind::Copy(_) => {
                    image.write(io, range.start(), write.bytes().await?).await
                }
                WriteKind::Zeroes | WriteKind::Discard => {
                    image.clear(io, range);
                    Ok(())
                }
                WriteKind::Compressed(_) => Err(io.unsupported(range)),
                WriteKind::Truncate(_) => {
                    let said =
                        "a dedup image keeps its size; make one of another, and mirror to it";
                    Err(BlockError::Invalid(format!("node {}: {said}", self.node)))
                }
            }
        })
    }

    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.flush_opened(io))
    }

    fn block_status<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        Box::pin(async move {
            let (at, range) = self.opened()?.look(range);
            Ok(match at {
                Some(at) => Extent::raw(range, DATA, at),
                None => Extent::zeroes(range),
            })
        })
    }
}
