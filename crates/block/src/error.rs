//! What can go wrong with a request or an edit.

use alloc::string::String;

use blockyard_graph::Refused;
use blockyard_runtime::IoErrorKind;
use blockyard_units::ByteRange;

/// Why a request or an edit failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The world failed.
    #[error("{kind} at {range} of node {node}")]
    Io {
        /// What kind of failure.
        kind: IoErrorKind,
        /// The node whose driver met it.
        node: String,
        /// The request's range.
        range: ByteRange,
    },
    /// What an image says of itself does not hold together.
    #[error("node {node}: {what}")]
    Corrupt {
        /// The node whose driver met it.
        node: String,
        /// Which structure, where, what was found and expected.
        what: String,
    },
    /// The edit is not allowed; the graph is as before.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Somebody else published in between, and the caller chose to fail; the graph is as they left it.
    #[error("refused: the graph changed while the edit was prepared")]
    Lost,
    /// A backend without a root was asked for something.
    #[error("device {0} has no medium")]
    NoMedium(String),
    /// The thing asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// The request or option is not allowed.
    #[error("{0}")]
    Invalid(String),
}

impl BlockError {
    /// The kind of world failure, if it is one.
    pub fn io_kind(&self) -> Option<IoErrorKind> {
        match self {
            Self::Io { kind, .. } => Some(*kind),
            Self::Corrupt { .. } => Some(IoErrorKind::Io),
            _ => None,
        }
    }
}
