//! An open file: how it is found, made and locked, and its system calls.
//!
//! Invariants:
//! - `one-writer`: while one opening may write no other is there, from before the first look at the file's content
//!   until it is closed; but for those that were told not to care. Openings of one disk that follow each other share
//!   one lock.
//! - `a-failed-flush-stays-failed`: the system may forget what it could not write and report success the next time,
//!   so after one failure no flush of this opening succeeds.
//!
//! Source: open(2), pread(2), fdatasync(2), fallocate(2), lseek(2).

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut, Seek};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use blockyard_runtime::{Access, Io, IoErrorKind};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::ReadWriteFlags;

use crate::error::{HostError, HostErrorKind};
use crate::locked::Part;
use crate::opening::{Opening, direct_alignment};

/// A write into memory that takes longer has waited for the disk.
const AT_ONCE: Duration = Duration::from_millis(1);
/// So many writes go to the file's threads then.
const PATIENCE: u32 = 1000;

/// What to do about a file that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// It is an error.
    New,
    /// Its content is lost, unless somebody else has it open.
    Replace,
}

/// An open, locked file.
pub(crate) struct Image {
    file: File,
    opening: Opening,
    /// Past the page cache: what places, lengths and memory are multiples of; else 1.
    pub(crate) alignment: u32,
    /// The same file behind the page cache, for an end that is no such multiple.
    uneven: Option<File>,
    /// Writes until it is seen again whether they can be made at once.
    patience: AtomicU32,
    /// Bytes, changed only by operations on this image.
    len: AtomicU64,
    /// A regular file, which can become longer and shorter.
    pub(crate) resizable: bool,
    flush_failure: OnceLock<IoErrorKind>,
    /// Given up when the files are closed.
    lock: Part,
}

