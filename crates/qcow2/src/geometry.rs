//! The sizes that everything in an image follows from.

use blockyard_units::ByteRange;

/// Bytes of tables that are brought in at once, unless somebody says: a part of a table, or all of it if clusters are
/// smaller.
pub const SLICE: u64 = 4 << 10;

/// See the specification, "Host cluster management" and "Cluster mapping".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// A cluster has 2 to the power of this bytes.
    pub cluster_bits: u32,
    /// A refcount has 2 to the power of this bits.
    pub refcount_order: u32,
    /// Whether clusters are divided into 32 subclusters.
    pub extended: bool,
    /// Whether data are in a file of their own, at the offsets that the guest knows them by.
    pub external: bool,
    /// Whether there are zero clusters, which version 2 does not have.
    pub has_zero: bool,
    /// Bytes of an L2 table that are brought in at once: a power of two from 512 to a cluster.
    pub l2_slice: u64,
}

impl Geometry {
    /// Bytes.
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// How many subclusters a cluster has; one, which is the cluster, unless they are kept apart.
    pub fn subclusters(&self) -> u64 {
        if self.extended { 32 } else { 1 }
    }

    /// Bytes.
    pub fn subcluster(&self) -> u64 {
        self.cluster() / self.subclusters()
    }

    /// Bytes of an L2 entry.
    pub fn l2_entry(&self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    /// Entries of an L2 table.
    pub fn l2_entries(&self) -> u64 {
        self.cluster() / self.l2_entry()
    }

    /// Bytes of the guest's disk that one L1 entry stands for.
    pub fn l1_reach(&self) -> u64 {
        self.cluster() * self.l2_entries()
    }

    /// Bytes of a refcount block that are brought in at once.
    pub fn slice(&self) -> u64 {
        self.cluster().min(SLICE)
    }

    /// Clusters that a slice of an L2 table maps.
    pub fn slice_entries(&self) -> u64 {
        self.l2_slice / self.l2_entry()
    }

    /// Refcounts in one block.
    pub fn block_counts(&self) -> u64 {
        (self.cluster() * 8) >> self.refcount_order
    }

    /// Refcounts in a slice of a block.
    pub fn slice_counts(&self) -> u64 {
        (self.slice() * 8) >> self.refcount_order
    }

    /// The greatest refcount that can be stored.
    pub fn refcount_max(&self) -> u64 {
        u64::MAX >> (64 - (1 << self.refcount_order))
    }

    /// L1 entries that a disk of `len` bytes needs.
    pub fn l1_needed(&self, len: u64) -> u64 {
        len.div_ceil(self.l1_reach())
    }

    /// The whole clusters that `range` touches.
    pub fn clusters_around(&self, range: ByteRange) -> ByteRange {
        let mask = self.cluster() - 1;
        ByteRange::between(range.start() & !mask, (range.end() + mask) & !mask)
    }

    /// How many clusters `bytes` need.
    pub fn clusters_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster())
    }

    /// Where a table may end in a file of so many bytes: the file's last cluster may be there in part.
    pub fn end_of_tables(&self, file_len: u64) -> u64 {
        file_len.next_multiple_of(self.cluster())
    }

    /// The offset inside its cluster.
    pub fn within(&self, offset: u64) -> u64 {
        offset & (self.cluster() - 1)
    }
}
