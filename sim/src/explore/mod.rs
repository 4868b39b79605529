//! Running a program under a chooser, once or through its whole space.

mod chooser;
mod edits;
mod explorer;
mod fewer;
mod happens_before;
mod least;
mod lenient;
mod levels;
mod linear;
mod marks;
mod runs;
mod sampling;
mod search;
mod searcher;
mod shrink;
mod swap;

pub use chooser::{Chooser, FromBytes, Pick, RandomWalk, Replay, WholePolls};
pub use explorer::{Exploration, Explorer, Sampled, Summary, Verdict};
pub use happens_before::Traced;
pub(crate) use happens_before::{Steps, happening_before};
pub use lenient::Cost;
pub use runs::Runs;
pub use sampling::{Pct, Portfolio, Pos, Sampler, Sampling, Swarm, Urw};
pub use search::{Checkpoint, DepthFirst, NotRestored, Reduction, WorkItem};
pub use searcher::{Ran, Searcher, Tree};
pub use shrink::Shrunk;
pub use swap::swap_check;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::body::Granularity;
use crate::disk::DiskImage;
use crate::event::{Action, Event};
use crate::paths::Numbers;
use crate::tape::Divergence;
use crate::time::Time;
use crate::world::{Budgets, World};

/// A property that a run broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The property's name.
    pub property: String,
    /// What happened, in words.
    pub message: String,
}

/// Numbers that executions counted, by name.
pub type Counts = BTreeMap<String, [u64; 3]>;

/// A program to explore: the same for every execution.
pub trait Program {
    /// Starts the actors.
    fn start(&self, world: &mut World) -> Box<dyn Execution>;
}

/// One execution of a program.
pub trait Execution {
    /// Judges the end: nothing is enabled any more, whether or not every task has ended.
    fn judge(&self, world: &World) -> Option<Finding>;

    /// Faults have ended, by the event `calm`, of which this is a part: whatever was begun can go on now. What must
    /// succeed from here on may be started, by [`World::begin`].
    fn calm(&self, _world: &mut World) {}

    /// The final state that can be observed, as one number: equal for equivalent executions.
    fn digest(&self, world: &World) -> u64;

    /// What the execution counted, by name; asked once it is judged. Three numbers each, which mean what the program
    /// says.
    fn counts(&self) -> Counts {
        Counts::new()
    }

    /// Starts what comes after a power loss, if the program recovers at all; asked once nothing is enabled any more.
    /// What it starts finds the disks as they may have been left, and must not use what this one's tasks shared. It is
    /// judged instead of this one, by what had happened before: [`World::cut`].
    fn recovery(&self) -> Option<Recovery<'_>> {
        None
    }
}

/// Starts a program's recovery.
pub type Recovery<'a> = Box<dyn FnOnce(&mut World) -> Box<dyn Execution> + 'a>;

/// What a world for a program is made of.
#[derive(Clone, Default)]
pub struct Setup {
    /// The disks.
    pub images: Vec<DiskImage>,
    /// What may go wrong.
    pub budgets: Budgets,
    /// Seeds the random numbers that tasks draw.
    pub seed: u64,
    /// What a task's step is.
    pub granularity: Granularity,
    /// Whether requests take time.
    pub time: Time,
}

impl Setup {
    /// A world made of it, in which paths have these numbers.
    pub(crate) fn world(&self, seed: u64, paths: Numbers) -> World {
        let mut world = World::numbering(&self.images, self.budgets, seed, paths);
        world.granularity = self.granularity;
        world.time = self.time;
        world
    }
}

/// When an execution or an exploration stops by itself.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Executions, blocked ones included.
    pub executions: u64,
    /// Steps of one execution; a longer one breaks the property `progress`.
    pub steps: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { executions: 10_000, steps: 20_000 }
    }
}

/// How one execution ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was left to do, and nothing broken.
    Ended,
    /// The chooser gave up: everything enabled leads to what was explored before.
    Blocked,
    /// A property was broken.
    Violated(Finding),
    /// A replay did not fit.
    Diverged(Divergence),
}

/// One execution, after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Events run.
    pub steps: u32,
    /// Of all events and footprints, in order.
    pub hash: u64,
}

/// Runs `program` once in `world`. `watch` sees each event before it runs, and the world after it.
pub fn run_once(
    world: &mut World,
    program: &dyn Program,
    chooser: &mut dyn Chooser,
    limits: Limits,
    watch: &mut dyn FnMut(&World, Watched<'_>),
) -> Report {
    world.reset();
    let execution = program.start(world);
    let outcome = run_to_end(world, execution, chooser, limits, watch);
    Report { outcome, steps: world.steps, hash: world.rolling.0 }
}

/// What a watcher is shown.
pub enum Watched<'a> {
    /// Nothing is left to do.
    End(&'a dyn Execution),
    /// This event comes next; these were possible, if that was asked.
    Before(Event, &'a [Event]),
    /// It has run.
    After(Event),
}

fn run_to_end(
    world: &mut World,
    mut execution: Box<dyn Execution>,
    chooser: &mut dyn Chooser,
    limits: Limits,
    watch: &mut dyn FnMut(&World, Watched<'_>),
) -> Outcome {
    let mut enabled = Vec::new();
    let mut accesses = Vec::new();
    let mut ended = false;
    loop {
        if let Some(finding) = world.take_finding() {
            return Outcome::Violated(finding);
        }
        if let Some(event) = chooser.known(world) {
            watch(world, Watched::Before(event, &[]));
            if let Err(panic) = world.step_again(event) {
                return Outcome::Violated(Finding { property: "no-panic".into(), message: panic });
            }
            continue;
        }
        world.enabled(&mut enabled);
        if enabled.is_empty() {
            let recovers = !ended && execution.recovery().is_some();
            world.enabled_at_rest(recovers, &mut enabled);
        }
        if enabled.is_empty() {
            let judged = execution.judge(world);
            watch(world, Watched::End(&*execution));
            return judged.map_or(Outcome::Ended, Outcome::Violated);
        }
        if world.steps >= limits.steps {
            let message = alloc::format!("still running after {} steps", limits.steps);
            return Outcome::Violated(Finding { property: "progress".into(), message });
        }
        let event = match chooser.pick(world, &enabled) {
            Pick::Event(index) => enabled[index],
            Pick::Blocked => return Outcome::Blocked,
            Pick::Diverged(divergence) => return Outcome::Diverged(divergence),
        };
        watch(world, Watched::Before(event, &enabled));
        if let Err(panic) = world.step(event, &mut accesses) {
            return Outcome::Violated(Finding { property: "no-panic".into(), message: panic });
        }
        if event.action == Action::Calm {
            execution.calm(world);
        }
        chooser.ran(world, event, &accesses);
        watch(world, Watched::After(event));
        ended |= event.action == Action::End;
        if event.action == Action::Crash {
            let recovery = execution.recovery().expect("who-may-crash-recovers");
            execution = recovery(world);
        }
    }
}
