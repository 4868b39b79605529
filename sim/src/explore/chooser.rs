//! Who decides what happens next: at random, as bytes say, or as a tape says.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_sync::door::Access;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::event::Event;
use crate::tape::Divergence;
use crate::world::World;

/// What a chooser says.
pub enum Pick {
    /// The event at this index of those enabled.
    Event(usize),
    /// None of them is worth while.
    Blocked,
    /// The event that should come is not among them.
    Diverged(Divergence),
}

/// A strategy.
pub trait Chooser {
    /// The next event, if it is known from an earlier execution that began the same: it is run without being looked at.
    fn known(&mut self, _world: &mut World) -> Option<Event> {
        None
    }

    /// Picks one of `enabled`, which is not empty and in canonical order.
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick;

    /// The event picked has run, with this footprint.
    fn ran(&mut self, _world: &World, _event: Event, _accesses: &[Access]) {}
}

/// Picks evenly among the enabled events.
pub struct RandomWalk(ChaCha8Rng);

impl RandomWalk {
    /// The walk of this seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }
}

impl Chooser for RandomWalk {
    fn pick(&mut self, _world: &World, enabled: &[Event]) -> Pick {
        let below = enabled.len() as u64;
        // Multiply-shift: even to one part in 2^32.
        let index = (u64::from(self.0.next_u32()) * below) >> 32;
        Pick::Event(usize::try_from(index).expect("an-index-fits"))
    }
}

/// Takes each choice from the next bytes, as fuzzers make them; behind their end, the first enabled event.
///
/// Where there is no choice no byte is taken, so that each byte matters: a fuzzer that changes one changes a decision.
/// The crate `arbitrary` does the same with std, which this room does not have.
pub struct FromBytes<'b>(&'b [u8]);

impl<'b> FromBytes<'b> {
    /// Any bytes are a run, and always the same.
    pub fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }
}

impl Chooser for FromBytes<'_> {
    fn pick(&mut self, _world: &World, enabled: &[Event]) -> Pick {
        let mut number = 0;
        let mut covered = 1;
        while covered < enabled.len() {
            number = number << 8 | self.byte();
            covered <<= 8;
        }
        Pick::Event(number % enabled.len())
    }
}

/// Follows a tape; behind its end, the first enabled event.
pub struct Replay {
    tape: Vec<String>,
    position: usize,
}

impl Replay {
    /// Follows these lines.
    pub fn new(tape: Vec<String>) -> Self {
        Self { tape, position: 0 }
    }
}

impl Chooser for Replay {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let Some(line) = self.tape.get(self.position) else { return Pick::Event(0) };
        self.position += 1;
        match enabled.iter().position(|event| world.describe(*event) == *line) {
            Some(index) => Pick::Event(index),
            None => Pick::Diverged(Divergence {
                step: self.position,
                expected: line.clone(),
                possible: enabled.iter().map(|event| world.describe(*event)).collect(),
            }),
        }
    }
}

/// Goes on with the poll that is under way; where there is none, another chooser picks. So a run by door is one by
/// await.
pub struct WholePolls<C>(pub C);

impl<C: Chooser> Chooser for WholePolls<C> {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let goes_on = |event: &Event| world.processes[event.process as usize].is_under_way();
        match enabled.iter().position(goes_on) {
            Some(index) => Pick::Event(index),
            None => self.0.pick(world, enabled),
        }
    }

    fn ran(&mut self, world: &World, event: Event, accesses: &[Access]) {
        self.0.ran(world, event, accesses);
    }
}
