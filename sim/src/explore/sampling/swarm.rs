//! Swarm: each run puts off some kinds of events, and prefers some actors.
//!
//! Source: Groce, Zhang, Eide, Chen, Regehr, "Swarm Testing", ISSTA 2012: a run that leaves some features out goes
//! deeper into the others. Differs: what is left out is put off rather than forbidden, so that no run gets stuck.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_sync::door::Access;

use super::draw::Draw;
use super::{PATIENCE, Sampler, Sampling};
use crate::event::{Action, Event};
use crate::explore::chooser::{Chooser, Pick};
use crate::paths::PathId;
use crate::world::World;

/// Kinds of events that a run may put off: disk requests that fail, before or after their effect; timers; results of
/// disk requests.
const FAMILIES: usize = 4;

fn family(action: Action) -> Option<usize> {
    match action {
        Action::Fail => Some(0),
        Action::FailLate => Some(1),
        Action::Fire => Some(2),
        Action::Complete => Some(3),
        Action::Poll | Action::Effect | Action::Choose(_) => None,
        Action::Keep(_) | Action::End | Action::Crash => None,
    }
}

/// A random walk with preferences of the run's own.
pub struct Swarm {
    draw: Draw,
    step: u32,
    put_off: [bool; FAMILIES],
    actors: BTreeMap<String, u64>,
    /// The weights of processes met: those of their actors.
    weights: BTreeMap<PathId, u64>,
}

impl Swarm {
    /// Prefers nothing yet.
    pub fn new() -> Self {
        Self {
            draw: Draw::new(0),
            step: 0,
            put_off: [false; FAMILIES],
            actors: BTreeMap::new(),
            weights: BTreeMap::new(),
        }
    }

    /// One of 1, 2, 4 and 8, the same for all that one actor started.
    fn weight(&mut self, world: &World, path: PathId) -> u64 {
        if let Some(weight) = self.weights.get(&path) {
            return *weight;
        }
        let label = world.paths.label(path);
        let actor = label.split(['/', '#', '@', '?', '+']).next().unwrap_or(label);
        let draw = &mut self.draw;
        let weight = *self.actors.entry(actor.into()).or_insert_with(|| 1 << draw.below(4));
        self.weights.insert(path, weight);
        weight
    }

    fn comes_now(&self, event: &Event) -> bool {
        self.step >= PATIENCE || family(event.action).is_none_or(|family| !self.put_off[family])
    }
}

impl Default for Swarm {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler for Swarm {
    fn begin(&mut self, seed: u64) {
        self.draw = Draw::new(seed);
        self.step = 0;
        self.put_off = core::array::from_fn(|_| self.draw.below(2) == 1);
        self.actors.clear();
        self.weights.clear();
    }

    fn running(&self) -> Sampling {
        Sampling::Swarm
    }
}

impl Chooser for Swarm {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let all_put_off = !enabled.iter().any(|event| self.comes_now(event));
        let mut weigh = |event: &Event| {
            let weight = self.weight(world, event.path);
            if all_put_off || self.comes_now(event) { weight } else { 0 }
        };
        let weights: Vec<u64> = enabled.iter().map(&mut weigh).collect();
        Pick::Event(self.draw.weighted(&weights))
    }

    fn ran(&mut self, _world: &World, _event: Event, _accesses: &[Access]) {
        self.step += 1;
    }
}
