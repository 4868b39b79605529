//! What may happen next.

use crate::paths::PathId;

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// A task runs until it waits.
    Poll,
    /// A disk request takes effect.
    Effect,
    /// A disk request fails with EIO and has no effect.
    Fail,
    /// Whoever submitted a disk request may learn its result.
    Complete,
    /// A write that had its effect is said to have failed with EIO.
    FailLate,
    /// A timer fires.
    Fire,
    /// A choice falls on this alternative.
    Choose(u32),
}

/// An enabled event: at any moment a process has one, or several that exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Event {
    /// The process's path.
    pub path: PathId,
    /// What it does.
    pub action: Action,
    /// The process's number in this execution.
    pub(crate) process: u32,
}

impl Event {
    /// Whether it is the same event, possibly of another execution.
    pub fn same(&self, other: &Event) -> bool {
        self.path == other.path && self.action == other.action
    }
}
