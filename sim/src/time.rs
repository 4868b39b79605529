//! Virtual time: whether disks take some, and when the clock moves.
//!
//! Untimed, latencies are ignored and a timer may fire at any moment: that is the space which is explored. Timed, a
//! request has its effect when its disk has come to it, and the clock moves only when nothing else is enabled; what is
//! left of chance is the order of what happens at one moment, and how long requests take, both by the seed.
//!
//! A disk is a pipe and a distance: data pass one request after another, as fast as its bandwidth, and a request then
//! takes its access time beside others. So small requests are bound by the access time, and many or large ones by the
//! bandwidth.

use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use blockyard_sync::door::{self, Kind};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::footprint;
use crate::handle::Operation;
use crate::paths::PathId;
use crate::process::State;
use crate::world::World;

/// Whether requests take time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Time {
    /// They do not; timers may fire at any moment.
    #[default]
    Untimed,
    /// They do; the clock moves when nothing else is enabled. Only runs that are drawn are timed: what a reduction
    /// leaves out goes by what depends on what, and here everything depends on the clock.
    Timed,
}

impl Time {
    /// As it is spelt on the command line and in seed files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Untimed => "untimed",
            Self::Timed => "timed",
        }
    }
}

/// A word that names no time mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTime;

impl fmt::Display for UnknownTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither 'untimed' nor 'timed'")
    }
}

impl core::error::Error for UnknownTime {}

impl FromStr for Time {
    type Err = UnknownTime;

    fn from_str(word: &str) -> Result<Self, UnknownTime> {
        let known = [Self::Untimed, Self::Timed].into_iter().find(|known| known.word() == word);
        known.ok_or(UnknownTime)
    }
}

/// How long a disk takes, in timed runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Access time of a read.
    pub read_ns: u64,
    /// Of a write, or a change of length.
    pub write_ns: u64,
    /// Of a flush; a FUA write takes it too.
    pub flush_ns: u64,
    /// What is added to each access time is drawn from none up to this.
    pub jitter_ns: u64,
    /// Bytes in a second; at least one.
    pub bandwidth: u64,
}

impl Default for Latency {
    /// About a flash disk of a server.
    fn default() -> Self {
        Self {
            read_ns: 100_000,
            write_ns: 50_000,
            flush_ns: 500_000,
            jitter_ns: 20_000,
            bandwidth: 1 << 30,
        }
    }
}

impl Latency {
    fn access_ns(&self, operation: &Operation) -> u64 {
        match operation {
            Operation::Read(_) => self.read_ns,
            Operation::Write { fua: true, .. } => self.write_ns.saturating_add(self.flush_ns),
            Operation::Write { .. } | Operation::Truncate { .. } => self.write_ns,
            Operation::Flush { .. } => self.flush_ns,
        }
    }

    fn transfer_ns(&self, bytes: u64) -> u64 {
        let ns = u128::from(bytes) * 1_000_000_000 / u128::from(self.bandwidth.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// What a disk was asked for since the run's beginning, apart from what was spared: a scenario's setup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub read: u64,
    /// Bytes.
    pub written: u64,
}

/// A disk in timed runs.
#[derive(Clone, Copy, Default)]
pub(crate) struct Pipe {
    latency: Latency,
    /// When the data of all requests so far have passed.
    free_ns: u64,
    traffic: Traffic,
}

impl Pipe {
    pub fn new(latency: Latency) -> Self {
        Self { latency, ..Self::default() }
    }

    /// As in the beginning.
    pub fn reset(&mut self) {
        *self = Self::new(self.latency);
    }

    /// When a request of so many bytes that was submitted now has its effect. `chance`: anything.
    fn due_ns(&mut self, operation: &Operation, now_ns: u64, chance: u64) -> u64 {
        let transfer_ns = self.latency.transfer_ns(moved(operation));
        self.free_ns = self.free_ns.max(now_ns).saturating_add(transfer_ns);
        // Jitter is far below the range of a u64: the remainder is as good as even.
        let jitter_ns = chance % self.latency.jitter_ns.saturating_add(1).max(1);
        let access_ns = self.latency.access_ns(operation).saturating_add(jitter_ns);
        self.free_ns.saturating_add(access_ns)
    }
}

/// Bytes that pass between the disk and who uses it.
fn moved(operation: &Operation) -> u64 {
    match operation {
        Operation::Read(range) => range.len().0,
        Operation::Write { data, .. } => data.len() as u64,
        Operation::Flush { .. } | Operation::Truncate { .. } => 0,
    }
}

impl World {
    /// When a request that was just submitted has its effect; none if that may be at any moment.
    pub(crate) fn due_ns(&mut self, disk: u32, operation: &Operation, path: PathId) -> Option<u64> {
        if self.time == Time::Untimed {
            return None;
        }
        let (seed, now_ns) = self.handle.mailbox.with(|mailbox| (mailbox.seed, mailbox.now_ns));
        // A stream for each request: how long it takes is not changed by what others do.
        let chance = ChaCha8Rng::seed_from_u64(seed ^ self.paths.hash(path)).next_u64();
        Some(self.pipes[disk as usize].due_ns(operation, now_ns, chance))
    }

    /// The disk has come to a request, if it is one: the clock shows when.
    pub(crate) fn arrive(&mut self, index: u32) {
        let State::Request { due_ns: due_ns @ Some(_), disk, operation, spared, .. } =
            &mut self.processes[index as usize].state
        else {
            return;
        };
        let now_ns = due_ns.take().expect("just-matched");
        if !*spared {
            let Traffic { read, written } = &mut self.pipes[*disk as usize].traffic;
            let bytes = moved(operation);
            *if matches!(operation, Operation::Read(_)) { read } else { written } += bytes;
        }
        door::enter(footprint::clock(Kind::Write));
        self.timers.retain(|timer| *timer != index);
        self.handle.mailbox.with(|mailbox| mailbox.now_ns = mailbox.now_ns.max(now_ns));
        self.set_runnable(index, true);
    }

    /// The bytes that each disk was asked for in a timed run, by name.
    pub fn traffic(&self) -> Vec<(&str, Traffic)> {
        use blockyard_runtime::Storage;
        let named = self.disks.iter().zip(&self.pipes);
        named.map(|(disk, pipe)| (disk.name(), pipe.traffic)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockyard_units::ByteRange;

    #[test]
    fn data_pass_one_request_after_another_and_access_times_beside_each_other() {
        let latency = Latency { jitter_ns: 0, bandwidth: 1_000_000_000, ..Latency::default() };
        let mut pipe = Pipe::new(latency);
        let read = Operation::Read(ByteRange::new(0, 5_000));
        // 5,000 bytes at a byte in a nanosecond.
        assert_eq!(pipe.due_ns(&read, 0, 7), 105_000);
        assert_eq!(pipe.due_ns(&read, 1_000, 7), 110_000);
        assert_eq!(pipe.due_ns(&Operation::Flush { covers: 0 }, 1_000, 7), 510_000);
        assert_eq!(pipe.due_ns(&read, 20_000, 7), 125_000);
    }

    #[test]
    fn jitter_stays_below_what_was_asked_for() {
        let latency = Latency { jitter_ns: 10, ..Latency::default() };
        let flush = Operation::Flush { covers: 0 };
        let due = |chance| Pipe::new(latency).due_ns(&flush, 0, chance) - latency.flush_ns;
        assert_eq!([due(0), due(10), due(11), due(u64::MAX)], [0, 10, 0, u64::MAX % 11]);
    }
}
