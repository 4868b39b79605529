//! A leaky bucket in whole numbers.
//!
//! Levels are kept in billionths of a unit (a byte, a request), so that each nanosecond leaks
//! `average` of them exactly and nothing is ever rounded but a wait, which is rounded up.
//!
//! Source: QEMU's documented throttling. A bucket holds what leaks from it in a tenth of a second;
//! with a burst, what may pass at its rate for its length. A burst of more than a second passes
//! through a second bucket, which leaks at the burst's rate.

use super::limits::Rate;

const NS_PER_SECOND: u128 = 1_000_000_000;
/// A bucket without a burst holds what leaks from it in this time.
const TENTH_NS: u128 = NS_PER_SECOND / 10;

/// A bucket that leaks as its rate says.
#[derive(Default)]
pub(super) struct Bucket {
    rate: Rate,
    /// Billionths of a unit.
    level: u128,
    /// The same, of what a long burst passes through.
    burst_level: u128,
    updated_ns: u64,
}

impl Bucket {
    /// An empty one.
    pub fn new(rate: Rate, now_ns: u64) -> Self {
        Self { rate, updated_ns: now_ns, ..Self::default() }
    }

    fn leak(&mut self, now_ns: u64) {
        let elapsed_ns = u128::from(now_ns.saturating_sub(self.updated_ns));
        let leaks = |level: u128, rate: u64| level.saturating_sub(elapsed_ns * u128::from(rate));
        self.level = leaks(self.level, self.rate.average);
        self.burst_level = leaks(self.burst_level, self.rate.max);
        self.updated_ns = self.updated_ns.max(now_ns);
    }

    /// How long until the level is no more than the bucket holds; 0 if it is so now. An empty
    /// bucket takes any one request, however large.
    pub fn wait_ns(&mut self, now_ns: u64) -> u64 {
        let Rate { average, max, length } = self.rate;
        if average == 0 {
            return 0;
        }
        self.leak(now_ns);
        let holds = match max {
            0 => u128::from(average) * TENTH_NS,
            _ => u128::from(max) * u128::from(length) * NS_PER_SECOND,
        };
        let until = |over: u128, rate: u64| over.div_ceil(u128::from(rate));
        let over = self.level.saturating_sub(holds);
        let wait_ns = match over {
            0 if max > 0 && length > 1 => {
                until(self.burst_level.saturating_sub(u128::from(max) * TENTH_NS), max)
            }
            _ => until(over, average),
        };
        u64::try_from(wait_ns).unwrap_or(u64::MAX)
    }

    /// Pours `units` in.
    pub fn fill(&mut self, now_ns: u64, units: u64) {
        if self.rate.average > 0 {
            self.leak(now_ns);
            self.level += u128::from(units) * NS_PER_SECOND;
            self.burst_level += u128::from(units) * NS_PER_SECOND;
        }
    }
}
