//! The header of an image, and its extensions.
//!
//! Everything that is read is checked before it is believed. What is not known is kept as it was.
//!
//! Source: the specification, "Header", "Header extensions", "Backing file format name".

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::LONGEST;
use blockyard_units::ByteRange;

use crate::bitmap;
use crate::error::ImageError;
use crate::geometry::{Geometry, SLICE};

/// "QFI" and 0xfb.
const MAGIC: u32 = 0x5146_49fb;
/// The header of version 2.
const V2_LEN: usize = 72;
/// The header of version 3, up to where additional fields begin.
const V3_LEN: usize = 104;
/// With the compression type, and up to a multiple of 8.
const V3_FULL_LEN: usize = 112;
/// The longest name of a backing file.
const BACKING_MAX: usize = 1023;
/// Bytes: the largest L1 table that is opened, as QEMU has it.
pub(crate) const L1_MAX: u64 = 32 << 20;
/// Bytes: the largest refcount table that is opened, as QEMU has it.
pub(crate) const REFTABLE_MAX: u64 = 8 << 20;
/// The most internal snapshots, as QEMU has it.
const SNAPSHOTS_MAX: u32 = 65_536;

/// Bits of the incompatible features.
pub(crate) mod incompatible {
    /// Refcounts may be wrong.
    pub const DIRTY: u64 = 1;
    /// Structures are; it is not to be written.
    pub const CORRUPT: u64 = 2;
    /// The data are in a file of their own.
    pub const EXTERNAL_DATA: u64 = 4;
    /// The compression is not zlib.
    pub const COMPRESSION: u64 = 8;
    /// L2 entries have subclusters.
    pub const EXTENDED_L2: u64 = 16;
    /// All that are known.
    pub const KNOWN: u64 = 31;
}

/// Bits of the compatible features.
pub(crate) mod compatible {
    /// Refcounts may be postponed, if the dirty bit says so. Ours never are.
    pub const LAZY_REFCOUNTS: u64 = 1;
}

/// Methods of encryption.
pub(crate) mod encryption {
    /// AES in CBC mode, with the passphrase as the key.
    pub const AES: u32 = 1;
    /// As a LUKS header says.
    pub const LUKS: u32 = 2;
}

/// Bits of the autoclear features.
pub(crate) mod autoclear {
    /// The bitmaps are consistent with the data.
    pub const BITMAPS: u64 = 1;
    /// The external data file reads as the guest's disk does.
    pub const RAW_EXTERNAL: u64 = 2;
}

/// Kinds of header extensions.
pub(crate) mod extension {
    /// None follows.
    pub const END: u32 = 0;
    /// The format of the backing file.
    pub const BACKING_FORMAT: u32 = 0xe279_2aca;
    /// Names of feature bits.
    pub const FEATURE_NAMES: u32 = 0x6803_f857;
    /// The bitmap directory.
    pub const BITMAPS: u32 = 0x2385_2875;
    /// Where the LUKS header is.
    pub const ENCRYPTION: u32 = 0x0537_be77;
    /// The name of the external data file.
    pub const DATA_FILE: u32 = 0x4441_5441;
}

/// A header extension as it stands in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its kind.
    pub kind: u32,
    /// What is in it.
    pub data: Vec<u8>,
}

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate with a window of 4 KiB.
    Zlib,
    /// zstd frames.
    Zstd,
}

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The name of the backing file, if it has one.
    pub backing: Option<String>,
    /// A cluster has 2 to the power of this bytes.
    pub cluster_bits: u32,
    /// Bytes of the guest's disk.
    pub size: u64,
    /// 0 for none, 1 for AES, 2 for LUKS.
    pub encryption: u32,
    /// Entries of the L1 table.
    pub l1_entries: u32,
    /// Where it is.
    pub l1_offset: u64,
    /// Where the refcount table is.
    pub reftable_offset: u64,
    /// Clusters that it takes.
    pub reftable_clusters: u32,
    /// Internal snapshots.
    pub snapshots: u32,
    /// Where the snapshot table is.
    pub snapshots_offset: u64,
    /// Whoever does not know one of these must not open the image.
    pub incompatible: u64,
    /// These need not be known.
    pub compatible: u64,
    /// Whoever writes and does not know one of these clears it.
    pub autoclear: u64,
    /// A refcount has 2 to the power of this bits.
    pub refcount_order: u32,
    /// How clusters are compressed.
    pub compression: Compression,
    /// Additional fields that are not known.
    pub additional: Vec<u8>,
    /// All extensions, in their order.
    pub extensions: Vec<Extension>,
}

