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
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use blockyard_runtime::{Access, Io, IoErrorKind};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::ReadWriteFlags;

use crate::error::{HostError, HostErrorKind};
use crate::lock::{Keeps, lock, unlock_writing};

/// What to do about a file that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// It is an error.
    New,
    /// Its content is lost, unless somebody else has it open.
    Replace,
}

/// Whether others are kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// Writers are, and readers where this one writes.
    On,
    /// Nobody is: it only reads, and others may do all that they let readers see.
    ForceShare,
    /// Nobody is, and nobody is looked for.
    Off,
}

impl Locking {
    fn keeps(self, access: Access) -> Option<Keeps> {
        match (self, access) {
            (Self::Off, _) | (_, Access::Inactive) => None,
            (Self::ForceShare, _) => Some(Keeps::Nobody),
            (Self::On, Access::Read) => Some(Keeps::Writers),
            (Self::On, Access::Write) => Some(Keeps::Everybody),
        }
    }
}

/// An opening that carries a lock, and how many openings write under it.
struct Locked {
    file: File,
    writers: Mutex<usize>,
}

impl Locked {
    fn writers(&self) -> MutexGuard<'_, usize> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open, locked file.
pub(crate) struct Image {
    file: File,
    /// The opening that carries the lock; all openings of one disk share it.
    locked: Arc<Locked>,
    locking: Locking,
    /// Bytes, changed only by operations on this image.
    len: AtomicU64,
    /// A regular file, which can become longer and shorter.
    pub(crate) resizable: bool,
    access: Access,
    flush_failure: OnceLock<IoErrorKind>,
}

impl Image {
    pub(crate) fn open(path: &Path, read_only: bool, locking: Locking) -> Result<Self, HostError> {
        let failed = |error: io::Error| HostError::from_io("open", path, &error);
        // Looked at before it is opened: to open a pipe would wait for its other end.
        let kind = fs::metadata(path).map_err(failed)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let reason = "neither a regular file nor a block device";
            return Err(HostError::new(HostErrorKind::NotADisk, "open", path, reason));
        }
        let mut file =
            OpenOptions::new().read(true).write(!read_only).open(path).map_err(failed)?;
        let access = if read_only { Access::Read } else { Access::Write };
        if let Some(keeps) = locking.keeps(access) {
            lock(&file, path, keeps)?;
        }
        let len = len_of(&mut file).map_err(failed)?;
        Self::around(file, len, access, locking).map_err(failed)
    }

    fn around(file: File, len: u64, access: Access, locking: Locking) -> io::Result<Self> {
        let writers = Mutex::new(usize::from(access == Access::Write));
        let locked = Arc::new(Locked { file: file.try_clone()?, writers });
        let resizable = file.metadata()?.is_file() && access == Access::Write;
        let len = AtomicU64::new(len);
        Ok(Self { file, locked, locking, len, resizable, access, flush_failure: OnceLock::new() })
    }

    /// The same file, opened once more under the same lock, which becomes exclusive if this one shall write. Whoever
    /// becomes active or inactive has nothing in common with what was locked before.
    pub(crate) fn reopen(&self, path: &Path, access: Access) -> Result<Self, HostError> {
        let failed = |error: io::Error| HostError::from_io("reopen", path, &error);
        let write = access == Access::Write;
        let mut file = OpenOptions::new().read(true).write(write).open(path).map_err(failed)?;
        let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
        if identity(&file).map_err(failed)? != identity(&self.file).map_err(failed)? {
            let reason = "there is another file of this name by now";
            return Err(HostError::new(HostErrorKind::Missing, "reopen", path, reason));
        }
        let keeps = self.locking.keeps(access);
        if self.access == Access::Inactive || access == Access::Inactive {
            if let Some(keeps) = keeps {
                lock(&file, path, keeps)?;
            }
            // Its owner may have changed the length.
            let len = len_of(&mut file).map_err(failed)?;
            let mut fresh = Self::around(file, len, access, self.locking).map_err(failed)?;
            fresh.flush_failure = self.flush_failure.clone();
            return Ok(fresh);
        }
        let resizable = file.metadata().map_err(failed)?.is_file() && write;
        if write {
            self.one_more_writes(path, keeps)?;
        }
        let (locked, flush_failure) = (self.locked.clone(), self.flush_failure.clone());
        let (locking, len) = (self.locking, AtomicU64::new(self.len()));
        Ok(Self { file, locked, locking, len, resizable, access, flush_failure })
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.access != Access::Write
    }

    fn one_more_writes(&self, path: &Path, keeps: Option<Keeps>) -> Result<(), HostError> {
        let mut writers = self.locked.writers();
        if let Some(keeps) = keeps.filter(|_| *writers == 0) {
            let locked = lock(&self.locked.file, path, keeps);
            if locked.is_err() {
                self.share_lock();
            }
            locked?;
        }
        *writers += 1;
        Ok(())
    }

    /// Lets others read. The lock was held until now, so nobody but another reader is in the way.
    fn share_lock(&self) {
        if self.locking == Locking::On {
            // What cannot be given back is kept: others are then kept out for longer than they need to be.
            let _ = unlock_writing(&self.locked.file);
        }
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
        let made = lock(&file, path, Keeps::Everybody).and_then(|()| {
            // Cut only now, when nobody else has it.
            let sized = file.set_len(0).and_then(|()| file.set_len(len));
            sized.and_then(|()| sync_directory_of(path)).map_err(failed)?;
            Self::around(file, len, Access::Write, Locking::On).map_err(failed)
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

    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Io<()> {
        self.file.read_exact_at(into, offset).map_err(io_kind)
    }

    pub(crate) fn write(&self, offset: u64, data: &[u8], fua: bool) -> Io<()> {
        let written = self.file.write_all_at(data, offset).map_err(io_kind);
        if written.is_err() && self.resizable {
            // A part of it may have been, behind the end too.
            self.has_grown(self.file.metadata().map_or(0, |found| found.len()));
        }
        written?;
        if !data.is_empty() {
            self.has_grown(offset + data.len() as u64);
        }
        if fua { self.flush() } else { Ok(()) }
    }

    fn has_grown(&self, end: u64) {
        self.len.fetch_max(end, Ordering::AcqRel);
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
        let synced = self.file.sync_data().map_err(|error| {
            let kind = io_kind(error);
            *self.flush_failure.get_or_init(|| kind)
        });
        self.flush_failure.get().map_or(synced, |kind| Err(*kind))
    }
}

impl Drop for Image {
    /// Another opening under the same lock can only read.
    fn drop(&mut self) {
        if self.access == Access::Write {
            let mut writers = self.locked.writers();
            *writers -= 1;
            if *writers == 0 {
                self.share_lock();
            }
        }
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

fn io_kind(error: io::Error) -> IoErrorKind {
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
