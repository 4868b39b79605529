//! What an image consists of beside L2 tables and data, found by the header.
//!
//! Every length and offset is checked before it is followed; what cannot be followed is told, and then nothing counts
//! as unused. Two tables are the same or have no byte in common, so that all of them together are no longer than the
//! file.

use alloc::vec::Vec;

use blockyard_units::ByteRange;

use super::pass::Pass;
use super::report::Expected;
use crate::bitmap::Extension;
use crate::error::ImageError;
use crate::header::{L1_MAX, autoclear, extension};

/// Bytes of a snapshot's entry, before what varies.
const SNAPSHOT: u64 = 40;
/// Bytes of a bitmap's entry, before what varies.
const BITMAP: u64 = 24;

/// A table of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Of 8 bytes.
    pub entries: u64,
    /// How many refer to it.
    pub uses: u32,
    /// The guest's own L1 table.
    pub active: bool,
}

impl Table {
    pub fn range(&self) -> ByteRange {
        ByteRange::new(self.offset, self.entries * 8)
    }
}

/// See the file head.
#[derive(Default)]
pub struct Structures {
    /// L1 tables, of the guest's disk and of the snapshots.
    pub l1: Vec<Table>,
    /// Bitmap tables.
    pub bitmaps: Vec<Table>,
    /// The header, the refcount table and others that are in one piece; whether they have refcounts.
    pub alone: Vec<(ByteRange, bool)>,
    /// Where the refcount blocks are; 0 where there is none, or it is of no use.
    pub blocks: Vec<u64>,
}

impl Pass<'_, '_> {
    /// Finds all of them.
    pub(super) async fn find_structures(&mut self) -> Result<(), ImageError> {
        let cluster = self.geometry.cluster();
        self.structures.alone.push((ByteRange::new(0, cluster), false));
        self.find_refcounts().await?;
        let (offset, entries) = (self.header.l1_offset, u64::from(self.header.l1_entries));
        if entries > 0 && self.place("l1_table_offset", 40, offset, entries * 8) {
            let active = Table { offset, entries, uses: 1, active: true };
            self.structures.l1.push(active);
        }
        self.find_snapshots().await?;
        self.find_bitmaps().await?;
        self.find_encryption();
        let l1 = core::mem::take(&mut self.structures.l1);
        self.structures.l1 = self.apart(l1, "an L1 table");
        let bitmaps = core::mem::take(&mut self.structures.bitmaps);
        self.structures.bitmaps = self.apart(bitmaps, "a bitmap table");
        Ok(())
    }

    /// Whether a structure of `len` bytes can be at `offset`; if not, what stands at `at` is wrong.
    fn place(&mut self, structure: &'static str, at: u64, offset: u64, len: u64) -> bool {
        let aligned = self.geometry.within(offset) == 0 && offset > 0;
        let most = self.geometry.end_of_tables(self.len);
        let inside = offset.checked_add(len).is_some_and(|end| end <= most);
        if !aligned {
            self.cannot_follow(structure, at, offset, "a multiple of the cluster size, not 0");
        } else if !inside {
            self.cannot_follow(structure, at, offset, "inside the file");
        }
        aligned && inside
    }

    /// Tables that are the same become one; of those that overlap otherwise the first stays.
    fn apart(&mut self, mut tables: Vec<Table>, structure: &'static str) -> Vec<Table> {
        // The guest's own one first, then by their places.
        tables.sort_by_key(|table| (table.offset, !table.active, table.entries));
        let mut kept: Vec<Table> = Vec::new();
        for table in tables {
            let last = kept.last_mut().filter(|last| last.range().overlaps(&table.range()));
            match last {
                None => kept.push(table),
                Some(last) if last.range() == table.range() => {
                    last.uses = last.uses.saturating_add(table.uses);
                }
                Some(last) if table.active => {
                    // Nothing is more important than what the guest has.
                    let other = core::mem::replace(last, table);
                    self.cannot_follow(
                        structure,
                        other.offset,
                        other.entries,
                        "a place of its own",
                    );
                }
                Some(_) => {
                    self.cannot_follow(
                        structure,
                        table.offset,
                        table.entries,
                        "a place of its own",
                    );
                }
            }
        }
        kept
    }

