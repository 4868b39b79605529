//! Requests in pieces that a driver takes: aligned, no longer than it can, and with what it does not support done
//! another way.
//!
//! Not for: who may overlap whom. The rest of a block that is written in part is read and written back, and its
//! request is serialising by then.
//!
//! All that is rare is in a box of its own: every node that a request passes pays for what is not.

use alloc::boxed::Box;
use alloc::vec::Vec;

use blockyard_runtime::{BoxFuture, IoBuffer, IoErrorKind};
use blockyard_units::{ByteLen, ByteRange, Mutant};

use crate::debug::DebugEvent;
use crate::driver::{BlockDriver, Limits};
use crate::error::BlockError;
use crate::io::Io;
use crate::request::{ReadFlags, Write, WriteFlags, WriteKind};

/// Bytes: zeroes as data are written in pieces that one buffer holds.
const ZEROES_AT_ONCE: u64 = 1 << 20;

/// A driver with a node's own view.
#[derive(Clone, Copy)]
pub(crate) struct Pieces<'a> {
    pub driver: &'a dyn BlockDriver,
    pub io: &'a Io,
}

/// Whole blocks around `range`; one that the end of the node cuts counts as whole.
fn blocks(range: ByteRange, limits: &Limits, len: u64) -> ByteRange {
    let aligned = range.align_outward(limits.alignment());
    ByteRange::between(aligned.start(), aligned.end().min(len.max(range.end())))
}

/// `range` in pieces of up to `max` bytes.
fn cut(range: ByteRange, max: u64) -> impl Iterator<Item = ByteRange> {
    let starts = core::iter::successors(Some(range.start()), move |start| start.checked_add(max));
    starts
        .take_while(move |start| *start < range.end())
        .map(move |start| ByteRange::between(start, range.end().min(start.saturating_add(max))))
}

fn takes_read(limits: &Limits, range: ByteRange) -> bool {
    is_aligned(limits, range) && range.len().0 <= limits.max_transfer
}

fn is_aligned(limits: &Limits, range: ByteRange) -> bool {
    limits.request_alignment == 1 || range.align_outward(limits.alignment()) == range
}

fn takes_write(limits: &Limits, write: &Write) -> bool {
    let has_fallback = matches!(write.kind, WriteKind::Zeroes | WriteKind::Discard);
    let fits = is_aligned(limits, write.range) && write.range.len().0 <= limits.max(&write.kind);
    fits && !has_fallback && (!write.flags.fua || limits.has_fua(&write.kind))
}

fn unsupported(result: &Result<(), BlockError>) -> bool {
    result.as_ref().is_err_and(|error| error.io_kind() == Some(IoErrorKind::Unsupported))
}

impl<'a> Pieces<'a> {
    fn limits(&self) -> Limits {
        let layer = self.io.layer();
        if layer.design().is_mutant(Mutant::LimitsZeroedUnderIo) && layer.anything_drained() {
            return Limits::NONE;
        }
        self.driver.limits()
    }

    fn len(&self) -> u64 {
        self.driver.len(self.io).0
    }

    /// A request has come by `event`.
    pub async fn event(&self, event: DebugEvent) {
        if let Some(debugger) = self.driver.debugger() {
            debugger.event(event).await;
        }
    }

    /// Reads. What the driver takes as it is goes there at once: most do, and each node on the way counts.
    pub fn read(
        self,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        if self.driver.debugger().is_none() && takes_read(&self.limits(), range) {
            return self.driver.read(self.io, range, flags);
        }
        Box::pin(self.read_in_pieces(range, flags))
    }

    async fn read_in_pieces(
        self,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        self.event(DebugEvent::READ_AIO).await;
        let limits = self.limits();
        if takes_read(&limits, range) {
            return self.driver.read(self.io, range, flags).await;
        }
        if range.is_empty() {
            return Ok(IoBuffer::default());
        }
        let aligned = blocks(range, &limits, self.len());
        let mut whole = Vec::new();
        for piece in cut(aligned, limits.max_transfer) {
            // What was the end is maybe not the end any more.
            let piece = blocks(piece, &limits, self.len());
            let data = self.driver.read(self.io, piece, flags).await?;
            if piece == range {
                return Ok(data);
            }
            whole.extend_from_slice(&data);
        }
        if flags.prefetch {
            return Ok(IoBuffer::default());
        }
        let from = ByteLen(range.start() - aligned.start()).as_usize();
        Ok(IoBuffer::from(whole).slice(from..from + range.len().as_usize()))
    }

    /// Writes, of every kind; as reads, at once if the driver takes it as it is.
    pub fn write(self, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        if self.driver.debugger().is_none() && takes_write(&self.limits(), &write) {
            return self.driver.write(self.io, write);
        }
        Box::pin(self.write_in_pieces(write))
    }

    async fn write_in_pieces(self, write: Write) -> Result<(), BlockError> {
        if matches!(write.kind, WriteKind::Data(_) | WriteKind::Copy(_)) {
            self.event(DebugEvent::WRITE_AIO).await;
        }
        let limits = self.limits();
        if is_aligned(&limits, write.range) {
            self.aligned(write, &limits).await
        } else {
            self.unaligned(write, &limits).await
        }
    }