/// Reads big-endian numbers of a header that is long enough.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.0[at..at + 4].try_into().expect("four-bytes"))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().expect("eight-bytes"))
    }
}

fn corrupt(structure: &'static str, offset: u64, found: u64, expected: &'static str) -> ImageError {
    ImageError::Corrupt { structure, offset, found, expected }
}

fn check(
    holds: bool,
    structure: &'static str,
    offset: u64,
    found: impl Into<u64>,
    expected: &'static str,
) -> Result<(), ImageError> {
    if holds { Ok(()) } else { Err(corrupt(structure, offset, found.into(), expected)) }
}

impl Header {
    /// How many bytes of the file are needed to [parse](Self::parse) it: the first cluster, as the beginning of the
    /// file says.
    ///
    /// # Errors
    /// If it is no qcow2 image.
    pub fn bytes_needed(beginning: &[u8]) -> Result<u64, ImageError> {
        let fields = Fields(beginning);
        let is_image = beginning.len() >= V2_LEN && fields.u32(0) == MAGIC;
        if !is_image {
            return Err(ImageError::Unsupported("the file is no qcow2 image".into()));
        }
        let bits = fields.u32(20);
        check((9..=21).contains(&bits), "cluster_bits", 20, bits, "9 to 21")?;
        Ok(1 << bits)
    }

    /// What the first cluster of a file says. `cluster` may be shorter, if the file is.
    ///
    /// # Errors
    /// The first thing that is wrong, or not supported.
    pub fn parse(cluster: &[u8]) -> Result<Self, ImageError> {
        Self::bytes_needed(cluster)?;
        let fields = Fields(cluster);
        let version = fields.u32(4);
        if !(2..=3).contains(&version) {
            return Err(ImageError::Unsupported(format!(
                "qcow2 version {version} is not supported"
            )));
        }
        let mut header = Self {
            version,
            backing: None,
            cluster_bits: fields.u32(20),
            size: fields.u64(24),
            encryption: fields.u32(32),
            l1_entries: fields.u32(36),
            l1_offset: fields.u64(40),
            reftable_offset: fields.u64(48),
            reftable_clusters: fields.u32(56),
            snapshots: fields.u32(60),
            snapshots_offset: fields.u64(64),
            incompatible: 0,
            compatible: 0,
            autoclear: 0,
            refcount_order: 4,
            compression: Compression::Zlib,
            additional: Vec::new(),
            extensions: Vec::new(),
        };
        let len = if version == 2 { V2_LEN } else { header.parse_v3(cluster)? };
        header.parse_extensions(cluster, len)?;
        header.parse_backing(cluster, len)?;
        header.check()?;
        Ok(header)
    }

    /// The fields that version 3 added; returns where the header ends.
    fn parse_v3(&mut self, cluster: &[u8]) -> Result<usize, ImageError> {
        check(
            cluster.len() >= V3_LEN,
            "the file's length",
            0,
            cluster.len() as u64,
            "the whole header",
        )?;
        let fields = Fields(cluster);
        self.incompatible = fields.u64(72);
        self.compatible = fields.u64(80);
        self.autoclear = fields.u64(88);
        self.refcount_order = fields.u32(96);
        let len = fields.u32(100) as usize;
        let fits = len >= V3_LEN && len.is_multiple_of(8) && len <= cluster.len();
        check(
            fits,
            "header_length",
            100,
            len as u64,
            "a multiple of 8 from 104 on, inside the first cluster",
        )?;
        let unknown = self.incompatible & !incompatible::KNOWN;
        if unknown != 0 {
            return Err(ImageError::Unsupported(self.name_features(cluster, len, unknown)));
        }
        let kind = if len > V3_LEN { cluster[V3_LEN] } else { 0 };
        let flagged = self.incompatible & incompatible::COMPRESSION != 0;
        check(
            (kind != 0) == flagged,
            "compression_type",
            104,
            kind,
            "0, unless its feature bit is set",
        )?;
        self.compression = match kind {
            0 => Compression::Zlib,
            1 => Compression::Zstd,
            _ => {
                return Err(ImageError::Unsupported(format!(
                    "compression type {kind} is not supported"
                )));
            }
        };
        if len > V3_FULL_LEN {
            self.additional = cluster[V3_FULL_LEN..len].to_vec();
        }
        Ok(len)
    }

