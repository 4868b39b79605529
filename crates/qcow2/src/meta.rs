//! An image's structures in memory. Nothing here waits: what is not in memory is asked for by its offset.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use blockyard_block::LONGEST;
use blockyard_units::ByteRange;

use crate::cache::Cache;
use crate::entry::{Entry, Kind, L1Entry};
use crate::error::ImageError;
use crate::geometry::Geometry;
use crate::header::Header;
use crate::overlap::{Clusters, Kept, Overlap, OverlapChecks, Structure};

/// Bytes of a table that are written at once: what a disk writes whole.
const SECTOR: u64 = 512;

/// Entries of a table as they stand in the file.
pub fn table_bytes(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

/// A table of offsets that is in memory whole.
pub struct Table {
    pub entries: Vec<u64>,
    dirty: BTreeSet<u64>,
    /// What the entries refer to.
    pub clusters: Clusters,
}

/// Where an entry of a table of offsets refers to; 0 if nowhere.
fn referred(entry: u64) -> u64 {
    L1Entry(entry).table().unwrap_or(0)
}

impl Table {
    /// As it stands in the file.
    pub fn parse(bytes: &[u8]) -> Self {
        let entry = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("eight-bytes"));
        Self::of(bytes.chunks_exact(8).map(entry).collect())
    }

    /// As it stands in the file already.
    pub fn of(entries: Vec<u64>) -> Self {
        let mut clusters = Clusters::default();
        entries.iter().for_each(|entry| clusters.add(referred(*entry)));
        Self { entries, dirty: BTreeSet::new(), clusters }
    }

    /// The entry at `index`; 0 behind the end.
    pub fn get(&self, index: u64) -> u64 {
        usize::try_from(index).ok().and_then(|index| self.entries.get(index).copied()).unwrap_or(0)
    }

    /// Changes an entry.
    pub fn set(&mut self, index: u64, entry: u64) {
        let index_in_memory = usize::try_from(index).expect("tables-are-in-memory");
        let old = core::mem::replace(&mut self.entries[index_in_memory], entry);
        if referred(old) != referred(entry) {
            self.clusters.remove(referred(old));
            self.clusters.add(referred(entry));
        }
        self.dirty.insert(index * 8 / SECTOR);
    }

    /// Whether there is anything to be written.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The next sector to be written, at its offset in the table; from here on it counts as clean.
    pub fn take_dirty(&mut self) -> Option<(u64, Vec<u8>)> {
        let sector = self.dirty.pop_first()?;
        let from = usize::try_from(sector * SECTOR / 8).expect("tables-are-in-memory");
        let to = (from + 64).min(self.entries.len());
        Some((sector * SECTOR, table_bytes(&self.entries[from..to])))
    }

    /// It was not written after all.
    pub fn mark_dirty(&mut self, offset: u64) {
        self.dirty.insert(offset / SECTOR);
    }
}

/// What is not referred to any more in memory, but may still be on the disk.
pub struct Freed {
    /// Bytes of the file; whole clusters, or a part of some for compressed data.
    pub host: ByteRange,
    /// The guest range that it was. Requests that came while it was may still be under way.
    pub guest: ByteRange,
    /// The space itself may be given back.
    pub discard: bool,
}

/// A run of the guest's disk that is the same, and contiguous in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Bytes.
    pub len: u64,
    /// At its beginning.
    pub kind: Kind,
    /// Data that may be written where they are.
    pub in_place: bool,
}

/// What a look at the structures gives.
pub enum Looked<T> {
    /// What was asked for.
    Found(T),
    /// The slice at this offset is to be brought in first.
    Bring(u64),
}

/// Which cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Slices of L2 tables.
    L2,
    /// Slices of refcount blocks.
    Counts,
}

/// Which way counts go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// One more.
    Up,
    /// One less.
    Down,
}

/// The refcounts of a slice.
pub struct Counts<'a> {
    /// None where there is no block: they are 0.
    bytes: Option<&'a [u8]>,
    geometry: &'a Geometry,
}

