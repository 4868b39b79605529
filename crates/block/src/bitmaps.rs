//! A named dirty bitmap, who may change it, and how.
//!
//! A bitmap that somebody holds is *busy*: nobody else changes it. Its holder may have it *split*: what is written from
//! then on is recorded in a successor, until the holder has it *abdicate* in favour of that (its work is done), or
//! *reclaim* what that has recorded (its work has failed).
//!
//! Invariant `successor-follows-bitmap`: a successor has the shape of its bitmap, which does not record beside it.
//!
//! Source: QEMU's documentation of dirty bitmaps. Differs: an error names the node, the bitmap and its holder.
//!
//! Not for: when a write is recorded (`recording`), where a bitmap is stored, and what a command is called.

use alloc::format;
use alloc::string::String;
use core::fmt;

use blockyard_bitmap::DirtyBitmap;
use blockyard_units::ByteRange;

use crate::error::BlockError;

/// What a bitmap is, beside its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BitmapState {
    /// It is stored with its node's data.
    pub persistent: bool,
    /// It is stored where nothing can be written now: it may be read alone.
    pub read_only: bool,
    /// It was not stored well: it says nothing, and may only be removed.
    pub inconsistent: bool,
    /// It is persistent, and is where it cannot be stored: it is lost when its node is closed.
    pub unplaced: bool,
}

/// Whose a bitmap is, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BitmapOwner {
    /// A node's: of all that is written to it, and as long as it is.
    Node(String),
    /// A device's: of what is written through it, whatever node it leads to. It becomes longer as it needs.
    Device(String),
}

impl fmt::Display for BitmapOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Device(name) => write!(f, "device {name}"),
        }
    }
}

/// A dirty bitmap that has a name. A clone is a copy, of which its owner knows nothing.
#[derive(Clone)]
pub struct NamedBitmap {
    owner: BitmapOwner,
    name: String,
    state: BitmapState,
    bits: DirtyBitmap,
    successor: Option<DirtyBitmap>,
    holder: Option<String>,
}

/// What a bitmap is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Change,
    Remove,
}

