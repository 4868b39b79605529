//! What a power loss has left, decided bit by bit: the moment of the loss, and which writes had reached the medium.
//!
//! The tasks have run to their end before power is said to have been lost; at which moment is left open. What had
//! happened by then, the *cut*, is a set of steps that contains, with a step, all that happens before it. A version of
//! an atom that recovery finds says that its write had taken effect, and that no promise of a later one (a flush
//! completed, a FUA write completed) had been given. So a [`Claim`] is two sets: what must have happened, and what must
//! not have; and claims are compatible if the first set of either does not meet the second set of the other.
//!
//! Invariant `every-fate-goes-on`: whatever was claimed, of each further atom some version is permitted. Proof: take
//! the least cut, which is what must have happened, and of the atom the newest version that the promises inside that
//! cut vouch for. Its write is in the cut; and no promise of a newer one is, or that one would have been vouched for.

use alloc::vec::Vec;

use blockyard_sync::door::Access;

use crate::explore::{Steps, happening_before};

/// What one version of an atom, or several of them together, say about the moment of the power loss.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claim {
    /// Steps that had happened, with all that happens before them.
    pub happened: Steps,
    /// Steps that had not.
    pub never: Steps,
    /// Effects of writes of ordered disks that had reached the medium whole, with all earlier ones.
    pub kept: Steps,
    /// Effects of such writes that had not.
    pub lost: Steps,
}

impl Claim {
    /// Whether both may be true.
    pub fn permits(&self, other: &Self) -> bool {
        let bars = |a: &Self, b: &Self| a.happened.meets(&b.never) || a.kept.meets(&b.lost);
        !bars(self, other) && !bars(other, self)
    }

    /// Says what `other` says, too.
    pub fn join(&mut self, other: &Self) {
        self.happened.union_with(&other.happened);
        self.never.union_with(&other.never);
        self.kept.union_with(&other.kept);
        self.lost.union_with(&other.lost);
    }
}

/// A step that a power loss may undo.
#[derive(Clone)]
struct Step {
    follows: u32,
    /// Where its accesses end.
    end: usize,
}

/// The steps of a run, and what is known about its power losses. Each loss has a cut of the steps since the one
/// before; they are numbered through, so the cuts are sets of one kind.
#[derive(Clone, Default)]
pub(crate) struct Fate {
    /// Those since the last power loss.
    steps: Vec<Step>,
    accesses: Vec<Access>,
    /// Of each step until the last power loss: the steps of its era that happen before it.
    before: Vec<Steps>,
    /// What the versions picked say.
    claimed: Claim,
    /// What all versions that could be picked at the last power loss say.
    open: Claim,
}

impl Fate {
    /// A run that has not begun.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The next step, of a process that follows the step `follows`.
    pub fn push(&mut self, follows: u32, accesses: &[Access]) {
        self.accesses.extend_from_slice(accesses);
        self.steps.push(Step { follows, end: self.accesses.len() });
    }

    /// Power is lost somewhere among the steps since the last time.
    pub fn lose_power(&mut self) {
        let mut begin = 0;
        let accesses = &self.accesses;
        let steps = self.steps.iter().map(|step| {
            let own = &accesses[begin..step.end];
            begin = step.end;
            (step.follows, own)
        });
        happening_before(&mut self.before, steps);
        self.steps.clear();
        self.accesses.clear();
        self.open = Claim::default();
    }

    /// The steps that happen before `step`, of an era that has ended.
    pub fn before(&self, step: u32) -> &Steps {
        &self.before[step as usize]
    }

    /// Whether one step happens before another, of eras that have ended.
    pub fn orders(&self, earlier: u32, later: u32) -> bool {
        self.before.get(later as usize).is_some_and(|before| before.contains(earlier as usize))
    }

    /// Says that a version may be picked.
    pub fn offer(&mut self, claim: &Claim) {
        self.open.join(claim);
    }

    /// Whether a version may be picked, after those that were.
    pub fn permits(&self, claim: &Claim) -> bool {
        self.claimed.permits(claim)
    }

    /// Whether picking this could bar, or be barred by, what is picked elsewhere.
    pub fn is_linked(&self, claim: &Claim) -> bool {
        !self.open.permits(claim)
    }

    /// Picks a version.
    pub fn pick(&mut self, claim: &Claim) {
        self.claimed.join(claim);
    }

    /// The greatest cut that the versions picked permit.
    pub fn cut(&self) -> Cut {
        self.cut_of(&self.claimed)
    }

    /// The greatest cut that a claim permits.
    pub fn cut_of(&self, claim: &Claim) -> Cut {
        let never = &claim.never;
        if never.iter().next().is_none() {
            return Cut::default();
        }
        let mut undone = never.clone();
        for (step, before) in self.before.iter().enumerate() {
            if before.meets(never) {
                undone.insert(step);
            }
        }
        Cut { undone }
    }
}

/// What had happened before power was lost: the greatest set of steps that what recovery found permits. Recovery would
/// have found the same with fewer of them; so whoever judges must be *monotone*: the more was acknowledged, the more
/// is demanded. What holds for the greatest cut then holds for all.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    undone: Steps,
}

impl Cut {
    /// Whether the step of this number, see [`SimHandle::observe_step`](crate::SimHandle::observe_step), had happened.
    /// Steps of recovery have, as long as power is not lost again.
    pub fn contains(&self, step: u32) -> bool {
        !self.undone.contains(step as usize)
    }

    /// The first step that had not happened, if there is one.
    pub fn first_undone(&self) -> Option<u32> {
        self.undone.iter().next().map(|step| u32::try_from(step).expect("steps-are-limited"))
    }
}
