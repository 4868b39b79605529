//! A dirty bitmap that several tasks see.
//!
//! A trusted type: marking and resetting touch only the granules of their range, so their footprints are ranges of
//! bytes; a mark is an `add`, since nobody learns from it what was there before. Whatever looks at the bitmap beyond
//! one range (counting, searching) reads all of it.

use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_units::{ByteLen, ByteOffset, ByteRange};

use crate::{BitmapError, DirtyBitmap};

/// A dirty bitmap behind the door.
pub struct SharedBitmap {
    granularity: ByteLen,
    bitmap: Shared<DirtyBitmap>,
}

impl SharedBitmap {
    /// Shares `bitmap`.
    pub fn new(bitmap: DirtyBitmap) -> Self {
        Self { granularity: bitmap.granularity(), bitmap: Shared::new(bitmap) }
    }

    fn granules(&self, kind: Kind, range: ByteRange) -> [(Kind, u64, u64); 1] {
        let granules = range.align_outward(self.granularity);
        [(kind, granules.start(), granules.end())]
    }

    /// Bytes.
    pub fn granularity(&self) -> ByteLen {
        self.granularity
    }

    /// Marks `range`, if the bitmap records.
    pub fn record(&self, range: ByteRange) {
        self.bitmap.trusted(self.granules(Kind::Add, range), |bitmap| bitmap.record(range));
    }

    /// Follows the disk to a new length; what is added is clean.
    pub fn resize(&self, disk_len: ByteLen) {
        self.bitmap.write(|bitmap| bitmap.resize(disk_len));
    }

    /// Follows a disk that is at least so long by now; what is added is clean.
    pub fn grow(&self, disk_len: ByteLen) {
        self.bitmap.write(|bitmap| bitmap.grow(disk_len));
    }

    /// Marks `range`, rounded outward.
    pub fn mark(&self, range: ByteRange) {
        self.bitmap.trusted(self.granules(Kind::Add, range), |bitmap| bitmap.mark(range));
    }

    /// Marks the whole disk.
    pub fn mark_all(&self) {
        self.bitmap.write(DirtyBitmap::mark_all);
    }

    /// Resets `range`, which must be whole granules.
    ///
    /// # Errors
    /// If it is not; the bitmap is as before.
    pub fn reset(&self, range: ByteRange) -> Result<(), BitmapError> {
        self.bitmap.trusted(self.granules(Kind::Write, range), |bitmap| bitmap.reset(range))
    }

    /// Resets the whole granules inside `range`.
    pub fn reset_inward(&self, range: ByteRange) {
        self.bitmap.trusted(self.granules(Kind::Write, range), |bitmap| bitmap.reset_inward(range));
    }

    /// Whether something in `range` is dirty.
    pub fn dirty_in(&self, range: ByteRange) -> bool {
        self.bitmap.trusted(self.granules(Kind::Read, range), |bitmap| bitmap.dirty_in(range))
    }

    /// Takes the first dirty run at or after `from`, or else the first of all, at most `max_len` bytes of it but whole
    /// granules: it is clean when this returns.
    pub fn take_next(&self, from: ByteOffset, max_len: ByteLen) -> Option<ByteRange> {
        let max_len = ByteLen(max_len.0 & !(self.granularity.0 - 1)).max(self.granularity);
        self.bitmap.write(|bitmap| {
            let next = |from: ByteOffset| {
                let rest = ByteRange::between(from.0.min(bitmap.disk_len().0), bitmap.disk_len().0);
                bitmap.next_dirty_area(rest, max_len)
            };
            let range = next(from.align_down(self.granularity)).or_else(|| next(ByteOffset(0)))?;
            bitmap.reset(range).expect("a-granule-is-aligned");
            Some(range)
        })
    }

    /// Marks what is dirty in `other`, which may have granules of another size.
    pub fn merge_from(&self, other: &DirtyBitmap) {
        self.bitmap.write(|bitmap| bitmap.merge_from(other));
    }

    /// Dirty granules.
    pub fn count(&self) -> u64 {
        self.bitmap.read(DirtyBitmap::count)
    }

    /// Dirty bytes.
    pub fn dirty_bytes(&self) -> ByteLen {
        self.bitmap.read(DirtyBitmap::dirty_bytes)
    }

    /// Waits until something is dirty.
    ///
    /// # Yields
    /// Always; when it returns, something was dirty in that step.
    pub async fn wait_dirty(&self) {
        self.bitmap.wait_until(|bitmap| bitmap.count() > 0).await;
    }
}
