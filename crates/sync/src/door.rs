//! The door: what a step touched, whom it woke, and what it left behind.
//!
//! One thread-local per thread. A simulated world opens it around each step ([`world::begin`] .. [`world::end`]) and
//! gets the step's log; outside a simulated world it is shut and recording costs one look.
//!
//! Invariant `enter-precedes`: an operation is announced before it takes place, and no lock is held then. So the same
//! call is a scheduling point where a world wants one ([`world::pausing`]).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use blockyard_units::Id;

/// How an operation touches an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Commutes with other reads.
    Read,
    /// Commutes with nothing that overlaps.
    Write,
    /// A write that commutes with other adds, because its result is not looked at; never with reads or writes.
    Add,
}

impl Kind {
    /// Whether two operations on overlapping parts of one object do not commute.
    pub fn conflicts(self, other: Kind) -> bool {
        self != other || self == Kind::Write
    }
}

/// A passage through the door: one operation on `from..to` of an object. The range has whatever unit the object's
/// trusted type gives it (bytes, chunks, edge keys).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Access {
    /// What was touched.
    pub object: Id,
    /// How.
    pub kind: Kind,
    /// First unit touched.
    pub from: u64,
    /// One past the last unit touched.
    pub to: u64,
}

impl Access {
    /// An operation on the whole object.
    pub fn whole(object: Id, kind: Kind) -> Self {
        Self { object, kind, from: 0, to: u64::MAX }
    }

    /// Whether the two do not commute.
    pub fn conflicts(&self, other: &Access) -> bool {
        self.object == other.object
            && self.kind.conflicts(other.kind)
            && self.from < other.to
            && other.from < self.to
    }
}

/// As the number of a step: before the first one.
pub const BEGINNING: u32 = u32::MAX;

/// A future that nobody holds any more and that must still run to its end.
pub type Orphan = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whether a task may be polled changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// The task, as its world numbers it.
    pub task: u32,
    /// Why.
    pub reason: Reason,
}

/// Why a task may, or may no longer, be polled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// Somebody called its waker: an operation of its own.
    #[default]
    Waker,
    /// A guard of it, which looks at this, holds now. The guard's object carries the dependence, and the task will look
    /// at it; the wake is no operation.
    Guard(Access),
    /// The same, of a guard that one step makes true, for this task alone; see
    /// [`Shared::wait_handed`](crate::Shared::wait_handed).
    Handed(Access),
    /// The same, of a guard that holds from this step on, and did not before it, whatever the order of other steps;
    /// [`BEGINNING`] if it always did.
    Since(Access, u32),
    /// A guard of it that held and looked at this does not hold any more, or its wait is over.
    Fell(Access),
    /// It ended its step by itself.
    Boundary,
}

impl Reason {
    /// What the guard looks at that makes the task ready.
    pub(crate) fn guard(self) -> Option<Access> {
        match self {
            Reason::Guard(access) | Reason::Handed(access) | Reason::Since(access, _) => {
                Some(access)
            }
            _ => None,
        }
    }

    /// The same, if it depends on that, for a guard that holds since this step.
    pub(crate) fn since(self, step: u32) -> Self {
        match self {
            Reason::Since(access, _) => Reason::Since(access, step),
            other => other,
        }
    }
}

/// A wait of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What it looks at.
    pub access: Access,
    /// Its number among the waits for the object.
    pub key: u64,
}

/// When the guard of a wait would have held, see [`Shared::remembered`](crate::Shared::remembered).
#[derive(Clone, Debug)]
pub struct Past {
    /// The wait.
    pub wait: Wait,
    /// Of times before this step nothing is known.
    pub since: u32,
    /// Whether it would have held before each step since that changed the value, and whether it holds now.
    pub held: Vec<(u32, bool)>,
    /// The same of the value as it is.
    pub holds: bool,
}

impl Past {
    /// Whether it would have held on the value as it was before this step, if that is known.
    pub fn before(&self, step: u32) -> Option<bool> {
        let change = self.held.iter().find(|(change, _)| *change >= step);
        (self.since <= step).then(|| change.map_or(self.holds, |(_, held)| *held))
    }
}

