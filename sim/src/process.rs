//! Processes: tasks, disk requests, timers and choices.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::task::Waker;

use blockyard_runtime::{Io, IoBuffer};
use blockyard_sync::door::Orphan;
use blockyard_sync::door::world as door_world;

use crate::handle::{Operation, Slot};
use crate::paths::{PathId, ROOT};

/// Before the first step.
pub(crate) const BEGINNING: u32 = u32::MAX;

pub(crate) enum State {
    /// A task; ready once it may be polled.
    Task {
        body: Orphan,
        ready: bool,
    },
    Request {
        disk: u32,
        operation: Operation,
        slot: Slot<Io<IoBuffer>>,
        result: Option<Io<IoBuffer>>,
        /// Nothing happens to it before faults end.
        stuck: bool,
    },
    Timer {
        number: u64,
        deadline_ns: u64,
        slot: Slot<()>,
    },
    Choice {
        alternatives: u32,
        slot: Slot<u32>,
    },
    Ended,
}

pub(crate) struct Process {
    pub path: PathId,
    pub state: State,
    /// What enabled its next event; several may have.
    pub enablers: Vec<Enabler>,
    /// Its own last step.
    pub last_step: u32,
    pub created_by: u32,
    /// Somebody woke it without a guard: its polls write its readiness.
    pub woken_plainly: bool,
    pub next_object: u32,
    pub draws: u64,
    pub children: Vec<(String, u32)>,
}

/// A step that enabled a process's next event.
#[derive(Clone, Copy)]
pub(crate) struct Enabler {
    pub step: u32,
    /// By making a guard true: it may have been true before, and made false by others in between.
    pub guarded: bool,
}

/// The waker of the task with this number.
pub(crate) fn waker(task: u32) -> Waker {
    Waker::from(Arc::new(TaskWaker(task)))
}

struct TaskWaker(u32);

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        door_world::wake(self.0);
    }
    fn wake_by_ref(self: &Arc<Self>) {
        door_world::wake(self.0);
    }
}

impl Process {
    pub fn new(path: PathId, state: State, created_by: u32) -> Self {
        Self {
            path,
            state,
            enablers: Vec::from([Enabler { step: created_by, guarded: false }]),
            last_step: BEGINNING,
            created_by,
            woken_plainly: false,
            next_object: 0,
            draws: 0,
            children: Vec::new(),
        }
    }

    /// The world itself. Its one event, `calm`, comes when nothing else can: nothing that was before it enabled it
    /// alone, so that no race with it can be reversed.
    pub fn root() -> Self {
        Self { enablers: Vec::new(), ..Self::new(ROOT, State::Ended, BEGINNING) }
    }

    /// The step that it follows: its own last one, or its creator's.
    pub fn follows(&self) -> u32 {
        if self.last_step == BEGINNING { self.created_by } else { self.last_step }
    }
}
