//! A disk in a file or a block device.
//!
//! Invariants:
//! - `submitted-takes-place`: an operation is handed to the file's threads by the call, not by the first poll, and
//!   runs whether or not its future is kept. Dropping the disk waits for what was submitted.
//! - `range-inside`: no read reaches beyond the length that the file had when it was opened, or was given since.
//!
//! What is in memory already is read at once, on the caller's thread, and short writes into memory are made so. Past
//! the page cache the ring is used, and the file's threads where there is none; for all else the threads. The disk is
//! not a place to be while others change the file's length.

use std::future::ready;
use std::path::Path;
use std::sync::Arc;

use blockyard_runtime::{Access, BoxFuture, Io, IoBuffer, IoErrorKind, Storage};
use blockyard_units::{ByteLen, ByteRange};

use crate::aligned::{Aligned, aligned};
use crate::error::HostError;
use crate::image::{CreateMode, Image};
use crate::opening::{Aio, Opening};
use crate::pool::Pool;
use crate::ring::{Memory, Operation, Ring, Submitted};

/// Bytes; a longer transfer goes to the file's threads even if it is one of memory, since to copy it takes long.
const INLINE_MAX: u64 = 64 << 10;
/// Bytes; a write that covers part of a page may have to read the rest of it.
const PAGE: u64 = 4096;
/// Bytes; the ring takes nothing longer.
const RING_MAX: u64 = 1 << 30;

/// A disk in a file or block device, locked against other writers. Dropping it waits for the operations that were
/// submitted, then closes it; only flushes make durable.
pub struct HostFile {
    // Dropped first: the lock goes only when no operation is left.
    pool: Pool,
    /// Dropped next, for the same reason.
    ring: Option<Ring>,
    image: Arc<Image>,
    name: String,
}

impl HostFile {
    /// The disk in the file or block device `path`.
    ///
    /// # Errors
    /// `Missing`, `NotADisk`, `Denied`, `Io`; `InUse` if another opening may write, or if this one shall and there
    /// is another. The file is as before.
    pub fn open(path: impl AsRef<Path>, read_only: bool) -> Result<Self, HostError> {
        Self::open_with(path, Opening::new(read_only))
    }

    /// The same, in another way.
    ///
    /// # Errors
    /// As [`HostFile::open`]; `InUse` only where somebody is kept out; `Io` too where there is no way past the page
    /// cache and it is asked for.
    pub fn open_with(path: impl AsRef<Path>, opening: Opening) -> Result<Self, HostError> {
        let path = path.as_ref();
        Self::around("open", path, Image::open(path, opening)?)
    }

    /// Makes a regular file of `len` bytes that reads as zeros and takes no space yet, open for writing.
    ///
    /// # Errors
    /// `Missing` (its directory), `Exists`, `NotADisk`, `InUse`, `Denied`, `NoSpace`, `Io`. With [`CreateMode::New`]
    /// no file is left; with [`CreateMode::Replace`] after `NoSpace` and `Io` the file may be empty.
    pub fn create(path: impl AsRef<Path>, len: u64, mode: CreateMode) -> Result<Self, HostError> {
        let path = path.as_ref();
        Self::around("create", path, Image::create(path, len, mode)?)
    }

    /// Whether writes are refused.
    pub fn is_read_only(&self) -> bool {
        self.image.is_read_only()
    }

    fn around(action: &'static str, path: &Path, image: Image) -> Result<Self, HostError> {
        let pool = Pool::new().map_err(|error| HostError::from_io(action, path, &error))?;
        let Opening { direct, aio, .. } = image.opening();
        let ring = aio.map_or(direct, |aio| aio == Aio::IoUring).then(Ring::new);
        let ring = ring.and_then(Result::ok);
        Ok(Self { pool, ring, image: Arc::new(image), name: path.display().to_string() })
    }

    /// Does what changes `len` bytes at `offset`.
    fn change(
        &self,
        (offset, len): (u64, u64),
        operation: impl FnOnce(&Image) -> Io<()> + Send + 'static,
    ) -> BoxFuture<'static, Io<()>> {
        match self.refused(offset, len) {
            Some(kind) => Box::pin(ready(Err(kind))),
            None => self.submit(operation),
        }
    }

    /// Why `len` bytes at `offset` cannot be changed.
    fn refused(&self, offset: u64, len: u64) -> Option<IoErrorKind> {
        if self.is_read_only() {
            return Some(IoErrorKind::ReadOnly);
        }
        (!self.image.takes(offset, len)).then_some(IoErrorKind::InvalidInput)
    }

    /// Through the ring, if there is one and it takes that.
    fn through_ring(
        &self,
        offset: u64,
        memory: Memory,
        needed: usize,
    ) -> Result<Submitted, Memory> {
        let Some(ring) = self.ring.as_ref().filter(|_| needed as u64 <= RING_MAX) else {
            return Err(memory);
        };
        let image = self.image.clone();
        let submitted = ring.submit(Operation { image, offset, memory, needed });
        submitted.map_err(|operation| operation.memory)
    }

    fn submit<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Image) -> Io<T> + Send + 'static,
    ) -> BoxFuture<'static, Io<T>> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let image = self.image.clone();
        self.pool.submit(Box::new(move || {
            let result = operation(&image);
            drop(image);
            // Nobody has to be there to hear it.
            let _ = answer.send(result);
        }));
        Box::pin(async move { answered.await.expect("submitted-takes-place") })
    }
}