impl NamedBitmap {
    /// A bitmap that nobody holds.
    pub(crate) fn new(
        owner: BitmapOwner,
        name: &str,
        state: BitmapState,
        bits: DirtyBitmap,
    ) -> Self {
        Self { owner, name: name.into(), state, bits, successor: None, holder: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn state(&self) -> BitmapState {
        self.state
    }

    /// What is dirty; what a successor has recorded is not in it yet.
    pub fn bits(&self) -> &DirtyBitmap {
        &self.bits
    }

    /// Who holds it.
    pub fn holder(&self) -> Option<&str> {
        self.holder.as_deref()
    }

    /// Whether what is written is recorded in it, or in its successor.
    pub fn is_recording(&self) -> bool {
        self.successor.as_ref().unwrap_or(&self.bits).is_enabled()
    }

    pub(crate) fn refused(&self, why: &str) -> BlockError {
        let Self { owner, name, .. } = self;
        BlockError::Invalid(format!("refused: bitmap '{name}' of {owner} {why}"))
    }

    pub(crate) fn check(&self, wanted: Use) -> Result<(), BlockError> {
        if let Some(holder) = &self.holder {
            return Err(self.refused(&format!("is in use by {holder}")));
        }
        let BitmapState { read_only, inconsistent, .. } = self.state;
        if inconsistent && wanted != Use::Remove {
            return Err(self.refused("is inconsistent: it may only be removed"));
        }
        if read_only && wanted != Use::Read {
            return Err(self.refused("is read-only, as its node is"));
        }
        Ok(())
    }

    /// Cleans it; what it was.
    ///
    /// # Errors
    /// It is busy, read-only or inconsistent, and stays as it is.
    pub fn clear(&mut self) -> Result<DirtyBitmap, BlockError> {
        self.check(Use::Change)?;
        let before = self.bits.clone();
        self.bits.clear();
        Ok(before)
    }

    /// Has it record, or not; whether it did.
    ///
    /// # Errors
    /// It is busy, read-only or inconsistent, and stays as it is.
    pub fn set_recording(&mut self, on: bool) -> Result<bool, BlockError> {
        self.check(Use::Change)?;
        let before = self.bits.is_enabled();
        if on {
            self.bits.enable()
        } else {
            self.bits.disable()
        }
        Ok(before)
    }

    /// Marks what is dirty in `sources`, which [are to be read](Self::readable), rounded outward; what it was. `merge`:
    /// how the bits of one get into those of another.
    ///
    /// # Errors
    /// It is busy, read-only or inconsistent, or both are nodes' and not as long as each other; it stays as it is.
    pub fn merge(
        &mut self,
        sources: &[&Self],
        merge: fn(&mut DirtyBitmap, &DirtyBitmap),
    ) -> Result<DirtyBitmap, BlockError> {
        self.check(Use::Change)?;
        let len = self.bits.disk_len();
        let is_of_node = |bitmap: &Self| matches!(bitmap.owner, BitmapOwner::Node(_));
        let differs = |other: &&&Self| is_of_node(other) && other.bits.disk_len() != len;
        if let Some(other) = sources.iter().find(differs).filter(|_| is_of_node(self)) {
            let Self { owner, name, bits, .. } = other;
            return Err(self.refused(&format!(
                "is of {len} bytes, and bitmap '{name}' of {owner}, of {} bytes, cannot be merged \
                 into it",
                bits.disk_len()
            )));
        }
        let before = self.bits.clone();
        if !is_of_node(self) {
            let longest = sources.iter().map(|source| source.bits.disk_len()).max();
            longest.into_iter().for_each(|longest| self.bits.grow(longest));
        }
        sources.iter().for_each(|source| merge(&mut self.bits, &source.bits));
        Ok(before)
    }

    /// Undoes a merge: the bits are as they were `before`. Nothing must have been marked since.
    pub fn restore(&mut self, before: &DirtyBitmap) {
        let enabled = self.bits.is_enabled();
        self.bits = before.clone();
        if enabled { self.bits.enable() } else { self.bits.disable() }
    }

    /// Undoes a clear: what was dirty `before` is again, beside what has been marked since.
    pub fn unclear(&mut self, before: &DirtyBitmap) {
        self.bits.merge_from(before);
    }

    /// What is dirty, to know what has been written since some moment.
    ///
    /// # Errors
    /// It is busy, inconsistent or does not record.
    pub fn all_since(&self) -> Result<&DirtyBitmap, BlockError> {
        self.check(Use::Read)?;
        if !self.is_recording() {
            return Err(self.refused("does not record: what was written meanwhile is not known"));
        }
        Ok(&self.bits)
    }

    /// A copy, to be read.
    ///
    /// # Errors
    /// It is busy or inconsistent.
    pub fn readable(&self) -> Result<Self, BlockError> {
        self.check(Use::Read)?;
        Ok(self.clone())
    }

    /// Makes it busy, on behalf of `holder`.
    ///
    /// # Errors
    /// It is busy already, read-only or inconsistent.
    pub fn hold(&mut self, holder: &str) -> Result<(), BlockError> {
        self.check(Use::Change)?;
        self.holder = Some(holder.into());
        Ok(())
    }

    /// Nobody holds it any more.
    ///
    /// # Panics
    /// `successor-follows-bitmap`: it has one.
    pub fn release(&mut self) {
        assert!(self.successor.is_none(), "successor-follows-bitmap: {} has one", self.name);
        self.holder = None;
    }

    /// From now on a successor records what this one would have; its holder works with what is dirty now.
    ///
    /// # Errors
    /// It is busy already, read-only or inconsistent.
    pub fn split(&mut self, holder: &str) -> Result<(), BlockError> {
        self.hold(holder)?;
        let mut successor = self.bits.clone();
        successor.clear();
        self.bits.disable();
        self.successor = Some(successor);
        Ok(())
    }

    fn take_successor(&mut self) -> DirtyBitmap {
        self.holder = None;
        let successor = self.successor.take().expect("successor-follows-bitmap");
        assert!(!self.bits.is_enabled(), "successor-follows-bitmap: {} records", self.name);
        successor
    }

    /// Its successor takes its place: what was dirty is done with.
    ///
    /// # Panics
    /// `successor-follows-bitmap`: it has none.
    pub fn abdicate(&mut self) {
        self.bits = self.take_successor();
    }

    /// The same, but what is in `left` too is not done with.
    ///
    /// # Panics
    /// `successor-follows-bitmap`: it has none.
    pub fn abdicate_but(&mut self, left: &DirtyBitmap) {
        let mut successor = self.take_successor();
        for area in self.bits.areas() {
            let mut rest = area;
            while let Some(dirty) = left.next_dirty_area(rest, rest.len()) {
                successor.mark(dirty);
                rest = ByteRange::between(dirty.end(), area.end());
            }
        }
        self.bits = successor;
    }

    /// It takes its place again, with what its successor has recorded.
    ///
    /// # Panics
    /// `successor-follows-bitmap`: it has none.
    pub fn reclaim(&mut self) {
        let mut successor = self.take_successor();
        successor.merge_from(&self.bits);
        self.bits = successor;
    }

    /// Whether it is stored with its node's data.
    pub(crate) fn is_stored(&self) -> bool {
        self.state.persistent && !self.state.unplaced
    }

    /// It is read-only, if it is stored.
    pub(crate) fn becomes_read_only(&mut self) {
        self.state.read_only |= self.is_stored();
    }

    /// It is another's.
    pub(crate) fn set_owner(&mut self, owner: BitmapOwner) {
        self.owner = owner;
    }

    /// It can be stored where it is, or not.
    pub(crate) fn set_placed(&mut self, placed: bool) {
        self.state.unplaced = !placed;
    }

    /// It stands for `other` too, which is of its length: for what is dirty in it, and what will be.
    pub(crate) fn absorb(&mut self, other: &Self) {
        self.bits.merge_from(&other.bits);
        if other.is_recording() {
            self.bits.enable();
        }
        if !self.state.persistent {
            (self.state.persistent, self.state.unplaced) = (true, true);
        }
    }

    /// Its bits, and its successor's.
    pub(crate) fn each_bits(&mut self, change: impl FnMut(&mut DirtyBitmap)) {
        [Some(&mut self.bits), self.successor.as_mut()].into_iter().flatten().for_each(change);
    }
}