impl Counts<'_> {
    /// That of a cluster that is in the slice.
    pub fn of(&self, cluster: u64) -> u64 {
        let index = cluster % self.geometry.slice_counts();
        self.bytes.map_or(0, |bytes| count_in(bytes, index, self.geometry.refcount_order))
    }
}

/// See the file head.
pub struct Meta {
    pub header: Header,
    /// Another one may be in the file: one that was not written well.
    pub header_is_unknown: bool,
    /// It is being written.
    pub header_is_on_its_way: bool,
    pub checks: OverlapChecks,
    pub kept: Kept,
    /// A write would have damaged a structure: nothing is written any more.
    pub is_corrupt: bool,
    /// That nobody was told of yet.
    pub untold: Option<Overlap>,
    pub l1: Table,
    pub reftable: Table,
    pub l2: Cache,
    pub counts: Cache,
    /// No cluster before this one is free.
    pub hint: u64,
    pub freed: Vec<Freed>,
    /// Guest ranges that are being allocated.
    pub allocating: Vec<ByteRange>,
    /// Where the next compressed data may go, inside a cluster that has some.
    pub free_bytes: Option<u64>,
    /// Somebody will have unused slices forgotten.
    pub cleaned: bool,
}

impl Meta {
    pub fn cache(&mut self, which: Which) -> &mut Cache {
        match which {
            Which::L2 => &mut self.l2,
            Which::Counts => &mut self.counts,
        }
    }

    /// The L1 table or the refcount table, and where it is.
    pub fn table(&mut self, which: Structure) -> (&mut Table, u64) {
        match which {
            Structure::ActiveL1 => (&mut self.l1, self.header.l1_offset),
            _ => (&mut self.reftable, self.header.reftable_offset),
        }
    }

    /// Which structure a write to `range` of the file would damage. `own`: the sort that it is a part of.
    pub fn overlapped(
        &self,
        range: ByteRange,
        own: Option<Structure>,
        geometry: &Geometry,
    ) -> Option<Structure> {
        if self.checks == OverlapChecks::NONE || range.is_empty() {
            return None;
        }
        let (header, cluster) = (&self.header, geometry.cluster());
        let reftable = u64::from(header.reftable_clusters) * cluster;
        let at = |offset: u64, len: u64| ByteRange::new(offset, len).overlaps(&range);
        let is_hit = |structure: &Structure| match structure {
            Structure::MainHeader => at(0, cluster),
            Structure::ActiveL1 => at(header.l1_offset, u64::from(header.l1_entries) * 8),
            Structure::ActiveL2 => self.l1.clusters.touch(range, cluster),
            Structure::RefcountTable => at(header.reftable_offset, reftable),
            Structure::RefcountBlock => self.reftable.clusters.touch(range, cluster),
            Structure::SnapshotTable => self.kept.table.is_some_and(|kept| kept.overlaps(&range)),
            Structure::InactiveL1 => self.kept.l1.touch(range),
            Structure::InactiveL2 => self.kept.l2.touch(range, cluster),
            Structure::BitmapDirectory => {
                header.bitmap_directory().is_some_and(|found| found.overlaps(&range))
            }
        };
        let looked = |structure: &Structure| self.checks.has(*structure) && own != Some(*structure);
        Structure::ALL.into_iter().filter(looked).find(is_hit)
    }

    /// The L1 entry for guest offset `at`, checked.
    pub fn l1_entry(&self, at: u64, geometry: &Geometry) -> Result<L1Entry, ImageError> {
        let index = at / geometry.l1_reach();
        let entry = L1Entry(self.l1.get(index));
        match entry.table() {
            Some(table) if geometry.within(table) != 0 => Err(ImageError::Corrupt {
                structure: "an L1 entry",
                offset: self.header.l1_offset + index * 8,
                found: entry.0,
                expected: "the offset of a cluster",
            }),
            _ => Ok(entry),
        }
    }

