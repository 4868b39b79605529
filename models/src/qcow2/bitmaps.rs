//! Persistent bitmaps, as the image has them.
//!
//! Source: the specification, "Header extensions", "Bitmaps extension", "Bitmap directory", "Bitmap table".
//! Not for: extra data, which are skipped.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_units::ByteRange;

use super::{Bytes, OFFSET, Qcow2, References, Stopped, broken, number, read, table};

/// A bitmap as it stands in an image that vouches for its bitmaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBitmap {
    /// Its name.
    pub name: String,
    /// It says nothing.
    pub in_use: bool,
    /// It records what is written.
    pub auto: bool,
    /// Bytes a granule.
    pub granularity: u64,
    /// Where its table is, and how many entries that has.
    table: (u64, u64),
}

impl Qcow2 {
    /// All bitmaps that the image vouches for, or that are in use.
    ///
    /// # Errors
    /// Something has to be read, or is wrong.
    pub fn bitmaps(&self, bytes: &mut Bytes<'_>) -> Result<Vec<StoredBitmap>, Stopped> {
        let Some((offset, len, count)) = self.directory(bytes)? else { return Ok(Vec::new()) };
        let directory = read(bytes, ByteRange::new(offset, len))?;
        let mut all = Vec::new();
        let mut at = 0;
        for _ in 0..count {
            let Some(entry) = directory.get(at..).filter(|rest| rest.len() >= 24) else {
                return Err(broken(format!("{count} bitmaps do not fit into {len} bytes")));
            };
            let (flags, kind) = (number(entry, 12, 4), entry[16]);
            let (name_len, extra) = (number(entry, 18, 2) as usize, number(entry, 20, 4) as usize);
            let Some(name) = entry.get(24 + extra..24 + extra + name_len) else {
                return Err(broken(format!("bitmap {} ends behind the directory", all.len())));
            };
            if kind != 1 || flags & !7 != 0 || !(9..=31).contains(&entry[17]) {
                return Err(broken(format!(
                    "bitmap {} begins with {:x?}",
                    all.len(),
                    &entry[..24]
                )));
            }
            all.push(StoredBitmap {
                name: String::from_utf8_lossy(name).into_owned(),
                in_use: flags & 1 != 0,
                auto: flags & 2 != 0,
                granularity: 1 << entry[17],
                table: (number(entry, 0, 8), number(entry, 8, 4)),
            });
            at += (24 + extra + name_len).next_multiple_of(8);
        }
        Ok(all)
    }

    /// The dirty granules of a bitmap.
    ///
    /// # Errors
    /// Something has to be read, or is wrong.
    pub fn dirty(
        &self,
        bytes: &mut Bytes<'_>,
        bitmap: &StoredBitmap,
    ) -> Result<BTreeSet<u64>, Stopped> {
        let granules = self.len.div_ceil(bitmap.granularity);
        let (offset, entries) = bitmap.table;
        if entries != granules.div_ceil(8 * self.cluster) {
            let name = &bitmap.name;
            return Err(broken(format!(
                "bitmap {name} has {entries} entries, {granules} granules"
            )));
        }
        let mut dirty = BTreeSet::new();
        for (index, entry) in (0..).zip(table(bytes, offset, entries)?) {
            let first = index * self.cluster * 8;
            let within = first..granules.min(first + self.cluster * 8);
            match (entry & OFFSET, entry & 1) {
                (0, 0) => {}
                (0, _) => dirty.extend(within),
                (host, 0) => {
                    let bits = read(bytes, ByteRange::new(host, self.cluster))?;
                    let is_set = |granule: &u64| {
                        let bit = (granule - first) as usize;
                        bits[bit / 8] >> (bit % 8) & 1 != 0
                    };
                    dirty.extend(within.filter(is_set));
                }
                _ => return Err(broken(format!("a bitmap table's entry is {entry:x}"))),
            }
        }
        Ok(dirty)
    }

    /// Where the directory is, its bytes, and how many bitmaps it has.
    fn directory(&self, bytes: &mut Bytes<'_>) -> Result<Option<(u64, u64, u64)>, Stopped> {
        let Some(mut at) = self.vouches_from else { return Ok(None) };
        while at + 8 <= self.cluster {
            let head = read(bytes, ByteRange::new(at, 8))?;
            let (kind, len) = (number(&head, 0, 4), number(&head, 4, 4));
            match kind {
                0 => break,
                0x2385_2875 => {
                    let data = read(bytes, ByteRange::new(at + 8, 24))?;
                    let field = |at, len| number(&data, at, len);
                    return Ok(Some((field(16, 8), field(8, 8), field(0, 4))));
                }
                _ => at += 8 + len.next_multiple_of(8),
            }
        }
        Err(broken("the image vouches for bitmaps and has none".into()))
    }

    pub(super) fn add_bitmaps(
        &self,
        bytes: &mut Bytes<'_>,
        references: &mut References,
    ) -> Result<(), Stopped> {
        let Some((offset, len, _)) = self.directory(bytes)? else { return Ok(()) };
        references.add("the bitmap directory", offset, len)?;
        for StoredBitmap { table: (offset, entries), .. } in self.bitmaps(bytes)? {
            references.add("a bitmap table", offset, entries * 8)?;
            for entry in table(bytes, offset, entries)? {
                if entry & OFFSET != 0 {
                    references.add("a bitmap's cluster", entry & OFFSET, self.cluster)?;
                }
            }
        }
        Ok(())
    }
}
