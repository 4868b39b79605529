//! `compress`: a filter that has its child compress what is written: whole clusters are, and what is less is written as
//! it is, and makes its cluster one that is not compressed.
//!
//! Source: QEMU's documented compress filter. Differs: QEMU reads what is around a part of a cluster, and compresses
//! all of that. Where the child cannot compress any more, as another has taken its place, it is written as it is.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use blockyard_block::{BlockDriver, BlockError, Io, Write, WriteKind};
use blockyard_runtime::{BoxFuture, IoBuffer, IoErrorKind};
use blockyard_units::{ByteLen, ByteRange};

use crate::FILE;

/// Has its child compress.
pub struct Compress {
    name: String,
}

impl Compress {
    /// The filter of the node `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    async fn write_data(&self, io: &Io, write: Write, data: &IoBuffer) -> Result<(), BlockError> {
        let range = write.range;
        let part = |part: ByteRange, compressed: bool| {
            let from = ByteLen(part.start() - range.start()).as_usize();
            let data = data.slice(from..from + part.len().as_usize());
            let kind = if compressed { WriteKind::Compressed(data) } else { WriteKind::Data(data) };
            io.write(FILE, Write { kind, range: part, ..write.clone() })
        };
        let whole = match io.compresses(FILE)? {
            Some(cluster) => range.align_inward(cluster, io.len(FILE)?.0),
            None => ByteRange::new(range.start(), 0),
        };
        if whole.is_empty() {
            return part(range, false).await;
        }
        let (before, after) = (range.start() < whole.start(), whole.end() < range.end());
        if before {
            part(ByteRange::between(range.start(), whole.start()), false).await?;
        }
        match part(whole, true).await {
            // Another child has come in the place of the one that could.
            Err(error) if error.io_kind() == Some(IoErrorKind::Unsupported) => {
                part(whole, false).await?;
            }
            done => done?,
        }
        match after {
            true => part(ByteRange::between(whole.end(), range.end()), false).await,
            false => Ok(()),
        }
    }
}

impl BlockDriver for Compress {
    fn main_child(&self) -> Option<&'static str> {
        Some(FILE)
    }

    /// # Errors
    /// The child cannot compress.
    fn open<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            match io.compresses(FILE)? {
                Some(_) => Ok(()),
                None => Err(BlockError::Invalid(format!(
                    "node '{}': its child cannot compress; a qcow2 image can, if it is neither encrypted nor has an \
                     external data file",
                    self.name
                ))),
            }
        })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let write = write.resolved().await?;
            match write.kind.clone() {
                WriteKind::Data(data) => self.write_data(io, write, &data).await,
                _ => io.write(FILE, write).await,
            }
        })
    }
}
