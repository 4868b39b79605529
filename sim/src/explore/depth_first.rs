//! Depth-first search of all executions; plain, or reduced to one execution of each trace.
//!
//! Source: sleep sets (Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996) and
//! source sets (Abdulla, Aronsson, Jonsson, Sagonas, "Optimal Dynamic Partial Order Reduction", POPL 2014, algorithm
//! 1). Differs: dependence is the conflict of recorded footprints; whether a race can be reversed is decided by the
//! steps that enabled the later event.
//!
//! Invariants: `every-trace-once`: a complete execution is equivalent to no other complete one; blocked ones are
//! equivalent to one that was or will be explored. `prefix-repeats`: running the chosen events again leads to the
//! same enabled events.

use alloc::vec::Vec;

use blockyard_sync::door::Access;

use super::chooser::{Chooser, Pick};
use super::happens_before::{Accesses, Steps, own_trace};
use super::wakeup::{Seen, Wakeup, covered};
use crate::event::{Action, Event};
use crate::footprint::conflicts;
use crate::paths::PathId;
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

type Explored = Vec<Seen>;

struct Node {
    event: Event,
    accesses: Vec<Access>,
    /// The steps that happen before this one.
    before: Steps,
    enabled: Vec<Event>,
    /// The processes to explore from here.
    wanted: Vec<PathId>,
    explored: Explored,
    sleeping: Explored,
    /// The sequences to explore from here.
    pending: Wakeup,
    /// The sequences to explore behind the event.
    guide: Wakeup,
    races: Vec<Race>,
    /// The trace up to here, independent of the order of independent steps.
    trace: u64,
    own_trace: u64,
}

/// A step that is to be tried behind this one.
#[derive(Clone)]
enum Race {
    /// It conflicts with this one.
    With(usize),
    /// This one registers a wait, whose guard may have held before that step.
    Hidden(usize, Vec<Access>),
}

/// The search. Its state between executions is the stack of events chosen.
pub struct DepthFirst {
    reduction: Reduction,
    nodes: Vec<Node>,
    past: Accesses,
    depth: usize,
    analysed: usize,
    /// The first step that the last execution did not share with the one before.
    analysed_from: usize,
    /// Of the event just picked: the step it follows, and those that enabled it.
    follows: u32,
    enablers: Vec<Enabler>,
    conflicting: Vec<u32>,
}

impl DepthFirst {
    /// A search that has not begun.
    pub fn new(reduction: Reduction) -> Self {
        Self {
            reduction,
            nodes: Vec::new(),
            past: Accesses::default(),
            depth: 0,
            analysed: 0,
            analysed_from: 0,
            follows: BEGINNING,
            enablers: Vec::new(),
            conflicting: Vec::new(),
        }
    }

    /// The trace of the execution that just ended: equal exactly for equivalent executions.
    pub fn trace(&self) -> u64 {
        self.nodes.last().map_or(0, |node| node.trace)
    }

    /// Prepares the next execution; false if there is none.
    pub fn advance(&mut self) -> bool {
        self.depth = 0;
        if self.reduction == Reduction::Optimal {
            self.reverse_races();
        }
        while let Some(node) = self.nodes.last_mut() {
            let accesses = core::mem::take(&mut node.accesses);
            node.explored.push(Seen { event: node.event, accesses, exact: true });
            if self.reduction == Reduction::Optimal {
                let Node { explored, sleeping, enabled, pending, .. } = node;
                let enters = |event: &Event| {
                    enters(enabled, event, |e| !listed(explored, e) && !listed(sleeping, e))
                };
                if let Some((event, guide)) = pending.take(enters) {
                    let slept =
                        |other: &&Event| !listed(explored, other) && !listed(sleeping, other);
                    for other in alternatives(enabled, event).filter(slept) {
                        pending.insert(Vec::from([unseen(*other)]));
                    }
                    (node.event, node.guide) = (event, guide);
                    node.races.clear();
                    self.analysed = self.nodes.len() - 1;
                    self.analysed_from = self.analysed;
                    self.past.truncate(self.analysed);
                    return true;
                }
                self.nodes.pop();
                continue;
            }
            let is_new = |event: &&Event| {
                node.wanted.contains(&event.path)
                    && !listed(&node.explored, event)
                    && !listed(&node.sleeping, event)
            };
            if let Some(event) = node.enabled.iter().find(is_new) {
                node.event = *event;
                self.analysed = self.nodes.len() - 1;
                self.past.truncate(self.analysed);
                return true;
            }
            self.nodes.pop();
        }
        false
    }