/// What one step did.
#[derive(Default)]
pub struct StepLog {
    /// Passages, in order.
    pub accesses: Vec<Access>,
    /// Those of them that looked at the guard of a wait.
    pub guards: Vec<Access>,
    /// Guards that did not hold when a wait was registered: no operations, since nothing but whether there is a next
    /// step came of it.
    pub peeks: Vec<Access>,
    /// Waits that began, and waits that are over (false).
    pub waits: Vec<(bool, Wait)>,
    /// What the guards of waits would have said before, as far as it is known.
    pub pasts: Vec<Past>,
    /// What tasks became ready, or were no longer, in order, repetitions included.
    pub wakes: Vec<Wake>,
    /// Futures to adopt.
    pub orphans: Vec<Orphan>,
    /// What [`sometimes!`](crate::sometimes) saw.
    pub marks: Vec<&'static str>,
    /// What [`note!`](crate::note) said, if the world listens.
    pub notes: Vec<String>,
}

/// How far a part of a step has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passage {
    /// The step came about because a guard holds, and has not looked at it: what it does up to there depends on that,
    /// and is one operation with it.
    Guarded,
    /// No operation was announced yet.
    #[default]
    Free,
    /// One was.
    Entered,
}

#[derive(Default)]
struct Door {
    open: Cell<bool>,
    recording: Cell<bool>,
    remembers: Cell<bool>,
    reason: Cell<Reason>,
    listening: Cell<bool>,
    /// What each operation but the first waits for.
    pause: Cell<Option<fn()>>,
    passage: Cell<Passage>,
    creator: Cell<u32>,
    step: Cell<u32>,
    stream: Cell<u64>,
    next_object: Cell<u32>,
    log: RefCell<StepLog>,
}

thread_local! {
    static DOOR: Door = Door::default();
    /// Nobody looks: all that a passage costs outside a simulated world is a look at this.
    static SHUT: Cell<bool> = const { Cell::new(true) };
}

#[inline]
fn is_shut() -> bool {
    SHUT.with(Cell::get)
}

/// Announces an operation. Called before it takes place.
#[inline]
pub fn enter(access: Access) {
    enter_all([access]);
}

/// Announces one operation that touches all of this.
#[inline]
pub fn enter_all(accesses: impl IntoIterator<Item = Access>) {
    if !is_shut() {
        pause();
        accesses.into_iter().for_each(record);
    }
}

/// Waits until the running task may begin another operation.
fn pause() {
    DOOR.with(|door| {
        let Some(pause) = door.pause.get() else { return };
        match door.passage.get() {
            Passage::Guarded => {}
            Passage::Free => door.passage.set(Passage::Entered),
            Passage::Entered => {
                pause();
                door.passage.set(Passage::Entered);
            }
        }
    });
}

/// Announces a part of an operation that was announced already: the lock of its object may be held.
#[inline]
pub(crate) fn enter_within(access: Access) {
    if !is_shut() {
        record(access);
    }
}

fn record(access: Access) {
    DOOR.with(|door| {
        if door.recording.get() {
            let accesses = &mut door.log.borrow_mut().accesses;
            if accesses.last() != Some(&access) {
                accesses.push(access);
            }
        }
    });
}

/// The id of a new object: (the running task's path, how many it made before). Outside a simulated world, where no
/// schedule has to be repeated, the process counts.
pub fn new_object() -> Id {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    DOOR.with(|door| {
        if !door.open.get() {
            return Id { creator: 0, index: COUNT.fetch_add(1, Ordering::Relaxed) };
        }
        let index = door.next_object.get();
        door.next_object.set(index + 1);
        Id { creator: door.creator.get(), index }
    })
}

/// Hands over a future whose holder was dropped before it ended; the world adopts it after the step and runs it as
/// a task of its own.
pub fn bequeath(orphan: Orphan) {
    DOOR.with(|door| door.log.borrow_mut().orphans.push(orphan));
}

/// The futures bequeathed on this thread since the last call. A host's executor calls it after each poll.
pub fn take_orphans() -> Vec<Orphan> {
    DOOR.with(|door| std::mem::take(&mut door.log.borrow_mut().orphans))
}

/// Marks that an exploration came by here; see [`sometimes!`](crate::sometimes).
pub fn mark(what: &'static str) {
    DOOR.with(|door| {
        if door.recording.get() {
            door.log.borrow_mut().marks.push(what);
        }
    });
}

