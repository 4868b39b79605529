#![allow(clippy::disallowed_types, clippy::disallowed_methods)]
mod simulated;
pub use simulated::{ScenarioProgram, setup_of};