    /// Where the slice with the entry for guest offset `at` is, and the entry in it; none if there is no L2 table.
    pub fn place(&self, at: u64, geometry: &Geometry) -> Result<Option<(u64, u64)>, ImageError> {
        let Some(table) = self.l1_entry(at, geometry)?.table() else { return Ok(None) };
        let index = (at / geometry.cluster()) % geometry.l2_entries();
        let slice = index / geometry.slice_entries();
        Ok(Some((table + slice * geometry.l2_slice, index % geometry.slice_entries())))
    }

    /// The beginning of the guest range from `at` to `end`.
    pub fn look(
        &mut self,
        at: u64,
        end: u64,
        geometry: &Geometry,
    ) -> Result<Looked<Run>, ImageError> {
        let reach = geometry.slice_entries() * geometry.cluster();
        let end = end.min((at / reach + 1) * reach);
        let Some((slice, index)) = self.place(at, geometry)? else {
            return Ok(Looked::Found(Run {
                len: end - at,
                kind: Kind::Unallocated,
                in_place: false,
            }));
        };
        let Some(bytes) = self.l2.get(slice) else { return Ok(Looked::Bring(slice)) };
        look_in(bytes, slice, index, at, end, geometry).map(Looked::Found)
    }

    /// The entry of the cluster with guest offset `at`.
    pub fn entry(&mut self, at: u64, geometry: &Geometry) -> Result<Looked<Entry>, ImageError> {
        let Some((slice, index)) = self.place(at, geometry)? else {
            return Ok(Looked::Found(Entry::default()));
        };
        let Some(bytes) = self.l2.get(slice) else { return Ok(Looked::Bring(slice)) };
        Ok(Looked::Found(entry_in(bytes, index, geometry)))
    }

    /// Changes the entry of the cluster with guest offset `at`, which is in memory, in a table of its own.
    pub fn set_entry(
        &mut self,
        at: u64,
        entry: Entry,
        geometry: &Geometry,
    ) -> Result<(), ImageError> {
        let (slice, index) = self.place(at, geometry)?.expect("changed-slices-are-here");
        let bytes = self.l2.change(slice);
        let start = usize::try_from(index * geometry.l2_entry()).expect("slices-are-small");
        bytes[start..start + 8].copy_from_slice(&entry.descriptor.to_be_bytes());
        if geometry.extended {
            bytes[start + 8..start + 16].copy_from_slice(&entry.bitmap.to_be_bytes());
        }
        Ok(())
    }

    /// The host clusters of the slice with the entry for guest offset `at`, which is in memory, in the order of its
    /// entries.
    pub fn hosts(&mut self, at: u64, geometry: &Geometry) -> Result<Vec<u64>, ImageError> {
        let (slice, _) = self.place(at, geometry)?.expect("changed-slices-are-here");
        let bytes = self.l2.get(slice).expect("changed-slices-are-here");
        let host = |index| entry_in(bytes, index, geometry).host(geometry);
        let hosts = (0..geometry.slice_entries()).filter_map(host);
        Ok(hosts.map(|host| host / geometry.cluster()).collect())
    }

    /// Says of each of those whether it is the disk's own, as `own` has it.
    pub fn set_copied(
        &mut self,
        at: u64,
        own: &[bool],
        geometry: &Geometry,
    ) -> Result<(), ImageError> {
        let (slice, _) = self.place(at, geometry)?.expect("changed-slices-are-here");
        let changed = |bytes: &[u8], index, own: bool| {
            let entry = entry_in(bytes, index, geometry);
            let new = if own { entry.own() } else { entry.shared() };
            (new != entry).then_some(new.descriptor)
        };
        let bytes = self.l2.get(slice).expect("changed-slices-are-here");
        let is_host = |index: &u64| entry_in(bytes, *index, geometry).host(geometry).is_some();
        let hosts = (0..geometry.slice_entries()).filter(is_host);
        let all =
            hosts.zip(own).filter_map(|(index, own)| Some((index, changed(bytes, index, *own)?)));
        let all: Vec<(u64, u64)> = all.collect();
        if all.is_empty() {
            return Ok(());
        }
        let bytes = self.l2.change(slice);
        for (index, descriptor) in all {
            let start = usize::try_from(index * geometry.l2_entry()).expect("slices-are-small");
            bytes[start..start + 8].copy_from_slice(&descriptor.to_be_bytes());
        }
        Ok(())
    }

