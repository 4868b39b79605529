//! What a log consists of: a super block, and entries with their data behind them, each beginning with a sector.
//!
//! Source: the kernel's documentation of dm-log-writes, and what QEMU 10.0 writes. Numbers are little-endian.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::LogOptions;

const MAGIC: u64 = 0x006A_7366_7773_6872;
const VERSION: u64 = 1;

/// What was written before is durable.
pub const FLUSH: u64 = 1;
/// This is.
pub const FUA: u64 = 2;
/// A discard, which has no data.
pub const DISCARD: u64 = 4;

/// The first sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Super {
    /// Bytes.
    pub sector: u32,
    pub entries: u64,
}

impl Super {
    /// Bytes that are read of it.
    pub const LEN: u64 = 512;

    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; self.sector as usize];
        for (place, number) in bytes.chunks_exact_mut(8).zip([MAGIC, VERSION, self.entries]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[24..28].copy_from_slice(&self.sector.to_le_bytes());
        bytes
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if number(bytes, 0) != MAGIC {
            return Err("it does not begin as one of dm-log-writes does".into());
        }
        if number(bytes, 8) != VERSION {
            return Err(format!("version {}; there is 1", number(bytes, 8)));
        }
        // The upper half of the field belongs to nobody.
        let sector = number(bytes, 24) as u32;
        if !sector.is_power_of_two() || !LogOptions::SECTORS.contains(&sector) {
            return Err(format!("sectors of {sector} bytes; there may be 512 to 64 KiB"));
        }
        Ok(Self { sector, entries: number(bytes, 16) })
    }
}

/// What was done, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub sector: u64,
    pub sectors: u64,
    pub flags: u64,
}

impl Entry {
    /// Bytes that are read of it.
    pub const LEN: u64 = 512;

    pub fn to_bytes(self, sector: u32) -> Vec<u8> {
        let mut bytes = vec![0; sector as usize];
        // A fourth says how long a mark is; nothing here makes marks.
        let fields = [self.sector, self.sectors, self.flags];
        for (place, number) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    pub fn parse(bytes: &[u8]) -> Self {
        let [sector, sectors, flags] = [0, 8, 16].map(|at| number(bytes, at));
        Self { sector, sectors, flags }
    }

    /// Sectors that lie between it and the next.
    pub fn sectors_of_data(self) -> u64 {
        if self.flags & DISCARD != 0 { 0 } else { self.sectors }
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("a-sector-is-read"))
}
