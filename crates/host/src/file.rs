//! A disk in a file or a block device.
//!
//! Invariants:
//! - `submitted-takes-place`: an operation is handed to the file's threads by the call, not by the first poll, and
//!   runs whether or not its future is kept. Dropping the disk waits for what was submitted.
//! - `range-inside`: no read reaches beyond the length that the file had when it was opened, or was given since.
//!
//! What is in memory already is read at once, on the caller's thread. The page cache is used, so any alignment
//! will do; the disk is not a place to be while others change the file's length.

use std::future::ready;
use std::path::Path;
use std::sync::Arc;

use blockyard_runtime::{Access, BoxFuture, Io, IoBuffer, IoErrorKind, Storage};
use blockyard_units::{ByteLen, ByteRange};

use crate::error::HostError;
use crate::image::{CreateMode, Image, Locking};
use crate::pool::Pool;

/// Bytes; a longer read goes to the file's threads even if it is in memory, since to copy it takes long.
const INLINE_READ_MAX: u64 = 64 << 10;

/// A disk in a file or block device, locked against other writers. Dropping it waits for the operations that were
/// submitted, then closes it; only flushes make durable.
pub struct HostFile {
    // Dropped first: the lock goes only when no operation is left.
    pool: Pool,
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
        Self::open_with(path, read_only, Locking::On)
    }

    /// The same, for who says whom to keep out.
    ///
    /// # Errors
    /// As [`HostFile::open`]; `InUse` only where somebody is kept out.
    pub fn open_with(
        path: impl AsRef<Path>,
        read_only: bool,
        locking: Locking,
    ) -> Result<Self, HostError> {
        let path = path.as_ref();
        Self::around("open", path, Image::open(path, read_only, locking)?)
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
        Ok(Self { pool, image: Arc::new(image), name: path.display().to_string() })
    }

    /// Does what changes `len` bytes at `offset`.
    fn change(
        &self,
        (offset, len): (u64, u64),
        operation: impl FnOnce(&Image) -> Io<()> + Send + 'static,
    ) -> BoxFuture<'static, Io<()>> {
        if self.image.is_read_only() {
            return Box::pin(ready(Err(IoErrorKind::ReadOnly)));
        }
        if !self.image.takes(offset, len) {
            return Box::pin(ready(Err(IoErrorKind::InvalidInput)));
        }
        self.submit(operation)
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
        let mut bytes = vec![0; range.len().as_usize()];
        let mut done = 0;
        if range.len().0 <= INLINE_READ_MAX {
            done = self.image.read_cached(range.start(), &mut bytes);
            if done == bytes.len() {
                return Box::pin(ready(Ok(bytes.into())));
            }
        }
        self.submit(move |image| {
            image.read(range.start() + done as u64, &mut bytes[done..])?;
            Ok(bytes.into())
        })
    }

    fn write(&self, offset: u64, data: IoBuffer, fua: bool) -> BoxFuture<'static, Io<()>> {
        let len = data.len() as u64;
        self.change((offset, len), move |image| image.write(offset, &data, fua))
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
        if !self.image.resizable && !self.image.is_read_only() {
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
        if self.image.is_read_only() {
            // Whoever may write is not there while this is open.
            return Box::pin(ready(Ok(())));
        }
        self.submit(Image::flush)
    }
}
