//! `blkdebug`: passes every request on, but lets some fail, and some stop until they are told to go on; and takes
//! requests of the shape that it is told only.
//!
//! A drained section lets those go on that have stopped, as it does with all that drivers hold back, and nobody stops
//! while it lasts: whoever drains waits for requests, and would wait for ever.
//!
//! Source: QEMU's documented blkdebug driver. Differs: there, a drained section waits for those that have stopped.

mod rules;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::{
    BlockDriver, BlockError, DebugEvent, Debugger, Extent, Io, Limits, ReadFlags, Write, WriteKind,
};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::{Shared, door, note, sometimes};
use blockyard_units::ByteRange;

use crate::IMAGE;
use rules::Rules;
pub use rules::{InjectError, IoType, SetState};

/// What requests it takes, all in bytes; none: as the image does.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugLimits {
    /// A power of two up to [`Limits::MAX_ALIGNMENT`]; the others are multiples.
    pub align: Option<u32>,
    /// The longest read or write.
    pub max_transfer: Option<u64>,
    /// Zeroes that do not begin and end at multiples are written as data.
    pub opt_write_zero: Option<u64>,
    /// The longest write of zeroes.
    pub max_write_zero: Option<u64>,
    /// Discards that do not begin and end at multiples are left undone.
    pub opt_discard: Option<u64>,
    /// The longest discard.
    pub max_discard: Option<u64>,
}

/// Fails and stops requests.
pub struct Blkdebug {
    node: String,
    limits: DebugLimits,
    rules: Shared<Rules>,
}

impl Blkdebug {
    /// `node` is the node-name, which errors name.
    pub fn new(
        node: impl Into<String>,
        limits: DebugLimits,
        inject_error: Vec<InjectError>,
        set_state: Vec<SetState>,
    ) -> Self {
        let rules = Shared::new(Rules::new(inject_error, set_state));
        Self { node: node.into(), limits, rules }
    }

    async fn inject(&self, io_type: IoType, range: ByteRange) -> Result<(), BlockError> {
        if !self.rules.read(Rules::injects) {
            return Ok(());
        }
        let Some(rule) = self.rules.write(|rules| rules.inject(io_type, range)) else {
            return Ok(());
        };
        let Some(kind) = rule.error else { return Ok(()) };
        note!("{} fails a request at {range}: {kind}", self.node);
        if !rule.immediately {
            door::boundary().await;
        }
        Err(BlockError::Io { kind, node: self.node.clone(), range })
    }

    /// Whether `range` is made of multiples; one that the end cuts counts as whole.
    fn is_preferred(&self, io: &Io, range: ByteRange, multiple: Option<u64>) -> bool {
        multiple.is_none_or(|multiple| {
            let ends = range.end().is_multiple_of(multiple) || range.end() == self.len(io).0;
            range.start().is_multiple_of(multiple) && ends
        })
    }
}

impl BlockDriver for Blkdebug {
    fn main_child(&self) -> Option<&'static str> {
        Some(IMAGE)
    }

    fn limits(&self) -> Limits {
        let limits = self.limits;
        Limits {
            request_alignment: limits.align.unwrap_or(1),
            max_transfer: limits.max_transfer.unwrap_or(u64::MAX),
            max_zeroes: limits.max_write_zero.unwrap_or(u64::MAX),
            max_discard: limits.max_discard.unwrap_or(u64::MAX),
            ..Limits::NONE
        }
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            self.inject(IoType::Read, range).await?;
            io.read(IMAGE, range, flags).await
        })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let range = write.range;
            let (io_type, multiple) = match &write.kind {
                WriteKind::Data(_) | WriteKind::Compressed(_) | WriteKind::Copy(_) => {
                    (IoType::Write, None)
                }
                WriteKind::Zeroes => (IoType::WriteZeroes, self.limits.opt_write_zero),
                WriteKind::Discard => (IoType::Discard, self.limits.opt_discard),
                WriteKind::Truncate(_) => return io.write(IMAGE, write).await,
            };
            if !self.is_preferred(io, range, multiple) {
                return Err(io.unsupported(range));
            }
            self.inject(io_type, range).await?;
            io.write(IMAGE, write).await
        })
    }

    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            self.inject(IoType::Flush, ByteRange::new(0, 0)).await?;
            io.flush(IMAGE).await
        })
    }

    fn block_status<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        Box::pin(async move {
            self.inject(IoType::BlockStatus, range).await?;
            Ok(Extent::raw(range, IMAGE, range.start()))
        })
    }

    fn debugger(&self) -> Option<&dyn Debugger> {
        Some(self)
    }

    fn drain_begin(&self) {
        self.rules.write(Rules::begin_section);
    }

    fn drain_end(&self) {
        self.rules.write(Rules::end_section);
    }

    fn drain_begin_above(&self) {
        self.drain_begin();
    }

    fn drain_end_above(&self) {
        self.drain_end();
    }
}

impl Debugger for Blkdebug {
    fn event(&self, event: DebugEvent) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if !self.rules.read(|rules| rules.cares(event)) {
                return;
            }
            if let Some(number) = self.rules.write(|rules| rules.meet(event)) {
                note!("{} stops a request at {}", self.node, event.word());
                sometimes!(true, "a request stopped at a breakpoint");
                self.rules.wait_until(move |rules| !rules.is_stopped(number)).await;
            }
        })
    }

    fn set_breakpoint(&self, event: DebugEvent, tag: String) {
        self.rules.write(|rules| rules.set_breakpoint(event, tag));
    }

    fn resume(&self, tag: &str) -> bool {
        self.rules.write(|rules| rules.resume(tag))
    }

    fn wait_stopped(&self, tag: String) -> BoxFuture<'_, ()> {
        Box::pin(self.rules.wait_until(move |rules| rules.is_stopped_as(&tag)))
    }
}
