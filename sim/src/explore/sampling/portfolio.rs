//! Portfolio: the other strategies in turn, one run each. What one misses another may find.

use alloc::boxed::Box;
use alloc::vec::Vec;

use blockyard_sync::door::Access;

use super::{Sampler, Sampling};
use crate::event::Event;
use crate::explore::chooser::{Chooser, Pick};
use crate::world::World;

/// In turn.
const MEMBERS: [Sampling; 5] =
    [Sampling::Random, Sampling::Swarm, Sampling::Pct, Sampling::Pos, Sampling::Urw];

/// Rotates run by run. Each member learns from its own runs only.
pub struct Portfolio {
    members: Vec<Box<dyn Sampler>>,
    turn: usize,
}

impl Portfolio {
    /// Every member has yet to run.
    pub fn new() -> Self {
        let members = MEMBERS.map(Sampling::sampler).into();
        Self { members, turn: MEMBERS.len() - 1 }
    }
}

impl Default for Portfolio {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler for Portfolio {
    fn begin(&mut self, seed: u64) {
        self.turn = (self.turn + 1) % self.members.len();
        self.members[self.turn].begin(seed);
    }

    fn running(&self) -> Sampling {
        self.members[self.turn].running()
    }
}

impl Chooser for Portfolio {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        self.members[self.turn].pick(world, enabled)
    }

    fn ran(&mut self, world: &World, event: Event, accesses: &[Access]) {
        self.members[self.turn].ran(world, event, accesses);
    }
}
