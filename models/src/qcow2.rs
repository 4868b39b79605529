//! Metadata integrity of a qcow2 image: what stands in it fits together, whenever power was lost.
//!
//! Every reference to a cluster is counted: the refcount is at least the number of references. More is a leak, and no
//! violation. Whoever says that nobody else refers to a cluster (COPIED, in the active tables) is right. Reads the
//! image's bytes as the specification has them, and nothing else: what it needs and has not got it asks for, so that a
//! power loss is decided only where somebody looks.
//!
//! Source: the public specification of the format, docs/interop/qcow2 of QEMU: "Header", "Host cluster management",
//! "Cluster mapping", "Snapshots".
//! Not for: compressed data and subclusters, which are counted and not looked into.

mod bitmaps;

pub use bitmaps::StoredBitmap;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_units::ByteRange;

use crate::{Property, Violation};

/// Gives the image's bytes, with zeroes behind its end; none if they have to be read first.
pub type Bytes<'a> = dyn FnMut(ByteRange) -> Option<Vec<u8>> + 'a;

/// Why a look at an image ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// These have to be read first.
    Unread(ByteRange),
    /// The image is wrong.
    Broken(Violation),
}

/// Where a byte of the guest's disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The image does not have it: the backing file's shows, or zero.
    Below,
    /// It is zero: also behind its end, whatever the backing file has there.
    Zero,
    /// At this byte of the image.
    Data(u64),
}

/// The fields that everything else follows from.
#[derive(Clone, Copy, Debug)]
pub struct Qcow2 {
    version: u32,
    cluster: u64,
    /// Bytes of the guest's disk.
    pub len: u64,
    /// It says that its refcounts may be wrong.
    pub is_dirty: bool,
    /// It says that it is corrupt.
    pub is_corrupt: bool,
    /// Features that hold as long as nobody writes who does not know them.
    pub autoclear: u64,
    backing: (u64, u64),
    l1: (u64, u64),
    reftable: (u64, u64),
    snapshots: (u64, u64),
    count_bits: u64,
    extended: bool,
    /// Data are in a file of their own, where nothing is counted.
    external: bool,
    /// Where the header extensions begin, if the image vouches for its bitmaps.
    vouches_from: Option<u64>,
}

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

fn broken(message: String) -> Stopped {
    Stopped::Broken(Property::MetadataIntegrity.broken(message))
}

