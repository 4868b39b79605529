//! Positions and extents on a disk, in bytes.

use core::fmt;

/// A position in bytes from the start of a disk or node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteOffset(pub u64);

/// An extent in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteLen(pub u64);

/// A half-open range of bytes: `offset .. offset + len`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    offset: ByteOffset,
    len: ByteLen,
}

impl ByteOffset {
    /// The aligned position at or below this one. `granularity` is a power of two.
    pub fn align_down(self, granularity: ByteLen) -> Self {
        Self(self.0 & !(granularity.0 - 1))
    }
}

impl ByteLen {
    /// As a buffer's length.
    ///
    /// # Panics
    /// If the machine cannot address that many bytes.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).expect("buffer-length-fits")
    }
}

impl ByteRange {
    /// The range of `len` bytes at `offset`.
    ///
    /// # Panics
    /// `range-end-fits`: if the end does not fit into 64 bits.
    pub fn new(offset: u64, len: u64) -> Self {
        assert!(offset.checked_add(len).is_some(), "range-end-fits: {offset}+{len}");
        Self { offset: ByteOffset(offset), len: ByteLen(len) }
    }

    /// The range from `start` up to, not including, `end`; empty if `end` is not after `start`.
    pub fn between(start: u64, end: u64) -> Self {
        Self::new(start, end.saturating_sub(start))
    }

    /// First byte.
    pub fn offset(&self) -> ByteOffset {
        self.offset
    }

    /// Number of bytes.
    pub fn len(&self) -> ByteLen {
        self.len
    }

    /// First byte, as a number.
    pub fn start(&self) -> u64 {
        self.offset.0
    }

    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.offset.0 + self.len.0
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.len.0 == 0
    }

    /// Whether byte `at` is one of these.
    pub fn contains(&self, at: u64) -> bool {
        self.start() <= at && at < self.end()
    }

    /// Whether the two have a byte in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.start() < other.end()
            && other.start() < self.end()
    }

    /// The bytes both have; empty (at the later start) if there are none.
    pub fn intersection(&self, other: &Self) -> Self {
        Self::between(self.start().max(other.start()), self.end().min(other.end()))
    }

    /// The smallest range of whole granules that contains this one. `granularity` is a power of two.
    ///
    /// # Panics
    /// `range-end-fits`: if rounding up passes the end of 64 bits.
    pub fn align_outward(&self, granularity: ByteLen) -> Self {
        let start = self.offset.align_down(granularity).0;
        let end = self.end().checked_next_multiple_of(granularity.0).expect("range-end-fits");
        Self::between(start, end)
    }

    /// The largest range of whole granules inside this one; empty if there is none. `granularity` is a power of
    /// two. A granule cut by `disk_end` counts as whole when this range reaches the disk's end.
    pub fn align_inward(&self, granularity: ByteLen, disk_end: u64) -> Self {
        let start = self.start().next_multiple_of(granularity.0);
        let end = if self.end() >= disk_end {
            disk_end
        } else {
            ByteOffset(self.end()).align_down(granularity).0
        };
        Self::between(start, end.max(start))
    }
}

impl fmt::Display for ByteOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for ByteLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.offset, self.len)
    }
}

impl fmt::Debug for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