impl Storage for HostFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> ByteLen {
        ByteLen(self.image.len())
    }

    fn reopen(&self, access: Access) -> Result<Arc<dyn Storage>, String> {
        let path = Path::new(&self.name);
        let reopened = self.image.reopen(path, access);
        let reopened = reopened.and_then(|image| Self::around("reopen", path, image));
        Ok(Arc::new(reopened.map_err(|error| error.to_string())?))
    }

    fn read(&self, range: ByteRange) -> BoxFuture<'static, Io<IoBuffer>> {
        if !self.image.contains(range.start(), range.len().0) {
            return Box::pin(ready(Err(IoErrorKind::InvalidInput)));
        }
        let (offset, needed) = (range.start(), range.len().as_usize());
        let alignment = self.image.alignment as usize;
        let mut memory = Aligned::new(needed.next_multiple_of(alignment), alignment);
        let cached = !self.image.opening().direct && range.len().0 <= INLINE_MAX;
        if cached && self.image.read_cached(offset, memory.as_mut()) == needed {
            return Box::pin(ready(Ok(memory.into_buffer(needed))));
        }
        let memory = match self.through_ring(offset, Memory::Into(memory), needed) {
            Ok(submitted) => {
                return Box::pin(async move { submitted.await.map(|memory| memory.read(needed)) });
            }
            Err(memory) => memory,
        };
        self.submit(move |image| {
            let Memory::Into(mut memory) = memory else { unreachable!("it-comes-back-as-it-was") };
            image.read(offset, memory.as_mut(), needed)?;
            Ok(memory.into_buffer(needed))
        })
    }

    fn alignment(&self) -> u32 {
        self.image.alignment
    }

    fn write(&self, offset: u64, data: IoBuffer, fua: bool) -> BoxFuture<'static, Io<()>> {
        let (len, needed) = (data.len() as u64, data.len());
        if let Some(kind) = self.refused(offset, len) {
            return Box::pin(ready(Err(kind)));
        }
        let pages = offset.is_multiple_of(PAGE) && len.is_multiple_of(PAGE);
        let cached = !self.image.opening().direct && !fua && len <= INLINE_MAX && pages;
        if cached && self.image.write_cached(offset, &data) {
            return Box::pin(ready(Ok(())));
        }
        let even = self.image.is_even(offset, len);
        let data = if even { aligned(data, self.image.alignment as usize) } else { data };
        if even && !fua && needed > 0 {
            let from = Memory::From(data.clone());
            if let Ok(submitted) = self.through_ring(offset, from, needed) {
                return Box::pin(async move { submitted.await.map(drop) });
            }
        }
        self.submit(move |image| image.write(offset, &data, fua))
    }

    fn grows(&self) -> bool {
        self.image.resizable
    }

    fn write_zeroes(&self, range: ByteRange, may_unmap: bool) -> BoxFuture<'static, Io<()>> {
        let (offset, len) = (range.start(), range.len().0);
        self.change((offset, len), move |image| image.write_zeroes(offset, len, may_unmap))
    }

    fn discard(&self, range: ByteRange) -> BoxFuture<'static, Io<()>> {
        let (offset, len) = (range.start(), range.len().0);
        self.change((offset, len), move |image| image.discard(offset, len))
    }

    fn truncate(&self, len: ByteLen, reserve: bool) -> BoxFuture<'static, Io<()>> {
        if !self.image.resizable && !self.is_read_only() {
            return Box::pin(ready(Err(IoErrorKind::Unsupported)));
        }
        self.change((0, len.0), move |image| image.truncate(len.0, reserve))
    }

    fn allocated(&self, range: ByteRange) -> BoxFuture<'static, Io<(bool, ByteLen)>> {
        self.submit(move |image| {
            let (allocated, len) = image.allocated(range.start(), range.len().0);
            Ok((allocated, ByteLen(len)))
        })
    }

    fn flush(&self) -> BoxFuture<'static, Io<()>> {
        if self.is_read_only() {
            // Whoever may write is not there while this is open.
            return Box::pin(ready(Ok(())));
        }
        self.submit(Image::flush)
    }
}
