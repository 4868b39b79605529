//! Happens-before over the events of one execution: the closure of dependence and creator → created.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use blockyard_sync::door::{Access, Kind};
use blockyard_units::Id;

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
