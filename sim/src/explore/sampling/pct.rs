//! Probabilistic concurrency testing: processes have random priorities, which change at few moments.
//!
//! Source: Burckhardt, Kothari, Musuvathi, Nagarakatte, "A Randomized Scheduler with Probabilistic Guarantees of
//! Finding Bugs", ASPLOS 2010. A bug that needs `d` orderings among `n` processes and `k` steps shows in a run with
//! probability at least 1 / (n · k^(d-1)).
//!
//! Differs: every request, timer and choice is a process with a priority of its own; `k` is the longest earlier run;
//! `d` is not given but deepens with the run's number; of a process's events that exclude each other one is drawn; and
//! a run that is far longer than any before it goes on fairly, as the priorities starve whoever waits for a spinner.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use blockyard_sync::door::Access;

use super::draw::{Draw, processes};
use super::{PATIENCE, Sampler, Sampling};
use crate::event::Event;
use crate::explore::chooser::{Chooser, Pick};
use crate::paths::PathId;
use crate::world::World;

/// The greatest depth.
const DEEPEST: u32 = 8;

/// A first priority has this bit: it is above those of the change points.
const INITIAL: u64 = 1 << 63;

/// Runs the process of highest priority.
pub struct Pct {
    draw: Draw,
    runs: u64,
    longest: u32,
    step: u32,
    priorities: BTreeMap<PathId, u64>,
    /// The steps before which the process that would run falls to the priority of the place in this list.
    changes: Vec<u32>,
}

impl Pct {
    /// Has seen no run yet.
    pub fn new() -> Self {
        Self {
            draw: Draw::new(0),
            runs: 0,
            longest: 0,
            step: 0,
            priorities: BTreeMap::new(),
            changes: Vec::new(),
        }
    }

    fn highest(&self, enabled: &[Event]) -> PathId {
        let highest = processes(enabled).max_by_key(|path| self.priorities[path]);
        highest.expect("something-is-enabled")
    }
}

impl Default for Pct {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler for Pct {
    fn begin(&mut self, seed: u64) {
        self.draw = Draw::new(seed);
        self.runs += 1;
        self.longest = self.longest.max(self.step);
        self.step = 0;
        self.priorities.clear();
        // 1 2 1 3 1 2 1 4 …: the first run, whose length is not known, has no change.
        let depth = DEEPEST.min(1 + self.runs.trailing_zeros());
        let span = u64::from(self.longest.max(1));
        let mut change = |_| u32::try_from(self.draw.below(span)).expect("steps-are-limited");
        self.changes = (1..depth).map(&mut change).collect();
    }

    fn running(&self) -> Sampling {
        Sampling::Pct
    }
}

impl Chooser for Pct {
    fn pick(&mut self, _world: &World, enabled: &[Event]) -> Pick {
        if self.step >= PATIENCE.max(self.longest.saturating_mul(4)) {
            return Pick::Event(self.draw.index(enabled.len()));
        }
        for path in processes(enabled) {
            let draw = &mut self.draw;
            self.priorities.entry(path).or_insert_with(|| draw.number() | INITIAL);
        }
        for place in 0..self.changes.len() {
            if self.changes[place] == self.step {
                let path = self.highest(enabled);
                self.priorities.insert(path, place as u64);
            }
        }
        let path = self.highest(enabled);
        Pick::Event(self.draw.event_of(path, enabled))
    }

    fn ran(&mut self, _world: &World, _event: Event, _accesses: &[Access]) {
        self.step += 1;
    }
}
