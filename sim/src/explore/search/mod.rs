//! Depth-first search of all executions; plain, or reduced to one execution of each trace.
//!
//! Source: sleep sets (Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996);
//! source sets and wakeup trees (Abdulla, Aronsson, Jonsson, Sagonas, "Optimal Dynamic Partial Order Reduction", POPL
//! 2014). Differs: dependence is the conflict of recorded footprints; processes may have several events that exclude
//! each other; whether a race can be reversed is decided by what enabled the later event (see `races`); several
//! searches may share one tree (see [`Stack`]).
//!
//! Invariants: `every-trace-once`: a complete execution is equivalent to no other complete one; blocked ones are
//! equivalent to one that was or will be explored. `prefix-repeats`: running the chosen events again leads to the
//! same enabled events.

mod place;
mod races;
mod wakeup;

use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::door::Access;
use smallvec::SmallVec;

use self::place::{Place, Shared, Todo};
use self::races::{Lost, Race};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A place in the tree of all executions from which somebody else may go on: the way there, shared with whoever else is
/// at work on it. Each search backtracks along its own stack and enters what it finds to do at the places of it; what
/// one adds to a place is found by itself, if nobody else finds it first.
pub struct Stack(Vec<Level>);

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

    /// Goes on from a place that another search offered; false if there is nothing left to do there.
    pub fn adopt(&mut self, stack: Stack) -> bool {
        self.past = Accesses::default();
        for (step, level) in stack.0.iter().enumerate() {
            self.past.push(step, &level.accesses);
        }
        self.levels = stack.0;
        self.backtrack()
    }

    /// The shallowest place where there is something to do, for another search to go on from.
    pub fn offer(&self) -> Option<Stack> {
        let has_work = |level: &Level| level.place.with(|place| place.has_work());
        let depth = self.levels.iter().position(has_work)?;
        Some(Stack(self.levels[..=depth].to_vec()))
    }

    fn backtrack(&mut self) -> bool {
        self.depth = 0;
        while let Some(level) = self.levels.last_mut() {
            self.past.undo(&level.accesses);
            let Level { place, enabled, sleeping, .. } = level;
            let entered = place.with(|place| place.enter(enabled, sleeping));
            if let Some((event, guide, elders)) = entered {
                (level.event, level.guide, level.elders) = (event, guide, elders);
                level.races.clear();
                level.accesses = self.nothing.clone();
                self.analysed = self.levels.len() - 1;
                self.analysed_from = self.analysed;
                self.compared = self.analysed;
                self.half_asleep.retain(|step| *step < self.analysed);
                self.lost.retain(|lost| lost.step < self.analysed);
                return true;
            }
            self.levels.pop();
        }
        false
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
        Seen { event, accesses: self.nothing.clone(), exact: false }
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
        self.levels.push(Level {
            place: Place::entering(todo),
            enabled: enabled.into(),
            sleeping,
            event,
            elders: 0,
            guide: behind,
            accesses: self.nothing.clone(),
            might_touch: self.nothing.clone(),
            before: Steps::default(),
            races: Vec::new(),
            trace: 0,
            own_trace: 0,
            rolling: Rolling::EMPTY,
        });
        Some(event)
    }
}

fn listed(events: &[Seen], event: &Event) -> bool {
    events.iter().any(|other| other.event.same(event))
}

impl Chooser for DepthFirst {
    fn known(&mut self, world: &mut World) -> Option<Event> {
        // While faults may last, the world itself wants to see what is touched.
        let known = self.depth < self.analysed && world.touched.is_none();
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
        let process = &world.processes[event.process as usize];
        self.follows = process.follows();
        self.enablers = process.enabled_by();
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