    async fn unaligned(&self, write: Write, limits: &Limits) -> Result<(), BlockError> {
        let inner = write.range.align_inward(limits.alignment(), self.len());
        match &write.kind {
            WriteKind::Discard if inner.is_empty() => Ok(()),
            WriteKind::Discard => self.aligned(write.part(inner), limits).await,
            WriteKind::Zeroes if !inner.is_empty() => {
                let (start, end) = (write.range.start(), write.range.end());
                self.padded(write.part(ByteRange::between(start, inner.start())), limits).await?;
                self.aligned(write.part(inner), limits).await?;
                self.padded(write.part(ByteRange::between(inner.end(), end)), limits).await
            }
            WriteKind::Zeroes | WriteKind::Data(_) | WriteKind::Copy(_) => {
                self.padded(write, limits).await
            }
            // A format knows what it compresses; a length has an end of its own.
            WriteKind::Compressed(_) | WriteKind::Truncate(_) => self.drive(write, limits).await,
        }
    }

    /// Reads the rest of the blocks that `write` covers in part, and writes whole ones.
    async fn padded(&self, write: Write, limits: &Limits) -> Result<(), BlockError> {
        let range = write.range;
        if range.is_empty() {
            return Ok(());
        }
        let aligned = blocks(range, limits, self.len());
        let data = write.bytes().await?;
        let before = ByteRange::between(aligned.start(), range.start());
        let after = ByteRange::between(range.end(), aligned.end());
        let mut whole = Vec::with_capacity(aligned.len().as_usize());
        if !before.is_empty() {
            self.event(DebugEvent::PWRITEV_RMW_HEAD).await;
            whole.extend_from_slice(&self.rest(before, limits).await?);
            self.event(DebugEvent::PWRITEV_RMW_AFTER_HEAD).await;
        }
        // Between the end and what makes the node longer there are zeroes.
        whole.resize(before.len().as_usize(), 0);
        whole.extend_from_slice(&data);
        if !after.is_empty() {
            self.event(DebugEvent::PWRITEV_RMW_TAIL).await;
            whole.extend_from_slice(&self.rest(after, limits).await?);
            self.event(DebugEvent::PWRITEV_RMW_AFTER_TAIL).await;
        }
        // Whoever made the node longer meanwhile did so behind these blocks: up to there it is zeroes.
        let aligned = blocks(aligned, limits, self.len());
        whole.resize(aligned.len().as_usize(), 0);
        let write =
            Write { flags: write.flags, ..Write::data(aligned.start(), IoBuffer::from(whole)) };
        self.aligned(write, limits).await
    }

    /// A part of one block, as far as the node goes.
    async fn rest(&self, part: ByteRange, limits: &Limits) -> Result<IoBuffer, BlockError> {
        let len = self.len();
        let part = part.intersection(&ByteRange::new(0, len));
        if part.is_empty() {
            return Ok(IoBuffer::default());
        }
        let block = blocks(part, limits, len);
        let data = self.driver.read(self.io, block, ReadFlags::BY_HOOK).await?;
        let from = ByteLen(part.start() - block.start()).as_usize();
        Ok(data.slice(from..from + part.len().as_usize()))
    }

    async fn aligned(&self, write: Write, limits: &Limits) -> Result<(), BlockError> {
        let begins = match write.kind {
            WriteKind::Data(_) | WriteKind::Copy(_) => Some(DebugEvent::PWRITEV),
            WriteKind::Zeroes => Some(DebugEvent::PWRITEV_ZERO),
            _ => None,
        };
        if let Some(begins) = begins {
            self.event(begins).await;
        }
        let result = self.short(write, limits).await;
        if begins.is_some() {
            self.event(DebugEvent::PWRITEV_DONE).await;
        }
        result
    }

    /// As many requests as it takes.
    async fn short(&self, write: Write, limits: &Limits) -> Result<(), BlockError> {
        let max = limits.max(&write.kind);
        if write.range.len().0 <= max {
            return self.supported(write, limits).await;
        }
        for piece in cut(write.range, max) {
            self.supported(write.part(piece), limits).await?;
        }
        Ok(())
    }

    async fn supported(&self, write: Write, limits: &Limits) -> Result<(), BlockError> {
        let (range, flags) = (write.range, write.flags);
        let kind = match write.kind {
            WriteKind::Zeroes | WriteKind::Discard => write.kind.clone(),
            _ => return self.drive(write, limits).await,
        };
        let result = self.drive(write, limits).await;
        match kind {
            WriteKind::Discard if unsupported(&result) => Ok(()),
            WriteKind::Zeroes if unsupported(&result) && !flags.no_fallback => {
                self.zeroes_as_data(range, flags, limits).await
            }
            _ => result,
        }
    }

    async fn zeroes_as_data(
        &self,
        range: ByteRange,
        flags: WriteFlags,
        limits: &Limits,
    ) -> Result<(), BlockError> {
        let max = limits.max_transfer.min(ZEROES_AT_ONCE);
        for piece in cut(range, max) {
            let zeroes = IoBuffer::zeroes(piece.len().as_usize());
            let write = Write { flags, ..Write::data(piece.start(), zeroes) };
            self.drive(write, limits).await?;
        }
        Ok(())
    }

    /// To the driver, and what it did made durable if that was asked for and is not its own to do.
    async fn drive(&self, mut write: Write, limits: &Limits) -> Result<(), BlockError> {
        let lacks = write.flags.fua && !limits.has_fua(&write.kind);
        if lacks {
            write.flags.fua = false;
        }
        let loses = self.io.layer().design().is_mutant(Mutant::FuaLostOnWriteZeroes);
        let flushes = lacks && !(loses && matches!(write.kind, WriteKind::Zeroes));
        self.driver.write(self.io, write).await?;
        if flushes { self.driver.flush(self.io).await } else { Ok(()) }
    }
}
