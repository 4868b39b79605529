//! An open image: what its parts share, and how its structures come into memory.
//!
//! Invariant `guests-are-in-front`: nobody waits for the turn who finds in memory all that it looks for, and changes
//! nothing.

mod allocate;
mod amend;
mod bitmaps;
mod caches;
mod change;
mod compressed;
mod encrypted;
mod guarded;
mod preallocate;
mod read;
mod references;
mod resize;
mod snapshots;
mod write;
mod write_back;

pub use caches::TableCaches;
pub use change::Zeroes;
pub use snapshots::{NewSnapshot, SnapshotChange};

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::Extent;
use blockyard_sync::door::Kind as Access;
use blockyard_sync::{Mutex, Rarely, Shared};
use blockyard_units::{ByteLen, ByteRange, Design, Mutant};

use crate::cache::{Cache, Room};
use crate::check::{CheckOptions, Repair, repair};
use crate::entry::Kind;
use crate::error::ImageError;
use crate::file::{Files, ImageFile};
use crate::geometry::Geometry;
use crate::header::{Header, autoclear, encryption, incompatible};
use crate::meta::{Looked, Meta, Run, Table, Which};
use crate::overlap::{Kept, OverlapChecks};
use crate::users::Users;
use bitmaps::Vouches;
use encrypted::Cipher;

/// The key of the length, behind those of the guest's bytes.
const LEN: u64 = 1 << 62;

/// How much of an image's tables is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Bytes of L2 tables; at least one slice is kept.
    pub l2: u64,
    /// Bytes of refcount blocks; at least one slice is kept.
    pub refcount: u64,
}

impl Default for Caches {
    /// QEMU's: 32 MiB, and a quarter of a mebibyte.
    fn default() -> Self {
        Self { l2: 32 << 20, refcount: 256 << 10 }
    }
}

/// An open image.
pub struct Image {
    /// The node's name, for errors.
    node: String,
    geometry: Geometry,
    /// The external data file reads as the guest's disk does: "Raw external data bit". So zeroes are made in it, and
    /// what the structures say of its clusters stays.
    raw: bool,
    meta: Shared<Meta>,
    /// Who has it may change the structures.
    turn: Mutex<()>,
    users: Users,
    vouches: Rarely<Vouches>,
    cipher: Cipher,
    design: Design,
}

impl Image {
    /// Opens the image in `file`, of the node `node`. What an encrypted one has can be read and written only when it is
    /// [unlocked](Self::unlocked). Nothing is written, but if it is to be written: then it is repaired if it was not
    /// closed properly, and its autoclear bits are to be [cleared](Self::clear_autoclear).
    ///
    /// # Errors
    /// It is no image, is wrong, or has features that are not supported.
    ///
    /// # Yields
    /// As the file does.
    pub async fn open(
        node: impl Into<String>,
        file: ImageFile<'_>,
        caches: Caches,
        read_only: bool,
    ) -> Result<Self, ImageError> {
        Self::open_with(node, file, caches, read_only, OverlapChecks::default()).await
    }

    /// The same, and writes are compared with these structures.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Yields
    /// As the file does.
    pub async fn open_with(
        node: impl Into<String>,
        file: ImageFile<'_>,
        caches: Caches,
        read_only: bool,
        checks: OverlapChecks,
    ) -> Result<Self, ImageError> {
        let mut header = read_header(file).await?;
        refuse_what_is_not_done(&header, read_only)?;
        if !read_only && header.incompatible & incompatible::DIRTY != 0 {
            put_right(file).await?;
            header = read_header(file).await?;
        }
        let image = Self::of_header(node, file, header, caches).await?;
        if read_only { Ok(image) } else { image.check_overlaps(file, checks).await }
    }

    /// What the autoclear bits vouch for is vouched for no more, but for bitmaps and a raw external data file: nothing
    /// else of that is kept up here. When nothing speaks against writing the image any more, and before anything that
    /// the bits would be wrong about.
    ///
    /// # Errors
    /// The file failed.
    ///
    /// # Yields
    /// As the file does.
    pub async fn clear_autoclear(&self, file: ImageFile<'_>) -> Result<(), ImageError> {
        let header = self.meta.read(|meta| meta.header.clone());
        let raw = if header.is_raw() { autoclear::RAW_EXTERNAL } else { 0 };
        let bitmaps = if header.bitmaps()?.is_some() { autoclear::BITMAPS } else { 0 };
        let autoclear = raw | bitmaps;
        if header.autoclear == autoclear {
            return Ok(());
        }
        let files = Files { image: file, data: file, backing: None };
        self.put_header(&files, Header { autoclear, ..header }.bytes()?).await?;
        file.flush().await?;
        self.meta
            .write(|meta| (meta.header.autoclear, meta.header_is_unknown) = (autoclear, false));
        Ok(())
    }

