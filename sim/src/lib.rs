//! The simulated world: an executor on one thread, virtual time, disks in memory, and the exploration of everything
//! that may happen in it. Knows nothing of blocks: it runs any program of tasks over the `sync` door.
//!
//! A *step* is one event: a poll of one task (by door, a part of it with one operation), the effect of a disk request,
//! its completion, a timer firing, a choice being made, power being lost and what that left being found. At each turn
//! the world lists the enabled events in a canonical order (by path) and a chooser picks; the picks, as text, are the
//! *tape*. Requests take time only where runs are to be measured: `time`.
//!
//! Invariants:
//! - `one-tape-one-run`: the tape decides everything; a run repeated has the same hash.
//! - `independent-steps-commute`: two adjacent steps of different processes whose footprints do not conflict can be
//!   swapped and lead to the same state. The reduction relies on it; the swap check tests it.
//! - `a-crash-runs-nothing`: a crash drops every task with the door shut; what their destructors bequeath is lost.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod body;
mod describe;
mod disk;
mod event;
mod explore;
mod footprint;
mod handle;
mod hash;
mod injection;
mod paths;
mod power;
mod process;
mod ready;
mod tape;
mod time;
mod world;

pub use body::{Granularity, UnknownGranularity};
pub use disk::{Cache, Cut, DiskImage, Families, Family, Fault, Left, Loss, PowerLosses, SimDisk};
pub use event::{Action, Event, Kept};
pub use explore::{
    Checkpoint, Chooser, Cost, Counts, DepthFirst, Execution, Exploration, Explorer, Finding,
    FromBytes, Limits, NotRestored, Outcome, Pct, Pick, Portfolio, Pos, Program, Ran, RandomWalk,
    Recovery, Reduction, Replay, Report, Runs, Sampled, Sampler, Sampling, Searcher, Setup, Shrunk,
    Summary, Swarm, Traced, Tree, Urw, Verdict, Watched, WholePolls, WorkItem, run_once,
    swap_check,
};
pub use footprint::conflicts;
// For the test that each rule of dependence is needed.
#[doc(hidden)]
pub use footprint::{DURABILITY, READINESS, clock};
pub use handle::SimHandle;
pub use tape::{Divergence, SeedFile, SeedFileError, TapeLine};
pub use time::{Latency, Time, Traffic, UnknownTime};
pub use world::{Budgets, World};
