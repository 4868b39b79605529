//! Values into types: a serde deserializer over the value tree.
//!
//! In [`Mode::Strict`] a value must be of the kind that the type asks for. In the others a
//! string leaf is converted to it, and in [`Mode::QemuOpts`] a list stands for its last value where one is wanted, and
//! a value for a list of one. In all, the members of a struct are known or refused, whether
//! or not it says `deny_unknown_fields`; an absent member is not `null`, which only a type that
//! says so takes; and an error names the whole dotted key.
//!
//! Not for: serde's buffered types in the modes that convert. What `flatten`, `untagged` and `tag` see has
//! been read without a type, so nothing below is converted. [`take`] the tag first, then visit the
//! rest as the right struct; members of type [`Value`] or [`Reference`](crate::Reference) stay as
//! they are for a later visit.
//!
//! Source: QEMU's documented option conversions. Differs: `y` and `n` are no truth values; no `+` or space
//! before a number, and `-1` is no large number; a string too large for its type is refused, never clamped;
//! [`Ranges`] may be written as ranges in dotted keys too.

mod access;
mod error;
mod node;
mod ranges;
mod scalar;
#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;

use crate::value::{Dict, Value};
use node::Node;

pub use error::{Problem, VisitError};
pub use ranges::Ranges;
pub use scalar::Size;

/// How the leaves of a tree are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As JSON: kinds must match, a string is no number.
    Strict,
    /// As dotted keys: strings become what the type asks for. Leaves that are no strings are read
    /// strictly.
    Strings,
    /// As the traditional form, where a key may be given more than once and only the type knows whether that is a list:
    /// as `Strings`, with the last value of a list where one is wanted.
    QemuOpts,
}

/// No members at all.
#[derive(serde::Deserialize)]
pub(crate) struct Nothing {}

/// Reads a tree as a typed value.
///
/// # Errors
/// The first member that is unknown, missing, of the wrong kind or out of range, by its dotted key.
pub fn visit<T: DeserializeOwned>(value: &Value, mode: Mode) -> Result<T, VisitError> {
    T::deserialize(Node { value, mode })
}

/// Takes one member out of an object and reads it: the tag that decides how to read the rest.
///
/// # Errors
/// As [`visit`]; a missing member is an error unless `T` is an `Option`. The member is gone in any
/// case.
pub fn take<T: DeserializeOwned>(
    members: &mut Dict,
    key: &'static str,
    mode: Mode,
) -> Result<T, VisitError> {
    match members.remove(key) {
        Some(value) => visit(&value, mode).map_err(|error| error.within(key)),
        None => T::deserialize(access::Absent { key }),
    }
}
