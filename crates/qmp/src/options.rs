//! Options as a user gives them: JSON or dotted keys, told apart by the first letter, and why they
//! are neither.

use alloc::string::String;

use serde::de::DeserializeOwned;

use crate::json::parse_json;
use crate::keyval::{parse_keyval, parse_qemu_opts};
use crate::value::{Shape, Value};
use crate::visitor::{Mode, VisitError, visit};

/// Why text is no value. Where a variant has a `key`, it is the full dotted key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not JSON, a key given twice, or nested too deep.
    #[error("line {line}, column {column}: {message}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// Nothing where a key should begin.
    #[error("empty key at byte {at_bytes}")]
    EmptyKey {
        /// Offset into the text.
        at_bytes: usize,
    },
    /// Nothing between two dots, or before the first or after the last.
    #[error("{key}: empty name beside a dot")]
    EmptyFragment {
        /// The key.
        key: String,
    },
    /// A name with a letter that names do not have.
    #[error(
        "{key}: '{fragment}' is no name: names start with a letter and hold letters, \
         digits, - and _"
    )]
    BadFragment {
        /// The key.
        key: String,
        /// The part between dots.
        fragment: String,
    },
    /// A name over [`MAX_FRAGMENT_LEN`](crate::MAX_FRAGMENT_LEN).
    #[error("{key}: a name is longer than {} bytes", crate::MAX_FRAGMENT_LEN)]
    LongFragment {
        /// The key.
        key: String,
    },
    /// More than [`MAX_DEPTH`](crate::MAX_DEPTH) names in one key.
    #[error("{key}: more than {} names", crate::MAX_DEPTH)]
    TooDeep {
        /// The key.
        key: String,
    },
    /// A list index above `u32::MAX`.
    #[error("{key}: the index is too large")]
    LargeIndex {
        /// The key.
        key: String,
    },
    /// A key with no value.
    #[error("{key}: expected '=' and a value")]
    MissingValue {
        /// The key.
        key: String,
    },
    /// A key that starts with an index.
    #[error("{key}: the outermost level is no list")]
    RootList {
        /// The key.
        key: String,
    },
    /// A list with a gap.
    #[error("{key}: missing, though the list goes on after it")]
    Gap {
        /// The first element that is missing.
        key: String,
    },
    /// One key used in two ways.
    #[error("{key}: used as {earlier} and as {later}")]
    Conflict {
        /// The key.
        key: String,
        /// What it was first.
        earlier: Shape,
        /// What it was afterwards.
        later: Shape,
    },
}

/// Options as they came from a command line: the tree, and how its leaves are to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The tree; its root is a [`Value::Dict`].
    pub value: Value,
    /// [`Mode::Strict`] if it came as JSON, [`Mode::Strings`] if as dotted keys, [`Mode::QemuOpts`] if in the
    /// traditional form.
    pub mode: Mode,
}

impl Options {
    /// Reads `{…}` as JSON and anything else as dotted keys, whose first value may come without
    /// `implied_key`.
    ///
    /// # Errors
    /// As [`parse_json`] and [`parse_keyval`].
    pub fn parse(text: &str, implied_key: Option<&str>) -> Result<Self, ParseError> {
        Ok(if text.starts_with('{') {
            Self { value: parse_json(text)?, mode: Mode::Strict }
        } else {
            Self { value: parse_keyval(text, implied_key)?, mode: Mode::Strings }
        })
    }

    /// Reads the traditional form.
    ///
    /// # Errors
    /// As [`parse_qemu_opts`].
    pub fn parse_traditional(text: &str, implied_key: Option<&str>) -> Result<Self, ParseError> {
        Ok(Self { value: parse_qemu_opts(text, implied_key)?, mode: Mode::QemuOpts })
    }

    /// The options as a typed value.
    ///
    /// # Errors
    /// As [`visit`].
    pub fn visit<T: DeserializeOwned>(&self) -> Result<T, VisitError> {
        visit(&self.value, self.mode)
    }
}

/// Reads `{…}` as JSON and anything else as dotted keys.
///
/// # Errors
/// As [`parse_json`] and [`parse_keyval`].
pub fn parse_options(text: &str) -> Result<Options, ParseError> {
    Options::parse(text, None)
}
