//! Mirror convergence: at the pivot the target equals the source, and in active mode each completed write is on both
//! or its chunk is still marked.

use crate::{Property, Violation};
use alloc::format;
use blockyard_units::{ByteLen, ByteRange};

/// Stateless: both statements are about one instant.
pub struct MirrorConvergence;

/// One range of an active mirror, at an instant when no write to it is in flight.
pub struct ActiveWrite<'a> {
    /// What was written.
    pub range: ByteRange,
    /// The range's bytes on the source.
    pub source: &'a [u8],
    /// The range's bytes on the target.
    pub target: &'a [u8],
    /// Whether the chunk at this offset, a multiple of the granularity, is marked.
    pub dirty: &'a dyn Fn(u64) -> bool,
    /// Bytes per chunk; a power of two.
    pub granularity: ByteLen,
}

impl MirrorConvergence {
    /// At the pivot: the views through `source` and `target`, each from offset 0 and at least `source_len` long.
    ///
    /// # Errors
    /// The first offset where they differ, or that the target is shorter.
    pub fn check(source: &[u8], target: &[u8], source_len: ByteLen) -> Result<(), Violation> {
        let len = source_len.as_usize();
        let Some(target) = target.get(..len) else {
            return broken(format!("the target ends at {}, the source at {len}", target.len()));
        };
        match first_difference(&source[..len], target) {
            Some(at) => broken(format!("at the pivot source and target differ at offset {at}")),
            None => Ok(()),
        }
    }

    /// Active mode: each chunk of a completed write is the same on both, or marked.
    ///
    /// # Errors
    /// The first offset that differs in a chunk that is not marked.
    ///
    /// # Panics
    /// If the bytes' length is not the range's.
    pub fn check_active(write: &ActiveWrite<'_>) -> Result<(), Violation> {
        let len = write.range.len().as_usize();
        assert_eq!((write.source.len(), write.target.len()), (len, len), "data-fits-range");
        let mut chunk = write.range.offset().align_down(write.granularity).0;
        while chunk < write.range.end() {
            let piece = ByteRange::new(chunk, write.granularity.0).intersection(&write.range);
            let from = (piece.start() - write.range.start()) as usize;
            let bytes = from..from + piece.len().as_usize();
            let differs = first_difference(&write.source[bytes.clone()], &write.target[bytes]);
            if let (Some(at), false) = (differs, (write.dirty)(chunk)) {
                return broken(format!(
                    "the write at {} is not on the target at offset {}, and chunk {chunk}+{} is not marked",
                    write.range,
                    piece.start() + at as u64,
                    write.granularity
                ));
            }
            chunk += write.granularity.0;
        }
        Ok(())
    }
}

fn first_difference(left: &[u8], right: &[u8]) -> Option<usize> {
    if left == right { None } else { left.iter().zip(right).position(|(l, r)| l != r) }
}

fn broken<T>(message: alloc::string::String) -> Result<T, Violation> {
    Err(Property::MirrorConvergence.broken(message))
}

#[cfg(test)]
mod tests;
