//! A real `qemu-storage-daemon`, as anybody can drive it: commands and events over QMP, guest I/O over its NBD server.
//!
//! Invariants: `nothing-stays`: a [`Daemon`] that is dropped has ended, and neither its monitor nor its NBD server has
//! a name in any directory; `everything-ends`: what takes longer than [`PATIENCE`] is an error, and so is everything
//! after the caller has said that it is to stop.
//!
//! Not for: what commands mean, our own block layer, the simulated world.
#![forbid(unsafe_code)]
// A program that runs beside us has its own time.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod daemon;
mod error;
mod nbd;

pub use daemon::{Daemon, PROGRAM, is_there};
pub use error::PeerError;
pub use nbd::{Ask, Asker, Hearer, Nbd, Op};

use std::time::Duration;

/// How long the daemon may take for one thing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often whoever waits looks whether he is to stop.
const LOOK: Duration = Duration::from_millis(50);
