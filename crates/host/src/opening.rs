//! How a file is to be opened, and what it asks of those who read and write past the page cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use blockyard_runtime::Access;
use nix::libc::O_DIRECT;
use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::aligned::Aligned;
use crate::lock::Keeps;

/// Who waits for the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aio {
    /// Threads of the file's own.
    Threads,
    /// A ring; threads, where the system has none for us.
    IoUring,
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

/// How a disk is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// What for.
    pub access: Access,
    /// Whom it keeps out meanwhile.
    pub locking: Locking,
    /// Past the page cache.
    pub direct: bool,
    /// What is flushed is done so at once: a crash of the machine may take it.
    pub no_flush: bool,
    /// The ring past the page cache, else threads, if nobody says.
    pub aio: Option<Aio>,
}

impl Opening {
    /// A locked disk behind the page cache.
    pub fn new(read_only: bool) -> Self {
        let access = if read_only { Access::Read } else { Access::Write };
        Self { access, locking: Locking::On, direct: false, no_flush: false, aio: None }
    }

    /// Whom its lock keeps out, if it has one.
    pub(crate) fn keeps(self) -> Option<Keeps> {
        match (self.locking, self.access) {
            (Locking::Off, _) | (_, Access::Inactive) => None,
            (Locking::ForceShare, _) => Some(Keeps::Nobody),
            (Locking::On, Access::Read) => Some(Keeps::Writers),
            (Locking::On, Access::Write) => Some(Keeps::Everybody),
        }
    }

    pub(crate) fn open(self, path: &Path) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(self.access == Access::Write);
        if self.direct {
            options.custom_flags(O_DIRECT);
        }
        options.open(path)
    }
}

/// The largest alignment that is tried.
const MAX_ALIGNMENT: usize = 64 << 10;

/// Bytes, a power of two: what places in an `O_DIRECT` file, lengths and memory are to be multiples of. Asked, and
/// tried where the system does not know.
pub(crate) fn direct_alignment(file: &File) -> io::Result<u32> {
    let refused =
        || io::Error::new(io::ErrorKind::Unsupported, "past the page cache there is no way");
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    if let Some(told) = told.ok().filter(|told| told.stx_mask & StatxFlags::DIOALIGN.bits() != 0) {
        let alignment = told.stx_dio_mem_align.max(told.stx_dio_offset_align);
        return if told.stx_dio_offset_align == 0 { Err(refused()) } else { Ok(alignment) };
    }
    let sizes = std::iter::successors(Some(512), |size| Some(size * 2));
    let works = |size: &usize| {
        let mut memory = Aligned::new(*size, *size);
        file.read_at(memory.as_mut(), 0).is_ok()
    };
    let found = sizes.take_while(|size| *size <= MAX_ALIGNMENT).find(works);
    found.and_then(|size| u32::try_from(size).ok()).ok_or_else(refused)
}
