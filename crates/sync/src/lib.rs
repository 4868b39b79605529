//! The only door to shared mutable state and to waiting.
//!
//! Every value that two tasks can see lives in a [`Shared`], and every wait is a wait for a guard over one. In a
//! simulated world each passage leaves a footprint (object, range, read | write | add); two steps whose footprints
//! do not conflict commute, and that is all the exploration of schedules relies on. On the host the same types are
//! a mutex and a look at one thread-local; with the feature `loom` the locks are loom's.
//!
//! Invariants:
//! - `footprints-are-complete`: no other room can name a lock, an atomic or a cell (see .clippy.toml), so nothing
//!   goes round the door.
//! - `waits-end-the-step`: a wait returns pending at its first poll, even if its guard already holds, so that where
//!   a step ends does not depend on the schedule.
//! - `drop-is-silent`: dropping a shared value leaves no footprint; what must happen then is handed to
//!   [`door::bequeath`] and runs as a task of its own.
//!
//! Not for: running tasks, time, randomness (see the runtime), or knowing what the values mean.
#![forbid(unsafe_code)]
// This crate is the one place where std's locks and a thread-local are named.
#![allow(clippy::disallowed_types, clippy::disallowed_macros)]

pub mod broadcast;
pub mod door;
mod inbox;
mod memory;
pub mod mpsc;
mod mutex;
mod primitives;
mod rarely;
mod rwlock;
mod semaphore;
mod shared;
mod turns;
mod unstoppable;

pub use mutex::{Mutex, MutexGuard};
pub use primitives::{Event, Receiver, Sender, Ticket, WaitQueue, first_of, oneshot};
pub use rarely::Rarely;
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::{Permit, Semaphore};
pub use shared::{Shared, WaitFor};
pub use unstoppable::Unstoppable;

#[cfg(all(test, not(feature = "loom")))]
mod tests;
