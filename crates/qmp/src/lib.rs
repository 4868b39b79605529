//! One option parser for every way in: JSON text and dotted keys become one [`Value`] tree, and a
//! typed visitor reads the tree into the struct that a command asks for.
//!
//! Text → ([`parse_json`] | [`parse_keyval`] | [`parse_options`]) → [`Value`] → [`visit`] → typed
//! arguments. The [`Mode`] travels with the value: what came as JSON is strictly typed, what came
//! as dotted keys is all strings, converted when the type asked for is known. Not for: what an
//! option means. Nothing here waits or does I/O.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod json;
mod keyval;
mod options;
mod value;
mod visitor;

pub use json::parse_json;
pub use keyval::{MAX_DEPTH, MAX_FRAGMENT_LEN, merge, parse_keyval};
pub use options::{Options, ParseError, parse_options};
pub use value::{Dict, Reference, ReferenceOrNull, Shape, Value};
pub use visitor::{Mode, Problem, Size, VisitError, take, visit};
