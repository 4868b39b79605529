//! Rolling hashes of runs. They detect difference; nothing trusts them against malice.

/// A 64-bit hash that is fed numbers in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolling(pub u64);

impl Rolling {
    /// Nothing fed yet.
    pub const EMPTY: Self = Self(0x9E37_79B9_7F4A_7C15);

    /// Feeds one number.
    pub fn feed(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        self.0 = (mixed ^ (mixed >> 29)).rotate_left(23).wrapping_add(0x94D0_49BB_1331_11EB);
    }

    /// Feeds bytes.
    pub fn feed_bytes(&mut self, bytes: &[u8]) {
        self.feed(bytes.len() as u64);
        let mut chunks = bytes.chunks_exact(8);
        for chunk in chunks.by_ref() {
            self.feed(u64::from_le_bytes(chunk.try_into().expect("a-chunk-has-8-bytes")));
        }
        chunks.remainder().iter().for_each(|byte| self.feed(u64::from(*byte)));
    }

    /// The hash of some text.
    pub fn of_text(text: &str) -> u64 {
        let mut hash = Self::EMPTY;
        hash.feed_bytes(text.as_bytes());
        hash.0
    }
}
