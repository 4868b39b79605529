//! Memory that a device reads into and writes from without a copy in between.
//!
//! Long memory that nobody needs any more is kept to be read into again: the system has to find and to zero each page
//! that it gives anew, which takes as long as the read itself. What it held before nobody sees: of what a buffer is
//! made of, all was read.

use std::sync::{Mutex, PoisonError};

use blockyard_runtime::IoBuffer;

/// Bytes; shorter memory costs too little to be kept.
const LONG: usize = 64 << 10;
/// Bytes that are kept, at most.
const KEPT_MAX: usize = 16 << 20;

/// What is kept, the oldest first.
static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Bytes that begin at a multiple of something.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` bytes, whatever they are, that begin at a multiple of `alignment`, a power of two.
    pub fn new(len: usize, alignment: usize) -> Self {
        let needed = len + alignment - 1;
        let bytes = kept(needed).unwrap_or_else(|| vec![0; needed]);
        // What is never moved to another allocation keeps its address.
        let start = bytes.as_ptr().align_offset(alignment);
        Self { bytes, start, len }
    }

    pub fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    /// The first `len` of them.
    pub fn into_buffer(self, len: usize) -> IoBuffer {
        let all = match self.bytes.len() {
            ..LONG => IoBuffer::from(self.bytes),
            _ => IoBuffer::of_owner(Long(self.bytes)),
        };
        all.slice(self.start..self.start + len)
    }
}

/// Long memory in use.
struct Long(Vec<u8>);

impl AsRef<[u8]> for Long {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Long {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = kept.iter().map(Vec::len).sum::<usize>() + bytes.len();
        kept.push(bytes);
        while sum > KEPT_MAX {
            sum -= kept.remove(0).len();
        }
    }
}

/// Some of just this length that is kept, if there is any.
fn kept(len: usize) -> Option<Vec<u8>> {
    if len < LONG {
        return None;
    }
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let index = kept.iter().rposition(|bytes| bytes.len() == len)?;
    Some(kept.remove(index))
}

/// The same bytes where they begin at a multiple of `alignment`: copied only if they do not.
pub(crate) fn aligned(data: IoBuffer, alignment: usize) -> IoBuffer {
    if data.as_ptr().align_offset(alignment) == 0 {
        return data;
    }
    let mut copy = Aligned::new(data.len(), alignment);
    copy.as_mut().copy_from_slice(&data);
    copy.into_buffer(data.len())
}
