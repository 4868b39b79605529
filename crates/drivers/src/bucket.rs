//! A leaky bucket in whole numbers.
//!
//! The level is kept in billionths of a unit (a byte, a request), so that each nanosecond leaks
//! `rate` of them exactly and nothing is ever rounded but a wait, which is rounded up.
//!
//! Source: QEMU's documented throttling: without a burst length a bucket holds a tenth of a second.

const NS_PER_SECOND: u128 = 1_000_000_000;
/// A bucket holds what leaks from it in this time.
const BURST_NS: u128 = NS_PER_SECOND / 10;

/// A bucket that leaks `rate` units a second, and holds a tenth of a second of them.
pub(crate) struct Bucket {
    /// Units a second; 0 leaks everything at once.
    rate: u128,
    /// Billionths of a unit.
    level: u128,
    updated_ns: u64,
}

impl Bucket {
    /// An empty one.
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.into(), level: 0, updated_ns: 0 }
    }

    fn leak(&mut self, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.updated_ns);
        self.level = self.level.saturating_sub(u128::from(elapsed_ns) * self.rate);
        self.updated_ns = self.updated_ns.max(now_ns);
    }

    /// How long until the level is no more than the bucket holds; 0 if it is so now. An empty
    /// bucket takes any one request, however large.
    pub fn wait_ns(&mut self, now_ns: u64) -> u64 {
        if self.rate == 0 {
            return 0;
        }
        self.leak(now_ns);
        let over = self.level.saturating_sub(self.rate * BURST_NS);
        u64::try_from(over.div_ceil(self.rate)).unwrap_or(u64::MAX)
    }

    /// Pours `units` in.
    pub fn fill(&mut self, now_ns: u64, units: u64) {
        if self.rate > 0 {
            self.leak(now_ns);
            self.level += u128::from(units) * NS_PER_SECOND;
        }
    }
}
