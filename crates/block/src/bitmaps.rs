//! The named dirty bitmaps of a node.
//!
//! All bitmaps of a node are one value behind the door: a write is marked in all of them at once, and a command changes
//! one of them between two writes. So a write that ends is in those that recorded at that moment, and in no others.
//! Marks commute with each other; commands write.
//!
//! A bitmap that somebody holds is *busy*: nobody else changes it. Its holder may have it *split*: what is written from
//! then on is recorded in a successor, until the holder has it *abdicate* in favour of that (its work is done), or
//! *reclaim* what that has recorded (its work has failed).
//!
//! Invariant `successor-follows-bitmap`: a successor has the shape of its bitmap, which does not record beside it.
//!
//! Source: QEMU's documentation of dirty bitmaps. Differs: an error names the node, the bitmap and its holder.
//!
//! Not for: where a bitmap is stored, and what a command is called.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::{DirtyBitmap, SharedBitmap};
use blockyard_sync::Shared;
use blockyard_units::{ByteLen, ByteRange};

use crate::error::BlockError;
use crate::io::Io;
use crate::node::Node;

/// Bytes of the longest name, as qcow2 has it.
const NAME_MAX: usize = 1023;
/// Bits of the longest bitmap.
const GRANULES_MAX: u64 = 1 << 32;
/// Bytes: what a bitmap's granularity is between, if nobody says it.
const GRANULARITY: (ByteLen, ByteLen) = (ByteLen(4096), ByteLen(65536));

/// What a bitmap is, beside its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BitmapState {
    /// It is stored with its node's data.
    pub persistent: bool,
    /// It is stored where nothing can be written now: it may be read alone.
    pub read_only: bool,
    /// It was not stored well: it says nothing, and may only be removed.
    pub inconsistent: bool,
}

/// A dirty bitmap of a node. A clone is a copy, of which the node knows nothing.
#[derive(Clone)]
pub struct NodeBitmap {
    node: String,
    name: String,
    state: BitmapState,
    bits: DirtyBitmap,
    successor: Option<DirtyBitmap>,
    holder: Option<String>,
}

/// What a bitmap is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Change,
    Remove,
}

impl NodeBitmap {
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

    fn refused(&self, why: &str) -> BlockError {
        let Self { node, name, .. } = self;
        BlockError::Invalid(format!("refused: bitmap '{name}' of node {node} {why}"))
    }

    fn check(&self, wanted: Use) -> Result<(), BlockError> {
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
    /// It is busy, read-only or inconsistent, or one of them is not as long; it stays as it is.
    pub fn merge(
        &mut self,
        sources: &[Self],
        merge: fn(&mut DirtyBitmap, &DirtyBitmap),
    ) -> Result<DirtyBitmap, BlockError> {
        self.check(Use::Change)?;
        let len = self.bits.disk_len();
        if let Some(other) = sources.iter().find(|other| other.bits.disk_len() != len) {
            let Self { node, name, bits, .. } = other;
            return Err(self.refused(&format!(
                "is of {len} bytes, and bitmap '{name}' of node {node}, of {} bytes, cannot be \
                 merged into it",
                bits.disk_len()
            )));
        }
        let before = self.bits.clone();
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

    /// It takes its place again, with what its successor has recorded.
    ///
    /// # Panics
    /// `successor-follows-bitmap`: it has none.
    pub fn reclaim(&mut self) {
        let mut successor = self.take_successor();
        successor.merge_from(&self.bits);
        self.bits = successor;
    }

    fn each_bits(&mut self, change: impl FnMut(&mut DirtyBitmap)) {
        [Some(&mut self.bits), self.successor.as_mut()].into_iter().flatten().for_each(change);
    }
}

/// The length of a node, as far as it is known at the end of a write.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    /// The write has not changed it.
    Kept,
    /// It has become longer.
    AtLeast(ByteLen),
    /// It is this.
    Exactly(ByteLen),
}

impl Length {
    /// What of `range` is not behind the end, as far as that is known.
    pub fn clip(self, range: ByteRange) -> ByteRange {
        match self {
            Self::Kept => range,
            Self::AtLeast(len) | Self::Exactly(len) => {
                range.intersection(&ByteRange::new(0, len.0))
            }
        }
    }
}

/// The bitmaps of a node. Looking at one or changing it is a whole access; marking adds.
#[derive(Default)]
pub(crate) struct NodeBitmaps(Shared<Vec<NodeBitmap>>);

impl NodeBitmaps {
    fn write_ended(&self, marked: Option<ByteRange>, length: Length) {
        if let Length::Exactly(len) = length {
            self.0.write(|all| each(all, |bits| bits.resize(len)));
        }
        let Some(range) = marked else { return };
        // Its child may have become longer without it.
        let len = match length {
            Length::Kept => ByteLen(range.end()),
            Length::AtLeast(len) | Length::Exactly(len) => len,
        };
        self.0.add(|all| {
            each(all, |bits| {
                bits.grow(len);
                bits.record(range);
            });
        });
    }
}

fn each(all: &mut [NodeBitmap], mut change: impl FnMut(&mut DirtyBitmap)) {
    all.iter_mut().for_each(|bitmap| bitmap.each_bits(&mut change));
}

/// What is told of the end of each write-like request.
#[derive(Clone)]
pub(crate) enum Recorder {
    /// A job's.
    Job(Arc<SharedBitmap>),
    /// Those that have names.
    Named(Arc<NodeBitmaps>),
}

impl Recorder {
    pub fn write_ended(&self, marked: Option<ByteRange>, length: Length) {
        match self {
            Self::Named(bitmaps) => bitmaps.write_ended(marked, length),
            Self::Job(bitmap) => {
                match length {
                    Length::Kept => {}
                    Length::AtLeast(len) => bitmap.grow(len),
                    Length::Exactly(len) => bitmap.resize(len),
                }
                marked.into_iter().for_each(|range| bitmap.record(range));
            }
        }
    }

