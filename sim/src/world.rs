//! The world: processes, the events they enable, and one step after another.
//!
//! Invariant `runnable-is-exact`: a process is listed as runnable exactly while it has an enabled event (timers
//! apart: of the armed ones those of least deadline are enabled, in untimed mode at any moment).

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::{Context, Waker};

use blockyard_runtime::{IoErrorKind, Runtime};
use blockyard_sync::door::world as door_world;
use blockyard_sync::door::{self, Access, Kind, Reason, StepLog};

use crate::disk::{self, DiskImage, Fate, SimDisk};
use crate::event::{Action, Event};
use crate::explore::Finding;
use crate::footprint;
use crate::handle::{Operation, Post, SimHandle};
use crate::hash::Rolling;
use crate::paths::{PathId, PathTable, ROOT};
use crate::process::{self, BEGINNING, Enabler, Process, State};

/// How much may go wrong in one execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Requests that fail with EIO.
    pub faults: u32,
    /// Power losses, of programs that recover.
    pub crashes: u32,
}

/// A simulated world, reset before each execution.
pub struct World {
    pub(crate) paths: PathTable,
    pub(crate) processes: Vec<Process>,
    pub(crate) handle: SimHandle,
    pub(crate) disks: Vec<SimDisk>,
    wakers: Vec<Waker>,
    runnable: Vec<u32>,
    timers: Vec<u32>,
    /// The timers that the last step disarmed.
    pub(crate) disarmed: Vec<PathId>,
    log: StepLog,
    pub(crate) budgets: Budgets,
    faults_left: u32,
    pub(crate) crashes_left: u32,
    pub(crate) fate: Fate,
    pub(crate) steps: u32,
    pub(crate) rolling: Rolling,
    pub(crate) marks: BTreeSet<&'static str>,
    notes: Vec<String>,
}

impl World {
    /// A world with these disks.
    pub fn new(images: &[DiskImage], budgets: Budgets, seed: u64) -> Self {
        let handle = SimHandle::default();
        handle.mailbox.with(|mailbox| mailbox.seed = seed);
        let number = |index: usize| u32::try_from(index).expect("disks-are-few");
        let disk = |(index, image)| SimDisk::new(number(index), image, handle.clone());
        let disks = images.iter().enumerate().map(disk).collect();
        let mut world = Self {
            paths: PathTable::new(),
            processes: Vec::new(),
            handle,
            disks,
            wakers: Vec::new(),
            runnable: Vec::new(),
            timers: Vec::new(),
            disarmed: Vec::new(),
            log: StepLog::default(),
            budgets,
            faults_left: 0,
            crashes_left: 0,
            fate: Fate::default(),
            steps: 0,
            rolling: Rolling::EMPTY,
            marks: BTreeSet::new(),
            notes: Vec::new(),
        };
        world.reset();
        world
    }

    /// Back to the beginning, with the disks as their images have them. No task's destructor goes through the door.
    pub fn reset(&mut self) {
        self.drop_everything();
        self.processes.clear();
        let track = self.budgets.crashes > 0;
        for disk in &self.disks {
            disk.reset(track);
        }
        self.handle.mailbox.with(|mailbox| {
            mailbox.now_ns = 0;
            mailbox.timers = 0;
        });
        self.faults_left = self.budgets.faults;
        self.crashes_left = self.budgets.crashes;
        self.fate.clear();
        self.steps = 0;
        self.rolling = Rolling::EMPTY;
        self.notes.clear();
        self.processes.push(Process::new(ROOT, State::Ended, BEGINNING));
    }

