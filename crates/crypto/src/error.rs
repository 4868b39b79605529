//! What can be wrong with a header, or with what is asked of it.

use alloc::string::String;

use thiserror::Error;

/// Why a header or a request was refused; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CryptoError {
    /// The image is wrong.
    #[error("corrupt: luks header, {field} at byte {offset}: {found}, expected {expected}")]
    Corrupt {
        /// Which field.
        field: &'static str,
        /// Where it begins, in bytes from the start of the header.
        offset: usize,
        /// What is there.
        found: String,
        /// What may be there.
        expected: &'static str,
    },
    /// It may be right, but this is not implemented.
    #[error("not implemented: {what} '{found}'; there is {known}")]
    Unsupported {
        /// Of what kind it is.
        what: &'static str,
        /// What is asked for.
        found: String,
        /// What there is instead.
        known: &'static str,
    },
    /// What is asked for is not allowed.
    #[error("refused: {0}")]
    Refused(String),
}
