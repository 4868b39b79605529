//! Plans from the bytes of a fuzzer.

use arbitrary::{Arbitrary, Result, Unstructured};

use super::Plan;

impl<'a> Arbitrary<'a> for Plan {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> Result<Self> {
        // Bytes that ran out are zeroes: the simplest choices.
        Ok(Self::draw(&mut |end| bytes.int_in_range(0..=end - 1).unwrap_or(0)))
    }
}
