//! The real machine: executor, clock, files.
//!
//! [`Host`] runs tasks on threads, [`HostFile`] is a disk in a file or block device; both answer what the runtime
//! asks. Nothing here is simulated, so nothing here is reproducible.
//!
//! Not for: image formats, or deciding what is to be read and written. `unsafe` stands in the
//! ring and in the memory that devices read into.
// The machine itself: threads, clocks and locks have to stand somewhere, and no exploration looks in here.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod aligned;
mod error;
mod file;
mod host;
mod image;
mod lock;
mod locked;
mod opening;
mod pool;
mod ring;
mod task;

pub use error::{HostError, HostErrorKind};
pub use file::HostFile;
pub use host::Host;
pub use image::CreateMode;
pub use opening::{Aio, Locking, Opening};
