//! The shape of a disk, as a world provides it.

use core::fmt;

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
}

impl IoErrorKind {
    /// The name of the error number.
    pub fn errno_name(self) -> &'static str {
        match self {
            Self::Io => "EIO",
            Self::NoSpace => "ENOSPC",
            Self::InvalidInput => "EINVAL",
            Self::ReadOnly => "EROFS",
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
        })
    }
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

    /// Makes every write that completed before durable.
    fn flush(&self) -> BoxFuture<'static, Io<()>>;
}
