//! Whether all that stands in an image goes together, and putting it right where it does not.
//!
//! Every cluster's references are counted, from the header on, and compared with its refcount. A check needs no node
//! and writes nothing. What it takes of memory is bounded: four bytes for each cluster of a window over the file, and
//! the places of as many L2 tables as fit beside it.
//!
//! Invariant `tables-are-read-once`: a table that several refer to is looked at once, and what it refers to counts that
//! many times. So a small file is a small task, whatever it says.
//!
//! Of an external data file no cluster is counted: what is told of it is where the guest's data must be, and that they
//! are.
//!
//! Differs: QEMU does not look whether data are in the data file, nor where. Of a cluster that is counted behind the
//! end of the file, it does not say that it leaked.

mod counts;
mod flags;
mod pass;
mod rebuild;
mod repair;
mod report;
mod structures;
mod tally;

pub(crate) use rebuild::count_anew;
pub use repair::{Repair, repair};
pub use report::{Check, Expected, Finding, Severity};
pub(crate) use tally::Tally;

use blockyard_units::ByteLen;

use crate::error::ImageError;
use crate::file::ImageFile;

/// How an image is to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// Bytes that counting may take; one refcount block's are counted at least.
    pub memory: u64,
    /// How many findings are kept.
    pub findings: usize,
}

impl Default for CheckOptions {
    /// 64 MiB: a file of 1 TiB with clusters of 64 KiB is walked through once.
    fn default() -> Self {
        Self { memory: 64 << 20, findings: 100 }
    }
}

/// How far a walk through an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes from the start of the file.
    pub done: ByteLen,
    /// Bytes of the file.
    pub all: ByteLen,
}

/// Is told how far it is, and says whether to go on.
pub type Watch<'a> = dyn FnMut(Progress) -> bool + Send + Sync + 'a;

/// Checks the image in `file`. `data`: its external data file, if it has one and what it says of that is to be compared
/// with it. Nobody writes it meanwhile; of an open one, everything was flushed.
///
/// # Errors
/// It is no image, the file failed, or `watch` said no.
///
/// # Yields
/// As the file does.
pub async fn check(
    file: ImageFile<'_>,
    data: Option<ImageFile<'_>>,
    options: CheckOptions,
    watch: &mut Watch<'_>,
) -> Result<Check, ImageError> {
    let (check, _) = pass::run((file, data), options, pass::Action::Look, watch).await?;
    Ok(check)
}
