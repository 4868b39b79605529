//! Strings into truth values, numbers and sizes.
//!
//! Source: QEMU's documented spellings: on/yes/true; decimal, `0x` and `0` for octal; sizes with a
//! suffix of 1024's powers. Sizes are decimal even with a leading zero, or `0x` with no suffix and
//! no fraction.
//! Differs: fractions of a size are exact, rounded down to a byte, never through a float.

use core::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

/// How [`Size`] tells the visitor that it wants a size: no type of the field has such a name.
pub(super) const SIZE_NAME: &str = "$blockyard::Size";

/// A number of bytes. From strings also with a suffix, `1.5G`; from JSON a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

impl From<Size> for u64 {
    fn from(size: Size) -> Self {
        size.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SIZE_NAME, SizeVisitor)
    }
}

struct SizeVisitor;

impl<'de> Visitor<'de> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size")
    }

    fn visit_u64<E: de::Error>(self, size: u64) -> Result<Size, E> {
        Ok(Size(size))
    }

    /// Any deserializer but ours.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Size, D::Error> {
        u64::deserialize(inner).map(Size)
    }
}

/// One of the six spellings.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "on" | "yes" | "true" => Some(true),
        "off" | "no" | "false" => Some(false),
        _ => None,
    }
}

/// A whole number; if it is beyond 128 bits, one that fits no type either. Or what was expected.
pub(super) fn parse_integer(text: &str) -> Result<i128, &'static str> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        let is_fraction = text.contains('.') && parse_float(text).is_some();
        return Err(if is_fraction { "a whole number" } else { "a number" });
    }
    let number = i128::from_str_radix(digits, radix).unwrap_or(i128::MAX);
    Ok(if negative { -number } else { number })
}

/// A finite decimal number.
pub(super) fn parse_float(text: &str) -> Option<f64> {
    let numeric = |byte: u8| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E');
    text.parse().ok().filter(|number: &f64| text.bytes().all(numeric) && number.is_finite())
}

/// A size in bytes, or what was expected.
pub(super) fn parse_size(text: &str) -> Result<u64, &'static str> {
    const JUNK: &str = "a size such as 512, 64K or 1.5G";
    const LARGE: &str = "a size below 2^64";
    if let [b'0', b'x' | b'X', ..] = text.as_bytes() {
        let number = parse_integer(text).map_err(|_| JUNK)?;
        return u64::try_from(number).map_err(|_| LARGE);
    }
    let end = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit = unit_bytes(suffix).ok_or(JUNK)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number || (whole.is_empty() && fraction.is_empty()) {
        return Err(JUNK);
    }
    if unit == 1 && fraction.bytes().any(|digit| digit != b'0') {
        return Err("a whole number of bytes");
    }
    // Last digit first; rounding down at each step is the same as once at the end.
    let part = fraction
        .bytes()
        .rev()
        .fold(0, |tail, digit| (u128::from(digit - b'0') * u128::from(unit) + tail) / 10);
    let whole = if whole.is_empty() { Ok(0) } else { whole.parse::<u64>() };
    let whole = u128::from(whole.map_err(|_| LARGE)?) * u128::from(unit);
    u64::try_from(whole + part).map_err(|_| LARGE)
}

/// Bytes in the unit of a suffix.
fn unit_bytes(suffix: &str) -> Option<u64> {
    let power = match suffix.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        "E" => 6,
        _ => return None,
    };
    Some(1 << (10 * power))
}
