//! A disk in memory, and running what waits for it.

use std::future::{Future, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use blockyard_runtime::{BoxFuture, Io, IoBuffer, Storage};
use blockyard_sync::Shared;
use blockyard_units::{ByteLen, ByteRange};

/// Bytes that are as long as what was written.
#[derive(Clone, Default)]
pub struct Disk(Arc<Shared<Vec<u8>>>);

impl Disk {
    /// With these on it.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Shared::new(bytes)))
    }

    /// What is on it.
    pub fn bytes(&self) -> Vec<u8> {
        self.with(|bytes| bytes.clone())
    }

    fn with<R>(&self, change: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        self.0.write(change)
    }
}

fn at(range: ByteRange) -> std::ops::Range<usize> {
    ByteLen(range.start()).as_usize()..ByteLen(range.end()).as_usize()
}

impl Storage for Disk {
    fn name(&self) -> &str {
        "disk"
    }

    fn len(&self) -> ByteLen {
        ByteLen(self.with(|bytes| bytes.len() as u64))
    }

    fn read(&self, range: ByteRange) -> BoxFuture<'static, Io<IoBuffer>> {
        let read = self.with(|bytes| bytes[at(range)].to_vec());
        Box::pin(ready(Ok(read.into())))
    }

    fn write(&self, offset: u64, data: IoBuffer, _fua: bool) -> BoxFuture<'static, Io<()>> {
        let range = at(ByteRange::new(offset, data.len() as u64));
        self.with(|bytes| {
            bytes.resize(bytes.len().max(range.end), 0);
            bytes[range].copy_from_slice(&data);
        });
        Box::pin(ready(Ok(())))
    }

    fn write_zeroes(&self, range: ByteRange, _may_unmap: bool) -> BoxFuture<'static, Io<()>> {
        self.write(range.start(), IoBuffer::zeroes(range.len().as_usize()), false)
    }

    fn discard(&self, range: ByteRange) -> BoxFuture<'static, Io<()>> {
        // Whoever reads it all the same shall not take it for anything.
        self.with(|bytes| {
            let range = at(range);
            let end = range.end.min(bytes.len());
            bytes[range.start.min(end)..end].fill(0xdd);
        });
        Box::pin(ready(Ok(())))
    }

    fn flush(&self) -> BoxFuture<'static, Io<()>> {
        Box::pin(ready(Ok(())))
    }

    fn truncate(&self, len: ByteLen, _reserve: bool) -> BoxFuture<'static, Io<()>> {
        self.with(|bytes| bytes.resize(len.as_usize(), 0));
        Box::pin(ready(Ok(())))
    }
}

/// Runs what waits for nobody else.
pub fn run<T>(task: impl Future<Output = T>) -> T {
    let mut task = pin!(task);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = task.as_mut().poll(&mut context) {
            return result;
        }
    }
}
