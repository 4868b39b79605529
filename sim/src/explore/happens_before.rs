//! Happens-before over the events of one execution: the closure of dependence and creator → created; and the trace, a
//! hash of it that is equal for executions that differ only in the order of independent steps.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use blockyard_sync::door::{Access, Kind};
use blockyard_units::Id;
use smallvec::SmallVec;

use super::chooser::{Chooser, Pick};
use crate::event::Event;
use crate::process::BEGINNING;
use crate::world::World;

/// A set of step numbers.
#[derive(Clone, Default, Debug)]
pub struct Steps(SmallVec<[u64; 2]>);

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
    from: u64,
    to: u64,
}

/// Who touched an object, in order, by the kind of access.
#[derive(Default)]
struct Touched {
    reads: Vec<Past>,
    writes: Vec<Past>,
    adds: Vec<Past>,
}

impl Touched {
    fn of(&mut self, kind: Kind) -> &mut Vec<Past> {
        match kind {
            Kind::Read => &mut self.reads,
            Kind::Write => &mut self.writes,
            Kind::Add => &mut self.adds,
        }
    }
}

/// Who touched which object.
#[derive(Default)]
pub struct Accesses(BTreeMap<Id, Touched>);

impl Accesses {
    /// Forgets what the last step did.
    pub fn undo(&mut self, accesses: &[Access]) {
        for access in accesses {
            self.0.get_mut(&access.object).and_then(|touched| touched.of(access.kind).pop());
        }
    }

    pub fn push(&mut self, step: usize, accesses: &[Access]) {
        let step = u32::try_from(step).expect("steps-are-limited");
        for &Access { object, kind, from, to } in accesses {
            self.0.entry(object).or_default().of(kind).push(Past { step, from, to });
        }
    }

    /// The steps that conflict with these accesses, latest first, each once.
    pub fn conflicting(&self, accesses: &[Access], steps: &mut Vec<u32>) {
        self.collect(accesses, steps, false);
    }

    /// The same, of each object back to the last step that wrote all that is touched: what conflicts and is older
    /// happens before that step.
    pub fn recent(&self, accesses: &[Access], steps: &mut Vec<u32>) {
        self.collect(accesses, steps, true);
    }

    fn collect(&self, accesses: &[Access], steps: &mut Vec<u32>, recent: bool) {
        steps.clear();
        for access in accesses {
            let Some(Touched { reads, writes, adds }) = self.0.get(&access.object) else {
                continue;
            };
            let overlaps = |past: &Past| past.from < access.to && access.from < past.to;
            let mut since = 0;
            for past in writes.iter().rev().filter(|past| overlaps(past)) {
                steps.push(past.step);
                if recent && past.from <= access.from && access.to <= past.to {
                    since = past.step;
                    break;
                }
            }
            let others: [&[Past]; 2] = match access.kind {
                Kind::Read => [&[], adds],
                Kind::Add => [reads, &[]],
                Kind::Write => [reads, adds],
            };
            for others in others {
                let recent = others.iter().rev().take_while(|past| past.step >= since);
                steps.extend(recent.filter(|past| overlaps(past)).map(|past| past.step));
            }
        }
        if steps.len() > 1 {
            steps.sort_unstable_by(|a, b| b.cmp(a));
            steps.dedup();
        }
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
        past.recent(accesses, &mut conflicting);
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

/// What the step that just ran adds to its execution's trace: the event, what it touched, and `causes`, the sum of what
/// the steps that it follows or directly depends on added.
pub fn own_trace(world: &World, causes: u64) -> u64 {
    let mut own = world.step_hash;
    own.feed(causes);
    own.0
}

/// The trace of an execution under way.
#[derive(Default)]
pub struct Trace {
    past: Accesses,
    /// What each step added.
    steps: Vec<u64>,
    conflicting: Vec<u32>,
    hash: u64,
}

impl Trace {
    /// The next step, of a process that follows the step `follows`.
    fn push(&mut self, world: &World, follows: u32, accesses: &[Access]) {
        self.past.recent(accesses, &mut self.conflicting);
        let own = Some(follows).filter(|follows| *follows != BEGINNING);
        let causes = own.iter().chain(&self.conflicting).map(|cause| self.steps[*cause as usize]);
        let own = own_trace(world, causes.fold(0, u64::wrapping_add));
        self.hash = self.hash.wrapping_add(own);
        self.past.push(self.steps.len(), accesses);
        self.steps.push(own);
    }
}

/// A chooser's run, whose trace is computed beside it.
pub struct Traced<'a> {
    chooser: &'a mut dyn Chooser,
    trace: Trace,
    follows: u32,
}

impl<'a> Traced<'a> {
    /// A run that is about to begin.
    pub fn new(chooser: &'a mut dyn Chooser) -> Self {
        Self { chooser, trace: Trace::default(), follows: BEGINNING }
    }

    /// The trace so far: equal for equivalent executions, and to that of a depth-first search.
    pub fn hash(&self) -> u64 {
        self.trace.hash
    }
}

impl Chooser for Traced<'_> {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let pick = self.chooser.pick(world, enabled);
        if let Pick::Event(index) = pick {
            self.follows = world.processes[enabled[index].process as usize].follows();
        }
        pick
    }

    fn ran(&mut self, world: &World, event: Event, accesses: &[Access]) {
        self.trace.push(world, self.follows, accesses);
        self.chooser.ran(world, event, accesses);
    }
}
