//! Plans for quickcheck.

use quickcheck::{Arbitrary, Gen};

use super::{Generate, Plan};

impl Arbitrary for Plan {
    fn arbitrary(source: &mut Gen) -> Self {
        Self::from_seed(u64::arbitrary(source))
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.smaller().into_iter())
    }
}
