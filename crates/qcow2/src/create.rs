//! Making an empty image.
//!
//! Source: the specification; the options and their defaults are QEMU's.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use blockyard_block::Preallocation;
use blockyard_units::{ByteRange, Design, Mutant};

use crate::error::ImageError;
use crate::file::Files;
use crate::header::{
    Compression, Extension, Header, L1_MAX, autoclear, compatible, encryption, extension,
    incompatible,
};
use crate::image::{Caches, Image};
use crate::meta::set_count_in;

/// What an image is to be like.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// 2 or 3.
    pub version: u32,
    /// Bytes of the guest's disk.
    pub size: u64,
    /// Bytes, a power of two from 512 to 2 MiB.
    pub cluster_size: u64,
    /// 1, 2, 4 … 64; version 2 has 16.
    pub refcount_bits: u32,
    /// Clusters are divided into 32 subclusters.
    pub extended_l2: bool,
    /// Refcounts may be postponed.
    pub lazy_refcounts: bool,
    /// How clusters are compressed.
    pub compression: Compression,
    /// The backing file's name and format.
    pub backing: Option<(String, Option<String>)>,
    /// The data are in a file of their own.
    pub data_file: Option<DataFile>,
    /// Data are encrypted: a LUKS header and its key material, up to where the payload would begin.
    pub luks: Option<Vec<u8>>,
    /// What has space before it is written.
    pub preallocation: Preallocation,
    /// Bugs that are put back.
    pub design: Design,
}

/// The file that an image's data are in.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// By which it is found again, if nobody names it then.
    pub name: String,
    /// By itself it reads as the guest's disk does.
    pub raw: bool,
}

impl CreateOptions {
    /// QEMU's defaults, for a disk of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self {
            version: 3,
            size,
            cluster_size: 64 << 10,
            refcount_bits: 16,
            extended_l2: false,
            lazy_refcounts: false,
            compression: Compression::Zlib,
            backing: None,
            data_file: None,
            luks: None,
            preallocation: Preallocation::Off,
            design: Design::default(),
        }
    }

    fn check(&self) -> Result<(), ImageError> {
        let refuse = |message: &str| Err(ImageError::Unsupported(message.into()));
        if !self.cluster_size.is_power_of_two() || !(512..=2 << 20).contains(&self.cluster_size) {
            return refuse("the cluster size must be a power of two from 512 bytes to 2 MiB");
        }
        if !self.refcount_bits.is_power_of_two() || self.refcount_bits > 64 {
            return refuse("the refcount width must be a power of two of at most 64 bits");
        }
        let three = self.refcount_bits != 16
            || self.extended_l2
            || self.lazy_refcounts
            || self.data_file.is_some()
            || self.compression != Compression::Zlib;
        if self.version < 3 && three {
            return refuse(
                "refcount widths other than 16 bits, extended L2 entries, lazy refcounts, data files and other \
                 compression types need version 3 (compat=1.1 or newer)",
            );
        }
        if self.preallocation != Preallocation::Off && self.backing.is_some() && !self.extended_l2 {
            return refuse(
                "what has space hides the backing file, unless there are subclusters: give no preallocation, or \
                 extended L2 entries",
            );
        }
        if self.preallocation != Preallocation::Off && self.luks.is_some() && self.version < 3 {
            return refuse(
                "preallocated clusters of an encrypted image are zero clusters, which need version 3 (compat=1.1 or \
                 newer)",
            );
        }
        let raw = self.data_file.as_ref().is_some_and(|data| data.raw);
        if raw && self.luks.is_some() {
            return refuse("a raw data file cannot be encrypted");
        }
        if raw && self.backing.is_some() {
            return refuse(
                "a raw data file is all that the guest sees, so there cannot be a backing file",
            );
        }
        if self.extended_l2 && self.cluster_size < 16 << 10 {
            return refuse("extended L2 entries need clusters of at least 16 KiB");
        }
        if !self.size.is_multiple_of(512) {
            return refuse("the size must be a multiple of 512 bytes");
        }
        Ok(())
    }

    fn header(&self) -> Header {
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        let format = self.backing.as_ref().and_then(|(_, format)| format.clone());
        let format =
            format.map(|format| Extension { kind: extension::BACKING_FORMAT, data: format.into() });
        let data_file = self.data_file.as_ref();
        let raw = data_file.is_some_and(|data| data.raw);
        let named = data_file.map(|data| data.name.clone());
        let named = named.map(|name| Extension { kind: extension::DATA_FILE, data: name.into() });
        Header {
            version: self.version,
            backing: self.backing.as_ref().map(|(name, _)| name.clone()),
            cluster_bits: self.cluster_size.ilog2(),
            size: self.size,
            encryption: if self.luks.is_some() { encryption::LUKS } else { 0 },
            l1_entries: 0,
            l1_offset: 0,
            reftable_offset: self.cluster_size,
            reftable_clusters: 1,
            snapshots: 0,
            snapshots_offset: 0,
            incompatible: flag(self.extended_l2, incompatible::EXTENDED_L2)
                | flag(data_file.is_some(), incompatible::EXTERNAL_DATA)
                | flag(self.compression != Compression::Zlib, incompatible::COMPRESSION),
            compatible: flag(self.lazy_refcounts, compatible::LAZY_REFCOUNTS),
            autoclear: flag(raw, autoclear::RAW_EXTERNAL),
            refcount_order: self.refcount_bits.ilog2(),
            compression: self.compression,
            additional: Vec::new(),
            extensions: format.into_iter().chain(named).collect(),
        }
    }
}

