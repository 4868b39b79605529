//! Where an image's structures are, as far as that is known in memory, and what a write must not touch of them.
//!
//! Source: QEMU's documented option `overlap-check` of an open image: its templates, flags and default. What a write is
//! itself a part of is not in its way. Differs: the L2 tables of snapshots (`inactive-l2`) are not read for each write,
//! but once, and whenever the snapshots change.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use blockyard_units::ByteRange;

/// A sort of structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// The first cluster.
    MainHeader,
    /// The guest's own L1 table.
    ActiveL1,
    /// An L2 table that it refers to.
    ActiveL2,
    /// The refcount table.
    RefcountTable,
    /// A refcount block.
    RefcountBlock,
    /// The snapshot table.
    SnapshotTable,
    /// The L1 table of a snapshot.
    InactiveL1,
    /// An L2 table that such a one refers to.
    InactiveL2,
    /// The bitmap directory.
    BitmapDirectory,
}

impl Structure {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::MainHeader,
        Self::ActiveL1,
        Self::ActiveL2,
        Self::RefcountTable,
        Self::RefcountBlock,
        Self::SnapshotTable,
        Self::InactiveL1,
        Self::InactiveL2,
        Self::BitmapDirectory,
    ];

    /// The key of its flag.
    pub fn word(self) -> &'static str {
        match self {
            Self::MainHeader => "main-header",
            Self::ActiveL1 => "active-l1",
            Self::ActiveL2 => "active-l2",
            Self::RefcountTable => "refcount-table",
            Self::RefcountBlock => "refcount-block",
            Self::SnapshotTable => "snapshot-table",
            Self::InactiveL1 => "inactive-l1",
            Self::InactiveL2 => "inactive-l2",
            Self::BitmapDirectory => "bitmap-directory",
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MainHeader => "the image header",
            Self::ActiveL1 => "the active L1 table",
            Self::ActiveL2 => "an active L2 table",
            Self::RefcountTable => "the refcount table",
            Self::RefcountBlock => "a refcount block",
            Self::SnapshotTable => "the snapshot table",
            Self::InactiveL1 => "an inactive L1 table",
            Self::InactiveL2 => "an inactive L2 table",
            Self::BitmapDirectory => "the bitmap directory",
        })
    }
}

/// Which structures are looked at before a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlapChecks(u16);

impl OverlapChecks {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// Those that stay where they are.
    pub const CONSTANT: Self = Self(0b1_0010_1011);
    /// Those and all whose places are in memory anyway.
    pub const CACHED: Self = Self(0b1_0111_1111);
    /// All of them.
    pub const ALL: Self = Self(0b1_1111_1111);

    /// What the word stands for, if it is a template.
    pub fn template(word: &str) -> Option<Self> {
        match word {
            "none" => Some(Self::NONE),
            "constant" => Some(Self::CONSTANT),
            "cached" => Some(Self::CACHED),
            "all" => Some(Self::ALL),
            _ => None,
        }
    }

    /// With or without one of them.
    #[must_use]
    pub fn with(self, structure: Structure, on: bool) -> Self {
        if on { Self(self.0 | structure.bit()) } else { Self(self.0 & !structure.bit()) }
    }

    /// Whether this one is looked at.
    pub fn has(self, structure: Structure) -> bool {
        self.0 & structure.bit() != 0
    }
}

impl Default for OverlapChecks {
    fn default() -> Self {
        Self::CACHED
    }
}

/// Clusters that are tables, with how many refer to each.
#[derive(Default)]
pub struct Clusters(BTreeMap<u64, u32>);

impl Clusters {
    /// One more refers to the cluster at `offset`; 0 is none.
    pub fn add(&mut self, offset: u64) {
        if offset != 0 {
            *self.0.entry(offset).or_default() += 1;
        }
    }

    /// One less does.
    pub fn remove(&mut self, offset: u64) {
        if let Some(uses) = self.0.get_mut(&offset) {
            *uses -= 1;
            if *uses == 0 {
                self.0.remove(&offset);
            }
        }
    }

    /// Whether `range` touches one of them, each of which has `cluster` bytes.
    pub fn touch(&self, range: ByteRange, cluster: u64) -> bool {
        let from = range.start().saturating_sub(cluster - 1);
        self.0.range(from..range.end()).next().is_some()
    }
}

/// Ranges, the overlapping ones made one.
#[derive(Default)]
pub struct Ranges(Vec<ByteRange>);

impl Ranges {
    /// Of these.
    pub fn of(mut ranges: Vec<ByteRange>) -> Self {
        ranges.retain(|range| !range.is_empty());
        ranges.sort_unstable_by_key(ByteRange::start);
        ranges.dedup_by(|next, kept| {
            let meets = next.start() <= kept.end();
            if meets {
                *kept = ByteRange::between(kept.start(), kept.end().max(next.end()));
            }
            meets
        });
        Self(ranges)
    }

    /// They, in their order.
    pub fn iter(&self) -> impl Iterator<Item = ByteRange> {
        self.0.iter().copied()
    }

    /// Whether `range` touches one of them.
    pub fn touch(&self, range: ByteRange) -> bool {
        let next = self.0.partition_point(|other| other.end() <= range.start());
        self.0.get(next).is_some_and(|other| other.overlaps(&range))
    }
}

/// What the snapshots take.
#[derive(Default)]
pub struct Kept {
    /// The snapshot table.
    pub table: Option<ByteRange>,
    /// The L1 tables in it.
    pub l1: Ranges,
    /// The L2 tables that those refer to, if they are looked at.
    pub l2: Clusters,
}

/// A write that would have damaged a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Bytes of the image's file that would have been written.
    pub range: ByteRange,
    /// What is there.
    pub structure: Structure,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { range, structure } = self;
        write!(
            f,
            "a write of {} bytes at {:#x} would overwrite {structure}",
            range.len().0,
            range.start()
        )
    }
}
