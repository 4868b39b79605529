//! Why a file could not become a disk, in one line for people and one kind to match.
//!
//! Failures of reads, writes and flushes are not here: they are the runtime's `IoErrorKind`.

use std::io;
use std::path::{Path, PathBuf};

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostErrorKind {
    /// There is no such file, or no directory to make it in.
    Missing,
    /// There is such a file already.
    Exists,
    /// Neither a regular file nor a block device.
    NotADisk,
    /// Refused: somebody holds a lock on it.
    InUse,
    /// Refused: the permissions, or a file system that is read-only, forbid it.
    Denied,
    /// No space is left.
    NoSpace,
    /// Anything else that the machine failed at.
    Io,
}

/// A file could not become a disk.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {reason}", path.display())]
pub struct HostError {
    kind: HostErrorKind,
    action: &'static str,
    path: PathBuf,
    reason: String,
}

impl HostError {
    pub(crate) fn new(
        kind: HostErrorKind,
        action: &'static str,
        path: &Path,
        reason: impl Into<String>,
    ) -> Self {
        Self { kind, action, path: path.into(), reason: reason.into() }
    }

    pub(crate) fn from_io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::new(kind_of(error), action, path, reason_of(error))
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> HostErrorKind {
        self.kind
    }

    /// The file it was about.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn kind_of(error: &io::Error) -> HostErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => HostErrorKind::Missing,
        io::ErrorKind::AlreadyExists => HostErrorKind::Exists,
        io::ErrorKind::IsADirectory => HostErrorKind::NotADisk,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            HostErrorKind::Denied
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => HostErrorKind::NoSpace,
        _ => HostErrorKind::Io,
    }
}

/// The system's words, without their number and without a capital.
fn reason_of(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
