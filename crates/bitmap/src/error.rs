//! What a dirty bitmap refuses. Both kinds are of the family `Refused`: nothing was changed.

use blockyard_units::{ByteLen, ByteRange};
use thiserror::Error;

/// A request that a dirty bitmap does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BitmapError {
    /// The granularity is outside the rule.
    #[error(
        "refused: granularity {granularity} is not a power of two between {min} and {max} bytes",
        min = crate::DirtyBitmap::MIN_GRANULARITY,
        max = crate::DirtyBitmap::MAX_GRANULARITY
    )]
    Granularity {
        /// What was asked for.
        granularity: ByteLen,
    },
    /// A reset would clear a granule of which it names a part only.
    #[error(
        "refused: reset of {range} does not begin and end on a multiple of {granularity} bytes \
         or at the disk's end {disk_len}"
    )]
    UnalignedReset {
        /// What was asked for.
        range: ByteRange,
        /// The bitmap's.
        granularity: ByteLen,
        /// The bitmap's.
        disk_len: ByteLen,
    },
}
