//! Owned I/O buffers.

use core::ops::Deref;

use alloc::vec::Vec;
use bytes::Bytes;

/// Bytes on their way to or from a disk. Owned by whoever holds it, cheap to clone and to cut, never changed: so a
/// request whose caller went away keeps what it needs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IoBuffer(Bytes);

/// What short buffers of zeroes are parts of.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

impl IoBuffer {
    /// `len` zero bytes.
    pub fn zeroes(len: usize) -> Self {
        match ZEROES.get(..len) {
            Some(zeroes) => Self(Bytes::from_static(zeroes)),
            None => Self::from(alloc::vec![0; len]),
        }
    }

    /// The bytes of `owner`, which is dropped with the last who holds a part of them.
    pub fn of_owner(owner: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self(Bytes::from_owner(owner))
    }

    /// The part at `range`, without copying.
    ///
    /// # Panics
    /// If the range is not inside.
    pub fn slice(&self, range: core::ops::Range<usize>) -> Self {
        Self(self.0.slice(range))
    }
}

impl From<Vec<u8>> for IoBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Deref for IoBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl core::fmt::Debug for IoBuffer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "IoBuffer({} bytes)", self.len())
    }
}