    /// What need not be explored after the last node's event: what was explored before it, or slept already, and
    /// does not depend on it.
    fn sleeping_now(&self) -> Explored {
        let Some(last) = self.nodes.last() else { return Vec::new() };
        if self.reduction == Reduction::Plain {
            return Vec::new();
        }
        let independent = |seen: &&Seen| {
            seen.event.path != last.event.path && !conflicts(&seen.accesses, &last.accesses)
        };
        last.sleeping.iter().chain(&last.explored).filter(independent).cloned().collect()
    }

    fn pick_new(&mut self, enabled: &[Event]) -> Option<Event> {
        let sleeping = self.sleeping_now();
        let awake = |event: &&Event| !listed(&sleeping, event);
        let last = self.nodes.last().map(|node| node.event.path);
        let goes_on = enabled.iter().filter(awake).find(|event| Some(event.path) == last);
        let mut pending = match self.nodes.last_mut() {
            Some(node) => core::mem::take(&mut node.guide),
            None => Wakeup::default(),
        };
        let enters = |event: &Event| enters(enabled, event, |other| awake(&other));
        // A sequence that turns out to be impossible may stand for others that begin as it did.
        let free = || goes_on.or_else(|| enabled.iter().find(awake)).copied();
        let (event, guide) = match pending.take(enters) {
            Some(guided) => guided,
            None => (free()?, Wakeup::default()),
        };
        if self.reduction == Reduction::Optimal {
            for other in alternatives(enabled, event).filter(awake) {
                pending.insert(Vec::from([unseen(*other)]));
            }
        }
        let wanted = match self.reduction {
            Reduction::SourceSets | Reduction::Optimal => Vec::from([event.path]),
            _ => enabled.iter().map(|event| event.path).collect(),
        };
        self.nodes.push(Node {
            event,
            accesses: Vec::new(),
            before: Steps::default(),
            enabled: enabled.to_vec(),
            wanted,
            explored: Vec::new(),
            sleeping,
            pending,
            guide,
            races: Vec::new(),
            trace: 0,
            own_trace: 0,
        });
        Some(event)
    }

    /// Enters the last node into happens-before; wants its races reversed.
    fn analyse(&mut self, world: &World, accesses: &[Access]) {
        let step = self.nodes.len() - 1;
        let mut before = Steps::default();
        if self.follows != BEGINNING {
            before.union_with(&self.nodes[self.follows as usize].before);
            before.insert(self.follows as usize);
        }
        let mut conflicting = core::mem::take(&mut self.conflicting);
        self.past.conflicting(accesses, &mut conflicting);
        let mut guarding = Vec::new();
        self.past.conflicting(world.guards(), &mut guarding);
        // A reversible race covers what lies before it. One that cannot be reversed does not: a timer that fired first
        // hides that it could have been armed later. Nor does one with a guard: that the guard was made true hides
        // that it was true before it was made false.
        let mut covered = before.clone();
        let program_order = before.clone();
        let mut races = Vec::new();
        for &race in &conflicting {
            let earlier = race as usize;
            let closure = &self.nodes[earlier].before;
            let guards = guarding.contains(&race) && !program_order.contains(earlier);
            let open = guards || !covered.contains(earlier);
            if open && self.reversible(world, earlier, step) {
                races.push(earlier);
                if !guards {
                    covered.union_with(closure);
                    covered.insert(earlier);
                }
            }
            before.union_with(closure);
            before.insert(earlier);
        }
        self.conflicting = conflicting;
        let hidden = self.hidden_races(world, step, &before);
        self.note_trace(world, step, &before, accesses);
        let node = &mut self.nodes[step];
        node.accesses.clear();
        node.accesses.extend_from_slice(accesses);
        node.before = before;
        self.past.push(step, accesses);
        if self.reduction == Reduction::Optimal {
            let node = &mut self.nodes[step];
            node.races = races.into_iter().map(Race::With).collect();
            let peeks = || world.peeks().to_vec();
            node.races.extend(hidden.into_iter().map(|earlier| Race::Hidden(earlier, peeks())));
            for disarmed in &world.disarmed {
                if let Some(event) = node.enabled.iter().find(|event| event.path == *disarmed) {
                    node.pending.insert(Vec::from([unseen(*event)]));
                }
            }
        } else if self.reduction == Reduction::SourceSets {
            for earlier in races.into_iter().chain(hidden) {
                self.want_reversed(earlier, step);
            }
            // A timer that this step disarmed leaves no event to race with: it might have fired before.
            let node = &mut self.nodes[step];
            let armed = |path: &&PathId| node.enabled.iter().any(|event| event.path == **path);
            node.wanted.extend(world.disarmed.iter().filter(armed));
        }
    }

    /// Steps that the registration of a wait must also be tried before: its guard may have been true then, and false by
    /// now, so that the wait has no step that would race with them.
    fn hidden_races(&self, world: &World, step: usize, before: &Steps) -> Vec<usize> {
        let mut changes = Vec::new();
        self.past.conflicting(world.peeks(), &mut changes);
        let changes = changes.into_iter().map(|earlier| earlier as usize);
        changes
            .filter(|earlier| !before.contains(*earlier) && self.reversible(world, *earlier, step))
            .collect()
    }

