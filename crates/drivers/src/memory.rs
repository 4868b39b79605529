//! `memory`: bytes in memory. Never fails, never waits.
//!
//! A trusted type. Its length never changes, a read looks at the bytes of its range and nothing
//! else, a write replaces them without looking: so the footprint of a request is its range, in
//! bytes, and two requests without a common byte commute.

use alloc::boxed::Box;
use alloc::vec::Vec;

use blockyard_block::{BlockDriver, BlockError, Io, ReadFlags, Write, WriteKind};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_units::{ByteLen, ByteRange};

/// Bytes in memory.
pub struct Memory {
    len: ByteLen,
    bytes: Shared<Vec<u8>>,
}

impl Memory {
    /// `len` bytes: those of `fill`, then zeroes.
    ///
    /// # Panics
    /// `fill-fits`: if `fill` is longer.
    pub fn new(len: u64, fill: Option<IoBuffer>) -> Self {
        let len = ByteLen(len);
        let mut bytes = alloc::vec![0; len.as_usize()];
        if let Some(fill) = fill {
            assert!(fill.len() <= bytes.len(), "fill-fits: {} into {len}", fill.len());
            bytes[..fill.len()].copy_from_slice(&fill);
        }
        Self { len, bytes: Shared::new(bytes) }
    }

    fn footprint(kind: Kind, range: ByteRange) -> [(Kind, u64, u64); 1] {
        [(kind, range.start(), range.end())]
    }
}

fn indices(range: ByteRange) -> core::ops::Range<usize> {
    ByteLen(range.start()).as_usize()..ByteLen(range.end()).as_usize()
}

impl BlockDriver for Memory {
    fn len(&self, _io: &Io) -> ByteLen {
        self.len
    }

    fn read<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
        _flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            let footprint = Self::footprint(Kind::Read, range);
            Ok(self.bytes.trusted(footprint, |bytes| bytes[indices(range)].to_vec().into()))
        })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let range = write.range;
            if matches!(write.kind, WriteKind::Compressed(_) | WriteKind::Truncate(_)) {
                return Err(io.unsupported(range));
            }
            let data = write.bytes().await?;
            self.bytes.trusted(Self::footprint(Kind::Write, range), |bytes| {
                bytes[indices(range)].copy_from_slice(&data);
            });
            Ok(())
        })
    }
}
