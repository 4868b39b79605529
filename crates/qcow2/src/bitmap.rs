//! The bitmap directory and its tables, as they stand in an image.
//!
//! Source: the specification, "Bitmaps", "Bitmap directory", "Bitmap table". What limits there are is QEMU's.
//! Differs: a bitmap with extra data of which it is not said that they are compatible is kept, and inconsistent.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_units::ByteLen;

use crate::error::ImageError;
use crate::geometry::Geometry;

/// Bytes of an entry before what varies in length.
const FIXED: usize = 24;
/// The most bitmaps in an image.
pub const BITMAPS_MAX: usize = 65_535;
/// Bytes: the longest directory.
pub const DIRECTORY_MAX: u64 = 65_535 * 1024;
/// Bytes: the most bits of all the bitmaps of an image, which are in memory while it is open.
const BITS_MAX: u64 = 512 << 20;
/// Bytes of the longest name.
const NAME_MAX: usize = 1023;
/// A dirty tracking bitmap: the one kind there is.
const DIRTY_TRACKING: u8 = 1;

/// Flags of a bitmap.
pub mod flag {
    /// It was not stored since it was in use: inconsistent.
    pub const IN_USE: u32 = 1;
    /// It records what is written.
    pub const AUTO: u32 = 2;
    /// Whoever does not know its extra data may use it all the same, and keeps them.
    pub const EXTRA_COMPATIBLE: u32 = 4;
    /// All that are known.
    pub const KNOWN: u32 = 7;
}

/// Bits of a bitmap table's entry that mean nothing.
const RESERVED: u64 = 0xff00_0000_0000_01fe;

/// What the header extension says: "Bitmaps extension".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// How many bitmaps there are.
    pub count: u32,
    /// Bytes of the directory.
    pub len: u64,
    /// Where it is.
    pub offset: u64,
}

impl Extension {
    /// As it stands in the header.
    pub fn bytes(self) -> Vec<u8> {
        let Self { count, len, offset } = self;
        let mut bytes = Vec::from(count.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&len.to_be_bytes());
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes
    }

    /// What stands there.
    ///
    /// # Errors
    /// It is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let corrupt = |found: u64, expected| {
            Err(ImageError::Corrupt {
                structure: "the bitmaps extension",
                offset: 0,
                found,
                expected,
            })
        };
        if bytes.len() != 24 {
            return corrupt(bytes.len() as u64, "24 bytes");
        }
        let (count, len, offset) = (be(&bytes[..4]), be(&bytes[8..16]), be(&bytes[16..24]));
        if count == 0 || count > BITMAPS_MAX as u64 {
            return corrupt(count, "1 to 65535 bitmaps");
        }
        if len > DIRECTORY_MAX || len < count * FIXED as u64 {
            return corrupt(len, "a directory that they fit into, of less than 64 MiB");
        }
        Ok(Self { count: count as u32, len, offset })
    }
}

/// A bitmap in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Where its table is.
    pub table: u64,
    /// Entries of that.
    pub entries: u32,
    /// See [`flag`].
    pub flags: u32,
    /// A bit stands for 2 to the power of this bytes.
    pub granularity_bits: u8,
    /// What is not known of it.
    pub extra: Vec<u8>,
    /// Its name.
    pub name: String,
}

