//! One dotted key into its names.
//!
//! A name is an index (all digits), or a letter followed by letters, digits, `-` and `_`; before
//! that may stand the prefix of a downstream: `__`, a domain that may hold dots, `_`.

use alloc::vec::Vec;

use crate::options::ParseError;
use crate::value::Shape;

/// Bytes in one name of a dotted key, at most.
pub const MAX_FRAGMENT_LEN: usize = 127;

/// Names in one dotted key, at most.
pub const MAX_DEPTH: usize = 127;

/// One name, and where it ends in its key.
pub(super) struct Fragment<'a> {
    pub(super) name: Name<'a>,
    /// Bytes from the start of the key.
    pub(super) end: usize,
}

/// What stands between two dots.
pub(super) enum Name<'a> {
    Member(&'a str),
    Index(u32),
}

impl Name<'_> {
    /// The shape of what has children of such names.
    pub(super) fn holder(&self) -> Shape {
        match self {
            Self::Member(_) => Shape::Dict,
            Self::Index(_) => Shape::List,
        }
    }
}

/// The names of a key that is not empty: at least one.
pub(super) fn split(key: &str) -> Result<Vec<Fragment<'_>>, ParseError> {
    let mut fragments = Vec::new();
    let mut start = 0;
    loop {
        let end = start + fragment_len(&key[start..]);
        let name = parse_name(key, &key[start..end])?;
        fragments.push(Fragment { name, end });
        if fragments.len() > MAX_DEPTH {
            return Err(ParseError::TooDeep { key: key.into() });
        }
        if end == key.len() {
            return Ok(fragments);
        }
        start = end + 1;
    }
}

/// Up to the next dot that is no part of a downstream's domain.
fn fragment_len(rest: &str) -> usize {
    let prefix = downstream_prefix_len(rest).unwrap_or(0);
    rest[prefix..].find('.').map_or(rest.len(), |dot| prefix + dot)
}

/// The length of `__domain_`.
fn downstream_prefix_len(text: &str) -> Option<usize> {
    let domain = text.strip_prefix("__")?;
    let is_domain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.');
    let len = domain.find(|letter| !is_domain(letter))?;
    (len > 0 && domain[len..].starts_with('_')).then_some(len + 3)
}

fn parse_name<'a>(key: &str, fragment: &'a str) -> Result<Name<'a>, ParseError> {
    if fragment.is_empty() {
        return Err(ParseError::EmptyFragment { key: key.into() });
    }
    if fragment.len() > MAX_FRAGMENT_LEN {
        return Err(ParseError::LongFragment { key: key.into() });
    }
    if fragment.bytes().all(|byte| byte.is_ascii_digit()) {
        let index = fragment.parse();
        return index.map(Name::Index).map_err(|_| ParseError::LargeIndex { key: key.into() });
    }
    let own = &fragment[downstream_prefix_len(fragment).unwrap_or(0)..];
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if own.starts_with(|letter: char| letter.is_ascii_alphabetic()) && own.bytes().all(in_name) {
        return Ok(Name::Member(fragment));
    }
    Err(ParseError::BadFragment { key: key.into(), fragment: fragment.into() })
}
