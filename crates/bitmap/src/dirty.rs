//! Which parts of a disk have been written: bytes to granules.
//!
//! A granule is dirty as a whole. Marking rounds outward and resetting inward, so that a byte that
//! was marked and not reset is always dirty. The last granule may be cut short by the disk's end;
//! in bytes it counts what it has.
//!
//! Invariant `granules-cover-disk`: there is one item for each granule that begins before the
//! disk's end.
//!
//! Bytes past the disk's end do not exist here: marking clips them away, and questions find them
//! clean.
//!
//! Source: qcow2 specification, bitmap directory entry, `granularity_bits` (QEMU supports 9 to 31).
//!
//! Not for: names, persistence, busy and successor states, or the question which requests are
//! recorded.

use alloc::vec::Vec;
use blockyard_units::{ByteLen, ByteOffset, ByteRange};
use core::ops::Range;

use crate::{BitmapError, HBitmap};

/// A dirty bitmap over the bytes of one disk. Begins clean and enabled.
///
/// Takes about one bit of memory a granule, allocated at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirtyBitmap {
    granules: HBitmap,
    disk_len: ByteLen,
    granularity: ByteLen,
    enabled: bool,
}

impl DirtyBitmap {
    /// The smallest granularity.
    pub const MIN_GRANULARITY: ByteLen = ByteLen(512);
    /// The largest granularity: 2 GiB.
    pub const MAX_GRANULARITY: ByteLen = ByteLen(1 << 31);

    /// Whether there are bitmaps of this granularity.
    ///
    /// # Errors
    /// [`BitmapError::Granularity`] if it is not a power of two between the two limits.
    pub fn check_granularity(granularity: ByteLen) -> Result<(), BitmapError> {
        let legal = Self::MIN_GRANULARITY..=Self::MAX_GRANULARITY;
        if granularity.0.is_power_of_two() && legal.contains(&granularity) {
            return Ok(());
        }
        Err(BitmapError::Granularity { granularity })
    }

    /// A clean, enabled bitmap for a disk of `disk_len` bytes, which need not be a multiple of
    /// anything.
    ///
    /// # Errors
    /// [`BitmapError::Granularity`] if `granularity` is not a power of two between the two limits.
    ///
    /// # Panics
    /// If the machine cannot address one bit a granule.
    pub fn new(disk_len: ByteLen, granularity: ByteLen) -> Result<Self, BitmapError> {
        Self::check_granularity(granularity)?;
        let granules = HBitmap::new(disk_len.0.div_ceil(granularity.0));
        Ok(Self { granules, disk_len, granularity, enabled: true })
    }

    /// An enabled bitmap of such [words](Self::words). Those that are missing are clean, and what they have past the
    /// disk's end is left out.
    ///
    /// # Errors
    /// [`BitmapError::Granularity`] if `granularity` is not a power of two between the two limits.
    ///
    /// # Panics
    /// If the machine cannot address one bit a granule.
    pub fn from_words(
        disk_len: ByteLen,
        granularity: ByteLen,
        words: Vec<u64>,
    ) -> Result<Self, BitmapError> {
        Self::check_granularity(granularity)?;
        let granules = HBitmap::from_words(disk_len.0.div_ceil(granularity.0), words);
        Ok(Self { granules, disk_len, granularity, enabled: true })
    }

    /// Bytes a granule.
    pub fn granularity(&self) -> ByteLen {
        self.granularity
    }

    /// Bytes of the disk.
    pub fn disk_len(&self) -> ByteLen {
        self.disk_len
    }

    /// Makes [`record`](Self::record) mark.
    pub fn enable(&mut self) {
        self.enabled = true;
    }

    /// Makes [`record`](Self::record) do nothing.
    pub fn disable(&mut self) {
        self.enabled = false;
    }

    /// Whether [`record`](Self::record) marks.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// A write to `range` happened: marks it if the bitmap is enabled.
    pub fn record(&mut self, range: ByteRange) {
        if self.enabled {
            self.mark(range);
        }
    }

    /// Marks every granule that has a byte of `range`, enabled or not.
    pub fn mark(&mut self, range: ByteRange) {
        let granules = self.granules_touched(range);
        self.granules.set_range(granules);
    }

    /// Cleans exactly `range`. Each of its ends is a multiple of the granularity or the disk's end;
    /// bytes past the disk's end are clipped away.
    ///
    /// # Errors
    /// [`BitmapError::UnalignedReset`] if an end is neither; nothing is cleaned.
    pub fn reset(&mut self, range: ByteRange) -> Result<(), BitmapError> {
        let Self { granularity, disk_len, .. } = *self;
        let aligned = |end: u64| end.is_multiple_of(granularity.0) || end == disk_len.0;
        if !aligned(range.start()) || !aligned(range.end()) {
            return Err(BitmapError::UnalignedReset { range, granularity, disk_len });
        }
        let granules = self.granules_touched(range);
        self.granules.reset_range(granules);
        Ok(())
    }

    /// Cleans every granule that lies inside `range`. The last granule does if the range reaches
    /// the disk's end.
    pub fn reset_inward(&mut self, range: ByteRange) {
        let start = range.start().div_ceil(self.granularity.0);
        let end = if range.end() >= self.disk_len.0 {
            self.granules.len()
        } else {
            range.end() / self.granularity.0
        };
        self.granules.reset_range(start..end);
    }

