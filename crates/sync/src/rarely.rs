//! A value that nearly always is its default, and is looked at far more often than it is changed.
//!
//! Invariant `unchanged-is-default`: until the first change begins, whoever looks sees the default, and takes no lock.

use crate::door::{self, Access, Kind};
use blockyard_units::Id;

#[cfg(feature = "loom")]
use loom::sync::{
    Mutex as Lock,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(feature = "loom"))]
use std::sync::{
    Mutex as Lock,
    atomic::{AtomicBool, Ordering},
};

/// See the file head. Nobody waits for it.
pub struct Rarely<T> {
    object: Id,
    changed: AtomicBool,
    value: Lock<T>,
}

impl<T: Default> Rarely<T> {
    /// Looks at the value.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        door::enter(Access::whole(self.object, Kind::Read));
        if !self.changed.load(Ordering::Acquire) {
            return look(&T::default());
        }
        look(&self.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Changes the value.
    pub fn write<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        door::enter(Access::whole(self.object, Kind::Write));
        let mut value = self.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.changed.store(true, Ordering::Release);
        change(&mut value)
    }
}

impl<T: Default> Default for Rarely<T> {
    fn default() -> Self {
        let (object, changed) = (door::new_object(), AtomicBool::new(false));
        Self { object, changed, value: Lock::new(T::default()) }
    }
}
