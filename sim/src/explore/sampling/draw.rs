//! Draws from a seeded stream.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::event::Event;
use crate::paths::PathId;

/// A run's random numbers.
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `end`, which is not zero and at most 2^32.
    pub fn below(&mut self, end: u64) -> u64 {
        // Multiply-shift: even to one part in 2^32.
        (u64::from(self.0.next_u32()) * end) >> 32
    }

    /// One of the indices below `end`, evenly.
    pub fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("an-index-fits")
    }

    /// One of the weights' indices, in proportion to them; the weights are below 2^32 together, and not all zero.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut rest = self.below(weights.iter().sum());
        let taken = |weight: &u64| {
            let here = rest < *weight;
            rest = rest.saturating_sub(*weight);
            here
        };
        weights.iter().position(taken).expect("the-draw-is-below-the-sum")
    }

    /// One of the events of the process `path`, which exclude each other; evenly.
    pub fn event_of(&mut self, path: PathId, enabled: &[Event]) -> usize {
        let first = enabled.iter().position(|event| event.path == path);
        let first = first.expect("the-process-has-an-event");
        // The canonical order keeps a process's events together.
        let count = enabled[first..].iter().take_while(|event| event.path == path).count();
        if count == 1 { first } else { first + self.index(count) }
    }
}

/// The processes that have an event, in canonical order.
pub fn processes(enabled: &[Event]) -> impl Iterator<Item = PathId> + '_ {
    let is_first = |index: &usize| *index == 0 || enabled[index - 1].path != enabled[*index].path;
    (0..enabled.len()).filter(is_first).map(|index| enabled[index].path)
}