    fn note_trace(&mut self, world: &World, step: usize, before: &Steps, accesses: &[Access]) {
        let causes = before.iter().map(|cause| self.nodes[cause].own_trace);
        let own = own_trace(world, self.nodes[step].event, accesses, causes);
        let rest = if step == 0 { 0 } else { self.nodes[step - 1].trace };
        self.nodes[step].own_trace = own;
        self.nodes[step].trace = rest.wrapping_add(own);
    }

    /// Whether the event of `later` could have run before that of `earlier`: something enabled it that does not come
    /// from `earlier`. A guard that another step made true may have been true before `earlier` too, and is taken to
    /// have been.
    fn reversible(&self, world: &World, earlier: usize, later: usize) -> bool {
        let (first, second) = (self.nodes[earlier].event, self.nodes[later].event);
        if first.action == Action::Fire && second.action == Action::Fire {
            return world.timers_tie(first.process, second.process);
        }
        self.enablers.iter().any(|&Enabler { step, guarded }| {
            let enabler = step as usize;
            step == BEGINNING
                || enabler != earlier && (guarded || !self.nodes[enabler].before.contains(earlier))
        })
    }

    /// Wants the races of the new steps reversed, now that all that could come before is known.
    fn reverse_races(&mut self) {
        for later in self.analysed_from..self.nodes.len() {
            for race in core::mem::take(&mut self.nodes[later].races) {
                let (Race::With(earlier) | Race::Hidden(earlier, _)) = race;
                let until =
                    if matches!(race, Race::With(_)) { self.nodes.len() } else { later + 1 };
                let apart =
                    (earlier + 1..until).filter(|step| !self.nodes[*step].before.contains(earlier));
                let seen = |step: usize| {
                    let Node { event, accesses, .. } = &self.nodes[step];
                    Seen { event: *event, accesses: accesses.clone(), exact: step != later }
                };
                let mut sequence: Vec<Seen> = apart.map(seen).collect();
                match race {
                    Race::With(_) => sequence.push(seen(later)),
                    Race::Hidden(_, peeks) => {
                        let event = Event { action: Action::Poll, ..self.nodes[later].event };
                        sequence.push(Seen { event, accesses: peeks, exact: false });
                    }
                }
                if !covered(&self.nodes[earlier].sleeping, &sequence)
                    && !covered(&self.nodes[earlier].explored, &sequence)
                {
                    self.nodes[earlier].pending.insert(sequence);
                }
            }
        }
    }

    /// Sees to it that from before `earlier` an execution is explored in which `later` comes first.
    fn want_reversed(&mut self, earlier: usize, later: usize) {
        let mut between = Steps::default();
        let mut first = None;
        for step in earlier + 1..=later {
            let node = &self.nodes[step];
            if step != later && node.before.contains(earlier) {
                continue;
            }
            if !node.before.meets(&between) {
                if self.nodes[earlier].wanted.contains(&node.event.path) {
                    return;
                }
                first = first.or(Some(node.event.path));
            }
            between.insert(step);
        }
        let node = &mut self.nodes[earlier];
        match first.filter(|path| node.enabled.iter().any(|event| event.path == *path)) {
            Some(path) => node.wanted.push(path),
            // It was enabled by something that the footprints do not order: try everything.
            None => node.wanted = node.enabled.iter().map(|event| event.path).collect(),
        }
    }
}

/// The other events that `event`'s process could have instead.
fn alternatives(enabled: &[Event], event: Event) -> impl Iterator<Item = &Event> {
    enabled.iter().filter(move |other| other.path == event.path && **other != event)
}

/// Where `event` is to be explored: that event, or another of its process's, which may have others here than where it
/// was seen; its alternatives follow.
fn enters(enabled: &[Event], event: &Event, awake: impl Fn(&Event) -> bool) -> Option<Event> {
    let own = || enabled.iter().filter(|other| other.path == event.path && awake(other));
    let same = enabled.iter().find(|other| other.same(event));
    if let Some(same) = same { own().find(|other| *other == same) } else { own().next() }.copied()
}

fn unseen(event: Event) -> Seen {
    Seen { event, accesses: Vec::new(), exact: false }
}

fn listed(events: &Explored, event: &Event) -> bool {
    events.iter().any(|other| other.event.same(event))
}

impl Chooser for DepthFirst {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let event = match self.nodes.get(self.depth) {
            Some(node) => node.event,
            None => match self.pick_new(enabled) {
                Some(event) => event,
                None => return Pick::Blocked,
            },
        };
        let process = &world.processes[event.process as usize];
        self.follows = process.follows();
        self.enablers.clone_from(&process.enablers);
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
