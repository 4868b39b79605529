//! What may happen next.

use serde::{Deserialize, Serialize};

use crate::disk::Fault;
use crate::paths::PathId;

/// What an atom of a disk has kept through a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Kept {
    /// Its offset.
    pub atom: u64,
    /// 0 is the durable version; those of later writes follow in order.
    pub version: u32,
    /// Of the version only the first half; the second is that of this older one.
    pub over: Option<u32>,
}

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// A task runs until it waits; by door, also until its next operation but one is announced.
    Poll,
    /// A disk request takes effect.
    Effect,
    /// Whoever submitted a disk request may learn its result.
    Complete,
    /// A disk request goes wrong, in the place of its effect or of its completion.
    Fault(Fault),
    /// A timer fires.
    Fire,
    /// A choice falls on this alternative.
    Choose(u32),
    /// Nothing else can go on: faults end, and whatever they held up goes on.
    Calm,
    /// An undecided atom that a disk request needs has kept this through the power loss.
    Keep(Kept),
    /// Power is not lost.
    End,
    /// Power was lost, at some moment that is not decided yet.
    Crash,
}

/// An enabled event: at any moment a process has one, or several that exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
