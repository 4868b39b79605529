//! What is right, and nothing of how: executable specifications, one file per property.
//!
//! Each checker takes plain observations of its own and answers each with `Ok` or a [`Violation`], so that the first
//! step that broke a property is named. After a violation a checker's state is unspecified: the run is a finding.
//! Not for: deciding what to observe, or anything that the implementation could share a mistake with.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bitmap;
pub mod data;
pub mod dedup;
mod drain;
mod dropped;
mod durability;
mod graph;
mod guest;
mod job;
pub mod luks;
mod mirror;
mod progress;
pub mod qcow2;
mod violation;

pub use bitmap::{BitmapChange, BitmapName, BitmapOwner, BitmapView, DirtyBitmaps};
pub use drain::DrainedMeansQuiet;
pub use dropped::DroppedStaysAway;
pub use durability::{Durability, WriteKind};
pub use graph::{EdgeView, GraphValidity, GraphView, NodeView, ParentView, WRITE, WRITE_UNCHANGED};
pub use guest::GuestRegister;
pub use job::{JobEvent, JobProtocol};
pub use mirror::{ActiveWrite, MirrorConvergence};
pub use progress::{EndState, Progress};
pub use violation::{Property, UnknownProperty, Violation};
