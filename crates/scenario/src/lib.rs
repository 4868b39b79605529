//! Scenarios: scripts of commands and guest I/O for several actors, run over any world, and watched by the models.
//!
//! A scenario is data. [`Script::compile`] checks it whole, with its parameters put in, before anything happens;
//! [`Stage::run`] plays it in a world. What happens is translated into the plain observations that the models
//! understand, in the step in which it happens.
//!
//! Invariant `observations-have-footprints`: where the order of two guest requests matters to a model, invocation
//! and response say so through the door, by range; the other models see publications, sections and requests in steps
//! that conflict already.
//!
//! Not for: how a world runs tasks or finds disks ([`World`]), exploring, the command line.
#![forbid(unsafe_code)]

mod actors;
mod backups;
mod bitmaps;
mod builtin;
mod changed;
mod checks;
mod durable;
mod figures;
mod following;
pub mod generate;
mod graph_view;
mod guest;
mod latency;
mod media;
mod refused;
mod request;
mod resizing;
mod script;
mod stage;
mod steps;
mod tally;
mod told;
pub mod turns;
mod world;
mod written;

pub use builtin::{BUILTIN, builtin};
pub use durable::{PowerLoss, PowerLosses};
pub use figures::{Convergence, Figures, Served};
pub use latency::DiskLatency;
pub use request::{Asked, Request};
pub use script::{Parameters, Script, ScriptError};
pub use stage::{Ended, Stage};
pub use steps::DiskSpec;
pub use tally::{
    CRASH_STATES, Count, Counts, GRAPH_EDITS, JOBS_AT_ONCE, LAYERS, PIVOT_BELOW, POWER_LOSSES,
    SNAPSHOT_BELOW,
};
pub use world::{Contents, Moment, World};
pub use written::GuestWrite;
