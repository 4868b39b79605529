//! `snapshot-access`: shows what its child was at the moment to which that keeps a way back, as the filter of a backup
//! does; it cannot be written.
//!
//! Source: QEMU's documented snapshot-access driver.

use alloc::boxed::Box;

use blockyard_block::{BlockDriver, BlockError, Io, ReadFlags};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_units::{ByteLen, ByteRange};

use crate::FILE;

/// Shows what its child was.
pub struct SnapshotAccess;

impl BlockDriver for SnapshotAccess {
    fn len(&self, io: &Io) -> ByteLen {
        io.len(FILE).unwrap_or_default()
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        _flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(io.read_snapshot(FILE, range))
    }
}
