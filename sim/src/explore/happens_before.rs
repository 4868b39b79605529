//! Happens-before over the events of one execution: the closure of dependence and creator → created; and the trace, a
//! hash of it that is equal for executions that differ only in the order of independent steps.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use blockyard_sync::door::{Access, Kind};
use blockyard_units::Id;

use super::chooser::{Chooser, Pick};
use super::sampling::Sampler;
use crate::event::Event;
use crate::hash::Rolling;
use crate::process::BEGINNING;
use crate::world::World;

/// A set of step numbers.
#[derive(Clone, Default, Debug)]
pub struct Steps(Vec<u64>);

impl Steps {
    pub fn insert(&mut self, step: usize) {
        if self.0.len() <= step / 64 {
            self.0.resize(step / 64 + 1, 0);
        }
        self.0[step / 64] |= 1 << (step % 64);
    }

    pub fn contains(&self, step: usize) -> bool {
        self.0.get(step / 64).is_some_and(|word| word & (1 << (step % 64)) != 0)
    }

    pub fn union_with(&mut self, other: &Steps) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    pub fn meets(&self, other: &Steps) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| index * 64 + bit)
        })
    }
}

#[derive(Clone, Copy)]
struct Past {
    step: u32,
    kind: Kind,
    from: u64,
    to: u64,
}

/// Who touched which object, in order.
#[derive(Default)]
pub struct Accesses(BTreeMap<Id, Vec<Past>>);

impl Accesses {
    /// Forgets what step `step` and later ones did.
    pub fn truncate(&mut self, step: usize) {
        for past in self.0.values_mut() {
            while past.last().is_some_and(|last| last.step as usize >= step) {
                past.pop();
            }
        }
    }

    pub fn push(&mut self, step: usize, accesses: &[Access]) {
        let step = u32::try_from(step).expect("steps-are-limited");
        for &Access { object, kind, from, to } in accesses {
            self.0.entry(object).or_default().push(Past { step, kind, from, to });
        }
    }

    /// The steps that conflict with these accesses, latest first, each once.
    pub fn conflicting(&self, accesses: &[Access], steps: &mut Vec<u32>) {
        steps.clear();
        for access in accesses {
            let past = self.0.get(&access.object).map(Vec::as_slice).unwrap_or_default();
            for past in past {
                let overlap = past.from < access.to && access.from < past.to;
                if overlap && past.kind.conflicts(access.kind) {
                    steps.push(past.step);
                }
            }
        }
        steps.sort_unstable_by(|a, b| b.cmp(a));
        steps.dedup();
    }
}

/// Appends to `before`, for each of `steps` (the step it follows, and what it touched), those of them that happen
/// before it. Steps that `before` has already are of a time that ended for all.
pub fn happening_before<'a>(
    before: &mut Vec<Steps>,
    steps: impl Iterator<Item = (u32, &'a [Access])>,
) {
    let since = before.len();
    let mut past = Accesses::default();
    let mut conflicting = Vec::new();
    for (follows, accesses) in steps {
        past.conflicting(accesses, &mut conflicting);
        let own = follows != BEGINNING && follows as usize >= since;
        conflicting.extend(own.then_some(follows));
        // The latest has most of them.
        let latest = conflicting.iter().max();
        let mut earlier = latest.map_or_else(Steps::default, |step| before[*step as usize].clone());
        for &step in &conflicting {
            if !earlier.contains(step as usize) {
                earlier.union_with(&before[step as usize]);
                earlier.insert(step as usize);
            }
        }
        past.push(before.len(), accesses);
        before.push(earlier);
    }
}

/// What a step adds to its execution's trace: the event, what it touched, and what `causes`, the steps that happen
/// before it, added.
pub fn own_trace(
    world: &World,
    event: Event,
    accesses: &[Access],
    causes: impl Iterator<Item = u64>,
) -> u64 {
    let mut own = Rolling::EMPTY;
    own.feed(world.event_hash(event));
    accesses.iter().for_each(|access| own.feed(world.access_hash(access)));
    own.feed(causes.fold(0, u64::wrapping_add));
    own.0
}

/// The trace of an execution under way.
#[derive(Default)]
pub struct Trace {
    past: Accesses,
    /// Of each step: what happens before it, and what it added.
    steps: Vec<(Steps, u64)>,
    conflicting: Vec<u32>,
    hash: u64,
}

impl Trace {
    /// The next step, of a process that follows the step `follows`.
    fn push(&mut self, world: &World, event: Event, follows: u32, accesses: &[Access]) {
        let mut before = Steps::default();
        self.past.conflicting(accesses, &mut self.conflicting);
        let own = Some(follows).filter(|follows| *follows != BEGINNING);
        for cause in own.iter().chain(&self.conflicting) {
            let cause = *cause as usize;
            if !before.contains(cause) {
                before.union_with(&self.steps[cause].0);
                before.insert(cause);
            }
        }
        let causes = before.iter().map(|cause| self.steps[cause].1);
        let own = own_trace(world, event, accesses, causes);
        self.hash = self.hash.wrapping_add(own);
        self.past.push(self.steps.len(), accesses);
        self.steps.push((before, own));
    }
}

/// A sampler's run, whose trace is computed beside it.
pub struct Traced<'a> {
    sampler: &'a mut dyn Sampler,
    trace: Trace,
    follows: u32,
}

impl<'a> Traced<'a> {
    /// A run that is about to begin.
    pub fn new(sampler: &'a mut dyn Sampler) -> Self {
        Self { sampler, trace: Trace::default(), follows: BEGINNING }
    }

    /// The trace so far: equal for equivalent executions, and to that of a depth-first search.
    pub fn hash(&self) -> u64 {
        self.trace.hash
    }
}

impl Chooser for Traced<'_> {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let pick = self.sampler.pick(world, enabled);
        if let Pick::Event(index) = pick {
            self.follows = world.processes[enabled[index].process as usize].follows();
        }
        pick
    }

    fn ran(&mut self, world: &World, event: Event, accesses: &[Access]) {
        self.trace.push(world, event, self.follows, accesses);
        self.sampler.ran(world, event, accesses);
    }
}
