//! One option parser for every way in, and the commands: JSON text and dotted keys become one [`Value`] tree, a typed
//! visitor reads the tree into the struct that a command asks for, and a [`Monitor`] executes it on a block layer.
//!
//! Text → ([`parse_json`] | [`parse_keyval`] | [`parse_qemu_opts`] | [`parse_options`]) → [`Value`] → [`visit`] →
//! typed arguments. The [`Mode`] travels with the value: what came as JSON is strictly typed, what came
//! as dotted keys or QemuOpts is all strings, converted when the type asked for is known. Not for: transport,
//! sessions, or how a world finds a file.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod accounting;
mod active;
mod amend;
mod backup;
mod bitmaps;
mod blkdebug;
mod blockdev;
mod change;
mod commit;
mod create;
mod drive_reopen;
mod error;
mod events;
mod internal_snapshot;
mod jobs;
mod json;
mod keyval;
mod medium;
mod mirror;
mod monitor;
mod nodes;
mod objects;
mod opening;
mod options;
mod query;
mod reopen;
mod replace;
mod secrets;
mod snapshot;
mod stream;
mod throttling;
mod transaction;
mod value;
mod visitor;

pub use blockdev::DRIVERS;
pub use error::{ErrorClass, QmpError};
pub use events::{Event, EventHub, NoWatcher, Subscriber};
pub use json::parse_json;
pub use keyval::{MAX_DEPTH, MAX_FRAGMENT_LEN, merge, parse_keyval, parse_qemu_opts};
pub use monitor::{COMMANDS, Monitor, check_command};
pub use nodes::{Aio, Files, Opening};
pub use options::{Options, ParseError, parse_options};
pub use secrets::without_secrets;
pub use value::{Dict, Reference, ReferenceOrNull, Shape, Value};
pub use visitor::{Mode, Problem, Ranges, Size, VisitError, take, visit};
