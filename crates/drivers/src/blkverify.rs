//! `blkverify`: does everything to each of two children, and compares what they say.
//!
//! A read asks both and returns the bytes of `raw` if those of `test` are the same. A write, of whatever kind, goes to
//! both, and so does a flush. If the bytes differ, or one child failed and the other did not, that is told, and the
//! request fails.
//!
//! Invariants:
//! - `children-agree-beside-reads`: writes serialise, so that two which overlap reach both children in one order, and
//!   no read sees one child before and the other after a write;
//! - `both-do-the-same`: what each might do in its own way is not passed on: discards, after which a child reads as it
//!   likes, and zeroes that only one can make without writing them. What is to be compressed is so for `test`, which
//!   is asked first as it may refuse, and plain data for `raw`.
//!
//! Source: QEMU's documented blkverify. Differs: QEMU ends the process where it finds a difference; here the request
//! fails with an I/O error whose range begins at the first byte that differs, and the event `X_BLKVERIFY_MISMATCH`
//! says where that is. What is read on behalf of a write under way does not wait for other writes, so it is read from
//! `raw` alone. Children of different lengths are refused.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::future::Future;

use blockyard_block::{BlockDriver, BlockError, Io, ReadFlags, Write, WriteKind};
use blockyard_runtime::{BoxFuture, IoBuffer, IoErrorKind};
use blockyard_sync::sometimes;
use blockyard_units::ByteRange;

use crate::{RAW, TEST};

/// Compares two children.
pub struct Blkverify {
    name: String,
}

/// What both children said.
type Answers<T> = (Result<T, BlockError>, Result<T, BlockError>);

/// The first byte, from the beginning, at which the two differ.
fn first_difference(raw: &[u8], test: &[u8]) -> Option<usize> {
    let same = raw.iter().zip(test).take_while(|(raw, test)| raw == test).count();
    (same < raw.len().max(test.len())).then_some(same)
}

impl Blkverify {
    /// One whose node is `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Has both children do something side by side.
    ///
    /// # Yields
    /// Always.
    async fn ask<T: Send + 'static>(
        &self,
        io: &Io,
        raw: impl Future<Output = Result<T, BlockError>>,
        test: impl Future<Output = Result<T, BlockError>> + Send + 'static,
    ) -> Answers<T> {
        let test = io.layer().runtime().spawn(format!("{} {TEST}", self.name), test);
        (raw.await, test.join().await)
    }

    /// Tells that the children differ from `range`'s start on.
    fn differ(&self, io: &Io, range: ByteRange) -> BlockError {
        sometimes!(true, "the children of blkverify differ");
        io.layer().children_differ(&self.name, range);
        BlockError::Io { kind: IoErrorKind::Io, node: self.name.clone(), range }
    }

    /// What both said, if that is the same: that they did it, or that they failed.
    fn judge<T>(
        &self,
        io: &Io,
        answers: Answers<T>,
        range: ByteRange,
    ) -> Result<(T, T), BlockError> {
        match answers {
            (Ok(raw), Ok(test)) => Ok((raw, test)),
            (Err(error), Err(_)) => Err(error),
            _ => Err(self.differ(io, range)),
        }
    }

    async fn read_both(
        &self,
        io: &Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        let below = io.clone();
        let test = async move { below.read(TEST, range, ReadFlags::default()).await };
        let answers = self.ask(io, io.read(RAW, range, flags), test).await;
        let (raw, test) = self.judge(io, answers, range)?;
        match first_difference(&raw, &test) {
            None => Ok(raw),
            Some(index) => {
                let at = range.start() + index as u64;
                Err(self.differ(io, ByteRange::between(at, range.end())))
            }
        }
    }
}

impl BlockDriver for Blkverify {
    fn main_child(&self) -> Option<&'static str> {
        Some(RAW)
    }

    fn grows(&self, io: &Io) -> bool {
        io.grows(RAW) && io.grows(TEST)
    }

    fn serialises_writes(&self) -> bool {
        true
    }

    /// # Errors
    /// The children are not of one length.
    fn open<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let (raw, test) = (io.len(RAW)?, io.len(TEST)?);
            if raw != test {
                let name = &self.name;
                let message = format!(
                    "node '{name}': raw has {raw} and test {test} bytes; they must be as long"
                );
                return Err(BlockError::Invalid(message));
            }
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        // A prefetch returns no bytes that could be compared.
        match flags.by_hook || flags.prefetch {
            true => Box::pin(io.read(RAW, range, flags)),
            false => Box::pin(self.read_both(io, range, flags)),
        }
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let range = write.range;
            if matches!(write.kind, WriteKind::Discard) || write.flags.no_fallback {
                return Err(io.unsupported(range));
            }
            let test = write.resolved().await?;
            let below = io.clone();
            if let WriteKind::Compressed(data) = &test.kind {
                let raw = Write { kind: WriteKind::Data(data.clone()), ..test.clone() };
                below.write(TEST, test).await?;
                let done = io.write(RAW, raw).await;
                return done.map_err(|_| self.differ(io, range));
            }
            let raw = test.clone();
            let test = async move { below.write(TEST, test).await };
            let answers = self.ask(io, io.write(RAW, raw), test).await;
            self.judge(io, answers, range).map(drop)
        })
    }

    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let below = io.clone();
            let answers = self.ask(io, io.flush(RAW), async move { below.flush(TEST).await }).await;
            self.judge(io, answers, ByteRange::new(0, 0)).map(drop)
        })
    }
}
