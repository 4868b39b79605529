//! The qcow2 format: what stands in an image, and how it changes so that a crash finds it whole.
//!
//! The room is cut by what its lines know. `header`, `entry` and `geometry` are bytes and numbers; `cache` and `meta`
//! are the structures in memory, which never wait; `image` and its parts are the only ones that wait, for the file.
//! The driver joins an image with a node, and `create` and `check` need no node at all.
//!
//! Invariants:
//! - `counts-cover-references`: at every moment, on the disk as well as in memory, a cluster's refcount is at least the
//!   number of references to it. So a count goes up, durably, before a reference to the cluster is written, and goes
//!   down only when it is durable that the reference is gone. What a crash leaves is leaks at most;
//! - `data-precede-references`: what a reference shows is durable before the reference is written;
//! - `one-changes-at-a-time`: only who has the image's turn changes its structures, brings them in, or puts them out.
//!   Who only looks takes none;
//! - `freed-is-unused`: a cluster is given out again only when it is durable that nothing refers to it, and no request
//!   over the guest range that it used to be is under way.
//!
//! Not for: what a node is, beside the driver; where an image's files are found.
//!
//! Source: the public specification of the format, docs/interop/qcow2 of QEMU, whose sections are cited.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod amend;
mod bitmap;
mod cache;
mod check;
mod compress;
mod create;
mod driver;
mod entry;
mod error;
mod file;
mod geometry;
mod header;
mod image;
mod meta;
mod overlap;
mod snapshot;
#[cfg(test)]
mod tests;
mod users;

pub use amend::{AmendOptions, amend};
pub use check::{
    Check, CheckOptions, Expected, Finding, Progress, Repair, Severity, Watch, check, repair,
};
pub use create::{CreateOptions, DataFile, Piece, create, layout};
pub use driver::Qcow2;
pub use error::ImageError;
pub use file::{Files, ImageFile};
pub use header::{Compression, Extension, Header};
pub use image::{Caches, Image, NewSnapshot, SnapshotChange, TableCaches, Zeroes, read_header};
pub use overlap::{Overlap, OverlapChecks, Structure};
pub use snapshot::Snapshot;
