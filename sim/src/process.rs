//! Processes: tasks, disk requests, timers and choices.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::task::Waker;

use blockyard_runtime::{Io, IoBuffer};
pub(crate) use blockyard_sync::door::BEGINNING;
use blockyard_sync::door::world as door_world;
use blockyard_sync::door::{Access, Orphan, Reason};
use smallvec::{SmallVec, smallvec};

use crate::handle::{Operation, Slot};
use crate::paths::{PathId, ROOT};

pub(crate) enum State {
    /// A task; it may be polled when it is woken, or while one of its guards holds.
    Task {
        body: Orphan,
        woken: bool,
        holding: u32,
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
    pub enablers: SmallVec<[Enabler; 1]>,
    /// Its own last step.
    pub last_step: u32,
    pub created_by: u32,
    /// Somebody woke it without a guard: its polls write its readiness.
    pub woken_plainly: bool,
    pub next_object: u32,
    /// How many children of each name it has, by the name's number among the path's.
    pub children: SmallVec<[(u32, u32); 2]>,
}

/// A step that enabled a process's next event.
#[derive(Clone, Copy)]
pub(crate) struct Enabler {
    pub step: u32,
    /// Why a task became ready; a process that is no task always has its next event.
    pub reason: Reason,
}

impl Enabler {
    /// What the guard looks at that it made true; and whether others than this step may make it true.
    pub fn guard(&self) -> Option<(Access, bool)> {
        match self.reason {
            Reason::Guard(access) => Some((access, true)),
            Reason::Handed(access) | Reason::Since(access, _) => Some((access, false)),
            Reason::Waker | Reason::Boundary | Reason::Fell(_) => None,
        }
    }
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
            enablers: smallvec![Enabler { step: created_by, reason: Reason::Waker }],
            last_step: BEGINNING,
            created_by,
            woken_plainly: false,
            next_object: 0,
            children: SmallVec::new(),
        }
    }

    /// The world itself. Its one event, `calm`, comes when nothing else can: nothing that was before it enabled it
    /// alone, so that no race with it can be reversed.
    pub fn root() -> Self {
        Self { enablers: SmallVec::new(), ..Self::new(ROOT, State::Ended, BEGINNING) }
    }

    /// The step that it follows: its own last one, or its creator's.
    pub fn follows(&self) -> u32 {
        if self.last_step == BEGINNING { self.created_by } else { self.last_step }
    }
}
