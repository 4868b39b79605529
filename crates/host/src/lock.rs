//! Locks on an image that other programs of the field see: single bytes, one for each permission.
//!
//! Whoever needs permission `n` has a shared lock on byte 100 + n, whoever does not let others have it one on byte
//! 200 + n. One takes the locks first, then looks whether somebody has the other byte: of two that come at once at most
//! one goes on, and maybe none. The locks belong to the opening, not to the process, and go with it.
//!
//! Source: QEMU's documented image locking; fcntl(2), open file description locks.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::error::{HostError, HostErrorKind};

const NEEDED: i64 = 100;
const NOT_SHARED: i64 = 200;

const CONSISTENT_READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// One byte, by which lock.
fn byte(lock: i32, at: i64) -> libc::flock {
    libc::flock {
        l_type: lock as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at,
        l_len: 1,
        l_pid: 0,
    }
}

/// Whether another opening has `at`.
fn is_taken(file: &File, at: i64) -> io::Result<bool> {
    let mut asked = byte(libc::F_WRLCK, at);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(asked.l_type != libc::F_UNLCK as libc::c_short)
}

/// Takes `at`; whether nobody has it for himself.
fn take(file: &File, at: i64) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&byte(libc::F_RDLCK, at))) {
        Ok(_) => Ok(true),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whom a lock keeps out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Nobody: it only tells that somebody reads.
    Nobody,
    /// Those who write.
    Writers,
    /// Those who write, and those who do not let anybody write.
    Everybody,
}

fn take_all(file: &File, keeps: Keeps) -> io::Result<bool> {
    let needed: &'static [i64] = match keeps {
        Keeps::Nobody | Keeps::Writers => &[CONSISTENT_READ],
        Keeps::Everybody => &[CONSISTENT_READ, WRITE, RESIZE],
    };
    let not_shared: &'static [i64] = if keeps == Keeps::Nobody { &[] } else { &[WRITE, RESIZE] };
    let bytes = |permissions: &'static [i64], from| permissions.iter().map(move |at| from + at);
    for at in bytes(needed, NEEDED).chain(bytes(not_shared, NOT_SHARED)) {
        if !take(file, at)? {
            return Ok(false);
        }
    }
    for at in bytes(needed, NOT_SHARED).chain(bytes(not_shared, NEEDED)) {
        if is_taken(file, at)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Locks `file` against those whom it `keeps` out. After an error some of the locks may be held: the file is to be
/// closed.
pub(crate) fn lock(file: &File, path: &Path, keeps: Keeps) -> Result<(), HostError> {
    let failed = |error: io::Error| HostError::from_io("lock", path, &error);
    if take_all(file, keeps).map_err(failed)? {
        return Ok(());
    }
    let written = is_taken(file, NEEDED + WRITE).map_err(failed)?;
    let purpose = if written { "writing" } else { "reading" };
    let reason = format!("another process is using it for {purpose}");
    Err(HostError::new(HostErrorKind::InUse, "lock", path, reason))
}

/// Gives back what only a writer needs; a reader's locks stay.
pub(crate) fn unlock_writing(file: &File) -> io::Result<()> {
    for at in [NEEDED + WRITE, NEEDED + RESIZE] {
        fcntl(file, FcntlArg::F_OFD_SETLK(&byte(libc::F_UNLCK, at)))?;
    }
    Ok(())
}

/// Gives everything back that the opening holds.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    let all = libc::flock { l_len: 0, ..byte(libc::F_UNLCK, 0) };
    fcntl(file, FcntlArg::F_OFD_SETLK(&all))?;
    Ok(())
}
