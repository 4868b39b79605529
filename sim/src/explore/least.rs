//! The least failing execution: a search of all executions that cost no more than one in hand, each state once.
//!
//! The order of tapes is total: by [`Cost`], then by the choices from the first on, where what the policy of `lenient`
//! takes comes first and the rest follows in canonical order. Executions are tried in that order, with as few faults
//! and preemptions as possible at first, so the first that fails with the least cost is the least tape of all.
//!
//! Two prefixes with the same trace lead to the same state; what can follow, and what it costs, depends on that and on
//! the task polled last. So a state is left as soon as it was met before with no more preemptions. Whether it was is
//! often known without going there: an event that was run beside an independent one adds to the trace what it added
//! there.
//!
//! Source: bounding preemptions (Musuvathi, Qadeer, "Iterative Context Bounding for Systematic Testing of
//! Multithreaded Programs", PLDI 2007).
//!
//! Invariants: `prefix-repeats`, as in `search`. `first-is-least`: of the paths to a state that need as many
//! preemptions, the least is the one it is first met by, since all paths to it are as long.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::door::Access;

use super::chooser::{Chooser, Pick};
use super::happens_before::{Accesses, own_trace};
use super::lenient::{Cost, policy};
use crate::event::{Action, Event};
use crate::footprint::conflicts;
use crate::hash::Rolling;
use crate::paths::PathId;
use crate::process::BEGINNING;
use crate::world::World;

/// What the search may find.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    /// Of the best failure known.
    pub cost: Cost,
    /// Whether one that costs as much is better: the first that is met comes first in order.
    pub or_equal: bool,
    /// At most so many.
    pub preemptions: u32,
}

impl Bound {
    fn admits(&self, cost: &Cost) -> bool {
        cost.preemptions <= self.preemptions
            && (*cost < self.cost || self.or_equal && *cost == self.cost)
    }
}

/// Where an execution is: its cost so far, the task polled last, and its trace.
#[derive(Clone, Copy, Default)]
struct State {
    cost: Cost,
    current: Option<PathId>,
    trace: u64,
}

/// What an event adds where it is enabled.
#[derive(Clone)]
struct Known {
    event: Event,
    own_trace: u64,
    accesses: Arc<[Access]>,
}

/// A step of the current execution, and what else can be done in its place.
struct Level {
    before: State,
    /// Those left to try, with what the execution costs behind them, last first.
    left: Vec<(Event, Cost)>,
    known: Vec<Known>,
    event: Event,
    after: State,
    own_trace: u64,
    accesses: Arc<[Access]>,
    /// The run's hash after the step.
    rolling: Rolling,
}

/// The search, within one bound.
pub(crate) struct Least {
    bound: Bound,
    levels: Vec<Level>,
    past: Accesses,
    /// Fewest preemptions with which each state was met.
    met: BTreeMap<(u64, Option<PathId>), u32>,
    depth: usize,
    /// The steps up to here are known from an earlier execution.
    analysed: usize,
    /// Of the event just picked: the step it follows.
    follows: u32,
    conflicting: Vec<u32>,
}

impl Least {
    pub fn new(bound: Bound) -> Self {
        Self {
            bound,
            levels: Vec::new(),
            past: Accesses::default(),
            met: BTreeMap::new(),
            depth: 0,
            analysed: 0,
            follows: BEGINNING,
            conflicting: Vec::new(),
        }
    }

    /// The execution that just ended has failed; whether it is the least so far.
    pub fn failed(&mut self) -> bool {
        let cost = self.state().cost;
        let is_least = self.bound.admits(&cost);
        if is_least {
            self.bound.cost = cost;
            self.bound.or_equal = false;
        }
        is_least
    }

    /// Prepares the next execution; false if there is none.
    pub fn advance(&mut self) -> bool {
        self.depth = 0;
        while let Some(mut level) = self.levels.pop() {
            self.past.undo(&level.accesses);
            if self.choose(&mut level) {
                self.analysed = self.levels.len();
                self.levels.push(level);
                return true;
            }
        }
        false
    }

