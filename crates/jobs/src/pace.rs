//! The rate that a job keeps.
//!
//! What is done is paid for with time, and before that is over nothing more is done. So single chunks are as quick as
//! they can be, and a job that had nothing to do saves nothing up.
//!
//! Source: QEMU's documented `speed` of block jobs. Differs: QEMU counts by tenths of a second, and lets a job do at
//! once what it may do in one.

const NS_PER_SECOND: u128 = 1_000_000_000;

/// How fast a job may be, and until when it has to pay for what it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Bytes a second; 0 is without limit.
    pub speed: u64,
    /// Nothing more is done before; 0 if nothing is to be paid for.
    pub until_ns: u64,
}

impl Pace {
    /// This rate, and nothing done.
    pub fn new(speed: u64) -> Self {
        Self { speed, until_ns: 0 }
    }

    /// So many bytes are done.
    pub fn spend(&mut self, bytes: u64, now_ns: impl FnOnce() -> u64) {
        if self.speed > 0 && bytes > 0 {
            let costs_ns = (u128::from(bytes) * NS_PER_SECOND).div_ceil(self.speed.into());
            let costs_ns = u64::try_from(costs_ns).unwrap_or(u64::MAX);
            self.until_ns = self.until_ns.max(now_ns()).saturating_add(costs_ns);
        }
    }

    /// What was tried is to be tried again, and not at once.
    pub fn wait(&mut self, ns: u64, now_ns: u64) {
        self.until_ns = self.until_ns.max(now_ns.saturating_add(ns));
    }

    /// How long nothing more is done; without a rate nobody asks for the time.
    pub fn wait_ns(&self, now_ns: impl FnOnce() -> u64) -> u64 {
        if self.until_ns == 0 { 0 } else { self.until_ns.saturating_sub(now_ns()) }
    }
}