    /// What `old`, the entry of the cluster with guest offset `at`, referred to is not referred to by it any more.
    pub fn free_entry(&mut self, old: Entry, at: u64, discard: bool, geometry: &Geometry) {
        let compressed = old.compressed(geometry);
        let host = old.host(geometry).map(|host| ByteRange::new(host, geometry.cluster()));
        let host = host.or(compressed.map(|data| ByteRange::new(data.offset, data.len)));
        if let Some(host) = host.filter(|_| !geometry.external) {
            let guest = ByteRange::new(at, geometry.cluster());
            self.freed.push(Freed { host, guest, discard });
        }
    }

    /// Where the refcount of a cluster is: its slice; none if there is no block for it.
    pub fn count_slice(
        &self,
        cluster: u64,
        geometry: &Geometry,
    ) -> Result<Option<u64>, ImageError> {
        let index = cluster / geometry.block_counts();
        let block = self.reftable.get(index) & !511;
        if block == 0 {
            return Ok(None);
        }
        if geometry.within(block) != 0 || block >= LONGEST {
            return Err(ImageError::Corrupt {
                structure: "a refcount table entry",
                offset: self.header.reftable_offset + index * 8,
                found: block,
                expected: "the offset of a cluster",
            });
        }
        let within = cluster % geometry.block_counts() / geometry.slice_counts();
        Ok(Some(block + within * geometry.slice()))
    }

    /// The refcount of a cluster.
    pub fn count(&mut self, cluster: u64, geometry: &Geometry) -> Result<Looked<u64>, ImageError> {
        let Some(slice) = self.count_slice(cluster, geometry)? else { return Ok(Looked::Found(0)) };
        let Some(bytes) = self.counts.get(slice) else { return Ok(Looked::Bring(slice)) };
        Ok(Looked::Found(count_in(
            bytes,
            cluster % geometry.slice_counts(),
            geometry.refcount_order,
        )))
    }

    /// The refcounts of the slice that counts `cluster`, which was brought in.
    pub fn counts_here<'a>(
        &'a mut self,
        cluster: u64,
        geometry: &'a Geometry,
    ) -> Result<Counts<'a>, ImageError> {
        let slice = self.count_slice(cluster, geometry)?;
        let bytes = slice.map(|slice| self.counts.get(slice).expect("looked-up-slices-are-here"));
        Ok(Counts { bytes, geometry })
    }

    /// Changes the refcount of a cluster, whose slice is in memory.
    pub fn set_count(
        &mut self,
        cluster: u64,
        count: u64,
        geometry: &Geometry,
    ) -> Result<(), ImageError> {
        self.change_counts(&[cluster], |_| count, geometry)
    }

    /// Changes the refcounts of clusters that one slice counts, which is in memory: by one each time that one is named.
    pub fn count_each(
        &mut self,
        clusters: &[u64],
        by: By,
        geometry: &Geometry,
    ) -> Result<(), ImageError> {
        let change = |count: u64| match by {
            By::Up => count + 1,
            By::Down => count.saturating_sub(1),
        };
        self.change_counts(clusters, change, geometry)
    }

    fn change_counts(
        &mut self,
        clusters: &[u64],
        change: impl Fn(u64) -> u64,
        geometry: &Geometry,
    ) -> Result<(), ImageError> {
        let Some(slice) = self.count_slice(clusters[0], geometry)? else {
            return Err(ImageError::Corrupt {
                structure: "a refcount table entry",
                offset: self.header.reftable_offset + clusters[0] / geometry.block_counts() * 8,
                found: 0,
                expected: "the offset of the block that counts a cluster in use",
            });
        };
        let bytes = self.counts.change(slice);
        for cluster in clusters {
            let index = cluster % geometry.slice_counts();
            let count = change(count_in(bytes, index, geometry.refcount_order));
            set_count_in(bytes, index, count, geometry.refcount_order);
            if count == 0 {
                self.hint = self.hint.min(*cluster);
                // Whatever the cluster is next, it is not that any more.
                let is_in = |free: &u64| free / geometry.cluster() == *cluster;
                self.free_bytes = self.free_bytes.filter(|free| !is_in(free));
            }
        }
        Ok(())
    }
}

