//! How often each operation and flag was tried, how often with success, and how often of these while another guest
//! request was in flight.
//!
//! Not for: anything that is judged. It leaves no footprint.

use std::collections::BTreeMap;

use blockyard_sync::door::world::Quiet;

/// Guest flushes.
pub(crate) const FLUSH: &str = "flush";

/// What power losses may have left.
pub const CRASH_STATES: &str = "crash state";

/// The most jobs that there were at a time.
pub const JOBS_AT_ONCE: &str = "jobs at once";
/// The most nodes that a device's disk consisted of, each over what the one below it holds.
pub const LAYERS: &str = "layers";
/// A snapshot was taken below two filters, the first over the second; in how many runs.
pub const SNAPSHOT_BELOW: &str = "snapshot below";
/// The same of a mirror that has pivoted.
pub const PIVOT_BELOW: &str = "pivot below";
/// How often power may have been lost.
pub const POWER_LOSSES: &str = "power losses";

/// The commands that change the graph, jobs aside.
pub const GRAPH_EDITS: &[&str] = &[
    "blockdev-add",
    "blockdev-del",
    "blockdev-insert-medium",
    "blockdev-remove-medium",
    "blockdev-reopen",
    "blockdev-set-active",
    "blockdev-snapshot",
    "transaction",
    "x-blockdev-change",
    "x-blockdev-replace-child",
    "x-blockdev-snapshot-stack",
];

/// Of an operation or a flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Begun and ended.
    pub tried: u64,
    /// Of these, with success.
    pub succeeded: u64,
    /// Of these, while another guest request was in flight.
    pub in_flight: u64,
}

/// Counts by operation, command or flag.
pub type Counts = BTreeMap<String, Count>;

#[derive(Default)]
pub(crate) struct Tally(Quiet<State>);

#[derive(Default)]
struct State {
    /// Guest requests, ever begun and now in flight.
    begun: u64,
    in_flight: u64,
    counts: Counts,
}

/// Something that was begun.
#[derive(Clone, Copy)]
pub(crate) struct Tried {
    is_guest: bool,
    begun: u64,
    beside: bool,
}

impl Tally {
    /// Something begins.
    pub fn begin(&self, is_guest: bool) -> Tried {
        self.0.with(|state| {
            let beside = state.in_flight > 0;
            state.begun += u64::from(is_guest);
            state.in_flight += u64::from(is_guest);
            Tried { is_guest, begun: state.begun, beside }
        })
    }

    /// It ends, and is counted as each of these.
    pub fn end<'n>(&self, tried: Tried, names: impl IntoIterator<Item = &'n str>, ok: bool) {
        names.into_iter().for_each(|name| self.count(tried, name, ok));
        self.0.with(|state| state.in_flight -= u64::from(tried.is_guest));
    }

    /// Counts it.
    pub fn count(&self, tried: Tried, name: &str, ok: bool) {
        self.0.with(|state| {
            let beside = tried.beside || state.begun > tried.begun;
            let count = state.counts.entry(name.into()).or_default();
            count.tried += 1;
            count.succeeded += u64::from(ok);
            count.in_flight += u64::from(ok && beside);
        });
    }

    /// Counts something that happened to a guest request.
    pub fn met(&self, name: &str) {
        self.0.with(|state| {
            let beside = state.in_flight > 1;
            let count = state.counts.entry(name.into()).or_default();
            count.tried += 1;
            count.succeeded += 1;
            count.in_flight += u64::from(beside);
        });
    }

    /// Counts states that power losses may have left, and that were judged.
    pub fn judged(&self, states: u64) {
        self.0.with(|state| {
            let count = state.counts.entry(CRASH_STATES.into()).or_default();
            count.tried += states;
            count.succeeded += states;
        });
    }

    /// Counts the run as one that had this.
    pub fn had(&self, what: String) {
        let once = Count { tried: 1, succeeded: 1, in_flight: 0 };
        self.0.with(|state| state.counts.insert(what, once));
    }

    /// All of them.
    pub fn counts(&self) -> Counts {
        self.0.with(|state| state.counts.clone())
    }
}
