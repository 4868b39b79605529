//! Depth-first search of all executions; plain, or reduced to one execution of each trace.
//!
//! Source: sleep sets (Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996);
//! source sets and wakeup trees (Abdulla, Aronsson, Jonsson, Sagonas, "Optimal Dynamic Partial Order Reduction", POPL
//! 2014). Differs: dependence is the conflict of recorded footprints; processes may have several events that exclude
//! each other; whether a race can be reversed is decided by what enabled the later event (see `races`); several
//! searches may share one tree (see [`WorkItem`]).
//!
//! Invariants: `every-trace-once`: a complete execution is equivalent to no other complete one; blocked ones are
//! equivalent to one that was or will be explored. `prefix-repeats`: running the chosen events again leads to the
//! same enabled events.

mod checkpoint;
mod place;
mod races;
mod share;
#[cfg(test)]
mod tests;
mod wakeup;

use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::door::Access;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use self::checkpoint::{Checkpoint, NotRestored};
use self::place::{Entered, Place, Shared, Todo};
use self::races::{Lost, Race};
pub use self::share::WorkItem;
use self::wakeup::{Seen, Wakeup};
use super::chooser::{Chooser, Pick};
use super::happens_before::{Accesses, Steps};
use crate::event::Event;
use crate::footprint::conflicts;
use crate::hash::Rolling;
use crate::process::{BEGINNING, Enabler};
use crate::tape::Divergence;
use crate::world::World;

/// Which executions are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduction {
    /// None.
    Plain,
    /// Those that are equivalent to an explored one, as soon as that shows.
    SleepSets,
    /// Those, and choices that no race asks for.
    SourceSets,
    /// One execution of each trace is run, and none is begun in vain where every race's reversal is known to be
    /// possible.
    Optimal,
}

/// A step of the current execution, and the place that it begins at.
#[derive(Clone)]
struct Level {
    place: Shared,
    /// What is possible there.
    enabled: Arc<[Event]>,
    /// What need not be explored from there: it was explored before, in an order that leads to the same.
    sleeping: Arc<[Seen]>,
    event: Event,
    /// How many of the place's branches were entered before this one.
    elders: usize,
    /// The sequences to explore behind the event.
    guide: Wakeup,
    accesses: Arc<[Access]>,
    /// What it might touch in another order.
    might_touch: Arc<[Access]>,
    /// The steps that happen before this one.
    before: Steps,
    races: Vec<Race>,
    /// The trace up to here, independent of the order of independent steps; and this step's part of it.
    trace: u64,
    own_trace: u64,
    /// The run's hash after this step.
    rolling: Rolling,
}

impl Level {
    /// Takes out what is to be explored next from its place.
    fn enter(&self) -> Option<Entered> {
        self.place.with(|place| place.enter(&self.enabled, &self.sleeping))
    }

    /// Goes on with what was taken out.
    fn go_on(&mut self, (event, guide, elders): Entered) {
        (self.event, self.guide, self.elders) = (event, guide, elders);
        self.races.clear();
    }
}

/// The search. Its state between executions is the stack of events chosen.
pub struct DepthFirst {
    reduction: Reduction,
    /// Whether plain search computes traces too.
    pub(super) traces: bool,
    levels: Vec<Level>,
    past: Accesses,
    depth: usize,
    /// The steps up to here are known from an earlier execution.
    analysed: usize,
    /// The first step that the last execution did not share with the one before.
    analysed_from: usize,
    /// The steps up to here know which processes they disabled.
    compared: usize,
    /// Of the event just picked: the step it follows, and those that enabled it.
    follows: u32,
    enablers: SmallVec<[Enabler; 1]>,
    conflicting: Vec<u32>,
    /// The steps whose process had another event, which slept.
    half_asleep: Vec<usize>,
    lost: Vec<Lost>,
    nothing: Arc<[Access]>,
    nobody: Arc<[Seen]>,
}

impl DepthFirst {
    /// A search that has not begun.
    pub fn new(reduction: Reduction) -> Self {
        Self {
            reduction,
            traces: false,
            levels: Vec::new(),
            past: Accesses::default(),
            depth: 0,
            analysed: 0,
            analysed_from: 0,
            compared: 0,
            follows: BEGINNING,
            enablers: SmallVec::new(),
            conflicting: Vec::new(),
            half_asleep: Vec::new(),
            lost: Vec::new(),
            nothing: Arc::from([]),
            nobody: Arc::from([]),
        }
    }

    /// The trace of the execution that just ended: equal exactly for equivalent executions.
    pub fn trace(&self) -> u64 {
        self.levels.last().map_or(0, |level| level.trace)
    }

    /// Prepares the next execution; false if there is none.
    pub fn advance(&mut self) -> bool {
        self.try_disabled_before(&[]);
        if self.reduction == Reduction::Optimal {
            self.reverse_races();
        }
        self.backtrack()
    }

    fn backtrack(&mut self) -> bool {
        while let Some(level) = self.levels.last_mut() {
            self.past.undo(&level.accesses);
            level.accesses = self.nothing.clone();
            if let Some(entered) = level.enter() {
                level.go_on(entered);
                self.stand_at_top();
                return true;
            }
            self.levels.pop();
        }
        false
    }

    /// The last level's event comes next, and has not run.
    fn stand_at_top(&mut self) {
        self.depth = 0;
        self.analysed = self.levels.len().saturating_sub(1);
        self.analysed_from = self.analysed;
        self.compared = self.analysed;
        self.half_asleep.retain(|step| *step < self.analysed);
        self.lost.retain(|lost| lost.step < self.analysed);
    }

