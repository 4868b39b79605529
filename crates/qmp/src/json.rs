//! JSON text into values.
//!
//! Source: RFC 8259; QEMU's documented behaviour for integers beyond 64 bits, which become floats
//! and so can never be taken for an integer. Differs: a key given twice is an error instead of the
//! last one winning; strings in single quotes are refused; text is read whole, one value, with no
//! recovery after an error.

#[cfg(test)]
mod tests;

use alloc::string::ToString;

use crate::options::ParseError;
use crate::value::Value;

/// Reads one JSON value, with nothing after it.
///
/// # Errors
/// [`ParseError::Json`], with line and column: not JSON, a key given twice in one object, a float
/// beyond `f64`, or nested deeper than 127 levels.
pub fn parse_json(text: &str) -> Result<Value, ParseError> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let place = alloc::format!(" at line {line} column {column}");
        let message = error.to_string();
        let message = message.strip_suffix(&place).unwrap_or(&message).into();
        ParseError::Json { line, column, message }
    })
}
