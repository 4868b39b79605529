//! What can be wrong with an image, or with what is asked of it.

use alloc::string::String;

use blockyard_block::BlockError;
use blockyard_runtime::IoErrorKind;
use blockyard_units::ByteRange;

use crate::overlap::Overlap;

/// Why an image cannot be opened, or a request on it failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The file failed.
    #[error(transparent)]
    File(#[from] BlockError),
    /// The image is wrong.
    #[error("the image is corrupt: {structure} at {offset:#x} is {found:#x}, expected {expected}")]
    Corrupt {
        /// The structure, in the words of the specification.
        structure: &'static str,
        /// Bytes from the start of the image.
        offset: u64,
        /// What stands there.
        found: u64,
        /// What may.
        expected: &'static str,
    },
    /// A write would have damaged a structure, and was not made.
    #[error("{0}; the image is marked corrupt, and is not written any more")]
    Overlap(Overlap),
    /// That was found before.
    #[error("the image is corrupt, and is not written any more: repair it, and open it again")]
    Unwritable,
    /// The image, or what is asked of it, is beyond what this driver does.
    #[error("{0}")]
    Unsupported(String),
    /// Whoever asked for it said that it should not go on.
    #[error("interrupted")]
    Interrupted,
}

impl ImageError {
    /// As the error of a request over `range` of `node`.
    pub(crate) fn of_request(self, node: &str, range: ByteRange) -> BlockError {
        match self {
            Self::File(error) => error,
            Self::Corrupt { .. } | Self::Overlap(_) | Self::Unwritable => {
                BlockError::Corrupt { node: node.into(), what: alloc::format!("{self}") }
            }
            Self::Unsupported(_) | Self::Interrupted => {
                BlockError::Io { kind: IoErrorKind::Unsupported, node: node.into(), range }
            }
        }
    }
}
