//! Why a peer is of no use any more.

use std::fmt;
use std::io;

/// The daemon has not done what it was asked, and is not to be asked again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerError {
    /// There is no such program here.
    Absent,
    /// The caller said that it was to stop.
    Stopped,
    /// It ended, was silent for too long, or said what nobody understands.
    Failed(String),
}

impl PeerError {
    pub(crate) fn io(what: &str, error: &io::Error) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str(
                "qemu-storage-daemon is not installed; install QEMU's tools (Debian, Ubuntu: \
                 qemu-utils), or put it into PATH",
            ),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for PeerError {}