impl DirectoryEntry {
    /// Whether its bits say nothing.
    pub fn is_inconsistent(&self) -> bool {
        let unknown = !self.extra.is_empty() && self.flags & flag::EXTRA_COMPATIBLE == 0;
        self.flags & flag::IN_USE != 0 || unknown
    }
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The directory in `bytes`, which stand at `offset`, of so many bitmaps of a disk of `size` bytes.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(
    bytes: &[u8],
    offset: u64,
    count: u32,
    size: u64,
    geometry: &Geometry,
) -> Result<Vec<DirectoryEntry>, ImageError> {
    let mut entries: Vec<DirectoryEntry> = Vec::new();
    let mut at = 0;
    let mut all_bits = 0;
    for _ in 0..count {
        let corrupt = |found: u64, expected| ImageError::Corrupt {
            structure: "a bitmap directory entry",
            offset: offset + at as u64,
            found,
            expected,
        };
        let Some(fixed) = bytes.get(at..at + FIXED) else {
            return Err(corrupt(bytes.len() as u64, "inside the directory"));
        };
        let (kind, granularity_bits) = (fixed[16], fixed[17]);
        let (name_len, extra_len) = (be(&fixed[18..20]) as usize, be(&fixed[20..24]) as usize);
        let flags = be(&fixed[12..16]) as u32;
        if flags & !flag::KNOWN != 0 {
            return Err(corrupt(flags.into(), "no flags beside in use, auto and compatible"));
        }
        if kind != DIRTY_TRACKING {
            return Err(corrupt(kind.into(), "a dirty tracking bitmap"));
        }
        if !(9..=31).contains(&granularity_bits) {
            return Err(corrupt(granularity_bits.into(), "granularity_bits of 9 to 31"));
        }
        if !(1..=NAME_MAX).contains(&name_len) {
            return Err(corrupt(name_len as u64, "a name of 1 to 1023 bytes"));
        }
        let extra = at + FIXED..(at + FIXED).saturating_add(extra_len);
        let name = extra.end..extra.end.saturating_add(name_len);
        let (Some(extra), Some(text)) = (bytes.get(extra), bytes.get(name.clone())) else {
            return Err(corrupt(extra_len as u64, "inside the directory"));
        };
        let Ok(text) = core::str::from_utf8(text) else {
            return Err(corrupt(text[0].into(), "a name in UTF-8"));
        };
        let entry = DirectoryEntry {
            table: be(&fixed[..8]),
            entries: be(&fixed[8..12]) as u32,
            flags,
            granularity_bits,
            extra: extra.into(),
            name: text.into(),
        };
        let bits = size.div_ceil(1 << granularity_bits).div_ceil(8);
        all_bits += bits;
        if all_bits > BITS_MAX {
            return Err(corrupt(all_bits, "bitmaps of at most 512 MiB together"));
        }
        // One in use may not have been stored since the disk had another size.
        let fits = u64::from(entry.entries) == geometry.clusters_for(bits);
        let in_use = flags & flag::IN_USE != 0;
        if !(fits || in_use) || geometry.within(entry.table) != 0 {
            return Err(corrupt(entry.entries.into(), "a table at a cluster, for all of the disk"));
        }
        if entries.iter().any(|other| other.name == entry.name) {
            return Err(corrupt(name_len as u64, "a name that no other bitmap has"));
        }
        entries.push(entry);
        at = name.end.next_multiple_of(8);
    }
    Ok(entries)
}

/// The directory as it stands in the image.
pub fn bytes(entries: &[DirectoryEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(&entry.table.to_be_bytes());
        bytes.extend_from_slice(&entry.entries.to_be_bytes());
        bytes.extend_from_slice(&entry.flags.to_be_bytes());
        bytes.extend_from_slice(&[DIRTY_TRACKING, entry.granularity_bits]);
        let name = u16::try_from(entry.name.len()).expect("names-are-short");
        bytes.extend_from_slice(&name.to_be_bytes());
        let extra = u32::try_from(entry.extra.len()).expect("a-directory-is-in-memory");
        bytes.extend_from_slice(&extra.to_be_bytes());
        bytes.extend_from_slice(&entry.extra);
        bytes.extend_from_slice(entry.name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// Whether another bitmap could be stored, beside `others`.
///
/// # Errors
/// Says why not.
pub fn check(name: &str, size: u64, granularity: ByteLen, others: usize) -> Result<(), String> {
    let bits = size.div_ceil(granularity.0).div_ceil(8);
    if name.len() > NAME_MAX {
        return Err(format!("its name has {} bytes; {NAME_MAX} are possible", name.len()));
    }
    if bits > BITS_MAX {
        return Err(format!("it has {bits} bytes of bits: choose a larger granularity"));
    }
    if others >= BITMAPS_MAX {
        return Err(format!("there are {others} already"));
    }
    Ok(())
}

/// What the entry of a bitmap's table says of one cluster of its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// All are clear.
    Clear,
    /// All are set.
    Set,
    /// They are in the cluster at this offset.
    At(u64),
}

impl Cluster {
    /// Where they are.
    pub fn host(self) -> Option<u64> {
        match self {
            Self::At(host) => Some(host),
            Self::Clear | Self::Set => None,
        }
    }

    /// Of the entry at `place`.
    ///
    /// # Errors
    /// It is wrong.
    pub fn parse(entry: u64, place: u64, geometry: &Geometry) -> Result<Self, ImageError> {
        let host = entry & !RESERVED & !1;
        let sound = entry & RESERVED == 0 && (host == 0 || entry & 1 == 0);
        if !sound || geometry.within(host) != 0 {
            return Err(ImageError::Corrupt {
                structure: "a bitmap table entry",
                offset: place,
                found: entry,
                expected: "the offset of a cluster, 0 or 1",
            });
        }
        Ok(match (host, entry & 1) {
            (0, 0) => Self::Clear,
            (0, _) => Self::Set,
            (host, _) => Self::At(host),
        })
    }
}
