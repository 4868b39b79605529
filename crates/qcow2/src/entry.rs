//! Entries of the L1 and L2 tables, and what they say.
//!
//! Source: the specification, "L1 table entry", "L2 table entry" and "Extended L2 Entries".

use crate::error::ImageError;
use crate::geometry::Geometry;

/// The cluster's refcount is exactly one: it may be written in place.
pub const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// Reads as zeroes, whatever is at the offset.
const ZERO: u64 = 1;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// An entry of the L1 table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1Entry(pub u64);

impl L1Entry {
    /// Of an L2 table that nobody else refers to.
    pub fn own(offset: u64) -> Self {
        Self(offset | COPIED)
    }

    /// Where the L2 table is, if there is one.
    pub fn table(self) -> Option<u64> {
        Some(self.0 & OFFSET).filter(|offset| *offset != 0)
    }

    /// The same, no longer alone.
    pub fn shared(self) -> Self {
        Self(self.0 & !COPIED)
    }

    /// Whether nobody else refers to it.
    pub fn is_own(self) -> bool {
        self.0 & COPIED != 0
    }
}

/// What a subcluster, or a cluster that has none, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What is below shows.
    Unallocated,
    /// Reads as zeroes; space may be kept for it, at this offset.
    Zero(Option<u64>),
    /// Data, at this offset of the file that has the data.
    Data(u64),
    /// Compressed data, of the whole cluster.
    Compressed(Compressed),
}

impl Kind {
    /// Whether what begins with guest offset `at`, all of this kind, reads as zeroes; `below`: how
    /// many bytes show where the image has nothing.
    pub fn reads_as_zeroes(self, at: u64, below: impl FnOnce() -> u64) -> bool {
        match self {
            Self::Zero(_) => true,
            Self::Unallocated => below() <= at,
            Self::Data(_) | Self::Compressed(_) => false,
        }
    }
}

/// Where compressed data are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compressed {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes, up to the end of a sector: no more than these are the data.
    pub len: u64,
}

impl Compressed {
    /// `len` bytes at `offset`, with the rest of the last sector.
    pub fn new(offset: u64, len: u64) -> Self {
        Self { offset, len: (offset + len).next_multiple_of(512) - offset }
    }
}

/// An entry of an L2 table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The cluster descriptor.
    pub descriptor: u64,
    /// Of the subclusters: the lower half says which have data, the upper one which read as zeroes.
    pub bitmap: u64,
}

impl Entry {
    /// Of data at `host`, all of the cluster.
    pub fn data(host: u64, geometry: &Geometry) -> Self {
        let bitmap = if geometry.extended { u64::from(u32::MAX) } else { 0 };
        Self { descriptor: host | COPIED, bitmap }
    }

    /// Whether the descriptor is a compressed cluster's.
    pub fn is_compressed(self) -> bool {
        self.descriptor & COMPRESSED != 0
    }

    /// Whether its cluster may be written in place.
    pub fn is_own(self) -> bool {
        self.descriptor & COPIED != 0
    }

    /// The host cluster, if it has one and is not compressed.
    pub fn host(self, geometry: &Geometry) -> Option<u64> {
        let offset = self.descriptor & OFFSET;
        // In a file of their own data may be at offset 0.
        let has = offset != 0 || (geometry.external && self.is_own());
        (has && !self.is_compressed()).then_some(offset)
    }

    /// Where the compressed data are, if it is compressed: "Compressed Clusters Descriptor".
    pub fn compressed(self, geometry: &Geometry) -> Option<Compressed> {
        if !self.is_compressed() {
            return None;
        }
        let bits = 62 - (geometry.cluster_bits - 8);
        let offset = self.descriptor & ((1 << bits) - 1);
        let more = (self.descriptor & (COMPRESSED - 1)) >> bits;
        Some(Compressed { offset, len: (more + 1) * 512 - offset % 512 })
    }

    /// Of a compressed cluster.
    pub fn of_compressed(data: Compressed, geometry: &Geometry) -> Self {
        let bits = 62 - (geometry.cluster_bits - 8);
        let more = (data.offset + data.len - 1) / 512 - data.offset / 512;
        Self { descriptor: COMPRESSED | more << bits | data.offset, bitmap: 0 }
    }

    /// What subcluster `index` is. `at`: where the entry stands, for errors.
    pub fn kind(self, index: u64, geometry: &Geometry, at: u64) -> Result<Kind, ImageError> {
        if let Some(compressed) = self.compressed(geometry) {
            let expected = "no compressed cluster with an external data file";
            return match geometry.external {
                false => Ok(Kind::Compressed(compressed)),
                true => Err(corrupt(at, self.descriptor, expected)),
            };
        }
        let host = self.host(geometry);
        if host.is_some_and(|host| geometry.within(host) != 0) {
            let expected = "a multiple of the cluster size";
            return Err(corrupt(at, self.descriptor, expected));
        }
        let (data, zero) = if geometry.extended {
            (self.bitmap >> index & 1 != 0, self.bitmap >> (32 + index) & 1 != 0)
        } else {
            let zero = geometry.has_zero && self.descriptor & ZERO != 0;
            (host.is_some() && !zero, zero)
        };
        match (data, zero, host) {
            (true, false, Some(host)) => Ok(Kind::Data(host + index * geometry.subcluster())),
            (true, false, None) => Err(corrupt(at, self.bitmap, "no data without a cluster")),
            (true, true, _) => Err(corrupt(at, self.bitmap, "data or zeroes, not both")),
            (false, true, host) => {
                Ok(Kind::Zero(host.map(|host| host + index * geometry.subcluster())))
            }
            (false, false, _) => Ok(Kind::Unallocated),
        }
    }

    /// All of the cluster reads as zeroes; `keep`: with the space that it has.
    pub fn zeroed(self, keep: bool, geometry: &Geometry) -> Self {
        let kept = if keep && !self.is_compressed() { self.descriptor & !ZERO } else { 0 };
        if geometry.extended {
            Self { descriptor: kept, bitmap: u64::from(u32::MAX) << 32 }
        } else {
            Self { descriptor: kept | ZERO, bitmap: 0 }
        }
    }

    /// The same, no longer alone.
    pub fn shared(self) -> Self {
        Self { descriptor: self.descriptor & !COPIED, ..self }
    }

    /// The same, alone.
    pub fn own(self) -> Self {
        Self { descriptor: self.descriptor | COPIED, ..self }
    }

    /// Subclusters `range` read as zeroes now; the others are as they were.
    pub fn with_zeroes(self, range: core::ops::Range<u64>) -> Self {
        let mut bitmap = self.bitmap;
        for index in range {
            bitmap &= !(1 << index);
            bitmap |= 1 << (32 + index);
        }
        Self { bitmap, ..self }
    }

    /// Subclusters `range` hold data at `host` now; the others are as they were.
    pub fn with_data(self, host: u64, range: core::ops::Range<u64>, geometry: &Geometry) -> Self {
        if !geometry.extended {
            return Self::data(host, geometry);
        }
        let mut bitmap = if self.is_compressed() { 0 } else { self.bitmap };
        for index in range {
            bitmap |= 1 << index;
            bitmap &= !(1 << (32 + index));
        }
        Self { descriptor: host | COPIED, bitmap }
    }
}

fn corrupt(offset: u64, found: u64, expected: &'static str) -> ImageError {
    ImageError::Corrupt { structure: "an L2 entry", offset, found, expected }
}
