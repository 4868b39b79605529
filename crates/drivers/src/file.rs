//! `file`: a disk that the world provides.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use blockyard_block::{
    BlockDriver, BlockError, Change, Extent, Io, Limits, ReadFlags, Write, WriteKind,
};
use blockyard_block::{Preallocation, Truncate};
use blockyard_graph::Graph;
use blockyard_runtime::{BoxFuture, IoBuffer, IoErrorKind, Storage};
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange};

/// A disk that the world provides.
pub struct FileDriver {
    node: String,
    /// Replaced only in a drained section over the node, so nobody sees it change.
    storage: Quiet<Arc<dyn Storage>>,
    /// The same disk, reopened for a change that is not published yet.
    prepared: Quiet<Option<Arc<dyn Storage>>>,
}

impl FileDriver {
    /// The disk `storage`; `node` is the node-name, which errors name.
    pub fn new(node: impl Into<String>, storage: Arc<dyn Storage>) -> Self {
        Self { node: node.into(), storage: Quiet::new(storage), prepared: Quiet::new(None) }
    }

    fn storage(&self) -> Arc<dyn Storage> {
        self.storage.with(|storage| storage.clone())
    }

    /// What `after` wants of the disk, if it is another opening of it.
    fn reopened(&self, change: &Change<'_>) -> Result<Option<Arc<dyn Storage>>, BlockError> {
        let read_only = |graph: &Graph| {
            graph.node_by_name(&self.node).and_then(|id| graph.node(id)).map(|node| node.read_only)
        };
        match (read_only(change.before), read_only(change.after)) {
            (Some(before), Some(after)) if before != after => {
                let said = |error| BlockError::Invalid(format!("node {}: {error}", self.node));
                self.storage().reopen(after).map(Some).map_err(said)
            }
            _ => Ok(None),
        }
    }

    fn error(&self, kind: IoErrorKind, range: ByteRange) -> BlockError {
        BlockError::Io { kind, node: self.node.clone(), range }
    }

    async fn truncate(&self, truncate: Truncate) -> Result<(), IoErrorKind> {
        let Truncate { len, preallocation, .. } = truncate;
        let old = self.storage().len();
        match preallocation {
            // It has no structures of its own.
            Preallocation::Metadata => Err(IoErrorKind::Unsupported),
            Preallocation::Off => self.storage().truncate(len, false).await,
            Preallocation::Falloc => self.storage().truncate(len, true).await,
            Preallocation::Full => {
                self.storage().truncate(len, false).await?;
                self.write_zero_bytes(ByteRange::between(old.0, len.0)).await
            }
        }
    }

    async fn write_zero_bytes(&self, range: ByteRange) -> Result<(), IoErrorKind> {
        const AT_ONCE: u64 = 1 << 20;
        let mut start = range.start();
        while start < range.end() {
            let piece = ByteRange::between(start, range.end().min(start + AT_ONCE));
            let zeroes = IoBuffer::zeroes(piece.len().as_usize());
            self.storage().write(start, zeroes, false).await?;
            start = piece.end();
        }
        Ok(())
    }
}

impl BlockDriver for FileDriver {
    fn limits(&self) -> Limits {
        let request_alignment = self.storage().alignment();
        Limits { request_alignment, fua_zeroes: false, ..Limits::NONE }
    }

    fn len(&self, _io: &Io) -> ByteLen {
        self.storage().len()
    }

    fn grows(&self, _io: &Io) -> bool {
        self.storage().grows()
    }

    fn read<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
        _flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            let data = self.storage().read(range).await.map_err(|kind| self.error(kind, range))?;
            assert_eq!(data.len() as u64, range.len().0, "data-fills-its-range");
            Ok(data)
        })
    }

    fn write<'a>(&'a self, _io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let (range, flags) = (write.range, write.flags);
            let done = match &write.kind {
                WriteKind::Data(_) | WriteKind::Copy(_) => {
                    let data = write.bytes().await?;
                    self.storage().write(range.start(), data, flags.fua).await
                }
                WriteKind::Zeroes => self.storage().write_zeroes(range, flags.may_unmap).await,
                WriteKind::Discard => self.storage().discard(range).await,
                WriteKind::Compressed(_) => Err(IoErrorKind::Unsupported),
                WriteKind::Truncate(truncate) => self.truncate(*truncate).await,
            };
            done.map_err(|kind| self.error(kind, range))
        })
    }

    fn prepare<'a>(&'a self, change: Change<'a>) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let reopened = self.reopened(&change)?;
            if reopened.is_some() {
                // Of what is opened anew nobody knows what was written before.
                let everything = ByteRange::new(0, self.storage().len().0);
                let flushed = self.storage().flush().await;
                flushed.map_err(|kind| self.error(kind, everything))?;
            }
            self.prepared.with(|prepared| *prepared = reopened);
            Ok(())
        })
    }

    fn commit(&self) {
        if let Some(reopened) = self.prepared.with(Option::take) {
            let old = self.storage.with(|storage| core::mem::replace(storage, reopened));
            drop(old);
        }
    }

    fn abort(&self) {
        drop(self.prepared.with(Option::take));
    }

    fn flush<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let everything = ByteRange::new(0, self.storage().len().0);
            self.storage().flush().await.map_err(|kind| self.error(kind, everything))
        })
    }

    fn block_status<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        Box::pin(async move {
            let asked = self.storage().allocated(range).await;
            let (allocated, len) = asked.map_err(|kind| self.error(kind, range))?;
            let whole = if allocated {
                Extent::data(range)
            } else {
                Extent { offset: Some(range.start()), ..Extent::zeroes(range) }
            };
            Ok(Extent { len, ..whole })
        })
    }

    fn keeps_data(&self) -> bool {
        true
    }
}