    fn state(&self) -> State {
        self.levels.last().map(|level| level.after).unwrap_or_default()
    }

    /// Takes the next of the events left that leads to something new.
    fn choose(&self, level: &mut Level) -> bool {
        while let Some((event, cost)) = level.left.pop() {
            let is_poll = event.action == Action::Poll;
            let current = if is_poll { Some(event.path) } else { level.before.current };
            let known = level.known.iter().find(|known| known.event.same(&event));
            let is_new = |known: &Known| {
                let trace = level.before.trace.wrapping_add(known.own_trace);
                !self.was_met(&State { cost, current, trace })
            };
            if self.bound.admits(&cost) && known.is_none_or(is_new) {
                level.event = event;
                level.after = State { cost, current, trace: level.before.trace };
                level.accesses = Arc::from([]);
                return true;
            }
        }
        false
    }

    fn was_met(&self, state: &State) -> bool {
        let preemptions = self.met.get(&(state.trace, state.current));
        preemptions.is_some_and(|preemptions| *preemptions <= state.cost.preemptions)
    }

    /// What is known to be added by events that were run before the last step and do not depend on it.
    fn still_known(&self) -> Vec<Known> {
        let Some(last) = self.levels.last() else { return Vec::new() };
        let stays = |known: &&Known| {
            known.event.path != last.event.path && !conflicts(&known.accesses, &last.accesses)
        };
        last.known.iter().filter(stays).cloned().collect()
    }

    fn enter(&mut self, world: &World, enabled: &[Event]) -> Option<Event> {
        let before = self.state();
        if self.was_met(&before) {
            return None;
        }
        self.met.insert((before.trace, before.current), before.cost.preemptions);
        let goes_on = enabled.iter().find(|event| Some(event.path) == before.current);
        let policy = &enabled[policy(enabled, before.current)];
        let others = enabled.iter().filter(|event| *event != policy);
        let mut left: Vec<_> = [policy]
            .into_iter()
            .chain(others)
            .map(|event| {
                let mut cost = before.cost;
                let other = goes_on.is_some_and(|current| current.path != event.path);
                cost.add(world, event, other && event.action == Action::Poll);
                (*event, cost)
            })
            .collect();
        left.reverse();
        let mut level = Level {
            before,
            left,
            known: self.still_known(),
            event: enabled[0],
            after: before,
            own_trace: 0,
            accesses: Arc::from([]),
            rolling: Rolling::EMPTY,
        };
        let event = self.choose(&mut level).then_some(level.event)?;
        self.levels.push(level);
        Some(event)
    }
}

impl Chooser for Least {
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
            None => match self.enter(world, enabled) {
                Some(event) => event,
                None => return Pick::Blocked,
            },
        };
        self.follows = world.processes[event.process as usize].follows();
        let index = enabled.iter().position(|candidate| *candidate == event);
        Pick::Event(index.expect("prefix-repeats"))
    }

    fn ran(&mut self, world: &World, event: Event, accesses: &[Access]) {
        if self.depth >= self.analysed {
            self.past.recent(accesses, &mut self.conflicting);
            let own = Some(self.follows).filter(|follows| *follows != BEGINNING);
            let causes = own.iter().chain(&self.conflicting);
            let causes = causes.map(|cause| self.levels[*cause as usize].own_trace);
            let own_trace = own_trace(world, causes.fold(0, u64::wrapping_add));
            self.past.push(self.depth, accesses);
            let accesses: Arc<[Access]> = accesses.into();
            let level = &mut self.levels[self.depth];
            level.after.trace = level.before.trace.wrapping_add(own_trace);
            level.own_trace = own_trace;
            level.accesses = accesses.clone();
            level.rolling = world.rolling;
            level.known.retain(|known| !known.event.same(&event));
            level.known.push(Known { event, own_trace, accesses });
            self.analysed = self.depth + 1;
        }
        self.depth += 1;
    }
}