fn read(bytes: &mut Bytes<'_>, range: ByteRange) -> Result<Vec<u8>, Stopped> {
    bytes(range).ok_or(Stopped::Unread(range))
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A table of 8-byte entries.
fn table(bytes: &mut Bytes<'_>, offset: u64, entries: u64) -> Result<Vec<u64>, Stopped> {
    let table = read(bytes, ByteRange::new(offset, entries * 8))?;
    Ok(table.chunks(8).map(|entry| number(entry, 0, 8)).collect())
}

impl Qcow2 {
    /// What the header says.
    ///
    /// # Errors
    /// It has to be read, or is none.
    pub fn of(bytes: &mut Bytes<'_>) -> Result<Self, Stopped> {
        let header = read(bytes, ByteRange::new(0, 104))?;
        let [u32_at, u64_at] = [4, 8].map(|len| {
            let header = &header;
            move |at: usize| number(header, at, len)
        });
        if u32_at(0) != 0x5146_49fb || !(2..=3).contains(&u32_at(4)) {
            return Err(broken(format!("the image begins with {:02x?}", &header[..8])));
        }
        let version = u32_at(4) as u32;
        let [features, autoclear, order] =
            if version == 2 { [0, 0, 4] } else { [u64_at(72), u64_at(88), u32_at(96)] };
        Ok(Self {
            version,
            cluster: 1 << u32_at(20),
            len: u64_at(24),
            is_dirty: features & 1 != 0,
            is_corrupt: features & 2 != 0,
            autoclear,
            backing: (u64_at(8), u32_at(16)),
            l1: (u64_at(40), u32_at(36)),
            reftable: (u64_at(48), u32_at(56)),
            snapshots: (u64_at(64), u32_at(60)),
            count_bits: 1 << order,
            extended: features & 16 != 0,
            external: features & 4 != 0,
            vouches_from: (autoclear & 1 != 0).then(|| u32_at(100)),
        })
    }

    /// The name of its backing file; empty, if it names none.
    ///
    /// # Errors
    /// It has to be read.
    pub fn backing_file(&self, bytes: &mut Bytes<'_>) -> Result<String, Stopped> {
        let (offset, len) = self.backing;
        let name = if offset == 0 { Vec::new() } else { read(bytes, ByteRange::new(offset, len))? };
        Ok(String::from_utf8_lossy(&name).into())
    }

    /// Where byte `at` of the guest's disk is, and the bytes behind it up to the end of its cluster.
    ///
    /// # Errors
    /// Something has to be read, or is not looked into.
    pub fn place(&self, bytes: &mut Bytes<'_>, at: u64) -> Result<Place, Stopped> {
        if at >= self.len {
            return Ok(Place::Zero);
        }
        let entries = self.cluster / 8;
        let (index, within) = (at / self.cluster, at % self.cluster);
        if index / entries >= self.l1.1 {
            return Err(broken(format!("the L1 table ends before byte {at} of the disk")));
        }
        let l1_entry = table(bytes, self.l1.0 + index / entries * 8, 1)?[0] & OFFSET;
        if l1_entry == 0 {
            return Ok(Place::Below);
        }
        let entry = table(bytes, l1_entry + index % entries * 8, 1)?[0];
        if self.extended || entry & COMPRESSED != 0 {
            return Err(broken(format!("what is at {at} is not looked into here")));
        }
        Ok(match entry & OFFSET {
            _ if self.version > 2 && entry & 1 != 0 => Place::Zero,
            0 => Place::Below,
            host => Place::Data(host + within),
        })
    }

    /// Judges the whole image; returns how many clusters have leaked.
    ///
    /// # Errors
    /// Something has to be read; or the first structure that is wrong.
    pub fn check(&self, bytes: &mut Bytes<'_>) -> Result<u64, Stopped> {
        let mut references =
            References { cluster: self.cluster, all: BTreeMap::new(), own: Vec::new() };
        references.add("the header", 0, self.cluster)?;
        let (reftable, clusters) = self.reftable;
        references.add("the refcount table", reftable, clusters * self.cluster)?;
        let blocks = table(bytes, reftable, clusters * self.cluster / 8)?;
        for block in blocks.iter().filter(|block| **block != 0) {
            references.add("a refcount block", *block, self.cluster)?;
        }
        let needed = self.len.div_ceil(self.cluster * self.cluster / self.entry_len());
        if self.l1.1 < needed {
            return Err(broken(format!("the L1 table has {} entries of {needed}", self.l1.1)));
        }
        self.add_tables(bytes, &mut references, self.l1, true)?;
        self.add_snapshots(bytes, &mut references)?;
        self.add_bitmaps(bytes, &mut references)?;
        self.compare(bytes, &references, &blocks)
    }

    fn entry_len(&self) -> u64 {
        if self.extended { 16 } else { 8 }
    }

    /// The L1 table at `l1.0` with `l1.1` entries, and everything below.
    fn add_tables(
        &self,
        bytes: &mut Bytes<'_>,
        references: &mut References,
        l1: (u64, u64),
        active: bool,
    ) -> Result<(), Stopped> {
        references.add("an L1 table", l1.0, l1.1 * 8)?;
        for entry in table(bytes, l1.0, l1.1)? {
            if entry & OFFSET == 0 {
                continue;
            }
            references.add("an L2 table", entry & OFFSET, self.cluster)?;
            if active {
                references.says_own(entry);
            }
            let step = usize::from(self.extended) + 1;
            for entry in table(bytes, entry & OFFSET, self.cluster / 8)?.iter().step_by(step) {
                if self.external {
                    continue;
                }
                if entry & COMPRESSED != 0 {
                    let bits = 62 - (self.cluster.ilog2() - 8);
                    let offset = entry & ((1 << bits) - 1);
                    let sectors = ((entry & (COMPRESSED - 1)) >> bits) + 1;
                    references.add_compressed(offset, sectors * 512 - offset % 512);
                } else if entry & OFFSET != 0 {
                    references.add("a data cluster", entry & OFFSET, self.cluster)?;
                    if active {
                        references.says_own(*entry);
                    }
                }
            }
        }
        Ok(())
    }

    fn add_snapshots(
        &self,
        bytes: &mut Bytes<'_>,
        references: &mut References,
    ) -> Result<(), Stopped> {
        let (table, count) = self.snapshots;
        let mut at = table;
        for _ in 0..count {
            let entry = read(bytes, ByteRange::new(at, 40))?;
            self.add_tables(
                bytes,
                references,
                (number(&entry, 0, 8), number(&entry, 8, 4)),
                false,
            )?;
            let lens = number(&entry, 12, 2) + number(&entry, 14, 2) + number(&entry, 36, 4);
            at += (40 + lens).next_multiple_of(8);
        }
        references.add("the snapshot table", table, at - table)
    }

    /// Compares the references with the refcounts.
    fn compare(
        &self,
        bytes: &mut Bytes<'_>,
        references: &References,
        blocks: &[u64],
    ) -> Result<u64, Stopped> {
        let per_block = self.cluster * 8 / self.count_bits;
        let mut leaks = 0;
        let mut counted = BTreeMap::new();
        for (index, block) in (0..).zip(blocks).filter(|(_, block)| **block != 0) {
            let block = read(bytes, ByteRange::new(*block, self.cluster))?;
            for within in 0..per_block {
                let cluster = index * per_block + within;
                let count = self.count(&block, within);
                leaks += u64::from(count > references.of(cluster));
                if count > 0 {
                    counted.insert(cluster, count);
                }
            }
        }
        let count = |cluster: u64| counted.get(&cluster).copied().unwrap_or(0);
        for (cluster, (found, what)) in &references.all {
            if count(*cluster) < *found {
                return Err(broken(format!(
                    "cluster {cluster}, {what}, is referred to {found} times and its refcount is {}",
                    count(*cluster)
                )));
            }
        }
        for cluster in &references.own {
            if count(*cluster) != 1 {
                return Err(broken(format!(
                    "cluster {cluster} is said to be nobody else's and its refcount is {}",
                    count(*cluster)
                )));
            }
        }
        Ok(leaks)
    }

    fn count(&self, block: &[u8], index: u64) -> u64 {
        let bit = index * self.count_bits;
        let at = (bit / 8) as usize;
        if self.count_bits < 8 {
            return u64::from(block[at]) >> (bit % 8) & ((1 << self.count_bits) - 1);
        }
        number(block, at, (self.count_bits / 8) as usize)
    }
}

/// Who refers to which cluster.
struct References {
    cluster: u64,
    /// How often, and what it is, as the last one has it.
    all: BTreeMap<u64, (u64, &'static str)>,
    /// Those that are said to have no second one.
    own: Vec<u64>,
}

impl References {
    fn add(&mut self, what: &'static str, offset: u64, len: u64) -> Result<(), Stopped> {
        if !offset.is_multiple_of(self.cluster) {
            return Err(broken(format!("{what} is at {offset}, inside a cluster")));
        }
        for cluster in 0..len.div_ceil(self.cluster) {
            let entry = self.all.entry(offset / self.cluster + cluster).or_default();
            *entry = (entry.0 + 1, what);
        }
        Ok(())
    }

    fn add_compressed(&mut self, offset: u64, len: u64) {
        for cluster in offset / self.cluster..(offset + len).div_ceil(self.cluster) {
            let entry = self.all.entry(cluster).or_default();
            *entry = (entry.0 + 1, "compressed data");
        }
    }

    fn says_own(&mut self, entry: u64) {
        if entry & COPIED != 0 {
            self.own.push((entry & OFFSET) / self.cluster);
        }
    }

    fn of(&self, cluster: u64) -> u64 {
        self.all.get(&cluster).map_or(0, |(count, _)| *count)
    }
}

#[cfg(test)]
mod tests;
