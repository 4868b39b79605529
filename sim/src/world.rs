//! The world: processes, the events they enable, and one step after another.
//!
//! Invariant `runnable-is-exact`: a process is listed as runnable exactly while it has an enabled event (timers
//! apart: of the armed ones those of least deadline are enabled, in untimed mode at any moment; in timed mode, in which
//! requests are like them until they are due, when nothing else is).

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::task::Waker;

use blockyard_runtime::{IoErrorKind, Runtime};
use blockyard_sync::door::world as door_world;
use blockyard_sync::door::{self, Access, Kind, Passage, Reason, StepLog};
use blockyard_units::Id;
use smallvec::smallvec;

use crate::body::Granularity;
use crate::disk::{self, Author, Copies, DiskImage, Families, Family, Fate, Fault, SimDisk};
use crate::event::{Action, Event};
use crate::explore::Finding;
use crate::footprint;
use crate::handle::{Post, SimHandle};
use crate::hash::Rolling;
use crate::paths::{Numbers, PathTable, ROOT};
use crate::power;
use crate::process::{self, BEGINNING, Enabler, Process, State};
use crate::time::{Pipe, Time};

/// How much may go wrong in one execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budgets {
    /// Requests that go wrong.
    pub faults: u32,
    /// In which ways they may.
    pub families: Families,
    /// Power losses, of programs that recover.
    pub crashes: u32,
}

impl Budgets {
    /// Nothing goes wrong; a fault would be one of the default families.
    pub const NONE: Self = Self { faults: 0, families: Families::DEFAULT, crashes: 0 };

    /// Whether a fault of this family may be injected.
    pub(crate) fn has(&self, family: Family) -> bool {
        self.faults > 0 && self.families.contains(family)
    }
}

/// A simulated world, reset before each execution.
pub struct World {
    pub(crate) paths: PathTable,
    pub(crate) processes: Vec<Process>,
    pub(crate) handle: SimHandle,
    pub(crate) disks: Vec<SimDisk>,
    /// What a task's step is, from the next reset on.
    pub granularity: Granularity,
    /// Whether requests take time, from the next reset on.
    pub time: Time,
    /// Of each disk.
    pub(crate) pipes: Vec<Pipe>,
    /// Whether values keep what they were.
    pub(crate) remembers: bool,
    wakers: Vec<Waker>,
    /// In canonical order: by the label of the path.
    pub(crate) runnable: Vec<u32>,
    /// Those who wait for the clock: armed timers and, timed, requests.
    pub(crate) timers: Vec<u32>,
    /// What the last step made impossible for others, and what each had looked at to be possible.
    pub(crate) lost: Vec<(Event, Access)>,
    /// What the task of the last step waited for and did not look at.
    pub(crate) unseen: Vec<Access>,
    pub(crate) log: StepLog,
    posts: Vec<Post>,
    /// Whether a finding waits in the mailbox.
    found: bool,
    pub(crate) budgets: Budgets,
    pub(crate) faults_left: u32,
    pub(crate) copies: Copies,
    /// If faults may last: every object touched so far, until they end.
    pub(crate) touched: Option<Vec<Id>>,
    pub(crate) crashes_left: u32,
    pub(crate) fate: Fate,
    pub(crate) steps: u32,
    pub(crate) rolling: Rolling,
    /// Of the last step alone.
    pub(crate) step_hash: Rolling,
    pub(crate) marks: BTreeSet<&'static str>,
    notes: Vec<String>,
}

impl World {
    /// A world with these disks.
    pub fn new(images: &[DiskImage], budgets: Budgets, seed: u64) -> Self {
        Self::numbering(images, budgets, seed, Numbers::default())
    }

