//! Uniform random walk: who has more left to do is picked more often, so that every interleaving is about as likely.
//!
//! Source: the estimate of remaining events in Zhao, Wolff, Mathur, Roychoudhury, "Selectively Uniform Concurrency
//! Testing", ASPLOS 2025. Among processes that run `a` and `b` steps each interleaving of them is equally likely.
//!
//! Differs: the counts come from the runs before; nothing is selected, all events count; and events of processes that
//! do not exist yet do not weigh for their creators.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use blockyard_sync::door::Access;

use super::draw::{Draw, processes};
use super::{Sampler, Sampling};
use crate::event::Event;
use crate::explore::chooser::{Chooser, Pick};
use crate::paths::PathId;
use crate::world::World;

/// Picks processes in proportion to what they had left in the last run that had them.
pub struct Urw {
    draw: Draw,
    /// Steps of each process, in the last run that had it.
    expected: BTreeMap<PathId, u32>,
    done: BTreeMap<PathId, u32>,
}

impl Urw {
    /// Has seen no run yet: the first is a walk that picks evenly among processes.
    pub fn new() -> Self {
        Self { draw: Draw::new(0), expected: BTreeMap::new(), done: BTreeMap::new() }
    }

    /// Never zero: a process that nothing was expected of, or nothing more, counts as one event.
    fn left(&self, path: PathId) -> u64 {
        let count = |counts: &BTreeMap<PathId, u32>| counts.get(&path).copied().unwrap_or_default();
        u64::from(count(&self.expected).saturating_sub(count(&self.done)).max(1))
    }
}

impl Default for Urw {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler for Urw {
    fn begin(&mut self, seed: u64) {
        self.draw = Draw::new(seed);
        self.expected.append(&mut self.done);
    }

    fn running(&self) -> Sampling {
        Sampling::Urw
    }
}

impl Chooser for Urw {
    fn pick(&mut self, _world: &World, enabled: &[Event]) -> Pick {
        let paths: Vec<PathId> = processes(enabled).collect();
        let weights: Vec<u64> = paths.iter().map(|path| self.left(*path)).collect();
        let path = paths[self.draw.weighted(&weights)];
        Pick::Event(self.draw.event_of(path, enabled))
    }

    fn ran(&mut self, _world: &World, event: Event, _accesses: &[Access]) {
        *self.done.entry(event.path).or_default() += 1;
    }
}
