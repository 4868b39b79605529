//! What stands in the metadata child: a header in the first cluster, and behind it the table.
//!
//! | bytes | header |
//! |---|---|
//! | 0..8 | `BYDEDUP` and a zero |
//! | 8..12 | version, 1 |
//! | 12..16 | bytes of a cluster, a power of two from 512 to 64 KiB |
//! | 16..24 | bytes of the guest's disk, a multiple of 512 |
//! | 24..480 | zeroes |
//! | 480..512 | SHA-256 of what comes before |
//! | to the end of the cluster | zeroes |
//!
//! | bytes | an entry of the table, one for each guest cluster |
//! |---|---|
//! | 0..8 | the data cluster's index and one more; 0: the guest cluster is zeroes, and so is the rest of the entry |
//! | 8..32 | the first bytes of the content's SHA-256 |
//!
//! Numbers are big-endian. Sixteen entries share a sector of 512 bytes, which disks write whole: a digest is never torn
//! from what it is of. Behind the last entry there are zeroes up to the end of its sector.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_crypto::Hash;
use blockyard_units::ByteLen;

/// Bytes that disks write whole.
pub const SECTOR: u64 = 512;
/// Bytes of an entry.
pub const ENTRY: u64 = 32;
/// Entries of a sector.
pub const PER_SECTOR: u64 = SECTOR / ENTRY;
/// The most clusters that a guest's disk may have: their table, of 1 GiB, is kept in memory.
pub const MOST_CLUSTERS: u64 = 1 << 25;

/// How the header begins.
pub const MAGIC: &[u8; 8] = b"BYDEDUP\0";
const VERSION: u32 = 1;
const CHECKED: usize = 480;

/// What tells contents apart: 192 bits of SHA-256. Nobody finds two contents that share them.
pub type Digest = [u8; 24];

/// What a cluster holds; none: zeroes.
pub fn digest_of(content: &[u8]) -> Option<Digest> {
    let zero = content.iter().all(|byte| *byte == 0);
    (!zero).then(|| {
        let whole = Hash::Sha256.digest(&[content]);
        whole.first_chunk().copied().expect("sha-256-has-32-bytes")
    })
}

/// Where the content of a guest cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The data cluster's index.
    pub at: u64,
    /// Of what it holds.
    pub digest: Digest,
}

/// An entry of the table; none: zeroes.
pub type Entry = Option<Reference>;

/// What is wrong with an entry's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestOfNothing;

/// An entry from its 32 bytes.
pub fn parse_entry(bytes: &[u8]) -> Result<Entry, DigestOfNothing> {
    let (number, digest) = bytes.split_first_chunk().expect("an-entry-has-32-bytes");
    let digest: Digest = digest.try_into().expect("an-entry-has-32-bytes");
    match u64::from_be_bytes(*number).checked_sub(1) {
        Some(at) => Ok(Some(Reference { at, digest })),
        None if digest == Digest::default() => Ok(None),
        None => Err(DigestOfNothing),
    }
}

/// The bytes of `entry`, behind those of `to`.
pub fn put_entry(entry: Entry, to: &mut Vec<u8>) {
    let Reference { at, digest } = entry.unwrap_or(Reference { at: u64::MAX, digest: [0; 24] });
    to.extend_from_slice(&at.wrapping_add(1).to_be_bytes());
    to.extend_from_slice(&digest);
}

/// What everything else follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of a cluster.
    pub cluster: u64,
    /// Bytes of the guest's disk.
    pub len: u64,
}

impl Header {
    /// Checks what somebody asks for, or says.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn new(cluster: u64, len: u64) -> Result<Self, String> {
        if !cluster.is_power_of_two() || !(SECTOR..=64 << 10).contains(&cluster) {
            let said = "the cluster size must be a power of two from 512 to 64k";
            return Err(format!("{said}, not {cluster}"));
        }
        if !len.is_multiple_of(SECTOR) {
            return Err(format!("the size must be a multiple of 512, not {len}"));
        }
        if len.div_ceil(cluster) > MOST_CLUSTERS {
            let said = "is too much with such clusters: a disk has at most";
            return Err(format!("a size of {len} {said} {MOST_CLUSTERS} of {cluster} bytes"));
        }
        Ok(Self { cluster, len })
    }

    /// Of the guest's disk.
    pub fn clusters(&self) -> u64 {
        self.len.div_ceil(self.cluster)
    }

    /// Bytes of the table, whole sectors.
    pub fn table_len(&self) -> u64 {
        self.clusters().div_ceil(PER_SECTOR) * SECTOR
    }

    /// Bytes that the metadata child has at least.
    pub fn end(&self) -> u64 {
        self.cluster + self.table_len()
    }

    /// Where this sector of the table is.
    pub fn sector_at(&self, sector: u64) -> u64 {
        self.cluster + sector * SECTOR
    }

    /// The first cluster of the metadata child.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ByteLen(self.cluster).as_usize());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        let cluster = u32::try_from(self.cluster).expect("a-cluster-is-small");
        bytes.extend_from_slice(&cluster.to_be_bytes());
        bytes.extend_from_slice(&self.len.to_be_bytes());
        bytes.resize(CHECKED, 0);
        let sum = Hash::Sha256.digest(&[&bytes]);
        bytes.extend_from_slice(&sum);
        bytes.resize(ByteLen(self.cluster).as_usize(), 0);
        bytes
    }

    /// From the first sector.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(sector: &[u8]) -> Result<Self, String> {
        let wrong = |said: &str| Err(String::from(said));
        let Some(sector) = sector.first_chunk::<{ SECTOR as usize }>() else {
            return wrong("the metadata are shorter than a header");
        };
        if !sector.starts_with(MAGIC) {
            return wrong("the metadata do not begin with a dedup header");
        }
        if *Hash::Sha256.digest(&[&sector[..CHECKED]]) != sector[CHECKED..] {
            return wrong("the header's checksum is wrong");
        }
        let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|next| sector[at + next]));
        if number(8) != VERSION {
            return Err(format!("the version is {}, and only {VERSION} is known", number(8)));
        }
        if sector[24..CHECKED].iter().any(|byte| *byte != 0) {
            return wrong("the header has bytes that have no meaning yet and are not zero");
        }
        let len = u64::from(number(16)) << 32 | u64::from(number(20));
        Self::new(u64::from(number(12)), len)
    }
}