    /// The image in `file`, whose header is checked.
    pub(crate) async fn of_header(
        node: impl Into<String>,
        file: ImageFile<'_>,
        header: Header,
        caches: Caches,
    ) -> Result<Self, ImageError> {
        let (geometry, raw) = (header.geometry(), header.is_raw());
        let l1_len = u64::from(header.l1_entries) * 8;
        let l1 = read_table(file, &geometry, "l1_table_offset", header.l1_offset, l1_len).await?;
        let reftable_len = u64::from(header.reftable_clusters) * geometry.cluster();
        let place = header.reftable_offset;
        let reftable =
            read_table(file, &geometry, "refcount_table_offset", place, reftable_len).await?;
        let slices = |bytes: u64| usize::try_from(bytes / geometry.slice()).unwrap_or(usize::MAX);
        let meta = Meta {
            header,
            header_is_unknown: false,
            header_is_on_its_way: false,
            checks: OverlapChecks::NONE,
            kept: Kept::default(),
            is_corrupt: false,
            untold: None,
            l1,
            reftable,
            l2: Cache::new(slices(caches.l2)),
            counts: Cache::new(slices(caches.refcount)),
            hint: 0,
            freed: Vec::new(),
            allocating: Vec::new(),
            free_bytes: None,
            cleaned: false,
        };
        let (turn, users, cipher) = (Mutex::new(()), Users::default(), Cipher::of(&meta.header));
        let vouches = Rarely::default();
        if meta.header.bitmaps()?.is_some() {
            vouches.write(|vouches| *vouches = Vouches::Yes);
        }
        let (node, meta, design) = (node.into(), Shared::new(meta), Design::default());
        Ok(Self { node, geometry, raw, meta, turn, users, vouches, cipher, design })
    }

    /// The same under another design.
    pub fn with_design(self, design: Design) -> Self {
        Self { design, ..self }
    }

    /// The node's name.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Bytes of the guest's disk.
    pub fn len(&self) -> ByteLen {
        ByteLen(self.meta.trusted([(Access::Read, LEN, LEN + 1)], |meta| meta.header.size))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len().0 == 0
    }

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> ByteLen {
        ByteLen(self.geometry.cluster())
    }

    /// Whether the data are in a file of their own.
    pub fn is_external(&self) -> bool {
        self.geometry.external
    }

    /// What the header says now.
    pub fn header(&self) -> Header {
        self.meta.read(|meta| meta.header.clone())
    }

    /// Does `work`, which looks where data of `range` are and goes there, as one of the image's users. It waits for no
    /// other request.
    async fn as_user<T>(&self, range: ByteRange, work: impl Future<Output = T>) -> T {
        let user = self.users.begin(self.geometry.clusters_around(range));
        let result = work.await;
        self.users.end(user);
        result
    }

    /// What the beginning of the guest range from `at` to `end` is.
    async fn look(&self, files: &Files<'_>, at: u64, end: u64) -> Result<Run, ImageError> {
        match self.look_now(at, end)? {
            Looked::Found(run) => Ok(run),
            Looked::Bring(_) => {
                let turn = self.turn.lock().await;
                let run = self.look_in_turn(files, at, end).await;
                turn.unlock();
                run
            }
        }
    }

    fn look_now(&self, at: u64, end: u64) -> Result<Looked<Run>, ImageError> {
        self.meta.trusted([(Access::Read, at, end)], |meta| meta.look(at, end, &self.geometry))
    }

    /// The same for who has the turn.
    async fn look_in_turn(&self, files: &Files<'_>, at: u64, end: u64) -> Result<Run, ImageError> {
        loop {
            match self.look_now(at, end)? {
                Looked::Found(run) => return Ok(run),
                Looked::Bring(slice) => self.bring(files, Which::L2, slice).await?,
            }
        }
    }

