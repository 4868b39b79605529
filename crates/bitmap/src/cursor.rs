//! Walking over the set items of an [`HBitmap`], also while it changes.
//!
//! Invariant `cursor-ascends`: a cursor never returns the same item twice, nor one below an item it
//! returned.

use crate::HBitmap;

/// A place in a walk over set items. It holds no bitmap: every step names it anew, so that the
/// bitmap may be changed or resized between steps.
///
/// Each step looks at the bitmap of that moment: items reset ahead are not returned, items set
/// ahead are, and changes behind the cursor are not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The lowest item index the next step may return.
    position: u64,
}

impl Cursor {
    /// A walk whose first step looks at item `from`; past the end is legal.
    pub fn new(from: u64) -> Self {
        Self { position: from }
    }

    /// The next set item of `bitmap`, if there is one. After a `None` the cursor stays where it
    /// was, and finds items that are set ahead of it later.
    pub fn next(&mut self, bitmap: &HBitmap) -> Option<u64> {
        let item = bitmap.next_set(self.position)?;
        self.position = item + 1;
        Some(item)
    }

    /// The lowest item index that the next step may return.
    pub fn position(&self) -> u64 {
        self.position
    }
}

/// The set items of a bitmap in ascending order; see [`HBitmap::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    bitmap: &'a HBitmap,
    cursor: Cursor,
}

impl<'a> Iter<'a> {
    pub(crate) fn new(bitmap: &'a HBitmap, cursor: Cursor) -> Self {
        Self { bitmap, cursor }
    }
}

impl Iterator for Iter<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.cursor.next(self.bitmap)
    }
}

impl core::iter::FusedIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a HBitmap {
    type Item = u64;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
