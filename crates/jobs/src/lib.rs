//! Jobs: their states and verbs, their transactions, mirror, commit, backup and stream with their filters, and what is
//! done once.
//!
//! Invariants:
//! - `only-legal-transitions`: a job's status changes along the table in `status.rs` only;
//! - `one-outcome`: a job announces exactly one of completed and cancelled, when the graph is as it says;
//! - `parked-jobs-are-quiet`: a job that is parked makes no requests until nobody else has drained what it reaches.
//!
//! Not for: command syntax, events as JSON, real time.
//!
//! Source: QEMU's documented job states, verbs and events. Differs: a drained section parks a job without changing
//! its status.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod backup;
mod chain;
mod control;
mod errors;
mod flight;
mod job;
mod mirror;
mod once;
mod pace;
mod registry;
mod rest;
mod status;
mod stream;
mod transaction;
mod witness;

pub use backup::{BackupOptions, BackupStart, BitmapMode, BitmapUse, OnCbwError};
pub use control::Position;
pub use errors::IoStatus;
pub use job::{Job, JobDriver, JobEvent, JobOptions};
pub use mirror::{CommitOptions, MirrorOptions, MirrorPolicies, MirrorStart, SyncMode};
pub use once::{Once, run_once};
pub use registry::{BlockJobInfo, EventSink, JobInfo, Jobs, check_job_id};
pub use status::{Status, Verb, picture};
pub use stream::{Down, Naming, StreamOptions, StreamStart};
pub use transaction::run_together;

#[cfg(test)]
mod tests;
