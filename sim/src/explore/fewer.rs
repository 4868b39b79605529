//! A reduced search of the executions with fewer faults or crashes.

use alloc::vec::Vec;

use blockyard_sync::door::Access;

use super::chooser::{Chooser, Pick};
use super::lenient::Cost;
use super::search::{DepthFirst, Reduction};
use crate::event::Event;
use crate::world::World;

/// The search, for which events beyond the bounds are not enabled.
pub(crate) struct Fewer {
    search: DepthFirst,
    faults: u32,
    crashes: u32,
    /// Of the execution under way.
    cost: Cost,
    /// Those enabled within the bounds, and their places among all.
    within: Vec<Event>,
    places: Vec<usize>,
}

impl Fewer {
    /// At most so many of each.
    pub fn new(faults: u32, crashes: u32) -> Self {
        let search = DepthFirst::new(Reduction::Optimal);
        let (within, places) = (Vec::new(), Vec::new());
        Self { search, faults, crashes, cost: Cost::default(), within, places }
    }

    /// Prepares the next execution; false if there is none.
    pub fn advance(&mut self) -> bool {
        self.cost = Cost::default();
        self.search.advance()
    }

    fn with(&self, world: &World, event: &Event) -> Cost {
        let mut cost = self.cost;
        cost.add(world, event, false);
        cost
    }
}

impl Chooser for Fewer {
    fn known(&mut self, world: &mut World) -> Option<Event> {
        let event = self.search.known(world)?;
        self.cost = self.with(world, &event);
        Some(event)
    }

    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        self.within.clear();
        self.places.clear();
        for (place, event) in enabled.iter().enumerate() {
            let cost = self.with(world, event);
            if cost.faults <= self.faults && cost.crashes <= self.crashes {
                self.within.push(*event);
                self.places.push(place);
            }
        }
        if self.within.is_empty() {
            return Pick::Blocked;
        }
        match self.search.pick(world, &self.within) {
            Pick::Event(index) => {
                self.cost = self.with(world, &self.within[index]);
                Pick::Event(self.places[index])
            }
            other => other,
        }
    }

    fn ran(&mut self, world: &World, event: Event, accesses: &[Access]) {
        self.search.ran(world, event, accesses);
    }
}
