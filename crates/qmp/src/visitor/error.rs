//! Why a tree is not of the type asked for, and where.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::value::Value;

/// What is wrong, and the dotted key of where. The tree is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitError {
    path: String,
    problem: Problem,
}

/// What is wrong with one member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not there and has no default.
    #[error("missing")]
    Missing,
    /// Nobody reads it.
    #[error("unexpected; {}", known_keys(known))]
    Unexpected {
        /// The members that there are.
        known: &'static [&'static str],
    },
    /// It is of the wrong kind or out of range.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// What a type of its own says.
    #[error("{0}")]
    Invalid(String),
}

impl VisitError {
    /// The dotted key; empty for the tree as a whole.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong there.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The same error, seen from the object (or list) that holds this tree under `key`.
    pub fn within(mut self, key: impl fmt::Display) -> Self {
        self.path = match self.path.as_str() {
            "" => key.to_string(),
            inner => format!("{key}.{inner}"),
        };
        self
    }
}

impl From<Problem> for VisitError {
    fn from(problem: Problem) -> Self {
        Self { path: String::new(), problem }
    }
}

impl fmt::Display for VisitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        self.problem.fmt(f)
    }
}

impl core::error::Error for VisitError {}

impl de::Error for VisitError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Problem::Invalid(message.to_string()).into()
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) => quote(text),
            Unexpected::Bool(flag) => flag.to_string(),
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Float(number) => Value::Float(number).to_string(),
            Unexpected::Unit | Unexpected::Option => "null".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "an object".to_owned(),
            other => other.to_string(),
        };
        Problem::Expected { expected: expected.to_string(), found }.into()
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, variants: &'static [&'static str]) -> Self {
        Problem::Expected { expected: one_of(variants), found: quote(found) }.into()
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::from(Problem::Unexpected { known }).within(key)
    }

    fn missing_field(key: &'static str) -> Self {
        Self::from(Problem::Missing).within(key)
    }
}

/// A value in the words of an error: scalars as they are, the others by their kind.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Str(text) => quote(text),
        Value::List(_) | Value::Dict(_) => value.shape().to_string(),
        scalar => scalar.to_string(),
    }
}

/// The words that an enum takes.
pub(super) fn one_of(variants: &[&str]) -> String {
    match variants {
        [] => "nothing".to_owned(),
        [only] => format!("'{only}'"),
        _ => format!("one of {}", variants.join(", ")),
    }
}

fn known_keys(known: &[&str]) -> String {
    match known {
        [] => "no keys are known".to_owned(),
        [only] => format!("the known key is {only}"),
        _ => format!("known keys are {}", known.join(", ")),
    }
}

fn quote(text: &str) -> String {
    format!("'{text}'")
}
