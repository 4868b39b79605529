//! Processes: tasks, disk requests, timers and choices.

use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::task::Waker;

use blockyard_runtime::{Io, IoBuffer};
pub(crate) use blockyard_sync::door::BEGINNING;
use blockyard_sync::door::world as door_world;
use blockyard_sync::door::{Access, Orphan, Reason, Wait};
use smallvec::{SmallVec, smallvec};

use crate::body::Body;
use crate::handle::{Operation, Slot};
use crate::paths::{PathId, ROOT};

pub(crate) enum State {
    /// A task; it may be polled when it is woken, or while one of its guards holds, and until a poll has come to its
    /// end.
    Task {
        body: Body,
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
        /// Nothing goes wrong with it.
        spared: bool,
        /// When it has its effect, as long as that is to come; none if that may be at any moment.
        due_ns: Option<u64>,
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

impl State {
    /// A task that may be polled.
    pub fn task(future: Orphan) -> Self {
        Self::Task { body: Body::new(future), woken: true, holding: 0 }
    }
}

pub(crate) struct Process {
    pub path: PathId,
    pub state: State,
    /// What enabled its next event, or the one behind the poll that is under way; several may have.
    pub enablers: SmallVec<[Enabler; 1]>,
    /// Its own last step.
    pub last_step: u32,
    pub created_by: u32,
    /// Somebody woke it without a guard: its polls write its readiness.
    pub woken_plainly: bool,
    /// Its poll began for the sake of guards only, none of which has ceased to hold since.
    pub overlooks: bool,
    /// What the guards looked at that others made fall while a poll was under way.
    pub fallen: Vec<Access>,
    /// What it waits for.
    pub waits: Vec<Wait>,
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
            overlooks: false,
            fallen: Vec::new(),
            waits: Vec::new(),
            next_object: 0,
            children: SmallVec::new(),
        }
    }

    /// The world itself. Its one event, `calm`, comes when nothing else can: nothing that was before it enabled it
    /// alone, so that no race with it can be reversed.
    pub fn root() -> Self {
        Self { enablers: SmallVec::new(), ..Self::new(ROOT, State::Ended, BEGINNING) }
    }

    /// Whether it is a task that paused in the middle of a poll.
    pub fn is_under_way(&self) -> bool {
        matches!(&self.state, State::Task { body, .. } if body.is_under_way())
    }

    /// What enabled its next event: nothing but itself where it paused.
    pub fn enabled_by(&self) -> SmallVec<[Enabler; 1]> {
        match self.is_under_way() {
            true => smallvec![Enabler { step: self.last_step, reason: Reason::Boundary }],
            false => self.enablers.clone(),
        }
    }

    /// The step that it follows: its own last one, or its creator's.
    pub fn follows(&self) -> u32 {
        if self.last_step == BEGINNING { self.created_by } else { self.last_step }
    }
}