    /// "Refcount table".
    async fn find_refcounts(&mut self) -> Result<(), ImageError> {
        let cluster = self.geometry.cluster();
        let offset = self.header.reftable_offset;
        let len = u64::from(self.header.reftable_clusters) * cluster;
        if offset >= self.len {
            self.wrong("refcount_table_offset", 48, offset, Expected::Said("inside the file"));
            self.needs.rebuild = true;
            return Ok(());
        }
        let range = ByteRange::between(offset, (offset + len).min(self.len));
        if offset + len >= self.len + cluster {
            let found = u64::from(self.header.reftable_clusters);
            self.wrong("refcount_table_clusters", 56, found, Expected::Said("inside the file"));
            self.needs.rebuild = true;
        }
        self.structures.alone.push((ByteRange::new(offset, len.min(range.len().0)), true));
        let bytes = self.file.read(range).await?;
        let mut blocks: Vec<u64> = Vec::with_capacity(bytes.len() / 8);
        for (index, entry) in bytes.chunks_exact(8).enumerate() {
            let entry = u64::from_be_bytes(entry.try_into().expect("eight-bytes"));
            let fits = entry & (cluster - 1) == 0 && entry < self.len;
            if !fits {
                let said = Expected::Said("the offset of a cluster inside the file");
                self.wrong("a refcount table entry", offset + index as u64 * 8, entry, said);
                self.needs.rebuild = true;
            }
            blocks.push(if fits { entry } else { 0 });
        }
        while blocks.last() == Some(&0) {
            blocks.pop();
        }
        let mut sorted: Vec<(u64, usize)> =
            blocks.iter().enumerate().map(|(index, block)| (*block, index)).collect();
        sorted.sort_unstable();
        for pair in sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[0].0 > 0) {
            let (block, index) = pair[1];
            let said = Expected::Said("a block that no other entry has");
            self.wrong("a refcount table entry", offset + index as u64 * 8, block, said);
            self.needs.rebuild = true;
            blocks[index] = 0;
        }
        self.structures.blocks = blocks;
        Ok(())
    }

    /// "Snapshots".
    async fn find_snapshots(&mut self) -> Result<(), ImageError> {
        if self.header.snapshots == 0 {
            return Ok(());
        }
        let start = self.header.snapshots_offset;
        if !self.place("snapshots_offset", 64, start, SNAPSHOT) {
            return Ok(());
        }
        let mut at = start;
        for _ in 0..self.header.snapshots {
            let next = at.next_multiple_of(8);
            if next + SNAPSHOT > self.len {
                self.cannot_follow("a snapshot's entry", at, self.len, "inside the file");
                break;
            }
            let entry = self.file.read(ByteRange::new(next, SNAPSHOT)).await?;
            let number = |at: usize, len: usize| {
                entry[at..at + len].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            };
            let (offset, entries) = (number(0, 8), number(8, 4));
            if entries * 8 > L1_MAX {
                self.cannot_follow("a snapshot's l1_size", next + 8, entries, "at most 32 MiB");
            } else if entries > 0 && self.place("a snapshot's l1_table", next, offset, entries * 8)
            {
                self.structures.l1.push(Table { offset, entries, uses: 1, active: false });
            }
            at = next + SNAPSHOT + number(36, 4) + number(12, 2) + number(14, 2);
        }
        if at > self.len {
            self.cannot_follow("a snapshot's entry", start, at - start, "inside the file");
        }
        let end = at.min(self.len);
        self.structures.alone.push((ByteRange::between(start, end), false));
        Ok(())
    }

    fn extension(&self, kind: u32) -> Option<Vec<u8>> {
        let found = self.header.extensions.iter().find(|extension| extension.kind == kind);
        found.map(|extension| extension.data.clone())
    }

    /// "Bitmaps extension". Without its autoclear bit nothing of it is to be believed.
    async fn find_bitmaps(&mut self) -> Result<(), ImageError> {
        let Some(data) = self.extension(extension::BITMAPS) else { return Ok(()) };
        if self.header.autoclear & autoclear::BITMAPS == 0 {
            return Ok(());
        }
        let Extension { count, len: size, offset: start } = match Extension::parse(&data) {
            Err(ImageError::Corrupt { structure, offset, found, expected }) => {
                self.cannot_follow(structure, offset, found, expected);
                return Ok(());
            }
            parsed => parsed?,
        };
        if !self.place("bitmap_directory_offset", 0, start, size) {
            return Ok(());
        }
        self.structures.alone.push((ByteRange::new(start, size), false));
        let mut at = start;
        for _ in 0..count {
            if at + BITMAP > start + size {
                self.cannot_follow("a bitmap's entry", at, size, "inside the directory");
                break;
            }
            let entry = self.file.read(ByteRange::new(at, BITMAP)).await?;
            let number = |at: usize, len: usize| {
                entry[at..at + len].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
            };
            let (offset, entries) = (number(0, 8), number(8, 4));
            if entries > 0 && self.place("a bitmap's table", at, offset, entries * 8) {
                self.structures.bitmaps.push(Table { offset, entries, uses: 1, active: false });
            }
            let len = BITMAP + number(20, 4) + number(18, 2);
            at += len.next_multiple_of(8);
        }
        Ok(())
    }

    /// "Full disk encryption header pointer".
    fn find_encryption(&mut self) {
        let Some(data) = self.extension(extension::ENCRYPTION) else { return };
        let Ok(data) = <[u8; 16]>::try_from(data) else {
            return self.cannot_follow("the encryption header pointer", 0, 0, "16 bytes");
        };
        let (offset, len) = data.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let (offset, len) = (number(offset), number(len));
        if self.place("the encryption header pointer", 0, offset, len) {
            self.structures.alone.push((ByteRange::new(offset, len), false));
        }
    }
}