/// Whether somebody wants to read what the steps do; see [`note!`](crate::note).
#[inline]
pub fn listening() -> bool {
    !is_shut() && DOOR.with(|door| door.open.get() && door.listening.get())
}

/// Says what the running step does; see [`note!`](crate::note).
pub fn say(what: std::fmt::Arguments<'_>) {
    DOOR.with(|door| door.log.borrow_mut().notes.push(what.to_string()));
}

/// Marks something that an exploration must reach, when `condition` holds: a green run that never got there has
/// failed.
#[macro_export]
macro_rules! sometimes {
    ($condition:expr, $what:literal) => {
        if $condition {
            $crate::door::mark($what);
        }
    };
}

/// Says what the running step does, in the words of the scenario; costs a look unless somebody reads it.
#[macro_export]
macro_rules! note {
    ($($text:tt)*) => {
        if $crate::door::listening() {
            $crate::door::say(format_args!($($text)*));
        }
    };
}

/// Announces that a wait looks at its guard.
pub(crate) fn enter_guard(access: Access) {
    enter(access);
    DOOR.with(|door| {
        if door.recording.get() {
            door.log.borrow_mut().guards.push(access);
        }
    });
}

/// Announces that the registration of a wait found that its guard does not hold.
pub(crate) fn peek(access: Access) {
    DOOR.with(|door| {
        if door.recording.get() {
            door.log.borrow_mut().peeks.push(access);
        }
    });
}

/// Whether a simulated world runs a step.
#[inline]
pub(crate) fn is_open() -> bool {
    !is_shut() && DOOR.with(|door| door.open.get())
}

/// Why wakers are called just now.
pub(crate) fn reason() -> Reason {
    DOOR.with(|door| door.reason.get())
}

/// Wakes a task for a reason that is no operation of its own.
pub(crate) fn wake_because(reason: Reason, waker: &Waker) {
    DOOR.with(|door| door.reason.set(reason));
    waker.wake_by_ref();
    DOOR.with(|door| door.reason.set(Reason::Waker));
}

/// Tells a simulated world that the guard that made the waker's task ready for this reason does not hold any more;
/// nobody else needs to know.
pub(crate) fn fell(reason: Reason, waker: &Waker) {
    if let (Some(access), true) = (reason.guard(), is_open()) {
        wake_because(Reason::Fell(access), waker);
    }
}

/// Tells a simulated world that a wait of the running task begins, or is over.
pub(crate) fn note_wait(begins: bool, wait: Wait) {
    DOOR.with(|door| {
        if door.open.get() {
            door.log.borrow_mut().waits.push((begins, wait));
        }
    });
}

/// The step that runs, if values keep what they were before it; nothing comes before what is set up.
pub(crate) fn remembers() -> Option<u32> {
    DOOR.with(|door| {
        let keep = door.open.get() && door.remembers.get();
        Some(door.step.get()).filter(|step| keep && *step != BEGINNING)
    })
}

/// Whether it is of use to tell what a guard would have said before.
pub(crate) fn wants_pasts() -> bool {
    DOOR.with(|door| door.recording.get() && door.remembers.get())
}

/// Tells what a guard would have said before.
pub(crate) fn note_past(past: Past) {
    DOOR.with(|door| door.log.borrow_mut().pasts.push(past));
}

/// Tells that the guard that made the running task ready for this reason was seen to.
pub(crate) fn seen_to(reason: Reason, waker: &Waker) {
    DOOR.with(|door| {
        if door.passage.get() == Passage::Guarded {
            door.passage.set(Passage::Entered);
        }
    });
    fell(reason, waker);
}

/// Ends the step; the task is ready again at once.
pub fn boundary() -> Boundary {
    Boundary { crossed: false }
}

/// See [`boundary`].
pub struct Boundary {
    crossed: bool,
}

impl Future for Boundary {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.crossed {
            return Poll::Ready(());
        }
        self.crossed = true;
        wake_because(Reason::Boundary, context.waker());
        Poll::Pending
    }
}

/// The side that a simulated world uses.
pub mod world {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::{DOOR, Door, Passage, SHUT, StepLog, Wake};

    /// Somebody looks, or nobody does any more.
    fn settle(door: &Door) {
        SHUT.set(!door.open.get() && door.pause.get().is_none());
    }

