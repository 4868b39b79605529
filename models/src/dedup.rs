//! Metadata integrity of a dedup image: whoever refers to one data cluster says the same of it.
//!
//! Reads the metadata as the head of the driver's `format` has them, and nothing else: what it needs and has not got it
//! asks for, so that a power loss is decided only where somebody looks. Whether the data are what the guest was
//! promised, durability says: digests are compared here, and not computed.

#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use blockyard_units::ByteRange;

use crate::Property;
use crate::qcow2::{Bytes, Place, Stopped};

const ENTRY: u64 = 32;

/// The fields that everything else follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dedup {
    cluster: u64,
    /// Bytes of the guest's disk.
    pub len: u64,
}

fn read(bytes: &mut Bytes<'_>, range: ByteRange) -> Result<Vec<u8>, Stopped> {
    bytes(range).ok_or(Stopped::Unread(range))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Dedup {
    /// What the header says.
    ///
    /// # Errors
    /// It has to be read, or is none.
    pub fn of(bytes: &mut Bytes<'_>) -> Result<Self, Stopped> {
        let header = read(bytes, ByteRange::new(0, 24))?;
        let (cluster, len) = (number(&header[12..16]), number(&header[16..24]));
        if &header[..12] != b"BYDEDUP\0\0\0\0\x01" || !cluster.is_power_of_two() {
            let said = format!("the metadata begin with {header:02x?}");
            return Err(Stopped::Broken(Property::MetadataIntegrity.broken(said)));
        }
        Ok(Self { cluster, len })
    }

    fn entry(&self, bytes: &mut Bytes<'_>, index: u64) -> Result<(u64, Vec<u8>), Stopped> {
        let entry = read(bytes, ByteRange::new(self.cluster + index * ENTRY, ENTRY))?;
        Ok((number(&entry[..8]), entry[8..].to_vec()))
    }

    /// Where byte `at` of the guest's disk is among the data, and the bytes behind it up to the end of its cluster.
    ///
    /// # Errors
    /// Something has to be read.
    pub fn place(&self, bytes: &mut Bytes<'_>, at: u64) -> Result<Place, Stopped> {
        if at >= self.len {
            return Ok(Place::Zero);
        }
        let (index, within) = (at / self.cluster, at % self.cluster);
        Ok(match self.entry(bytes, index)?.0.checked_sub(1) {
            Some(cluster) => Place::Data(cluster * self.cluster + within),
            None => Place::Zero,
        })
    }

    /// Judges the whole table.
    ///
    /// # Errors
    /// Something has to be read; or the first entry that is wrong.
    pub fn check(&self, bytes: &mut Bytes<'_>) -> Result<(), Stopped> {
        let mut digests = BTreeMap::new();
        for index in 0..self.len.div_ceil(self.cluster) {
            let (cluster, digest) = self.entry(bytes, index)?;
            let first = digests.entry(cluster).or_insert_with(|| digest.clone());
            let wrong = *first != digest || (cluster == 0 && digest.iter().any(|byte| *byte != 0));
            if wrong {
                let said = format!("entry {index} says otherwise of its data than one before it");
                return Err(Stopped::Broken(Property::MetadataIntegrity.broken(said)));
            }
        }
        Ok(())
    }
}