    /// A process that the last step disabled leaves no event to race with that step: it is tried before it.
    fn try_disabled_before(&mut self, enabled: &[Event]) {
        if self.compared == self.levels.len() || self.reduction == Reduction::Plain {
            return;
        }
        self.compared = self.levels.len();
        let level = self.levels.last().expect("some-are-not-compared");
        for event in level.enabled.iter() {
            let stays = |other: &Event| other.path == event.path;
            if !stays(&level.event) && !enabled.iter().any(stays) {
                self.want(level, event);
            }
        }
    }

    /// Sees to it that `event` is tried from where `level` is.
    fn want(&self, level: &Level, event: &Event) {
        level.place.with(|place| match self.reduction {
            Reduction::Optimal if !listed(&level.sleeping, event) => {
                place.insert(self.unseen(*event))
            }
            Reduction::SourceSets => place.want(&level.enabled, event.path),
            _ => {}
        });
    }

    fn unseen(&self, event: Event) -> Seen {
        Seen { event, accesses: self.nothing.clone() }
    }

    /// What need not be explored after the last level's event: what was explored before it, or slept already, and
    /// does not depend on it.
    fn sleeping_now(&self) -> Arc<[Seen]> {
        let Some(last) = self.levels.last() else { return self.nobody.clone() };
        if self.reduction == Reduction::Plain {
            return self.nobody.clone();
        }
        let independent = |seen: &&Seen| {
            seen.event.path != last.event.path && !conflicts(&seen.accesses, &last.accesses)
        };
        last.place.with(|place| {
            let elders = &place.entered[..last.elders];
            if elders.is_empty() && last.sleeping.is_empty() {
                return self.nobody.clone();
            }
            last.sleeping.iter().chain(elders).filter(independent).cloned().collect()
        })
    }

    fn pick_new(&mut self, enabled: &[Event]) -> Option<Event> {
        let sleeping = self.sleeping_now();
        let awake = |event: &&Event| !listed(&sleeping, event);
        let last = self.levels.last().map(|level| level.event.path);
        let mut guide = match self.levels.last_mut() {
            Some(level) => core::mem::take(&mut level.guide),
            None => Wakeup::default(),
        };
        let (event, behind) = match guide.take(enabled, |event| listed(&sleeping, event)) {
            Some(guided) => guided,
            // A sequence that turns out to be impossible may stand for others that begin as it did.
            None => {
                let goes_on = enabled.iter().find(|event| Some(event.path) == last && awake(event));
                (*goes_on.or_else(|| enabled.iter().find(awake))?, Wakeup::default())
            }
        };
        let others = enabled.iter().filter(|other| **other != event && awake(other));
        let todo = match self.reduction {
            Reduction::Optimal => {
                let alternatives = others.filter(|other| other.path == event.path);
                alternatives.for_each(|other| guide.insert_first(self.unseen(*other)));
                Todo::Sequences(guide)
            }
            Reduction::SourceSets => {
                Todo::Events(others.filter(|other| other.path == event.path).copied().collect())
            }
            Reduction::Plain | Reduction::SleepSets => {
                Todo::Events(others.rev().copied().collect())
            }
        };
        let place = Place::entering(event, todo);
        self.push_level(place, enabled, sleeping, (event, behind, 0));
        Some(event)
    }

    fn push_level(
        &mut self,
        place: Shared,
        enabled: &[Event],
        sleeping: Arc<[Seen]>,
        (event, guide, elders): Entered,
    ) {
        self.levels.push(Level {
            place,
            enabled: enabled.into(),
            sleeping,
            event,
            elders,
            guide,
            accesses: self.nothing.clone(),
            might_touch: self.nothing.clone(),
            before: Steps::default(),
            races: Vec::new(),
            trace: 0,
            own_trace: 0,
            rolling: Rolling::EMPTY,
        });
    }

    /// Remembers what is known of the event just picked only as long as it has not run.
    fn picked(&mut self, world: &World, event: Event) {
        let process = &world.processes[event.process as usize];
        self.follows = process.follows();
        self.enablers = process.enabled_by();
    }
}

fn listed(events: &[Seen], event: &Event) -> bool {
    events.iter().any(|other| other.event.same(event))
}

impl Chooser for DepthFirst {
    fn known(&mut self, world: &mut World) -> Option<Event> {
        let known = self.depth < self.analysed && !world.wants_footprints();
        let level = self.levels.get(self.depth).filter(|_| known)?;
        self.depth += 1;
        world.rolling = level.rolling;
        Some(level.event)
    }

    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let event = match self.levels.get(self.depth) {
            Some(level) => level.event,
            None => {
                self.try_disabled_before(enabled);
                match self.pick_new(enabled) {
                    Some(event) => event,
                    None => return Pick::Blocked,
                }
            }
        };
        self.picked(world, event);
        match enabled.iter().position(|candidate| candidate == &event) {
            Some(index) => Pick::Event(index),
            None => Pick::Diverged(Divergence {
                step: self.depth,
                expected: world.paths.label(event.path).into(),
                possible: enabled.iter().map(|event| world.describe(*event)).collect(),
            }),
        }
    }

    fn ran(&mut self, world: &World, _event: Event, accesses: &[Access]) {
        if self.depth >= self.analysed {
            self.analyse(world, accesses);
            self.analysed = self.depth + 1;
        }
        self.depth += 1;
    }
}
