//! `snapshot-access`: shows what its child was at the moment to which that keeps a way back, as the filter of a backup
//! does; it cannot be written. What is discarded is given up there, and not shown any more.
//!
//! Source: QEMU's documented snapshot-access driver.

use alloc::boxed::Box;

use blockyard_block::{BlockDriver, BlockError, Io, ReadFlags, Write, WriteKind};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_units::{ByteLen, ByteRange};

use crate::FILE;

/// Shows what its child was.
pub struct SnapshotAccess;

impl BlockDriver for SnapshotAccess {
    fn len(&self, io: &Io) -> ByteLen {
        io.len(FILE).unwrap_or_default()
    }

    fn looks_back(&self) -> bool {
        true
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        _flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(io.read_snapshot(FILE, range))
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            match write.kind {
                WriteKind::Discard => io.discard_snapshot(FILE, write.range).await,
                _ => Err(io.unsupported(write.range)),
            }
        })
    }
}
