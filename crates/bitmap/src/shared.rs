//! A dirty bitmap that several tasks see.
//!
//! A trusted type: marking and resetting touch only the granules of their range, so their footprints are ranges of
//! bytes; a mark is an `add`, since nobody learns from it what was there before. Whatever looks at the bitmap beyond
//! one range (counting, searching) reads all of it.

use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_units::{ByteLen, ByteRange};

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

    /// Takes the first dirty granule: it is clean when this returns.
    pub fn take_next(&self) -> Option<ByteRange> {
        self.bitmap.write(|bitmap| {
            let range = bitmap.next_dirty(Default::default())?;
            bitmap.reset(range).expect("a-granule-is-aligned");
            Some(range)
        })
    }

    /// The first dirty granule.
    pub fn first(&self) -> Option<ByteRange> {
        self.bitmap.read(|bitmap| bitmap.next_dirty(Default::default()))
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
