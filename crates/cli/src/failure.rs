//! Why a command could not be done: one line that says what to do.

use std::fmt;
use std::path::Path;

/// Bad input or usage; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure(String);

impl Failure {
    /// As it is.
    pub fn usage(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// If what was broken is that the setup of the scenario `named` failed: bad input, no finding.
    pub fn check_setup(named: &str, property: &str, message: &str) -> Result<(), Self> {
        if property == "script" && message.starts_with("setup: ") {
            return Err(Self(format!("scenario {named}: {message}")));
        }
        Ok(())
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