    /// Says which incompatible features are not known, by the names that the image has for them.
    fn name_features(&self, cluster: &[u8], len: usize, unknown: u64) -> String {
        let mut probe = self.clone();
        let named = probe.parse_extensions(cluster, len).is_ok();
        let table =
            probe.extensions.iter().find(|found| named && found.kind == extension::FEATURE_NAMES);
        let mut said = String::from("the image has incompatible features that are not supported:");
        for bit in (0..64_u8).filter(|bit| unknown >> bit & 1 != 0) {
            let entries = table.map_or(&[][..], |table| &table.data);
            let entry = entries.chunks_exact(48).find(|entry| entry[0] == 0 && entry[1] == bit);
            let name = entry.map(|entry| {
                let end = entry[2..].iter().position(|byte| *byte == 0).unwrap_or(46);
                String::from_utf8_lossy(&entry[2..2 + end]).into_owned()
            });
            said += &format!(" {}", name.unwrap_or_else(|| format!("bit {bit}")));
        }
        said
    }

    fn parse_extensions(&mut self, cluster: &[u8], start: usize) -> Result<(), ImageError> {
        let fields = Fields(cluster);
        let backing = usize::try_from(fields.u64(8)).unwrap_or(usize::MAX);
        let end = if backing == 0 { cluster.len() } else { backing.min(cluster.len()) };
        let mut at = start;
        while at + 8 <= end {
            let (kind, len) = (fields.u32(at), fields.u32(at + 4) as usize);
            if kind == extension::END {
                break;
            }
            let fits = len <= end - (at + 8);
            check(
                fits,
                "the length of a header extension",
                at as u64 + 4,
                len as u64,
                "no more than there is room for",
            )?;
            self.extensions.push(Extension { kind, data: cluster[at + 8..at + 8 + len].to_vec() });
            at += 8 + len.next_multiple_of(8);
        }
        Ok(())
    }

