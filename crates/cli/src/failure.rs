//! Why a command could not be done: one line that says what to do.

use std::fmt;
use std::path::Path;

/// Bad input or usage; nothing was changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure(String);

impl Failure {
    /// As it is.
    pub fn usage(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// About a file.
    pub fn file(path: &Path, error: impl fmt::Display) -> Self {
        Self(format!("{}: {error}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever the cause had.
        f.write_str(&self.0.replace('\n', " "))
    }
}
