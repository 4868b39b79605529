//! Several searches in one tree. What one of them is at work on is a *work item*: the way to a place, and an event that
//! was entered there and has not run. Whoever has it runs everything behind that event; then it backtracks along the
//! way, and enters what is to be done there and nobody else has entered.
//!
//! Invariants: `one-enters-at-a-time`: while an event is being entered at a place nobody enters another, since the
//! first will sleep then. Whoever passes by meanwhile may leave the place for good: the one who enters comes back to
//! it. `work-is-on-the-way`: what is to be done is at a place on the way of some work item, so that no item left means
//! that all is done.

use alloc::vec::Vec;

use super::races::Lost;
use super::{DepthFirst, Level};
use crate::explore::happens_before::Accesses;

/// The way to a place, and an event entered there: the prefix of the executions that whoever has the item runs next.
/// The places are shared with all others that have passed by them.
pub struct WorkItem {
    pub(super) levels: Vec<Level>,
    pub(super) half_asleep: Vec<usize>,
    pub(super) lost: Vec<Lost>,
}

impl WorkItem {
    /// The whole tree, of which nothing was run yet.
    pub fn whole() -> Self {
        Self { levels: Vec::new(), half_asleep: Vec::new(), lost: Vec::new() }
    }
}

impl DepthFirst {
    /// Gives away the work to be done next at the shallowest place on the way where there is some. Between executions,
    /// when the next was prepared.
    pub fn offer(&mut self) -> Option<WorkItem> {
        let mut levels = self.levels.iter().enumerate();
        let (depth, entered) = levels.find_map(|(depth, level)| Some((depth, level.enter()?)))?;
        let mut levels = self.levels[..=depth].to_vec();
        levels[depth].go_on(entered);
        levels[depth].accesses = self.nothing.clone();
        let earlier = |step: &&usize| **step < depth;
        let half_asleep = self.half_asleep.iter().filter(earlier).copied().collect();
        let lost = self.lost.iter().filter(|lost| lost.step < depth).copied().collect();
        Some(WorkItem { levels, half_asleep, lost })
    }

    /// Gives away all that it has to do. Between executions, when the next was prepared.
    pub fn leave(&mut self) -> WorkItem {
        WorkItem {
            levels: core::mem::take(&mut self.levels),
            half_asleep: core::mem::take(&mut self.half_asleep),
            lost: core::mem::take(&mut self.lost),
        }
    }

    /// Takes up work; there must be none that it is at.
    pub fn adopt(&mut self, item: WorkItem) {
        assert!(self.levels.is_empty(), "one-item-at-a-time");
        let WorkItem { levels, half_asleep, lost } = item;
        self.past = Accesses::default();
        for (step, level) in levels.iter().enumerate() {
            self.past.push(step, &level.accesses);
        }
        (self.levels, self.half_asleep, self.lost) = (levels, half_asleep, lost);
        self.stand_at_top();
    }
}
