//! Replays that make do, and what a run costs: for shrinking. A line that does not fit is skipped; behind the end of
//! the plan a policy goes on, which polls the current task while it can go on, and else takes the first event.
//!
//! Invariant `policy-breaks-nothing`: the policy never injects a fault or loses power, preempts no task, takes first
//! choices, and finds the newest version of what a power loss may have taken.

use alloc::vec::Vec;
use core::fmt;

use blockyard_sync::door::Access;

use super::chooser::{Chooser, Pick};
use crate::event::{Action, Event, Kept};
use crate::paths::PathId;
use crate::process::State;
use crate::world::World;

/// What a run costs: compared from the first member on, less is simpler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// Requests that failed.
    pub faults: u32,
    /// Power losses.
    pub crashes: u32,
    /// Polls of another task than the last one, which could have gone on.
    pub preemptions: u32,
    /// Disk requests that took effect.
    pub operations: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Steps.
    pub events: u32,
}

impl Cost {
    /// What an enabled event costs.
    pub(crate) fn add(&mut self, world: &World, event: &Event, preempts: bool) {
        self.events += 1;
        self.preemptions += u32::from(preempts);
        match (event.action, &world.processes[event.process as usize].state) {
            (Action::Fault(_), _) => self.faults += 1,
            (Action::Crash, _) => self.crashes += 1,
            (Action::Effect, State::Request { operation, .. }) => {
                self.operations += 1;
                self.bytes += operation.range().len().0;
            }
            _ => (),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, crashes, preemptions, operations, bytes, events } = self;
        write!(f, "faults {faults}, crashes {crashes}, preemptions {preemptions}, ")?;
        write!(f, "operations {operations}, bytes {bytes}, events {events}")
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// This event, if it is enabled.
    Take(PathId, Action),
    /// What the policy takes, once.
    Policy,
    /// Poll the current task until it waits.
    GoOn,
}

/// A step that was run.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub path: PathId,
    pub action: Action,
    /// The step it follows: its process's last one, or its creator's.
    pub follows: u32,
    pub accesses: Vec<Access>,
    /// The task that could have gone on instead.
    pub preempts: Option<PathId>,
    /// The policy would have taken another.
    pub is_detour: bool,
}

impl Step {
    pub fn line(&self) -> Line {
        Line::Take(self.path, self.action)
    }

    pub fn polls(&self, task: PathId) -> bool {
        self.path == task && self.action == Action::Poll
    }
}

/// Follows a plan as well as it can, and keeps what was run.
pub(crate) struct Lenient<'a> {
    plan: &'a [Line],
    position: usize,
    /// The task polled last.
    current: Option<PathId>,
    pub steps: Vec<Step>,
    pub cost: Cost,
}

impl<'a> Lenient<'a> {
    pub fn new(plan: &'a [Line]) -> Self {
        Self { plan, position: 0, current: None, steps: Vec::new(), cost: Cost::default() }
    }

    fn current_in(&self, enabled: &[Event]) -> Option<usize> {
        enabled.iter().position(|event| Some(event.path) == self.current)
    }

    fn planned(&mut self, enabled: &[Event], policy: usize) -> Option<usize> {
        while let Some(line) = self.plan.get(self.position) {
            self.position += 1;
            let found = match *line {
                Line::Take(path, action) => {
                    let fits = |event: &Event| event.path == path && event.action == action;
                    let found = enabled.iter().position(fits);
                    if found.is_none() && action == Action::Crash {
                        // Power is lost behind all that an edit may have added.
                        self.position -= 1;
                        return Some(policy);
                    }
                    found
                }
                Line::Policy => Some(policy),
                Line::GoOn => {
                    let goes_on = self.current_in(enabled);
                    self.position -= usize::from(goes_on.is_some());
                    goes_on
                }
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn keep(&mut self, world: &World, enabled: &[Event], event: Event, is_detour: bool) {
        let process = &world.processes[event.process as usize];
        let is_poll = event.action == Action::Poll;
        let other = self.current.filter(|current| is_poll && *current != event.path);
        let preempts = other.filter(|_| self.current_in(enabled).is_some());
        self.cost.add(world, &event, preempts.is_some());
        self.steps.push(Step {
            path: event.path,
            action: event.action,
            follows: process.follows(),
            accesses: Vec::new(),
            preempts,
            is_detour,
        });
        if is_poll {
            self.current = Some(event.path);
        }
    }
}

/// What goes on without a choice: the task polled last; else the first event, and of what an atom may have kept through
/// a power loss the newest.
pub(crate) fn policy(enabled: &[Event], current: Option<PathId>) -> usize {
    let whole = |event: &Event| matches!(event.action, Action::Keep(Kept { over: None, .. }));
    let first = |event: &Event| event.path == enabled[0].path;
    let goes_on = enabled.iter().position(|event| Some(event.path) == current);
    let newest = || enabled.iter().rposition(|event| first(event) && whole(event));
    goes_on.or_else(newest).unwrap_or(0)
}

impl Chooser for Lenient<'_> {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let policy = policy(enabled, self.current);
        let index = self.planned(enabled, policy).unwrap_or(policy);
        self.keep(world, enabled, enabled[index], index != policy);
        Pick::Event(index)
    }

    fn ran(&mut self, _world: &World, _event: Event, accesses: &[Access]) {
        self.steps.last_mut().expect("a-step-was-picked").accesses = accesses.to_vec();
    }
}