    /// The same, in which paths have these numbers.
    pub(crate) fn numbering(
        images: &[DiskImage],
        budgets: Budgets,
        seed: u64,
        paths: Numbers,
    ) -> Self {
        let handle = SimHandle::default();
        handle.mailbox.with(|mailbox| mailbox.seed = seed);
        let number = |index: usize| u32::try_from(index).expect("disks-are-few");
        let disk = |(index, image)| SimDisk::new(number(index), image, handle.clone());
        let disks = images.iter().enumerate().map(disk).collect();
        let mut world = Self {
            paths: PathTable::new(paths),
            processes: Vec::new(),
            handle,
            disks,
            granularity: Granularity::default(),
            time: Time::default(),
            pipes: images.iter().map(|image| Pipe::new(image.latency)).collect(),
            remembers: false,
            wakers: Vec::new(),
            runnable: Vec::new(),
            timers: Vec::new(),
            lost: Vec::new(),
            unseen: Vec::new(),
            log: StepLog::default(),
            posts: Vec::new(),
            found: false,
            budgets,
            faults_left: 0,
            copies: Copies::default(),
            touched: None,
            crashes_left: 0,
            fate: Fate::default(),
            steps: 0,
            rolling: Rolling::EMPTY,
            step_hash: Rolling::EMPTY,
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
        let disks = self.disks.len();
        let may_lose = self.budgets.has(Family::Flush);
        let track = self.budgets.crashes > 0 || may_lose;
        for disk in &self.disks {
            disk.reset(track);
        }
        self.handle.mailbox.with(|mailbox| {
            mailbox.now_ns = 0;
            mailbox.timers = 0;
            mailbox.draws.clear();
            mailbox.may_lose = may_lose;
            (mailbox.spared, mailbox.ready) = (false, 0);
            mailbox.may_fill = self.budgets.has(Family::Enospc);
            mailbox.completed.clear();
            mailbox.completed.resize(disks, 0);
        });
        self.pipes.iter_mut().for_each(Pipe::reset);
        self.faults_left = self.budgets.faults;
        self.copies.clear();
        let lasting = self.faults_left > 0 && self.budgets.families.lasting();
        self.touched = lasting.then(Vec::new);
        self.crashes_left = self.budgets.crashes;
        self.fate.clear();
        self.steps = 0;
        self.rolling = Rolling::EMPTY;
        self.notes.clear();
        self.processes.push(Process::root());
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
        self.found = false;
    }

    /// Runs `set_up` as the world's own first step, or as part of the event `calm` or of the power loss just now; what
    /// it spawns are the world's actors.
    pub fn begin<R>(&mut self, set_up: impl FnOnce(&Runtime) -> R) -> R {
        let runtime = self.handle.runtime();
        let step = self.steps.checked_sub(1).unwrap_or(BEGINNING);
        self.open_door(0, step, true);
        let result = set_up(&runtime);
        self.finish_step(0, step);
        result
    }

    /// What the last step looked at to see whether it may go on, or might have.
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

    /// What may go wrong in it.
    pub fn budgets(&self) -> Budgets {
        self.budgets
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
        if !core::mem::take(&mut self.found) {
            return None;
        }
        self.handle.mailbox.with(|mailbox| {
            self.found = mailbox.findings.len() > 1;
            (!mailbox.findings.is_empty()).then(|| mailbox.findings.remove(0))
        })
    }

    /// The enabled events, in canonical order: by the label of their process.
    pub fn enabled(&self, events: &mut Vec<Event>) {
        events.clear();
        for &process in &self.runnable {
            let from = events.len();
            self.events_of(process, events);
            events[from..].sort_unstable_by_key(|event| event.action);
        }
        if self.timers.is_empty() || self.time == Time::Timed && !events.is_empty() {
            return;
        }
        let deadline = |timer: &u32| match &self.processes[*timer as usize].state {
            State::Timer { deadline_ns, .. } => *deadline_ns,
            State::Request { due_ns: Some(due_ns), .. } => *due_ns,
            _ => u64::MAX,
        };
        if let Some(least) = self.timers.iter().map(deadline).min() {
            for &process in self.timers.iter().filter(|timer| deadline(timer) == least) {
                self.events_of(process, events);
            }
        }
        let key = |event: &Event| (self.paths.label(event.path), event.action);
        events.sort_by(|a, b| key(a).cmp(&key(b)));
    }

    /// What may come when nothing is enabled: power is lost, or is not, if the program can recover; then faults end.
    pub(crate) fn enabled_at_rest(&mut self, recovers: bool, events: &mut Vec<Event>) {
        let event = |action| Event { path: ROOT, action, process: 0 };
        if recovers && self.crashes_left > 0 {
            // They come after everything, and no race is about them: no single step enables them.
            self.processes[0].enablers.clear();
            events.extend([Action::End, Action::Crash].map(event));
        } else if self.touched.is_some() {
            events.push(event(Action::Calm));
        }
    }

    fn events_of(&self, process: u32, events: &mut Vec<Event>) {
        let Process { path, state, .. } = &self.processes[process as usize];
        let mut push = |action| events.push(Event { path: *path, action, process });
        match state {
            State::Task { .. } => push(Action::Poll),
            State::Request { stuck: true, .. } => {}
            State::Request { disk, operation, result, spared, .. } => {
                if let (None, Some(kept)) = (result, self.open_fates(*disk, operation)) {
                    return kept.into_iter().for_each(|kept| push(Action::Keep(kept)));
                }
                push(if result.is_some() { Action::Complete } else { Action::Effect });
                if self.faults_left > 0 && !spared {
                    self.faults_of((*disk, operation), result.as_ref(), &mut push);
                }
            }
            State::Choice { alternatives, .. } => {
                (0..*alternatives).for_each(|n| push(Action::Choose(n)))
            }
            State::Timer { .. } => push(Action::Fire),
            State::Ended => {}
        }
    }

    /// Runs one event; the footprint is left in `accesses`.
    ///
    /// # Errors
    /// The message of a panic; the world can then only be reset.
    pub fn step(&mut self, event: Event, accesses: &mut Vec<Access>) -> Result<(), String> {
        accesses.clear();
        let follows = self.processes[event.process as usize].follows();
        self.go(event, true)?;
        core::mem::swap(accesses, &mut self.log.accesses);
        if let Some(touched) = &mut self.touched {
            touched.extend(accesses.iter().map(|access| access.object));
        }
        self.note_for_power_loss(follows, accesses);
        self.hash(event, accesses);
        Ok(())
    }

    /// Runs an event that is known from an execution that began the same; its footprint and what it adds to the hash
    /// are known too.
    ///
    /// # Errors
    /// As [`World::step`].
    pub(crate) fn step_again(&mut self, event: Event) -> Result<(), String> {
        self.go(event, false)
    }

    fn go(&mut self, event: Event, record: bool) -> Result<(), String> {
        let step = self.steps;
        self.steps += 1;
        if event.action == Action::Crash {
            self.lose_power();
        }
        let index = event.process as usize;
        self.open_door(index, step, record);
        if let Err(panic) = door_world::catch_panic(|| self.run(event)) {
            door_world::abandon();
            return Err(panic);
        }
        self.processes[index].last_step = step;
        self.finish_step(event.process, step);
        if self.overlooked_its_guard(event) {
            return Err("a wait was begun and is not polled, though it may end".into());
        }
        self.list(event.process);
        Ok(())
    }

    fn open_door(&self, index: usize, number: u32, record: bool) {
        let Process { path, next_object, .. } = self.processes[index];
        let stream = self.paths.hash(path);
        let remember = self.remembers;
        let task = path;
        door_world::begin(door_world::Step { number, task, stream, next_object, record, remember });
    }

    fn run(&mut self, event: Event) {
        let process = event.process;
        self.arrive(process);
        match event.action {
            Action::Poll => self.poll(process),
            Action::Effect => self.effect(process, None),
            Action::Complete => self.complete(process, true),
            Action::Fault(fault) => self.inject(process, fault),
            Action::Calm => self.calm(),
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
        let State::Task { body, woken, .. } = &mut process.state else {
            unreachable!("runnable-is-exact")
        };
        let mut passage = Passage::Free;
        if !body.is_under_way() {
            process.enablers.retain(|enabler| enabler.guard().is_some());
            if process.woken_plainly {
                door::enter(footprint::readiness(process.path, Kind::Write));
            }
            process.overlooks = !core::mem::take(woken);
            if process.overlooks {
                passage = Passage::Guarded;
            }
        }
        if body.go_on(&self.wakers[index as usize], self.granularity, passage).is_ready() {
            self.end(index);
        }
    }

    pub(crate) fn effect(&mut self, index: u32, fault: Option<Fault>) {
        let (step, was_lost) = (self.steps - 1, self.power_was_lost());
        let process = &mut self.processes[index as usize];
        process.enablers = smallvec![Enabler { step, reason: Reason::Waker }];
        let State::Request { disk, operation, result, .. } = &mut process.state else {
            unreachable!("runnable-is-exact")
        };
        let disk = &self.disks[*disk as usize];
        if was_lost {
            disk.settle(operation, power::looks_beneath(self.budgets), &mut self.fate);
        }
        let by = Author { request: index, effect: step };
        *result = Some(match fault {
            None => disk.take_effect(operation, by),
            Some(fault) => disk.take_faulty_effect(operation, fault, by, &mut self.fate),
        });
    }

    pub(crate) fn complete(&mut self, index: u32, well: bool) {
        let State::Request { disk, operation, slot, result, .. } = self.end(index) else {
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
        self.set_runnable(index, false);
        core::mem::replace(&mut self.processes[index as usize].state, State::Ended)
    }

    /// Shuts the door and does what the step asked for.
    fn finish_step(&mut self, index: u32, step: u32) {
        self.processes[index as usize].next_object = door_world::end(&mut self.log);
        self.lost.clear();
        self.note_waits(index);
        self.wake_tasks(index, step);
        let mut posts = core::mem::take(&mut self.posts);
        self.handle.mailbox.with(|mailbox| {
            core::mem::swap(&mut posts, &mut mailbox.posts);
            self.found |= !mailbox.findings.is_empty();
        });
        for post in posts.drain(..) {
            self.take_post(index, step, post);
        }
        self.posts = posts;
        for orphan in core::mem::take(&mut self.log.orphans) {
            self.create(index, step, "+", State::task(orphan));
        }
        self.marks.extend(self.log.marks.drain(..));
        core::mem::swap(&mut self.notes, &mut self.log.notes);
    }

    fn take_post(&mut self, creator: u32, step: u32, post: Post) {
        match post {
            Post::Spawn { name, task } => {
                self.create(creator, step, &name, State::task(task));
            }
            Post::Request { disk, operation, slot, spared } => {
                let (result, stuck, due_ns) = (None, false, None);
                let state = State::Request { disk, operation, slot, result, stuck, spared, due_ns };
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
                self.lost.extend(gone.map(|process| {
                    let path = self.processes[process as usize].path;
                    let event = Event { path, action: Action::Fire, process };
                    (event, footprint::clock(Kind::Write))
                }));
            }
        }
    }

    fn create(&mut self, creator: u32, step: u32, name: &str, mut state: State) {
        let parent = &mut self.processes[creator as usize];
        let family = self.paths.family(parent.path, name);
        let known = parent.children.iter_mut().find(|(of, _)| *of == family);
        let occurrence = match known {
            Some((_, count)) => {
                *count += 1;
                *count - 1
            }
            None => {
                parent.children.push((family, 1));
                0
            }
        };
        let path = self.paths.intern(parent.path, family, occurrence);
        let index = u32::try_from(self.processes.len()).expect("processes-are-few");
        let waits = match &mut state {
            State::Timer { .. } => true,
            State::Request { disk, operation, due_ns, .. } => {
                *due_ns = self.due_ns(*disk, operation, path);
                due_ns.is_some()
            }
            _ => false,
        };
        self.processes.push(Process::new(path, state, step));
        if waits {
            self.timers.push(index);
        } else {
            self.set_runnable(index, true);
        }
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
