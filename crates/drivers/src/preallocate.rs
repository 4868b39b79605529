//! `preallocate`: a filter that has its child allocate ahead of what is written behind its end, in few large steps, and
//! takes the surplus back when nobody writes any more.
//!
//! What is added is zeroes that were never written. Whoever asks for the length is told where what was written ends.
//! A crash leaves the surplus, which is zeroes behind the end of an image that knows its own length.
//!
//! Invariants:
//! - `nothing-written-is-cut`: the child's length changes in one's turn, and a write that makes it longer itself, as
//!   nothing could be allocated ahead, has the turn too; so nobody's length is older than a write behind it;
//! - `ahead-is-a-favour`: a write does not fail because nothing can be allocated ahead of it.
//!
//! Source: QEMU's documented preallocate filter. Differs: it may be anywhere, not only above a protocol node.

use alloc::boxed::Box;
use core::any::Any;

use blockyard_block::{
    BlockDriver, BlockError, Extent, Io, Preallocation, ReadFlags, Truncate, Write, WriteKind,
};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::door::world::Quiet;
use blockyard_sync::{Mutex, sometimes};
use blockyard_units::{ByteLen, ByteRange};

use crate::FILE;
use crate::describe::may_resize;

/// How far ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreallocateOptions {
    /// Bytes; the child's length becomes a multiple.
    pub align: u64,
    /// Bytes behind what is written.
    pub size: u64,
}

impl Default for PreallocateOptions {
    fn default() -> Self {
        Self { align: 1 << 20, size: 128 << 20 }
    }
}

/// Allocates ahead.
pub struct Preallocate {
    options: Quiet<PreallocateOptions>,
    /// Where what was written ends, while the child is longer.
    end: Quiet<Option<u64>>,
    /// Whose turn it is to change the child's length.
    turn: Mutex<()>,
}

impl Preallocate {
    /// One that allocates so far ahead.
    pub fn new(options: PreallocateOptions) -> Self {
        Self { options: Quiet::new(options), end: Quiet::new(None), turn: Mutex::new(()) }
    }

    /// Makes room for a write up to `end`, and more. In one's turn.
    async fn allocate(&self, io: &Io, end: u64) -> Result<(), BlockError> {
        let PreallocateOptions { align, size } = self.options.with(|options| *options);
        let len = io.len(FILE)?.0;
        let Some(ahead) = end.checked_add(size).and_then(|end| end.checked_next_multiple_of(align))
        else {
            return Ok(());
        };
        // Where there is a surplus already, others write there meanwhile, and say how far.
        let is_first = self.end.with(|written| written.is_none());
        self.end.with(|written| *written = Some(written.unwrap_or(len)));
        let room = Truncate { len: ByteLen(ahead), preallocation: Preallocation::Falloc };
        let allocated = io.write(FILE, Write::truncate(room)).await;
        sometimes!(allocated.is_ok(), "space was allocated ahead of what is written");
        if is_first && allocated.is_err() && io.len(FILE)?.0 == len {
            self.end.with(|written| *written = None);
        }
        Ok(())
    }

    fn written(&self, end: u64) {
        self.end.with(|written| *written = written.map(|written| written.max(end)));
    }

    /// Takes the surplus back.
    async fn cut(&self, io: &Io) -> Result<(), BlockError> {
        let turn = self.turn.lock().await;
        let end = self.end.with(|end| *end);
        if let Some(end) = end.filter(|_| may_resize(io, FILE)) {
            let cut = Truncate { len: ByteLen(end), preallocation: Preallocation::Off };
            io.write(FILE, Write::truncate(cut)).await?;
            self.end.with(|end| *end = None);
        }
        turn.unlock();
        Ok(())
    }
}

impl BlockDriver for Preallocate {
    fn len(&self, io: &Io) -> ByteLen {
        let end = self.end.with(|end| end.map(ByteLen));
        end.unwrap_or_else(|| io.len(FILE).unwrap_or_default())
    }

    fn grows(&self, io: &Io) -> bool {
        io.grows(FILE)
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
        Box::pin(async move {
            let end = write.range.end();
            if let WriteKind::Truncate(Truncate { .. }) = write.kind {
                let turn = self.turn.lock().await;
                io.write(FILE, write).await?;
                self.end.with(|end| *end = None);
                turn.unlock();
                return Ok(());
            }
            if end > io.len(FILE)?.0 {
                let turn = self.turn.lock().await;
                if end > io.len(FILE)?.0 {
                    self.allocate(io, end).await?;
                }
                if end > io.len(FILE)?.0 {
                    io.write(FILE, write).await?;
                    self.written(end);
                    turn.unlock();
                    return Ok(());
                }
                turn.unlock();
            }
            io.write(FILE, write).await?;
            self.written(end);
            Ok(())
        })
    }

    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(io.flush(FILE))
    }

    fn block_status<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        Box::pin(io.block_status(FILE, range))
    }

    fn close<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.cut(io))
    }

    fn becomes_read_only<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.cut(io))
    }

    fn reopen(&self, options: &dyn Any) {
        if let Some(new) = options.downcast_ref() {
            self.options.with(|options| *options = *new);
        }
    }
}