/// What stands where in a new image.
pub enum Piece {
    /// These bytes, at this offset.
    Bytes(u64, Vec<u8>),
    /// Zeroes.
    Zeroes(ByteRange),
}

/// An empty image, in pieces, without any preallocation: the last of them is the header, and without that it is no
/// image.
///
/// # Errors
/// The options do not go together.
pub fn layout(options: &CreateOptions) -> Result<Vec<Piece>, ImageError> {
    options.check()?;
    let mut header = options.header();
    let geometry = header.geometry();
    let cluster = geometry.cluster();
    let l1_entries = geometry.l1_needed(options.size);
    if l1_entries * 8 > L1_MAX {
        let message = "the disk is longer than clusters of this size can map";
        return Err(ImageError::Unsupported(message.into()));
    }
    // In this order: the header, the refcount table, its blocks, the L1 table, the LUKS header.
    let l1_clusters = geometry.clusters_for(l1_entries * 8);
    let luks_len = options.luks.as_ref().map_or(0, |luks| luks.len() as u64);
    let luks_clusters = geometry.clusters_for(luks_len);
    let (mut table, mut blocks) = (1, 1);
    loop {
        let used = 1 + table + blocks + l1_clusters + luks_clusters;
        let needed = (used.div_ceil(geometry.block_counts()), geometry.clusters_for(blocks * 8));
        if needed == (blocks, table) {
            break;
        }
        (blocks, table) = (needed.0.max(blocks), needed.1.max(table));
    }
    let used = 1 + table + blocks + l1_clusters + luks_clusters;
    header.reftable_clusters = u32::try_from(table).expect("the-refcount-table-is-bounded");
    header.l1_entries = u32::try_from(l1_entries).expect("the-l1-table-is-bounded");
    header.l1_offset = (1 + table + blocks) * cluster;
    let size = usize::try_from(cluster).expect("clusters-are-small");
    let (mut pieces, mut entries) = (Vec::new(), Vec::new());
    for block in 0..blocks {
        let mut bytes = vec![0; size];
        let first = block * geometry.block_counts();
        for count in 0..(used - first).min(geometry.block_counts()) {
            set_count_in(&mut bytes, count, 1, geometry.refcount_order);
        }
        let at = (1 + table + block) * cluster;
        entries.extend_from_slice(&at.to_be_bytes());
        pieces.push(Piece::Bytes(at, bytes));
    }
    entries.resize(usize::try_from(table).expect("the-refcount-table-is-bounded") * size, 0);
    pieces.push(Piece::Bytes(cluster, entries));
    if l1_clusters > 0 {
        pieces.push(Piece::Zeroes(ByteRange::new(header.l1_offset, l1_clusters * cluster)));
    }
    if let Some(luks) = &options.luks {
        let at = header.l1_offset + l1_clusters * cluster;
        let data = [at, luks_len].iter().flat_map(|number| number.to_be_bytes()).collect();
        header.extensions.push(Extension { kind: extension::ENCRYPTION, data });
        let mut luks = luks.clone();
        luks.resize(luks.len().next_multiple_of(size), 0);
        pieces.push(Piece::Bytes(at, luks));
    }
    let mut first = header.bytes()?;
    first.resize(size, 0);
    pieces.push(Piece::Bytes(0, first));
    Ok(pieces)
}

/// Makes an empty image in a file which is empty; a data file gets the length of the disk.
///
/// # Errors
/// The options do not go together, or a file failed: what is in the image's file then is no image.
///
/// # Yields
/// As the files do.
pub async fn create(files: &Files<'_>, options: &CreateOptions) -> Result<(), ImageError> {
    let file = files.image;
    let pieces = layout(options)?;
    if options.data_file.is_some() {
        let how = match options.preallocation {
            Preallocation::Metadata => Preallocation::Off,
            how => how,
        };
        files.data.truncate(options.size, how).await?;
    }
    for piece in pieces {
        match piece {
            Piece::Bytes(0, bytes) => {
                // Until here it is no image.
                if !options.design.is_mutant(Mutant::Qcow2HeaderBeforeReferred) {
                    file.flush().await?;
                }
                file.write(0, bytes.into()).await?;
            }
            Piece::Bytes(at, bytes) => file.write(at, bytes.into()).await?,
            Piece::Zeroes(range) => file.write_zeroes(range).await?,
        }
    }
    if !options.design.is_mutant(Mutant::Qcow2MadeNotFlushed) {
        file.flush().await?;
    }
    // Whoever reads a raw data file without its structures is to read what is in them.
    let is_raw = options.data_file.as_ref().is_some_and(|data| data.raw);
    let is_mapped = is_raw && !options.design.is_mutant(Mutant::Qcow2RawRootNotMapped);
    let how = match options.preallocation {
        Preallocation::Off if is_mapped => Preallocation::Metadata,
        how => how,
    };
    if how == Preallocation::Off {
        return Ok(());
    }
    let image = Image::open("create", file, Caches::default(), false).await?;
    image.with_design(options.design).preallocate(files, how).await
}
