//! `file`: a disk that the world provides.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use blockyard_block::{BlockDriver, BlockError, Extent, Io, Limits, ReadFlags, Write, WriteKind};
use blockyard_block::{Preallocation, Truncate};
use blockyard_runtime::{BoxFuture, IoBuffer, IoErrorKind, Storage};
use blockyard_units::{ByteLen, ByteRange};

/// A disk that the world provides.
pub struct FileDriver {
    node: String,
    storage: Arc<dyn Storage>,
}

impl FileDriver {
    /// The disk `storage`; `node` is the node-name, which errors name.
    pub fn new(node: impl Into<String>, storage: Arc<dyn Storage>) -> Self {
        Self { node: node.into(), storage }
    }

    fn error(&self, kind: IoErrorKind, range: ByteRange) -> BlockError {
        BlockError::Io { kind, node: self.node.clone(), range }
    }

    async fn truncate(&self, truncate: Truncate) -> Result<(), IoErrorKind> {
        let Truncate { len, preallocation, .. } = truncate;
        let old = self.storage.len();
        match preallocation {
            // It has no structures of its own.
            Preallocation::Metadata => Err(IoErrorKind::Unsupported),
            Preallocation::Off => self.storage.truncate(len, false).await,
            Preallocation::Falloc => self.storage.truncate(len, true).await,
            Preallocation::Full => {
                self.storage.truncate(len, false).await?;
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
            self.storage.write(start, zeroes, false).await?;
            start = piece.end();
        }
        Ok(())
    }
}

impl BlockDriver for FileDriver {
    fn limits(&self) -> Limits {
        let request_alignment = self.storage.alignment();
        Limits { request_alignment, fua_zeroes: false, ..Limits::NONE }
    }

    fn len(&self, _io: &Io) -> ByteLen {
        self.storage.len()
    }

    fn grows(&self, _io: &Io) -> bool {
        self.storage.grows()
    }

    fn read<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
        _flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            let data = self.storage.read(range).await.map_err(|kind| self.error(kind, range))?;
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
                    self.storage.write(range.start(), data, flags.fua).await
                }
                WriteKind::Zeroes => self.storage.write_zeroes(range, flags.may_unmap).await,
                WriteKind::Discard => self.storage.discard(range).await,
                WriteKind::Compressed(_) => Err(IoErrorKind::Unsupported),
                WriteKind::Truncate(truncate) => self.truncate(*truncate).await,
            };
            done.map_err(|kind| self.error(kind, range))
        })
    }

    fn flush<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let everything = ByteRange::new(0, self.storage.len().0);
            self.storage.flush().await.map_err(|kind| self.error(kind, everything))
        })
    }

    fn block_status<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        Box::pin(async move {
            let asked = self.storage.allocated(range).await;
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
