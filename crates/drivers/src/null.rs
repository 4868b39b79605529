//! `null-co`: reads zeroes, forgets writes. Never fails, never waits.
//!
//! Differs: QEMU's leaves a reader's buffer as it was unless told to read zeroes; this one always
//! reads zeroes.

use alloc::boxed::Box;

use blockyard_block::{BlockDriver, BlockError, Io, ReadFlags, Write, WriteKind};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_units::{ByteLen, ByteRange};

/// Nothing, of a length.
pub struct Null {
    len: ByteLen,
}

impl Null {
    /// `len` bytes.
    pub fn new(len: u64) -> Self {
        Self { len: ByteLen(len) }
    }
}

impl BlockDriver for Null {
    fn len(&self, _io: &Io) -> ByteLen {
        self.len
    }

    fn read<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
        _flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move { Ok(IoBuffer::zeroes(range.len().as_usize())) })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            match write.kind {
                WriteKind::Truncate(_) => Err(io.unsupported(write.range)),
                _ => Ok(()),
            }
        })
    }
}
