//! `file`: a disk that the world provides.
//!
//! Zeroes and discards are written as zero bytes: a [`Storage`] has no such operations yet.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;

use blockyard_block::{BlockDriver, BlockError, Io, ReadFlags, Write};
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
}

impl BlockDriver for FileDriver {
    fn len(&self, _io: &Io) -> ByteLen {
        self.storage.len()
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
            let (range, fua) = (write.range, write.flags.fua);
            let written = self.storage.write(range.start(), write.bytes(), fua).await;
            written.map_err(|kind| self.error(kind, range))
        })
    }

    fn flush<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let everything = ByteRange::new(0, self.storage.len().0);
            self.storage.flush().await.map_err(|kind| self.error(kind, everything))
        })
    }
}
