//! The `blockyard` command: scenarios explored in the simulated world, and played on real files.
//!
//! This library joins the rooms: it makes a scenario a program of the simulated world, and gives it the host's files.
//! Not for: deciding anything about blocks.
#![forbid(unsafe_code)]
// Programs may know the time and stop when told to; nothing here is on the simulated path.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

mod amend;
mod args;
mod beside;
mod check;
mod checkpoint;
mod compare;
mod counts;
mod draw;
mod explore;
mod failure;
mod files;
mod generate;
mod html;
mod list;
mod outcome;
mod play;
mod progress;
mod replay;
mod report;
mod seed;
mod shrink;
mod simulated;
mod spec;
mod team;
mod zoo;

pub use args::run;
pub use simulated::{ScenarioProgram, setup_of};
pub use spec::Spec;
