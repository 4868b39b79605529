//! The block drivers, and what the graph is told of a node of each.
//!
//! | driver | kind | children | what it does |
//! |---|---|---|---|
//! | `memory` | protocol | – | keeps bytes in memory, never fails |
//! | `null-co` | protocol | – | reads zeroes, forgets writes |
//! | `file` | protocol | – | a disk that the world provides |
//! | `raw` | format | `file` | the child's bytes as they are |
//! | `dedup` | format | `metadata`, `data` | keeps equal clusters once |
//! | `luks` | format | `file`, `header` | encrypts what is written, decrypts what is read |
//! | `overlay` | format | `backing` | keeps what is written in memory, shows its child for the rest |
//! | `compress` | filter | `file` | has its child compress what is written |
//! | `copy-on-read` | filter | `file` | copies up into its child what is read from below it |
//! | `blkdebug` | filter | `image` | lets requests fail, stop or be cut, by rules |
//! | `blklogwrites` | filter | `file`, `log` | writes down what is written, for the tools of dm-log-writes |
//! | `blkverify` | filter | `raw`, `test` | does the same to both, and compares what they say |
//! | `preallocate` | filter | `file` | has its child allocate ahead of what is written |
//! | `quorum` | format | `children.0` to `children.31` | keeps the same in each, and believes what most say |
//! | `snapshot-access` | format | `file` | shows what its child was when a backup of it began |
//! | `throttle` | filter | `file` | holds a rate, of its own or its group's |
//!
//! Invariant `one-step-or-the-world`: a driver waits only for a child, a disk, the clock or its
//! turn, and each of these through the layer, the runtime or the door.
//!
//! Not for: options as people spell them, jobs and their filters, what kind of disk lies beneath
//! `file`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod blkdebug;
mod blklogwrites;
mod blkverify;
mod compress;
mod copy_on_read;
pub mod dedup;
mod describe;
mod file;
mod luks;
mod memory;
mod null;
mod overlay;
mod preallocate;
mod quorum;
mod raw;
mod snapshot_access;
#[cfg(test)]
mod tests;
mod throttle;

pub use blkdebug::{Blkdebug, DebugLimits, InjectError, IoType, SetState};
pub use blklogwrites::{Blklogwrites, LogOptions};
pub use blkverify::Blkverify;
pub use compress::Compress;
pub use copy_on_read::CopyOnRead;
pub use describe::{attributes, child_edges, node_kind, shown_children, takes_child};
pub use file::FileDriver;
pub use luks::Luks;
pub use memory::Memory;
pub use null::Null;
pub use overlay::Overlay;
pub use preallocate::{Preallocate, PreallocateOptions};
pub use quorum::{Quorum, QuorumOptions, ReadPattern};
pub use raw::Raw;
pub use snapshot_access::SnapshotAccess;
pub use throttle::{Rate, Rates, Throttle, ThrottleGroup, ThrottleLimits, Throttling};

/// The name of the one child that `raw` and most filters have.
const FILE: &str = "file";
/// The name of the child of `blkdebug`.
const IMAGE: &str = "image";
/// The name of the child of `blkverify` that is believed.
const RAW: &str = "raw";
/// The name of the one that is compared with it.
const TEST: &str = "test";

/// The name of the child of `qcow2` that has the data, if the image has them in a file of their own.
const DATA_FILE: &str = "data-file";

/// The name of the child that `overlay` reads where it has nothing.
const BACKING: &str = "backing";
