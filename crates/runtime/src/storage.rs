//! The shape of a disk, as a world provides it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::future::ready;

use blockyard_units::{ByteLen, ByteRange};

use crate::buffer::IoBuffer;
use crate::executor::BoxFuture;

/// What kind of failure the world had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IoErrorKind {
    /// The medium failed.
    Io,
    /// No space is left.
    NoSpace,
    /// The range is not inside the disk, or not aligned as the disk needs it.
    InvalidInput,
    /// The disk is not writable.
    ReadOnly,
    /// It cannot do that at all.
    Unsupported,
    /// It took longer than somebody would wait.
    TimedOut,
}

impl IoErrorKind {
    /// The name of the error number.
    pub fn errno_name(self) -> &'static str {
        match self {
            Self::Io => "EIO",
            Self::NoSpace => "ENOSPC",
            Self::InvalidInput => "EINVAL",
            Self::ReadOnly => "EROFS",
            Self::Unsupported => "ENOTSUP",
            Self::TimedOut => "ETIMEDOUT",
        }
    }
}

impl fmt::Display for IoErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "input/output error",
            Self::NoSpace => "no space left on device",
            Self::InvalidInput => "invalid argument",
            Self::ReadOnly => "read-only file system",
            Self::Unsupported => "operation not supported",
            Self::TimedOut => "timed out",
        })
    }
}

/// What a disk is open for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be read and written.
    Write,
    /// To be read.
    Read,
    /// To be read, while it belongs to somebody else: nobody is kept out.
    Inactive,
}

/// The result of an operation on a disk.
pub type Io<T> = Result<T, IoErrorKind>;

/// A disk that a world provides. Once submitted, an operation takes place whether or not its future is kept.
///
/// What a disk promises: a write is durable once a flush that began after its completion has completed, or at its own
/// completion with `fua`; until then a crash may keep any part of it, by whole atomic units.
pub trait Storage: Send + Sync {
    /// The disk's name, for people.
    fn name(&self) -> &str;

    /// Bytes.
    fn len(&self) -> ByteLen;

    /// Whether there is no byte on it.
    fn is_empty(&self) -> bool {
        self.len().0 == 0
    }

    /// Reads the bytes of `range`.
    fn read(&self, range: ByteRange) -> BoxFuture<'static, Io<IoBuffer>>;

    /// Writes `data` at `offset`; with `fua` it is durable when this ends well.
    fn write(&self, offset: u64, data: IoBuffer, fua: bool) -> BoxFuture<'static, Io<()>>;

    /// Bytes, a power of two: requests begin and end at multiples, or end at the end of the disk.
    fn alignment(&self) -> u32 {
        1
    }

    /// Whether a write behind the end makes the disk longer; what lies between reads as zeroes.
    fn grows(&self) -> bool {
        false
    }

    /// Makes `range` read as zeroes, faster than by writing them; with `may_unmap` its space may be given back.
    fn write_zeroes(&self, _range: ByteRange, _may_unmap: bool) -> BoxFuture<'static, Io<()>> {
        Box::pin(ready(Err(IoErrorKind::Unsupported)))
    }

    /// Gives the space of `range` back: it reads as before, or as zeroes.
    fn discard(&self, _range: ByteRange) -> BoxFuture<'static, Io<()>> {
        Box::pin(ready(Err(IoErrorKind::Unsupported)))
    }

    /// Makes the disk `len` bytes long; what is added reads as zeroes. `reserve`: and has its space.
    fn truncate(&self, _len: ByteLen, _reserve: bool) -> BoxFuture<'static, Io<()>> {
        Box::pin(ready(Err(IoErrorKind::Unsupported)))
    }

    /// Whether the beginning of `range`, which is not empty, has space of its own, and how many bytes are like that.
    fn allocated(&self, range: ByteRange) -> BoxFuture<'static, Io<(bool, ByteLen)>> {
        Box::pin(ready(Ok((true, range.len()))))
    }

    /// The same disk once more, for `access`. Nothing is written through the one while the other is: whichever is
    /// dropped, the one that is left is as good as before.
    ///
    /// # Errors
    /// Says why not; this one is as before.
    fn reopen(&self, _access: Access) -> Result<Arc<dyn Storage>, String> {
        Err(format!("the disk '{}' cannot be opened once more", self.name()))
    }

    /// Makes every write that completed before durable.
    fn flush(&self) -> BoxFuture<'static, Io<()>>;
}
