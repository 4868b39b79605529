//! The limits of a throttle, and which of them fit together.
//!
//! Source: QEMU's documented `ThrottleLimits`, for names, defaults and what is refused.

use alloc::format;
use alloc::string::String;

/// More than this, of anything, is refused.
const MOST: u64 = 1_000_000_000_000_000;

/// What a bucket lets through: units (bytes, requests) a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; 0 is without limit.
    pub average: u64,
    /// In a burst; 0 is without one.
    pub max: u64,
    /// Seconds that a burst may last.
    pub length: u64,
}

/// No limit.
impl Default for Rate {
    fn default() -> Self {
        Self { average: 0, max: 0, length: 1 }
    }
}

/// Of all requests, of those that read and of those that write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of both together: not beside the others.
    pub total: Rate,
    /// Of reads.
    pub read: Rate,
    /// Of writes, zeroes and discards.
    pub write: Rate,
}

/// The rates that a throttle holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Bytes a second.
    pub bps: Rates,
    /// Requests a second.
    pub iops: Rates,
    /// Bytes that count as one request; 0: however long it is.
    pub iops_size: u64,
}

impl Rates {
    fn check(&self, unit: &str) -> Result<(), String> {
        let Self { total, read, write } = self;
        let beside = |of: fn(&Rate) -> u64| of(total) > 0 && (of(read) > 0 || of(write) > 0);
        if beside(|rate| rate.average) || beside(|rate| rate.max) {
            return Err(format!("{unit}-total is not for use beside {unit}-read and {unit}-write"));
        }
        for (of, rate) in [("total", total), ("read", read), ("write", write)] {
            rate.check().map_err(|said| format!("{unit}-{of}{said}"))?;
        }
        Ok(())
    }
}

impl Rate {
    fn check(&self) -> Result<(), String> {
        let Self { average, max, length } = *self;
        let bursts = max.checked_mul(length).is_some_and(|units| units <= MOST);
        let said = match () {
            () if average > MOST => format!(": no more than {MOST}"),
            () if max > MOST => format!("-max: no more than {MOST}"),
            () if max > 0 && average == 0 => "-max: the limit itself is missing".into(),
            () if max > 0 && max < average => "-max: less than the limit itself".into(),
            () if length == 0 => "-max-length: at least 1 second".into(),
            () if length > 1 && max == 0 => "-max-length: the burst itself is missing".into(),
            () if !bursts => format!("-max-length: a burst of more than {MOST}"),
            () => return Ok(()),
        };
        Err(said)
    }

    fn is_limited(&self) -> bool {
        self.average > 0
    }
}

impl ThrottleLimits {
    /// Whether they fit together.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), String> {
        self.bps.check("bps")?;
        self.iops.check("iops")?;
        let Rates { total, read, write } = &self.iops;
        if self.iops_size > 0 && ![total, read, write].into_iter().any(Rate::is_limited) {
            return Err("iops-size: a limit of requests is missing".into());
        }
        Ok(())
    }

    /// As how many requests one of `len` bytes counts.
    pub(super) fn requests(&self, len: u64) -> u64 {
        if self.iops_size == 0 { 1 } else { len.div_ceil(self.iops_size).max(1) }
    }

    /// Of each kind of request those that it is held to: the total, and its own.
    pub(super) fn rates(&self) -> [(Rate, Rate); 3] {
        let Self { bps, iops, .. } = self;
        [(bps.total, iops.total), (bps.read, iops.read), (bps.write, iops.write)]
    }
}
