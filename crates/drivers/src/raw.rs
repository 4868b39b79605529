//! `raw`: the bytes of its child `file`, as they are. Every request passes on with its kind and
//! flags. Without a child it has no bytes.
//!
//! Source: QEMU's documented raw format. Differs: no offset and no size.

use alloc::boxed::Box;

use blockyard_block::{BlockDriver, BlockError, Io, ReadFlags, Write};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_units::{ByteLen, ByteRange};

use crate::FILE;

/// The child's bytes, as they are.
#[derive(Default)]
pub struct Raw;

impl BlockDriver for Raw {
    fn len(&self, io: &Io) -> ByteLen {
        io.len(FILE).unwrap_or_default()
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(io.read(FILE, range, flags))
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(io.write(FILE, write))
    }

    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(io.flush(FILE))
    }
}