    /// What `find` finds in the structures, with what it needs brought in. For who has the turn.
    async fn find<T>(
        &self,
        files: &Files<'_>,
        which: Which,
        mut find: impl FnMut(&mut Meta) -> Result<Looked<T>, ImageError>,
    ) -> Result<T, ImageError> {
        loop {
            match self.meta.write(&mut find)? {
                Looked::Found(found) => return Ok(found),
                Looked::Bring(slice) => self.bring(files, which, slice).await?,
            }
        }
    }

    /// Brings a slice into memory; another may have to be written back for it. For who has the turn.
    async fn bring(&self, files: &Files<'_>, which: Which, slice: u64) -> Result<(), ImageError> {
        while let Room::Dirty(victim) = self.meta.write(|meta| meta.cache(which).make_room()) {
            if self.is_corrupt() {
                // It cannot be written, and is needed.
                break;
            }
            let alone = match which {
                // A count may be written at any time: it covers what refers to its cluster.
                Which::Counts => true,
                Which::L2 => self.design.is_mutant(Mutant::Qcow2EvictsL2Alone),
            };
            if alone {
                self.write_slices(files, which, victim..victim + 1).await?;
            } else {
                self.write_back(files).await?;
            }
        }
        let len = match which {
            Which::L2 => self.geometry.l2_slice,
            Which::Counts => self.geometry.slice(),
        };
        let range = ByteRange::new(slice, len);
        let bytes = files.image.read(range).await?;
        self.meta.write(|meta| meta.cache(which).insert(slice, bytes.to_vec()));
        Ok(())
    }

    /// What the beginning of `range` is.
    pub(crate) async fn status(
        &self,
        files: &Files<'_>,
        range: ByteRange,
        data: &'static str,
    ) -> Result<Extent, ImageError> {
        let run = self.look(files, range.start(), range.end()).await?;
        let range = ByteRange::new(range.start(), run.len);
        Ok(match run.kind {
            Kind::Unallocated => Extent::unallocated(range),
            Kind::Zero(_) => Extent::zeroes(range),
            // Its bytes are not these.
            Kind::Data(_) if self.is_encrypted() => Extent { offset: None, ..Extent::data(range) },
            Kind::Data(host) => Extent::raw(range, data, host),
            Kind::Compressed(_) => Extent { offset: None, ..Extent::data(range) },
        })
    }
}

/// What the header of the image in `file` says.
///
/// # Errors
/// It is no image, is wrong, or has features that are not supported; or the file failed.
///
/// # Yields
/// As the file does.
pub async fn read_header(file: ImageFile<'_>) -> Result<Header, ImageError> {
    let len = file.len()?;
    let beginning = file.read(ByteRange::new(0, len.min(72))).await?;
    let needed = Header::bytes_needed(&beginning)?;
    Header::parse(&file.read(ByteRange::new(0, len.min(needed))).await?)
}

async fn read_table(
    file: ImageFile<'_>,
    geometry: &Geometry,
    structure: &'static str,
    offset: u64,
    len: u64,
) -> Result<Table, ImageError> {
    // No room is made for more than there is.
    let inside = offset + len <= geometry.end_of_tables(file.len()?);
    if !inside {
        let expected = "inside the file";
        return Err(ImageError::Corrupt { structure, offset, found: len, expected });
    }
    Ok(Table::parse(&file.read(ByteRange::new(offset, len)).await?))
}

fn refuse_what_is_not_done(header: &Header, read_only: bool) -> Result<(), ImageError> {
    let unsupported = |what: &str| Err(ImageError::Unsupported(what.into()));
    if header.encryption == encryption::AES {
        return unsupported(
            "the image is encrypted by the old method AES, which is not safe and not supported; 'qemu-img convert' \
             makes one with LUKS of it",
        );
    }
    if !read_only && header.incompatible & incompatible::CORRUPT != 0 {
        return unsupported("the image is marked corrupt: open it read-only, or repair it first");
    }
    Ok(())
}

/// Repairs an image whose refcounts may be wrong, as it says.
async fn put_right(file: ImageFile<'_>) -> Result<(), ImageError> {
    let options = CheckOptions { findings: 1, ..CheckOptions::default() };
    let check = repair(file, None, Repair::All, options, &mut |_| true).await?;
    if check.is_sound() {
        return Ok(());
    }
    let first = check.findings.first().map(|first| alloc::format!(": {first}")).unwrap_or_default();
    Err(ImageError::Unsupported(alloc::format!(
        "the image was not closed properly and cannot be repaired{first}"
    )))
}