    fn named(&self) -> Option<&Arc<NodeBitmaps>> {
        match self {
            Self::Named(bitmaps) => Some(bitmaps),
            Self::Job(_) => None,
        }
    }
}

impl Node {
    /// Bytes: the granularity of a bitmap of which nobody says it.
    pub fn default_granularity(&self) -> ByteLen {
        let (least, most) = GRANULARITY;
        let driver = self.driver();
        let cluster = driver.cluster_size();
        // What is written at once is no reason to know it so exactly.
        let allocates = cluster > driver.limits().alignment();
        if allocates { cluster.clamp(least, most) } else { most }
    }

    fn named(&self) -> Option<Arc<NodeBitmaps>> {
        self.recorders().read(|all| all.iter().find_map(Recorder::named).cloned())
    }

    /// A clean bitmap, which records if it is `enabled` and consistent.
    ///
    /// # Errors
    /// Its name is no name or taken, or it cannot be of this granularity; nothing has changed.
    pub fn add_named_bitmap(
        &self,
        io: &Io,
        name: &str,
        granularity: ByteLen,
        enabled: bool,
        state: BitmapState,
    ) -> Result<(), BlockError> {
        let node = self.name();
        let invalid = |why: &str| Err(BlockError::Invalid(format!("bitmap of node {node}: {why}")));
        match name.len() {
            0 => return invalid("its name is empty"),
            1..=NAME_MAX => {}
            len => return invalid(&format!("its name has {len} bytes; {NAME_MAX} are possible")),
        }
        let len = self.len(io);
        let granules = len.0 / granularity.0.max(1);
        if granules > GRANULES_MAX {
            return invalid(&format!(
                "granularity: {len} bytes have {granules} granules of {granularity}; at most \
                 {GRANULES_MAX} are possible"
            ));
        }
        let mut bits = match DirtyBitmap::new(len, granularity) {
            Ok(bits) => bits,
            Err(error) => return invalid(&format!("granularity: {error}")),
        };
        if !enabled || state.inconsistent {
            bits.disable();
        }
        let (node, name) = (node.into(), name.into());
        self.put_back(NodeBitmap { node, name, state, bits, successor: None, holder: None })
    }

    /// Gives it back a bitmap that was [removed](Self::remove_named_bitmap).
    ///
    /// # Errors
    /// Another one has its name by now.
    pub fn put_back(&self, bitmap: NodeBitmap) -> Result<(), BlockError> {
        let all = self.recorders().write(|all| match all.iter().find_map(Recorder::named) {
            Some(bitmaps) => bitmaps.clone(),
            None => {
                let bitmaps = Arc::new(NodeBitmaps::default());
                all.push(Recorder::Named(bitmaps.clone()));
                bitmaps
            }
        });
        all.0.write(|all| {
            if all.iter().any(|other| other.name == bitmap.name) {
                return Err(bitmap.refused("is there already"));
            }
            all.push(bitmap);
            Ok(())
        })
    }

    /// Removes the bitmap of this name; it records no more.
    ///
    /// # Errors
    /// There is none, or it is busy or read-only; nothing has changed.
    pub fn remove_named_bitmap(&self, name: &str) -> Result<NodeBitmap, BlockError> {
        let Some(all) = self.named() else { return Err(self.no_bitmap(name)) };
        all.0.write(|all| {
            let index = all.iter().position(|bitmap| bitmap.name == name);
            let index = index.ok_or_else(|| self.no_bitmap(name))?;
            all[index].check(Use::Remove)?;
            Ok(all.remove(index))
        })
    }

    /// Removes them all, whatever they are: for a mutant.
    pub(crate) fn lose_named_bitmaps(&self) {
        if let Some(all) = self.named() {
            all.0.write(Vec::clear);
        }
    }

    /// Looks at the bitmap of this name.
    ///
    /// # Errors
    /// There is none, or what `look` says.
    pub fn look_at_bitmap<R>(
        &self,
        name: &str,
        look: impl FnOnce(&NodeBitmap) -> Result<R, BlockError>,
    ) -> Result<R, BlockError> {
        let Some(all) = self.named() else { return Err(self.no_bitmap(name)) };
        all.0.read(|all| match all.iter().find(|bitmap| bitmap.name == name) {
            Some(bitmap) => look(bitmap),
            None => Err(self.no_bitmap(name)),
        })
    }

    /// Changes the bitmap of this name, between two writes.
    ///
    /// # Errors
    /// There is none, or what `change` says.
    pub fn change_bitmap<R>(
        &self,
        name: &str,
        change: impl FnOnce(&mut NodeBitmap) -> Result<R, BlockError>,
    ) -> Result<R, BlockError> {
        let Some(all) = self.named() else { return Err(self.no_bitmap(name)) };
        all.0.write(|all| match all.iter_mut().find(|bitmap| bitmap.name == name) {
            Some(bitmap) => change(bitmap),
            None => Err(self.no_bitmap(name)),
        })
    }

    /// Looks at all of them, in the order in which they were added.
    pub fn each_bitmap(&self, look: impl FnMut(&NodeBitmap)) {
        if let Some(all) = self.named() {
            all.0.read(|all| all.iter().for_each(look));
        }
    }

    fn no_bitmap(&self, name: &str) -> BlockError {
        let node = self.name();
        BlockError::Invalid(format!("node {node} has no bitmap '{name}'"))
    }
}
