//! Lists of numbers that may be written as ranges: `0-3,7`.
//!
//! Source: QEMU's documented lists of processors and NUMA nodes. Differs: no number is below zero, as the `-` stands
//! between two; the length has a limit for the whole list.

use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use super::scalar::parse_integer;

/// How [`Ranges`] tells the visitor what it wants: no type of the field has such a name.
pub(super) const RANGES_NAME: &str = "$blockyard::Ranges";

/// Numbers that ranges may add to a list, with those that it holds.
const MAX_NUMBERS: u64 = 65536;

/// Numbers in the order in which they were given. From strings also as ranges, both ends included; from JSON a list of
/// numbers. Ranges make at most 65,536.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(pub Vec<u64>);

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(RANGES_NAME, RangesVisitor)
    }
}

struct RangesVisitor;

impl<'de> Visitor<'de> for RangesVisitor {
    type Value = Ranges;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Ranges, A::Error> {
        let mut all = Vec::new();
        while let Some(number) = numbers.next_element()? {
            all.push(number);
        }
        Ok(Ranges(all))
    }

    /// Any deserializer but ours.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Ranges, D::Error> {
        Vec::deserialize(inner).map(Ranges)
    }
}

/// Adds the numbers of a text to a list, or says what was expected.
pub(super) fn parse_ranges(text: &str, numbers: &mut Vec<u64>) -> Result<(), &'static str> {
    let number = |text: &str| {
        let number = parse_integer(text).ok().and_then(|number| u64::try_from(number).ok());
        number.ok_or("numbers and ranges such as 0-3,7")
    };
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err("ranges that begin with the lesser number");
        }
        if last - first >= MAX_NUMBERS.saturating_sub(numbers.len() as u64) {
            return Err("at most 65536 numbers");
        }
        numbers.extend(first..=last);
    }
    Ok(())
}