    /// Marks the whole disk.
    pub fn mark_all(&mut self) {
        self.granules.set_all();
    }

    /// Cleans the whole disk.
    pub fn clear(&mut self) {
        self.granules.clear();
    }

    /// Whether the granule of this byte is dirty.
    pub fn is_dirty(&self, offset: ByteOffset) -> bool {
        offset.0 < self.disk_len.0 && self.granules.get(offset.0 / self.granularity.0)
    }

    /// Whether a byte of `range` is dirty.
    pub fn dirty_in(&self, range: ByteRange) -> bool {
        let granules = self.granules_touched(range);
        self.granules.next_set(granules.start).is_some_and(|granule| granule < granules.end)
    }

    /// Number of dirty granules.
    pub fn count(&self) -> u64 {
        self.granules.count()
    }

    /// Number of dirty bytes: the last granule counts as many as it has.
    pub fn dirty_bytes(&self) -> ByteLen {
        let Some(last) = self.granules.len().checked_sub(1) else { return ByteLen(0) };
        let is_last_dirty = self.granules.get(last);
        let before_last = self.count() - u64::from(is_last_dirty);
        let in_last = if is_last_dirty { self.bytes_of(last..last + 1).len().0 } else { 0 };
        ByteLen(before_last * self.granularity.0 + in_last)
    }

    /// The first dirty granule that has a byte at or after `from`; whole, but clipped at the disk's
    /// end.
    pub fn next_dirty(&self, from: ByteOffset) -> Option<ByteRange> {
        let granule = self.granules.next_set(from.0 / self.granularity.0)?;
        (from.0 < self.disk_len.0).then(|| self.bytes_of(granule..granule + 1))
    }

    /// The first run of dirty bytes inside `from`, at most `max_len` bytes of it. Not aligned: it
    /// begins and ends where `from`, `max_len` or the disk's end cut it. Nothing if `max_len` is 0.
    pub fn next_dirty_area(&self, from: ByteRange, max_len: ByteLen) -> Option<ByteRange> {
        // One granule more than the bytes need, since the first may be cut.
        let max_granules = max_len.0.div_ceil(self.granularity.0).saturating_add(1);
        let area = self.granules.next_set_area(self.granules_touched(from), max_granules)?;
        let run = self.bytes_of(area).intersection(&from);
        let len = run.len().min(max_len);
        (len.0 > 0).then(|| ByteRange::new(run.start(), len.0))
    }

    /// Follows the disk to a new length. Granules below both ends stay as they are, dropped ones
    /// are forgotten, new ones are clean. A dirty granule that the old end cut short stays dirty,
    /// with its new bytes too.
    ///
    /// # Panics
    /// If the machine cannot address one bit a granule.
    pub fn resize(&mut self, disk_len: ByteLen) {
        self.granules.resize(disk_len.0.div_ceil(self.granularity.0));
        self.disk_len = disk_len;
    }

    /// Follows a disk that is at least so long by now; a longer one stays as it is.
    ///
    /// # Panics
    /// If the machine cannot address one bit a granule.
    pub fn grow(&mut self, disk_len: ByteLen) {
        if disk_len > self.disk_len {
            self.resize(disk_len);
        }
    }

    /// The runs of dirty bytes in ascending order: whole granules, but clipped at the disk's end.
    pub fn areas(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.granules.areas().map(|area| self.bytes_of(area))
    }

    /// The granules, one bit each, 64 to a word, the first one lowest.
    pub fn words(&self) -> &[u64] {
        self.granules.words()
    }

    /// A merge of bitmaps of one shape that does not count: for a mutant.
    pub fn merge_uncounted(&mut self, other: &Self) {
        self.granules.union_uncounted(&other.granules);
    }

    /// Marks, enabled or not, what is dirty in `other`, rounded outward to this granularity. What
    /// lies past this disk's end is clipped away.
    pub fn merge_from(&mut self, other: &Self) {
        if (self.granularity, self.disk_len) == (other.granularity, other.disk_len) {
            self.granules.union_with(&other.granules);
            return;
        }
        if self.disk_len == other.disk_len && self.granularity < other.granularity {
            let order = other.granularity.0.trailing_zeros() - self.granularity.0.trailing_zeros();
            self.granules.union_spread(&other.granules, order);
            return;
        }
        other.areas().for_each(|area| self.mark(area));
    }

    /// Recomputes what is stored twice.
    ///
    /// # Panics
    /// If it does not agree; the message names the invariant.
    pub fn check_invariants(&self) {
        let granules = self.disk_len.0.div_ceil(self.granularity.0);
        assert_eq!(self.granules.len(), granules, "granules-cover-disk");
        self.granules.check_invariants();
    }

    /// The granules that have a byte of `range`; empty if the disk has none of these bytes.
    fn granules_touched(&self, range: ByteRange) -> Range<u64> {
        let range = range.intersection(&ByteRange::new(0, self.disk_len.0));
        if range.is_empty() {
            return 0..0;
        }
        range.start() / self.granularity.0..range.end().div_ceil(self.granularity.0)
    }

    /// The bytes of granules that exist, clipped at the disk's end.
    fn bytes_of(&self, granules: Range<u64>) -> ByteRange {
        let end = granules.end.saturating_mul(self.granularity.0).min(self.disk_len.0);
        ByteRange::between(granules.start * self.granularity.0, end)
    }
}