fn be64(bytes: &[u8], at: u64) -> u64 {
    let at = usize::try_from(at).expect("slices-are-small");
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight-bytes"))
}

/// Entry `index` of a slice of an L2 table.
pub fn entry_in(bytes: &[u8], index: u64, geometry: &Geometry) -> Entry {
    let at = index * geometry.l2_entry();
    let bitmap = if geometry.extended { be64(bytes, at + 8) } else { 0 };
    Entry { descriptor: be64(bytes, at), bitmap }
}

fn look_in(
    bytes: &[u8],
    slice: u64,
    first: u64,
    at: u64,
    end: u64,
    geometry: &Geometry,
) -> Result<Run, ImageError> {
    let subcluster = geometry.subcluster();
    let kind_at = |offset: u64| {
        let index = first + offset / geometry.cluster() - at / geometry.cluster();
        let entry = entry_in(bytes, index, geometry);
        let place = slice + index * geometry.l2_entry();
        let guest = offset - geometry.within(offset);
        if geometry.external && entry.host(geometry).is_some_and(|host| host != guest) {
            return Err(ImageError::Corrupt {
                structure: "an L2 entry",
                offset: place,
                found: entry.descriptor,
                expected: "the guest's offset, as the data file is an external one",
            });
        }
        let kind = entry.kind(geometry.within(offset) / subcluster, geometry, place)?;
        let inside = offset % subcluster;
        let kind = match kind {
            Kind::Data(host) => Kind::Data(host + inside),
            Kind::Zero(_) => Kind::Zero(None),
            other => other,
        };
        Ok::<_, ImageError>((kind, entry.is_own()))
    };
    let (kind, own) = kind_at(at)?;
    let in_place = own && matches!(kind, Kind::Data(_));
    if let Kind::Compressed(_) = kind {
        let cluster_end = at - geometry.within(at) + geometry.cluster();
        return Ok(Run { len: end.min(cluster_end) - at, kind, in_place: false });
    }
    let mut to = (at / subcluster + 1) * subcluster;
    while to < end {
        let (next, next_own) = kind_at(to)?;
        let goes_on = match (kind, next) {
            (Kind::Data(host), Kind::Data(next)) => next == host + (to - at) && next_own == own,
            _ => next == kind,
        };
        if !goes_on {
            break;
        }
        to += subcluster;
    }
    Ok(Run { len: end.min(to) - at, kind, in_place })
}

/// Refcount `index` of a slice: "Refcount blocks".
pub fn count_in(bytes: &[u8], index: u64, order: u32) -> u64 {
    let index = usize::try_from(index).expect("slices-are-small");
    if order < 3 {
        let bit = index << order;
        let mask = (1_u8 << (1 << order)) - 1;
        return u64::from(bytes[bit / 8] >> (bit % 8) & mask);
    }
    let width = 1 << (order - 3);
    let bytes = &bytes[index * width..(index + 1) * width];
    match *bytes {
        // By far the most frequent.
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        _ => bytes.iter().fold(0, |count, byte| count << 8 | u64::from(*byte)),
    }
}

/// Changes refcount `index` of a slice.
pub fn set_count_in(bytes: &mut [u8], index: u64, count: u64, order: u32) {
    assert!(count.leading_zeros() >= 64 - (1 << order), "counts-fit: {count}");
    let index = usize::try_from(index).expect("slices-are-small");
    if order < 3 {
        let bit = index << order;
        let mask = ((1_u8 << (1 << order)) - 1) << (bit % 8);
        let value = u8::try_from(count).expect("counts-fit") << (bit % 8);
        bytes[bit / 8] = bytes[bit / 8] & !mask | value;
        return;
    }
    let width = 1 << (order - 3);
    bytes[index * width..(index + 1) * width].copy_from_slice(&count.to_be_bytes()[8 - width..]);
}