impl Image {
    pub(crate) fn open(path: &Path, opening: Opening) -> Result<Self, HostError> {
        let failed = |error: io::Error| HostError::from_io("open", path, &error);
        // Looked at before it is opened: to open a pipe would wait for its other end.
        let kind = fs::metadata(path).map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let reason = "neither a regular file nor a block device";
            return Err(HostError::new(HostErrorKind::NotADisk, "open", path, reason));
        }
        let mut file = opening.open(path).map_err(failed)?;
        let lock = Part::first(&file, path, opening)?;
        let len = len_of(&mut file).map_err(failed)?;
        Self::around(path, file, lock, len, opening).map_err(failed)
    }

    fn around(path: &Path, file: File, lock: Part, len: u64, opening: Opening) -> io::Result<Self> {
        let resizable = file.metadata()?.is_file() && opening.access == Access::Write;
        let alignment = if opening.direct { direct_alignment(&file)? } else { 1 };
        let behind = Opening { direct: false, ..opening };
        let uneven = opening.direct.then(|| behind.open(path)).transpose()?;
        let (len, patience, flush_failure) = (len.into(), AtomicU32::new(0), OnceLock::new());
        Ok(Self { file, opening, alignment, uneven, patience, len, resizable, flush_failure, lock })
    }

    /// The same file, opened once more under the same lock, which becomes exclusive if this one shall write. Whoever
    /// becomes active or inactive has nothing in common with what was locked before.
    pub(crate) fn reopen(&self, path: &Path, access: Access) -> Result<Self, HostError> {
        let failed = |error: io::Error| HostError::from_io("reopen", path, &error);
        let opening = Opening { access, ..self.opening };
        let mut file = opening.open(path).map_err(failed)?;
        let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
        if identity(&file).map_err(failed)? != identity(&self.file).map_err(failed)? {
            let reason = "there is another file of this name by now";
            return Err(HostError::new(HostErrorKind::Missing, "reopen", path, reason));
        }
        let (lock, len) = if [self.opening.access, access].contains(&Access::Inactive) {
            // Its owner may have changed the length.
            (Part::first(&file, path, opening)?, len_of(&mut file).map_err(failed)?)
        } else {
            (self.lock.another(path, opening)?, self.len())
        };
        let mut reopened = Self::around(path, file, lock, len, opening).map_err(failed)?;
        reopened.flush_failure = self.flush_failure.clone();
        Ok(reopened)
    }

    /// How it was opened.
    pub(crate) fn opening(&self) -> Opening {
        self.opening
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.opening.access != Access::Write
    }

    pub(crate) fn create(path: &Path, len: u64, mode: CreateMode) -> Result<Self, HostError> {
        let failed = |error: io::Error| HostError::from_io("create", path, &error);
        if mode == CreateMode::Replace && fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let reason = "not a regular file";
            return Err(HostError::new(HostErrorKind::NotADisk, "create", path, reason));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match mode {
            CreateMode::New => options.create_new(true),
            CreateMode::Replace => options.create(true).truncate(false),
        };
        let file = options.open(path).map_err(failed)?;
        let opening = Opening::new(false);
        let made = Part::first(&file, path, opening).and_then(|lock| {
            // Cut only now, when nobody else has it.
            let sized = file.set_len(0).and_then(|()| file.set_len(len));
            sized.and_then(|()| sync_directory_of(path)).map_err(failed)?;
            Self::around(path, file, lock, len, opening).map_err(failed)
        });
        if made.is_err() && mode == CreateMode::New {
            // The first error is the one to tell.
            let _ = fs::remove_file(path);
        }
        made
    }

    /// Bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Whether `len` bytes at `offset` are on the disk.
    pub(crate) fn contains(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len())
    }

    /// Whether `len` bytes at `offset` can be: inside, or behind the end of a file.
    pub(crate) fn takes(&self, offset: u64, len: u64) -> bool {
        let end = offset.checked_add(len);
        self.contains(offset, len)
            || (self.resizable && end.is_some_and(|end| i64::try_from(end).is_ok()))
    }

    /// Reads what is in memory already, without waiting; returns how many bytes from the start of `into` it had.
    pub(crate) fn read_cached(&self, offset: u64, into: &mut [u8]) -> usize {
        let mut parts = [IoSliceMut::new(into)];
        // Whatever is wrong, the read that may wait meets it too and reports it.
        rustix::io::preadv2(&self.file, &mut parts, offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
    }

    /// Reads at least `needed` bytes.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8], needed: usize) -> Io<()> {
        let mut done = 0;
        while done < needed {
            match self.file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => return Err(IoErrorKind::Io),
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_kind(error)),
            }
        }
        Ok(())
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8], fua: bool) -> Io<()> {
        let even = self.is_even(offset, data.len() as u64);
        let file = self.uneven.as_ref().filter(|_| !even).unwrap_or(&self.file);
        let written = file.write_all_at(data, offset).map_err(io_kind);
        if written.is_err() {
            self.may_have_grown();
        }
        written?;
        if !data.is_empty() {
            self.has_grown(offset + data.len() as u64);
        }
        if fua { self.flush() } else { Ok(()) }
    }

    /// Writes into memory at once, unless that took long lately: then the system makes writers wait.
    pub(crate) fn write_cached(&self, offset: u64, data: &[u8]) -> bool {
        let waits = |patience: u32| patience.checked_sub(1);
        if self.patience.fetch_update(Ordering::Relaxed, Ordering::Relaxed, waits).is_ok() {
            return false;
        }
        let began = Instant::now();
        // Whatever is wrong, the write that may wait meets it too and reports it.
        let written = self.write(offset, data, false).is_ok();
        if began.elapsed() > AT_ONCE {
            self.patience.store(PATIENCE, Ordering::Relaxed);
        }
        written
    }

    /// Whether the system takes such a place and length past the page cache.
    pub(crate) fn is_even(&self, offset: u64, len: u64) -> bool {
        let multiple = |number: u64| number.is_multiple_of(u64::from(self.alignment));
        multiple(offset) && multiple(len)
    }

    pub(crate) fn has_grown(&self, end: u64) {
        self.len.fetch_max(end, Ordering::AcqRel);
    }

    /// Of a write that failed a part may have been made, behind the end too.
    pub(crate) fn may_have_grown(&self) {
        if self.resizable {
            self.has_grown(self.file.metadata().map_or(0, |found| found.len()));
        }
    }

    /// Zeroes without writing them; with `may_unmap` the space may be given back.
    pub(crate) fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> Io<()> {
        let grows = offset + len > self.len();
        let how = match (may_unmap, grows) {
            (true, false) => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            (false, false) => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            (_, true) => FallocateFlags::ZERO_RANGE,
        };
        self.allocate(how, offset, len)?;
        if len > 0 {
            self.has_grown(offset + len);
        }
        Ok(())
    }

    /// Gives space back.
    pub(crate) fn discard(&self, offset: u64, len: u64) -> Io<()> {
        self.allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
    }

    fn allocate(&self, how: FallocateFlags, offset: u64, len: u64) -> Io<()> {
        if len == 0 {
            return Ok(());
        }
        rustix::fs::fallocate(&self.file, how, offset, len).map_err(|error| io_kind(error.into()))
    }

    /// Makes the file `len` bytes long; with `reserve` what is added has its space.
    pub(crate) fn truncate(&self, len: u64, reserve: bool) -> Io<()> {
        let old = self.len();
        if reserve && len > old {
            self.allocate(FallocateFlags::empty(), old, len - old)?;
        }
        self.file.set_len(len).map_err(io_kind)?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Whether there is space for the byte at `offset`, and how many of the next `len` bytes are like it. Where that is
    /// not known there is.
    pub(crate) fn allocated(&self, offset: u64, len: u64) -> (bool, u64) {
        let next = |what: fn(u64) -> SeekFrom| rustix::fs::seek(&self.file, what(offset));
        let up_to = |end: u64| (end - offset).min(len);
        match (next(SeekFrom::Data), next(SeekFrom::Hole)) {
            (Ok(data), _) if data > offset => (false, up_to(data)),
            (Ok(_), Ok(hole)) if hole > offset => (true, up_to(hole)),
            // No data behind it: a hole up to the end.
            (Err(rustix::io::Errno::NXIO), _) => (false, len),
            _ => (true, len),
        }
    }

    pub(crate) fn flush(&self) -> Io<()> {
        if self.opening.no_flush {
            return Ok(());
        }
        let synced = self.file.sync_data().map_err(|error| {
            let kind = io_kind(error);
            *self.flush_failure.get_or_init(|| kind)
        });
        self.flush_failure.get().map_or(synced, |kind| Err(*kind))
    }
}

impl AsRawFd for Image {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// Bytes. The metadata of a block device do not tell.
fn len_of(file: &mut File) -> io::Result<u64> {
    file.seek(io::SeekFrom::End(0))
}

/// Makes the name of a new file durable; its content is what flushes are for.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

pub(crate) fn io_kind(error: io::Error) -> IoErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => IoErrorKind::NoSpace,
        io::ErrorKind::InvalidInput => IoErrorKind::InvalidInput,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            IoErrorKind::ReadOnly
        }
        io::ErrorKind::Unsupported => IoErrorKind::Unsupported,
        _ => IoErrorKind::Io,
    }
}
