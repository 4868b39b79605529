//! The block drivers, and what the graph is told of a node of each.
//!
//! | driver | kind | children | what it does |
//! |---|---|---|---|
//! | `memory` | protocol | – | keeps bytes in memory, never fails |
//! | `null-co` | protocol | – | reads zeroes, forgets writes |
//! | `file` | protocol | – | a disk that the world provides |
//! | `raw` | format | `file` | the child's bytes as they are |
//! | `throttle` | filter | `file` | holds a rate |
//!
//! Invariant `one-step-or-the-world`: a driver waits only for a child, a disk, the clock or its
//! turn, and each of these through the layer, the runtime or the door.
//!
//! Not for: options as people spell them, jobs and their filters, what kind of disk lies beneath
//! `file`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bucket;
mod describe;
mod file;
mod memory;
mod null;
mod raw;
#[cfg(test)]
mod tests;
mod throttle;

pub use describe::{attributes, child_edges, node_kind, takes_child};
pub use file::FileDriver;
pub use memory::Memory;
pub use null::Null;
pub use raw::Raw;
pub use throttle::{Throttle, ThrottleLimits};

/// The name of the one child that `raw` and `throttle` have.
const FILE: &str = "file";
/// The name of the child that an overlay reads where it has nothing.
const BACKING: &str = "backing";