    /// Whose step begins.
    #[derive(Clone, Copy, Debug)]
    pub struct Step {
        /// Its number.
        pub number: u32,
        /// The number of the task's path.
        pub task: u32,
        /// What its random numbers are drawn from.
        pub stream: u64,
        /// How many objects it has made.
        pub next_object: u32,
        /// Whether what it touches is to be recorded; a step that is run again need not be.
        pub record: bool,
        /// Whether values are to keep what they were, see [`Shared::remembered`](crate::Shared::remembered).
        pub remember: bool,
    }

    /// A world's own state that its tasks reach: no footprint. For worlds, and for observers whose verdict does not
    /// depend on the order of independent steps.
    #[derive(Default)]
    pub struct Quiet<T>(std::sync::Mutex<T>);

    impl<T> Quiet<T> {
        /// A new cell.
        pub fn new(value: T) -> Self {
            Self(std::sync::Mutex::new(value))
        }

        /// Looks at and changes the value.
        pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
            f(&mut self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
        }
    }

    /// Whether notes are wanted.
    pub fn listen(on: bool) {
        DOOR.with(|door| door.listening.set(on));
    }

    /// Runs a step; a panic in it is the world's end, and its message is a finding.
    ///
    /// # Errors
    /// The panic's message.
    #[allow(clippy::disallowed_methods)] // the one place: the simulated world goes no further
    pub fn catch_panic<R>(step: impl FnOnce() -> R) -> Result<R, String> {
        catch_unwind(AssertUnwindSafe(step)).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").into()
        })
    }

    /// Opens the door for a step.
    ///
    /// # Panics
    /// `one-step-at-a-time`: if a step of a world is going on in this thread.
    pub fn begin(step: Step) {
        DOOR.with(|door| {
            assert!(!door.open.replace(true), "one-step-at-a-time");
            door.recording.set(step.record);
            door.remembers.set(step.remember);
            door.creator.set(step.task);
            door.step.set(step.number);
            door.stream.set(step.stream);
            door.next_object.set(step.next_object);
            settle(door);
        });
    }

    /// The number of the step that runs.
    pub fn step() -> u32 {
        DOOR.with(|door| door.step.get())
    }

    /// Runs a part of a step in which each operation but the first, or but those up to the guard, waits for `pause`.
    /// The step may end meanwhile, and others may run; before `pause` returns, the next part begins in the same way.
    pub fn pausing<R>(pause: fn(), passage: Passage, part: impl FnOnce() -> R) -> R {
        DOOR.with(|door| {
            door.pause.set(Some(pause));
            door.passage.set(passage);
            settle(door);
        });
        let result = part();
        DOOR.with(|door| {
            door.pause.set(None);
            settle(door);
        });
        result
    }

    /// What the running task's random numbers are drawn from.
    pub fn stream() -> u64 {
        DOOR.with(|door| door.stream.get())
    }

    /// Shuts the door; `log` receives what the step did, and its former vectors are used for the next step.
    /// Returns how many objects the task has made.
    pub fn end(log: &mut StepLog) -> u32 {
        DOOR.with(|door| {
            door.open.set(false);
            door.recording.set(false);
            settle(door);
            log.accesses.clear();
            log.guards.clear();
            log.peeks.clear();
            log.waits.clear();
            log.pasts.clear();
            log.wakes.clear();
            log.orphans.clear();
            log.marks.clear();
            log.notes.clear();
            core::mem::swap(&mut *door.log.borrow_mut(), log);
            door.next_object.get()
        })
    }

    /// What a simulated task's waker does. A wake outside any step is forgotten: the world it belonged to is gone.
    pub fn wake(task: u32) {
        DOOR.with(|door| {
            if door.open.get() {
                let reason = door.reason.get();
                door.log.borrow_mut().wakes.push(Wake { task, reason });
            }
        });
    }

    /// Forgets an unfinished step and everything bequeathed: the world is gone (a crash, a reset).
    pub fn abandon() {
        DOOR.with(|door| {
            door.open.set(false);
            door.recording.set(false);
            door.pause.set(None);
            settle(door);
        });
        loop {
            // Dropped outside the borrow: what dies here may bequeath again, and that is forgotten too.
            let log = DOOR.with(|door| std::mem::take(&mut *door.log.borrow_mut()));
            if log.orphans.is_empty() {
                return;
            }
        }
    }
}
