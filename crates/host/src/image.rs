//! An open file: how it is found, made and locked, and its system calls.
//!
//! Invariants:
//! - `one-writer`: while one opening may write no other is there, from before the first look at the file's content
//!   until it is closed; but for those that were told not to care. Openings of one disk that follow each other share one
//!   lock.
//! - `a-failed-flush-stays-failed`: the system may forget what it could not write and report success the next time,
//!   so after one failure no flush of this opening succeeds.
//!
//! Source: open(2), pread(2), fdatasync(2).

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use blockyard_runtime::{Io, IoErrorKind};
use rustix::io::ReadWriteFlags;

use crate::error::{HostError, HostErrorKind};
use crate::lock::{lock, unlock_writing};

/// What to do about a file that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// It is an error.
    New,
    /// Its content is lost, unless somebody else has it open.
    Replace,
}

/// Whether others are kept out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locking {
    On,
    Off,
}

/// An open, locked file of fixed length.
pub(crate) struct Image {
    file: File,
    /// The opening that carries the lock; all openings of one disk share it.
    locked: Arc<File>,
    locking: Locking,
    /// Bytes.
    pub(crate) len: u64,
    pub(crate) read_only: bool,
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
        if locking == Locking::On {
            lock(&file, path, read_only)?;
        }
        // The metadata of a block device do not tell its length.
        let len = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Self::around(file, len, read_only, locking).map_err(failed)
    }

    fn around(file: File, len: u64, read_only: bool, locking: Locking) -> io::Result<Self> {
        let locked = Arc::new(file.try_clone()?);
        Ok(Self { file, locked, locking, len, read_only, flush_failure: OnceLock::new() })
    }

    /// The same file, opened once more under the same lock, which becomes exclusive if this one shall write.
    pub(crate) fn reopen(&self, path: &Path, read_only: bool) -> Result<Self, HostError> {
        let failed = |error: io::Error| HostError::from_io("reopen", path, &error);
        let file = OpenOptions::new().read(true).write(!read_only).open(path).map_err(failed)?;
        let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
        if identity(&file).map_err(failed)? != identity(&self.file).map_err(failed)? {
            let reason = "there is another file of this name by now";
            return Err(HostError::new(HostErrorKind::Missing, "reopen", path, reason));
        }
        if !read_only && self.read_only && self.locking == Locking::On {
            let locked = lock(&self.locked, path, false);
            if locked.is_err() {
                self.share_lock();
            }
            locked?;
        }
        let (locked, flush_failure) = (self.locked.clone(), self.flush_failure.clone());
        let Self { locking, len, .. } = *self;
        Ok(Self { file, locked, locking, len, read_only, flush_failure })
    }

    /// Lets others read. The lock was held until now, so nobody but another reader is in the way.
    fn share_lock(&self) {
        // What cannot be given back is kept: others are then kept out for longer than they need to be.
        let _ = unlock_writing(&self.locked);
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
        lock(&file, path, false)?;
        // Cut only now, when nobody else has it.
        let sized = file.set_len(0).and_then(|()| file.set_len(len));
        if let Err(error) = sized.and_then(|()| sync_directory_of(path)) {
            if mode == CreateMode::New {
                // The first error is the one to tell.
                let _ = fs::remove_file(path);
            }
            return Err(failed(error));
        }
        Self::around(file, len, false, Locking::On).map_err(failed)
    }

    /// Whether `len` bytes at `offset` are on the disk.
    pub(crate) fn contains(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
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
        self.file.write_all_at(data, offset).map_err(io_kind)?;
        if fua { self.flush() } else { Ok(()) }
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
        if !self.read_only && self.locking == Locking::On {
            self.share_lock();
        }
    }
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
        _ => IoErrorKind::Io,
    }
}
