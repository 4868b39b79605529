//! Errors as QMP has them, in one table.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use blockyard_block::BlockError;
use blockyard_graph::{Refused, RefusedKind};

use crate::visitor::VisitError;

/// QMP's error classes, as far as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// There is no such command.
    CommandNotFound,
    /// There is no such block job.
    DeviceNotActive,
    /// There is no such device or node.
    DeviceNotFound,
    /// Everything else.
    GenericError,
}

/// Why a command failed; everything is as it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QmpError {
    /// For programs.
    pub class: ErrorClass,
    /// For people.
    pub desc: String,
    /// An edge did not lead where the command expected it to.
    pub mismatch: bool,
}

impl ErrorClass {
    /// QMP's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::DeviceNotFound => "DeviceNotFound",
            Self::GenericError => "GenericError",
        }
    }
}

impl QmpError {
    /// A plain error.
    pub fn generic(desc: impl Into<String>) -> Self {
        Self { class: ErrorClass::GenericError, desc: desc.into(), mismatch: false }
    }

    /// The same, said of one part of what was asked.
    #[must_use]
    pub fn within(self, part: &str) -> Self {
        Self { desc: format!("{part}: {}", self.desc), ..self }
    }
}

impl From<BlockError> for QmpError {
    fn from(error: BlockError) -> Self {
        let desc = error.to_string();
        let class = match &error {
            BlockError::NotFound(_) => ErrorClass::DeviceNotFound,
            _ => ErrorClass::GenericError,
        };
        let mismatch = matches!(
            error,
            BlockError::Refused(Refused {
                kind: RefusedKind::Mismatch | RefusedKind::NotFound,
                ..
            })
        );
        Self { class, desc, mismatch }
    }
}

impl From<VisitError> for QmpError {
    fn from(error: VisitError) -> Self {
        Self::generic(error.to_string())
    }
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc)
    }
}

impl core::error::Error for QmpError {}
