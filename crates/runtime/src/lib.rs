//! What may be asked of the world: spawn, now, sleep, a random number, and the shape of its disks.
//!
//! No answers here: a world (simulated, or the host) implements [`Executor`] and [`Storage`]; the block layer knows
//! only these. Not for: I/O, threads, clocks.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod buffer;
mod executor;
mod storage;

pub use buffer::IoBuffer;
pub use executor::{BoxFuture, Executor, JoinHandle, Runtime};
pub use storage::{Access, Io, IoErrorKind, Storage};
