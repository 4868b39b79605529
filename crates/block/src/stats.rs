//! What is counted of requests.
//!
//! Source: the QMP reference (`query-blockstats`, `block-latency-histogram-set`). Differs: requests are counted at
//! nodes too, not only at backends.

use alloc::vec::Vec;

use crate::error::BlockError;

/// A kind of request, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// Reads.
    Read,
    /// Writes, of data and of zeroes, copies too.
    Write,
    /// Discards.
    Unmap,
    /// Flushes.
    Flush,
}

impl Counted {
    /// Every kind.
    pub const ALL: &[Self] = &[Self::Read, Self::Write, Self::Unmap, Self::Flush];
}

/// One kind of request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Those that ended well.
    pub operations: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that failed on their way.
    pub failed: u64,
    /// Those that were refused.
    pub invalid: u64,
    /// How long they took, if anybody asked for it.
    pub histogram: Option<Histogram>,
}

/// How many requests took how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Nanoseconds, rising: interval `i` ends, not including it, at boundary `i`, and the last one has no end.
    pub boundaries: Vec<u64>,
    /// One more than boundaries.
    pub bins: Vec<u64>,
}

impl Histogram {
    /// An empty one, if there is a boundary and they rise from above 0.
    pub fn new(boundaries: Vec<u64>) -> Option<Self> {
        let rising = boundaries.windows(2).all(|pair| pair[0] < pair[1]);
        let fine = boundaries.first().is_some_and(|first| *first > 0) && rising;
        let bins = alloc::vec![0; boundaries.len() + 1];
        fine.then_some(Self { boundaries, bins })
    }

    fn count(&mut self, took_ns: u64) {
        let bin = self.boundaries.partition_point(|boundary| *boundary <= took_ns);
        self.bins[bin] += 1;
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// The world failed.
    Failed,
    /// It was not allowed.
    Invalid,
}

impl Outcome {
    pub(crate) fn of<T>(result: &Result<T, BlockError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(BlockError::Invalid(_)) => Self::Invalid,
            Err(_) => Self::Failed,
        }
    }
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    accounts: [Account; 4],
    /// One past the last byte ever written.
    pub write_highest_offset: u64,
}

impl Stats {
    /// Of one kind.
    pub fn of(&self, kind: Counted) -> &Account {
        &self.accounts[kind as usize]
    }

    /// Counts durations of requests of these kinds from now on, and of no others; whether of any.
    pub fn set_histograms(&mut self, histograms: Vec<(Counted, Histogram)>) -> bool {
        self.accounts.iter_mut().for_each(|account| account.histogram = None);
        let any = !histograms.is_empty();
        for (kind, histogram) in histograms {
            self.accounts[kind as usize].histogram = Some(histogram);
        }
        any
    }

    /// Counts a request; `took_ns` if that is known.
    pub fn count(&mut self, kind: Counted, bytes: u64, outcome: Outcome, took_ns: Option<u64>) {
        let account = &mut self.accounts[kind as usize];
        match outcome {
            Outcome::Done => {
                account.operations += 1;
                account.bytes += bytes;
            }
            Outcome::Failed => account.failed += 1,
            Outcome::Invalid => account.invalid += 1,
        }
        if let (Some(histogram), Some(took_ns)) = (&mut account.histogram, took_ns) {
            histogram.count(took_ns);
        }
    }
}