    fn parse_backing(&mut self, cluster: &[u8], start: usize) -> Result<(), ImageError> {
        let fields = Fields(cluster);
        let (offset, len) = (fields.u64(8), fields.u32(16) as usize);
        if offset == 0 {
            return Ok(());
        }
        check(len <= BACKING_MAX, "backing_file_size", 16, len as u64, "at most 1023")?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let fits = at >= start && at.checked_add(len).is_some_and(|end| end <= cluster.len());
        check(
            fits,
            "backing_file_offset",
            8,
            offset,
            "inside the first cluster, behind the header",
        )?;
        let name = core::str::from_utf8(&cluster[at..at + len]);
        let name = name
            .map_err(|_| ImageError::Unsupported("the backing file's name is not UTF-8".into()))?;
        if !name.is_empty() {
            self.backing = Some(name.into());
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ImageError> {
        let cluster = 1_u64 << self.cluster_bits;
        check(self.size <= LONGEST, "size", 24, self.size, "at most 2 EiB")?;
        check(self.refcount_order <= 6, "refcount_order", 96, self.refcount_order, "at most 6")?;
        let extended = self.incompatible & incompatible::EXTENDED_L2 != 0;
        let large = !extended || self.cluster_bits >= 14;
        check(
            large,
            "cluster_bits",
            20,
            self.cluster_bits,
            "at least 14 with extended L2 entries",
        )?;
        let l1_bytes = u64::from(self.l1_entries) * 8;
        check(l1_bytes <= L1_MAX, "l1_size", 36, self.l1_entries, "at most 32 MiB of entries")?;
        let needed = self.geometry().l1_needed(self.size);
        check(
            u64::from(self.l1_entries) >= needed,
            "l1_size",
            36,
            self.l1_entries,
            "an entry for all of the disk",
        )?;
        self.check_place("l1_table_offset", 40, self.l1_offset, l1_bytes)?;
        let reftable_bytes = u64::from(self.reftable_clusters) * cluster;
        let bounded = (1..=REFTABLE_MAX).contains(&reftable_bytes);
        check(
            bounded,
            "refcount_table_clusters",
            56,
            self.reftable_clusters,
            "1 byte to 8 MiB of them",
        )?;
        self.check_place("refcount_table_offset", 48, self.reftable_offset, reftable_bytes)?;
        check(
            self.snapshots <= SNAPSHOTS_MAX,
            "nb_snapshots",
            60,
            self.snapshots,
            "at most 65536",
        )?;
        if self.snapshots > 0 {
            self.check_place("snapshots_offset", 64, self.snapshots_offset, cluster)?;
        }
        check(self.encryption <= 2, "crypt_method", 32, self.encryption, "0, 1 or 2")?;
        self.check_external()
    }

    /// What does not go together with an external data file: "External data file bit", "Raw external data bit".
    pub(crate) fn check_external(&self) -> Result<(), ImageError> {
        if !self.is_external() {
            return Ok(());
        }
        let expected = "0 with an external data file";
        check(self.snapshots == 0, "nb_snapshots", 60, self.snapshots, expected)?;
        if self.is_raw() && self.backing.is_some() {
            let message = "the image has a backing file and a raw external data file, which cannot both be what the \
                           guest sees";
            return Err(ImageError::Unsupported(message.into()));
        }
        Ok(())
    }

    /// A structure begins at a cluster other than the first, and ends where offsets do.
    fn check_place(
        &self,
        structure: &'static str,
        at: u64,
        offset: u64,
        len: u64,
    ) -> Result<(), ImageError> {
        let cluster = 1_u64 << self.cluster_bits;
        let aligned = offset.is_multiple_of(cluster) && (offset > 0 || len == 0);
        check(aligned, structure, at, offset, "a multiple of the cluster size, not 0")?;
        let ends = offset.checked_add(len).is_some_and(|end| end <= LONGEST);
        check(ends, structure, at, offset, "before the end of all offsets")
    }

    /// The header as it stands in the image: the beginning of its first cluster.
    ///
    /// # Errors
    /// If the backing file's name and the extensions do not fit into a cluster.
    pub fn bytes(&self) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let backing = self.backing.as_deref().unwrap_or_default();
        let push32 =
            |bytes: &mut Vec<u8>, number: u32| bytes.extend_from_slice(&number.to_be_bytes());
        push32(&mut bytes, MAGIC);
        push32(&mut bytes, self.version);
        bytes.extend_from_slice(&[0; 12]);
        push32(&mut bytes, self.cluster_bits);
        bytes.extend_from_slice(&self.size.to_be_bytes());
        push32(&mut bytes, self.encryption);
        push32(&mut bytes, self.l1_entries);
        bytes.extend_from_slice(&self.l1_offset.to_be_bytes());
        bytes.extend_from_slice(&self.reftable_offset.to_be_bytes());
        push32(&mut bytes, self.reftable_clusters);
        push32(&mut bytes, self.snapshots);
        bytes.extend_from_slice(&self.snapshots_offset.to_be_bytes());
        if self.version >= 3 {
            for features in [self.incompatible, self.compatible, self.autoclear] {
                bytes.extend_from_slice(&features.to_be_bytes());
            }
            push32(&mut bytes, self.refcount_order);
            let len = V3_FULL_LEN + self.additional.len();
            push32(&mut bytes, u32::try_from(len).expect("a-header-is-in-a-cluster"));
            bytes.push(u8::from(self.compression == Compression::Zstd));
            bytes.resize(V3_FULL_LEN, 0);
            bytes.extend_from_slice(&self.additional);
        }
        for Extension { kind, data } in &self.extensions {
            push32(&mut bytes, *kind);
            push32(&mut bytes, u32::try_from(data.len()).expect("an-extension-is-in-a-cluster"));
            bytes.extend_from_slice(data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes.extend_from_slice(&[0; 8]);
        if !backing.is_empty() {
            let (at, len) = (bytes.len() as u64, backing.len() as u32);
            bytes[8..16].copy_from_slice(&at.to_be_bytes());
            bytes[16..20].copy_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(backing.as_bytes());
        }
        let fits = bytes.len() as u64 <= 1 << self.cluster_bits && backing.len() <= BACKING_MAX;
        let too_long =
            "the backing file's name and the header extensions do not fit into the first cluster";
        if fits { Ok(bytes) } else { Err(ImageError::Unsupported(too_long.into())) }
    }

    /// The sizes that everything follows from.
    pub(crate) fn geometry(&self) -> Geometry {
        Geometry {
            cluster_bits: self.cluster_bits,
            refcount_order: self.refcount_order,
            extended: self.incompatible & incompatible::EXTENDED_L2 != 0,
            external: self.is_external(),
            has_zero: self.version >= 3,
            l2_slice: SLICE.min(1 << self.cluster_bits),
        }
    }

    /// Whether the data are in a file of their own.
    pub fn is_external(&self) -> bool {
        self.incompatible & incompatible::EXTERNAL_DATA != 0
    }

    /// Whether that file, by itself, is to read as the guest's disk does.
    pub fn is_raw(&self) -> bool {
        self.is_external() && self.encryption == 0 && self.autoclear & autoclear::RAW_EXTERNAL != 0
    }

    fn text(&self, kind: u32) -> Option<String> {
        let found = self.extensions.iter().find(|extension| extension.kind == kind);
        found.map(|extension| String::from_utf8_lossy(&extension.data).into_owned())
    }

    /// Where the LUKS header and its key material are: "Full disk encryption header pointer".
    ///
    /// # Errors
    /// It is not said, or is no place for them.
    pub(crate) fn luks_area(&self) -> Result<ByteRange, ImageError> {
        let structure = "the encryption header pointer";
        let kind = extension::ENCRYPTION;
        let found = self.extensions.iter().find(|extension| extension.kind == kind);
        let data = found.map_or(&[][..], |extension| &extension.data);
        let at = |from: usize| data.get(from..from + 8)?.try_into().ok().map(u64::from_be_bytes);
        let (Some(offset), Some(len)) = (at(0), at(8)) else {
            return Err(corrupt(structure, 0, data.len() as u64, "16 bytes"));
        };
        self.check_place(structure, 0, offset, len)?;
        Ok(ByteRange::new(offset, len))
    }

    /// Where the bitmap directory is, if what it says is to be believed: "Bitmaps extension".
    ///
    /// # Errors
    /// What the extension says is wrong.
    pub(crate) fn bitmaps(&self) -> Result<Option<bitmap::Extension>, ImageError> {
        let found = self.extensions.iter().find(|found| found.kind == extension::BITMAPS);
        match found {
            Some(found) if self.autoclear & autoclear::BITMAPS != 0 => {
                let parsed = bitmap::Extension::parse(&found.data)?;
                self.check_place("bitmap_directory_offset", 0, parsed.offset, parsed.len)?;
                Ok(Some(parsed))
            }
            _ => Ok(None),
        }
    }

    /// Has it refer to another directory, or to none.
    pub(crate) fn set_bitmaps(&mut self, bitmaps: Option<bitmap::Extension>) {
        self.extensions.retain(|extension| extension.kind != extension::BITMAPS);
        match bitmaps {
            Some(bitmaps) => {
                let data = bitmaps.bytes();
                self.extensions.push(Extension { kind: extension::BITMAPS, data });
                self.autoclear |= autoclear::BITMAPS;
            }
            None => self.autoclear &= !autoclear::BITMAPS,
        }
    }

    /// Where the bitmap directory is, if there is one.
    pub(crate) fn bitmap_directory(&self) -> Option<ByteRange> {
        let found = self.bitmaps().ok().flatten()?;
        Some(ByteRange::new(found.offset, found.len))
    }

    /// The format of the backing file, if it is said.
    pub fn backing_format(&self) -> Option<String> {
        self.text(extension::BACKING_FORMAT)
    }

    /// The name of the external data file, if it is said.
    pub fn data_file(&self) -> Option<String> {
        self.text(extension::DATA_FILE)
    }
}