    /// Another seed for the random numbers that tasks draw, from the next reset on.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.handle.mailbox.with(|mailbox| mailbox.seed = seed);
    }

    /// Every process is gone, and none of their destructors went through the door.
    pub(crate) fn drop_everything(&mut self) {
        self.runnable.clear();
        self.timers.clear();
        for process in &mut self.processes {
            process.state = State::Ended;
        }
        loop {
            door_world::abandon();
            // Dropped outside the mailbox: what dies here may post or bequeath again, and that is forgotten too.
            let posts = self.handle.mailbox.with(|mailbox| core::mem::take(&mut mailbox.posts));
            if posts.is_empty() {
                break;
            }
        }
        self.handle.mailbox.with(|mailbox| mailbox.findings.clear());
    }

    /// Runs `set_up` as the world's own first step, or as part of the power loss just now; what it spawns are the
    /// world's actors.
    pub fn begin<R>(&mut self, set_up: impl FnOnce(&Runtime) -> R) -> R {
        let runtime = self.handle.runtime();
        let step = self.processes[0].last_step;
        self.announce(0, step);
        door_world::begin(ROOT, self.processes[0].next_object);
        let result = set_up(&runtime);
        self.finish_step(0, step);
        result
    }

    /// What the last step looked at to see whether it may go on.
    pub(crate) fn guards(&self) -> &[Access] {
        &self.log.guards
    }

    /// What the last step looked at only to see whether there will be a next one.
    pub(crate) fn peeks(&self) -> &[Access] {
        &self.log.peeks
    }

    /// The disk called `name`.
    pub fn disk(&self, name: &str) -> Option<SimDisk> {
        use blockyard_runtime::Storage;
        self.disks.iter().find(|disk| disk.name() == name).cloned()
    }

    /// The handle that observers hold.
    pub fn handle(&self) -> SimHandle {
        self.handle.clone()
    }

    /// What the disks hold, one hash each.
    pub fn disk_digests(&self) -> Vec<u64> {
        disk::digest(&self.disks)
    }

    /// The tasks that have not ended.
    pub fn unfinished(&self) -> Vec<&str> {
        let unfinished = |process: &&Process| matches!(process.state, State::Task { .. });
        self.processes.iter().filter(unfinished).map(|p| self.paths.label(p.path)).collect()
    }

    /// What the last step said it did, if somebody listens.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(crate) fn take_finding(&mut self) -> Option<Finding> {
        self.handle.mailbox.with(|mailbox| {
            if mailbox.findings.is_empty() { None } else { Some(mailbox.findings.remove(0)) }
        })
    }

    /// The enabled events, in canonical order: by the label of their process.
    pub fn enabled(&self, events: &mut Vec<Event>) {
        events.clear();
        for &process in &self.runnable {
            self.events_of(process, events);
        }
        let deadline = |timer: &u32| match &self.processes[*timer as usize].state {
            State::Timer { deadline_ns, .. } => *deadline_ns,
            _ => u64::MAX,
        };
        if let Some(least) = self.timers.iter().map(deadline).min() {
            for &process in self.timers.iter().filter(|timer| deadline(timer) == least) {
                let path = self.processes[process as usize].path;
                events.push(Event { path, action: Action::Fire, process });
            }
        }
        let key = |event: &Event| (self.paths.label(event.path), event.action);
        events.sort_by(|a, b| key(a).cmp(&key(b)));
    }

    fn events_of(&self, process: u32, events: &mut Vec<Event>) {
        let Process { path, state, .. } = &self.processes[process as usize];
        let mut push = |action| events.push(Event { path: *path, action, process });
        match state {
            State::Task { .. } => push(Action::Poll),
            State::Request { result: Some(result), operation, .. } => {
                push(Action::Complete);
                let wrote = result.is_ok() && matches!(operation, Operation::Write { .. });
                if self.faults_left > 0 && wrote {
                    push(Action::FailLate);
                }
            }
            State::Request { disk, operation, .. } => {
                let undecided = self.undecided(*disk, operation);
                if let Some(undecided) = undecided.filter(|atom| atom.permitted.len() > 1) {
                    return undecided
                        .permitted
                        .into_iter()
                        .for_each(|kept| push(Action::Keep(kept)));
                }
                push(Action::Effect);
                let may_fail = matches!(operation, Operation::Read(_) | Operation::Write { .. });
                if self.faults_left > 0 && may_fail {
                    push(Action::Fail);
                }
            }
            State::Choice { alternatives, .. } => {
                (0..*alternatives).for_each(|n| push(Action::Choose(n)))
            }
            State::Timer { .. } | State::Ended => {}
        }
    }

    /// Whether `later`, a timer's firing, could have come before `earlier`, another's.
    pub(crate) fn timers_tie(&self, earlier: u32, later: u32) -> bool {
        let deadline = |process: u32| match self.processes[process as usize].state {
            State::Timer { deadline_ns, .. } => Some(deadline_ns),
            _ => None,
        };
        deadline(earlier) == deadline(later)
    }

    /// Runs one event; the footprint is left in `accesses`.
    ///
    /// # Errors
    /// The message of a panic; the world can then only be reset.
    pub fn step(&mut self, event: Event, accesses: &mut Vec<Access>) -> Result<(), String> {
        let step = self.steps;
        self.steps += 1;
        let index = event.process as usize;
        let follows = self.processes[index].follows();
        if event.action == Action::Crash {
            self.lose_power();
        }
        self.announce(index, step);
        door_world::begin(self.processes[index].path, self.processes[index].next_object);
        let ran = door_world::catch_panic(|| self.run(event));
        if let Err(panic) = ran {
            door_world::abandon();
            accesses.clear();
            return Err(panic);
        }
        self.processes[index].last_step = step;
        self.finish_step(event.process, step);
        core::mem::swap(accesses, &mut self.log.accesses);
        self.note_for_power_loss(follows, accesses);
        self.hash(event, accesses);
        Ok(())
    }

    /// Tells the mailbox whose step it is.
    fn announce(&self, index: usize, step: u32) {
        let Process { path, draws, .. } = &self.processes[index];
        self.handle.mailbox.with(|mailbox| {
            mailbox.running = self.paths.hash(*path);
            mailbox.draws = *draws;
            mailbox.step = step;
        });
    }

    fn run(&mut self, event: Event) {
        let process = event.process;
        match event.action {
            Action::Poll => self.poll(process),
            Action::Effect => self.effect(process, true),
            Action::Fail => {
                self.inject();
                self.effect(process, false);
            }
            Action::Complete => self.complete(process, true),
            Action::FailLate => {
                self.inject();
                self.complete(process, false);
            }
            Action::Fire => self.fire(process),
            Action::Choose(alternative) => {
                if let State::Choice { slot, .. } = self.end(process) {
                    slot.write(|slot| *slot = Some(alternative));
                }
            }
            Action::Keep(kept) => self.keep(process, kept),
            Action::End | Action::Crash => door::enter(footprint::power(Kind::Write)),
        }
    }

    fn poll(&mut self, index: u32) {
        let process = &mut self.processes[index as usize];
        process.enablers.clear();
        if process.woken_plainly {
            door::enter(footprint::readiness(process.path, Kind::Write));
        }
        let State::Task { body, ready } = &mut process.state else {
            unreachable!("runnable-is-exact")
        };
        *ready = false;
        self.runnable.retain(|runnable| *runnable != index);
        let mut context = Context::from_waker(&self.wakers[index as usize]);
        if body.as_mut().poll(&mut context).is_ready() {
            process.state = State::Ended;
        }
    }

    fn effect(&mut self, index: u32, well: bool) {
        let step = self.steps - 1;
        let process = &mut self.processes[index as usize];
        process.enablers = Vec::from([Enabler { step, guarded: false }]);
        let State::Request { disk, operation, result, .. } = &mut process.state else {
            unreachable!("runnable-is-exact")
        };
        let (disk, fate) = (&self.disks[*disk as usize], &mut self.fate);
        let mut effect = || disk.take_effect(operation, index, step, fate);
        *result = Some(if well { Ok(effect()) } else { Err(IoErrorKind::Io) });
    }

    fn inject(&mut self) {
        self.faults_left -= 1;
        door::enter(footprint::fault_budget(Kind::Write));
    }

    fn complete(&mut self, index: u32, well: bool) {
        let State::Request { disk, operation, slot, result } = self.end(index) else {
            unreachable!("runnable-is-exact")
        };
        let result = if well { result } else { Some(Err(IoErrorKind::Io)) };
        if matches!(result, Some(Ok(_))) {
            let submitted = self.processes[index as usize].created_by;
            self.disks[disk as usize].complete(&operation, index, submitted, self.steps - 1);
        }
        slot.write(|slot| *slot = result);
    }

    fn fire(&mut self, index: u32) {
        door::enter(footprint::clock(Kind::Write));
        self.timers.retain(|timer| *timer != index);
        if let State::Timer { deadline_ns, slot, .. } = &self.processes[index as usize].state {
            let now_ns = *deadline_ns;
            self.handle.mailbox.with(|mailbox| mailbox.now_ns = mailbox.now_ns.max(now_ns));
            slot.write(|slot| *slot = Some(()));
        }
    }

    fn end(&mut self, index: u32) -> State {
        self.runnable.retain(|runnable| *runnable != index);
        core::mem::replace(&mut self.processes[index as usize].state, State::Ended)
    }

    /// Shuts the door and does what the step asked for.
    fn finish_step(&mut self, index: u32, step: u32) {
        self.processes[index as usize].next_object = door_world::end(&mut self.log);
        self.wake_tasks(step);
        let (mut posts, draws) =
            self.handle.mailbox.with(|m| (core::mem::take(&mut m.posts), m.draws));
        self.processes[index as usize].draws = draws;
        self.disarmed.clear();
        for post in posts.drain(..) {
            self.take_post(index, step, post);
        }
        self.handle.mailbox.with(|mailbox| mailbox.posts = posts);
        for orphan in core::mem::take(&mut self.log.orphans) {
            self.create(index, step, "+", State::Task { body: orphan, ready: true });
        }
        self.marks.extend(self.log.marks.drain(..));
        core::mem::swap(&mut self.notes, &mut self.log.notes);
    }

    fn wake_tasks(&mut self, step: u32) {
        for index in 0..self.log.wakes.len() {
            let wake = self.log.wakes[index];
            let process = &mut self.processes[wake.task as usize];
            if let State::Task { ready, .. } = &mut process.state {
                if !core::mem::replace(ready, true) {
                    self.runnable.push(wake.task);
                }
                process.enablers.push(Enabler { step, guarded: wake.reason == Reason::Guard });
            }
            if wake.reason == Reason::Waker {
                process.woken_plainly = true;
                self.log.accesses.push(footprint::readiness(process.path, Kind::Add));
            }
        }
    }

    fn take_post(&mut self, creator: u32, step: u32, post: Post) {
        match post {
            Post::Spawn { name, task } => {
                self.create(creator, step, &name, State::Task { body: task, ready: true });
            }
            Post::Request { disk, operation, slot } => {
                let state = State::Request { disk, operation, slot, result: None };
                self.create(creator, step, "#", state);
            }
            Post::Choice { alternatives, slot } => {
                self.create(creator, step, "?", State::Choice { alternatives, slot });
            }
            Post::Arm { timer, deadline_ns, slot } => {
                let state = State::Timer { number: timer, deadline_ns, slot };
                self.create(creator, step, "@", state);
            }
            Post::Disarm { timer } => {
                let disarmed = |index: &mut u32| match self.processes[*index as usize].state {
                    State::Timer { number, .. } => number == timer,
                    _ => false,
                };
                let gone = self.timers.extract_if(.., disarmed);
                self.disarmed.extend(gone.map(|index| self.processes[index as usize].path));
            }
        }
    }

    fn create(&mut self, creator: u32, step: u32, name: &str, state: State) {
        let parent = &mut self.processes[creator as usize];
        let occurrence = match parent.children.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => {
                *count += 1;
                *count - 1
            }
            None => {
                parent.children.push((name.into(), 1));
                0
            }
        };
        let path = self.paths.intern(parent.path, name, occurrence);
        let index = u32::try_from(self.processes.len()).expect("processes-are-few");
        match state {
            State::Timer { .. } => self.timers.push(index),
            _ => self.runnable.push(index),
        }
        self.processes.push(Process::new(path, state, step));
        while self.wakers.len() <= index as usize {
            let next = u32::try_from(self.wakers.len()).expect("processes-are-few");
            self.wakers.push(process::waker(next));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.drop_everything();
    }
}
