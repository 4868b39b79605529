//! The snapshot table, as it stands in an image.
//!
//! Source: the specification, "Snapshots".

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::ImageError;

/// Bytes of an entry before what varies in length.
const FIXED: usize = 40;
/// Bytes of the extra data that are known: what version 3 needs, and the instruction count.
const EXTRA: usize = 24;
/// Bytes of extra data that are read, as QEMU has it.
const EXTRA_MAX: usize = 1024;
/// Bytes: the longest snapshot table that is read, as QEMU has it.
pub const TABLE_MAX: usize = 64 << 20;

/// An internal snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Unique in the image; a number, in text.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Seconds since 1970, and nanoseconds.
    pub date: (u32, u32),
    /// Nanoseconds that the guest had run.
    pub vm_clock_ns: u64,
    /// Bytes of the state of the virtual machine.
    pub vm_state_size: u64,
    /// Bytes of the guest's disk.
    pub disk_size: u64,
    /// Instructions that the guest had executed; all ones if that was not counted.
    pub icount: u64,
    /// Extra data that are not known.
    pub additional: Vec<u8>,
    /// Where its L1 table is.
    pub l1_offset: u64,
    /// Entries of that.
    pub l1_entries: u32,
}

/// Goes through bytes.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn u16(&mut self) -> Option<usize> {
        self.take(2).map(|bytes| usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four-bytes")))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64::from_be_bytes(bytes.try_into().expect("eight-bytes")))
    }
}

/// How a table that is read in parts goes on.
pub enum Parsed {
    /// All of them, and the bytes that they take.
    Whole(Vec<Snapshot>, usize),
    /// It is longer than what was given.
    More,
}

/// The `count` snapshots that `bytes`, which stand at `offset`, begin with; `disk_size` is that of those that do not
/// say.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(bytes: &[u8], offset: u64, count: u32, disk_size: u64) -> Result<Parsed, ImageError> {
    let mut reader = Reader { bytes, at: 0 };
    let mut snapshots = Vec::new();
    for _ in 0..count {
        let start = reader.at;
        let corrupt = |found: usize, expected| ImageError::Corrupt {
            structure: "a snapshot table entry",
            offset: offset + start as u64,
            found: found as u64,
            expected,
        };
        let more = || {
            let fits = bytes.len() < TABLE_MAX;
            if fits {
                Ok(Parsed::More)
            } else {
                Err(corrupt(TABLE_MAX, "a table of at most 64 MiB"))
            }
        };
        let Some(head) = bytes.get(start..start + FIXED) else { return more() };
        let extra = u32::from_be_bytes(head[36..40].try_into().expect("four-bytes")) as usize;
        if extra > EXTRA_MAX {
            return Err(corrupt(extra, "at most 1024 bytes of extra data"));
        }
        match parse_one(&mut reader, disk_size) {
            Some(snapshot) => snapshots.push(snapshot?),
            None => return more(),
        }
        reader.at = reader.at.next_multiple_of(8);
    }
    Ok(Parsed::Whole(snapshots, reader.at))
}

fn parse_one(reader: &mut Reader<'_>, disk_size: u64) -> Option<Result<Snapshot, ImageError>> {
    let (l1_offset, l1_entries) = (reader.u64()?, reader.u32()?);
    let (id_len, name_len) = (reader.u16()?, reader.u16()?);
    let date = (reader.u32()?, reader.u32()?);
    let (vm_clock_ns, small_state) = (reader.u64()?, reader.u32()?);
    let extra_len = reader.u32()? as usize;
    let extra = reader.take(extra_len)?;
    let known = |at: usize| -> Option<u64> {
        let bytes = extra.get(at..at + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().expect("eight-bytes")))
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let (Some(id), Some(name)) = (text(reader.take(id_len)?), text(reader.take(name_len)?)) else {
        let message = "the id or the name of a snapshot is not UTF-8";
        return Some(Err(ImageError::Unsupported(message.into())));
    };
    Some(Ok(Snapshot {
        l1_offset,
        l1_entries,
        date,
        vm_clock_ns,
        vm_state_size: known(0).unwrap_or(u64::from(small_state)),
        disk_size: known(8).unwrap_or(disk_size),
        icount: known(16).unwrap_or(u64::MAX),
        additional: extra.get(EXTRA..).unwrap_or_default().to_vec(),
        id,
        name,
    }))
}

/// The table as it stands in the image.
pub fn bytes(snapshots: &[Snapshot]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for snapshot in snapshots {
        let len = |text: &str| u16::try_from(text.len()).expect("names-are-short").to_be_bytes();
        bytes.extend_from_slice(&snapshot.l1_offset.to_be_bytes());
        bytes.extend_from_slice(&snapshot.l1_entries.to_be_bytes());
        bytes.extend_from_slice(&len(&snapshot.id));
        bytes.extend_from_slice(&len(&snapshot.name));
        bytes.extend_from_slice(&snapshot.date.0.to_be_bytes());
        bytes.extend_from_slice(&snapshot.date.1.to_be_bytes());
        bytes.extend_from_slice(&snapshot.vm_clock_ns.to_be_bytes());
        let small_state = u32::try_from(snapshot.vm_state_size).unwrap_or(0);
        bytes.extend_from_slice(&small_state.to_be_bytes());
        let extra = u32::try_from(EXTRA + snapshot.additional.len()).expect("extra-data-are-short");
        bytes.extend_from_slice(&extra.to_be_bytes());
        for known in [snapshot.vm_state_size, snapshot.disk_size, snapshot.icount] {
            bytes.extend_from_slice(&known.to_be_bytes());
        }
        bytes.extend_from_slice(&snapshot.additional);
        bytes.extend_from_slice(snapshot.id.as_bytes());
        bytes.extend_from_slice(snapshot.name.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}
