//! Strategies that draw executions instead of counting them off: each run has a seed, and a run after another may use
//! what the earlier ones learnt.
//!
//! A run is decided by its seed and by the runs before it, so a seed alone repeats only a plain random run. Whole
//! explorations repeat exactly; a single run is repeated by its tape, which a verdict carries.

mod draw;
mod pct;
mod portfolio;
mod pos;
mod swarm;
mod urw;

pub use pct::Pct;
pub use portfolio::Portfolio;
pub use pos::Pos;
pub use swarm::Swarm;
pub use urw::Urw;

use alloc::boxed::Box;

use serde::{Deserialize, Serialize};

use super::chooser::{Chooser, RandomWalk};

/// From this step on a strategy that may starve somebody picks fairly: what spins until another has run is not stuck.
const PATIENCE: u32 = 1024;

/// How executions are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sampling {
    /// Evenly among the enabled events: [`RandomWalk`].
    Random,
    /// With some kinds of events put off and some actors preferred: [`Swarm`].
    Swarm,
    /// By priorities that change at few moments: [`Pct`].
    Pct,
    /// By priorities that are drawn anew where events conflict: [`Pos`].
    Pos,
    /// By how much each process has left to do: [`Urw`].
    Urw,
    /// All of these in turn: [`Portfolio`].
    Portfolio,
}

/// A strategy for many runs.
pub trait Sampler: Chooser {
    /// Prepares the next run. What follows depends on the seed and on the runs before.
    fn begin(&mut self, seed: u64);

    /// The strategy that this run follows.
    fn running(&self) -> Sampling;
}

impl Sampling {
    /// Every strategy.
    pub const ALL: &'static [Self] =
        &[Self::Random, Self::Swarm, Self::Pct, Self::Pos, Self::Urw, Self::Portfolio];

    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Swarm => "swarm",
            Self::Pct => "pct",
            Self::Pos => "pos",
            Self::Urw => "urw",
            Self::Portfolio => "portfolio",
        }
    }

    /// A sampler that has not begun.
    pub fn sampler(self) -> Box<dyn Sampler> {
        match self {
            Self::Random => Box::new(RandomWalk::new(0)),
            Self::Swarm => Box::new(Swarm::new()),
            Self::Pct => Box::new(Pct::new()),
            Self::Pos => Box::new(Pos::new()),
            Self::Urw => Box::new(Urw::new()),
            Self::Portfolio => Box::new(Portfolio::new()),
        }
    }
}

impl Sampler for RandomWalk {
    fn begin(&mut self, seed: u64) {
        *self = Self::new(seed);
    }

    fn running(&self) -> Sampling {
        Sampling::Random
    }
}
