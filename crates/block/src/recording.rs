//! What of a node records its writes: the bitmaps of jobs, and its own, by name.
//!
//! All named bitmaps of a node are one value behind the door: a write is marked in all of them at once, and a command
//! changes one of them between two writes. So a write that ends is in those that recorded at that moment, and in no
//! others. Marks commute with each other; commands write.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::{DirtyBitmap, SharedBitmap};
use blockyard_sync::Shared;
use blockyard_units::{ByteLen, ByteRange};

use crate::bitmaps::{BitmapState, NodeBitmap, Use};
use crate::error::BlockError;
use crate::io::Io;
use crate::node::Node;

/// Bytes of the longest name, as qcow2 has it.
const NAME_MAX: usize = 1023;
/// Bits of the longest bitmap.
const GRANULES_MAX: u64 = 1 << 32;
/// Bytes: what a bitmap's granularity is between, if nobody says it.
const GRANULARITY: (ByteLen, ByteLen) = (ByteLen(4096), ByteLen(65536));

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
        if state.persistent {
            self.check_storing(name, len, granularity)?;
        }
        let mut bits = match DirtyBitmap::new(len, granularity) {
            Ok(bits) => bits,
            Err(error) => return invalid(&format!("granularity: {error}")),
        };
        if !enabled || state.inconsistent {
            bits.disable();
        }
        self.put_back(NodeBitmap::new(node, name, state, bits))
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
            if all.iter().any(|other| other.name() == bitmap.name()) {
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
            let index = all.iter().position(|bitmap| bitmap.name() == name);
            let index = index.ok_or_else(|| self.no_bitmap(name))?;
            all[index].check(Use::Remove)?;
            Ok(all.remove(index))
        })
    }

    /// Removes those that are `lost`, whoever holds them.
    pub(crate) fn lose_bitmaps(&self, lost: impl Fn(&NodeBitmap) -> bool) {
        if let Some(all) = self.named() {
            all.0.write(|all| all.retain(|bitmap| !lost(bitmap)));
        }
    }

    /// What is stored with the node cannot be changed any more.
    pub(crate) fn stored_bitmaps_become_read_only(&self) {
        if let Some(all) = self.named() {
            all.0.write(|all| all.iter_mut().for_each(NodeBitmap::becomes_read_only));
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
        all.0.read(|all| match all.iter().find(|bitmap| bitmap.name() == name) {
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
        all.0.write(|all| match all.iter_mut().find(|bitmap| bitmap.name() == name) {
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
