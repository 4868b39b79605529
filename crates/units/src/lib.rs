//! Byte offsets, lengths and ranges, ids, and the design decisions: the words every other room speaks.
//!
//! Invariant `range-end-fits`: the end of a [`ByteRange`] is at most `u64::MAX`; constructing one that is not
//! panics. Not for: anything that waits, allocates for long, or knows what a block is.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bytes;
mod design;
mod ids;

pub use bytes::{ByteLen, ByteOffset, ByteRange};
pub use design::{
    BackupChunks, BackupWay, CommitNode, CopyMode, Decision, Design, DesignError, MUTANTS,
    MirrorFailure, Mutant, Pivot, Replace, StoredBitmaps, UnchangedMarks, decisions,
};
pub use ids::{BackendId, Id, JobId, NodeId};
