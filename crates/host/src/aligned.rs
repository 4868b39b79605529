//! Memory that a device reads into and writes from without a copy in between.

use blockyard_runtime::IoBuffer;

/// Bytes that begin at a multiple of something.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zero bytes that begin at a multiple of `alignment`, a power of two.
    pub fn zeroes(len: usize, alignment: usize) -> Self {
        let bytes = vec![0; len + alignment - 1];
        // What is never moved to another allocation keeps its address.
        let start = bytes.as_ptr().align_offset(alignment);
        Self { bytes, start, len }
    }

    pub fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    /// The first `len` of them.
    pub fn into_buffer(self, len: usize) -> IoBuffer {
        IoBuffer::from(self.bytes).slice(self.start..self.start + len)
    }
}

/// The same bytes where they begin at a multiple of `alignment`: copied only if they do not.
pub(crate) fn aligned(data: IoBuffer, alignment: usize) -> IoBuffer {
    if data.as_ptr().align_offset(alignment) == 0 {
        return data;
    }
    let mut copy = Aligned::zeroes(data.len(), alignment);
    copy.as_mut().copy_from_slice(&data);
    copy.into_buffer(data.len())
}
