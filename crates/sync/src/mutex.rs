//! A lock that may be held across awaits.

use std::sync::Arc;

use crate::turns::Turns;

/// A lock that may be held across awaits; first come, first served. Invariant `one-owner`: from the end of
/// [`Mutex::lock`] until the guard is unlocked nobody else has a guard.
pub struct Mutex<T> {
    /// The value while nobody has it.
    turns: Arc<Turns<Option<T>>>,
}

impl<T: Send + 'static> Mutex<T> {
    /// An unlocked lock.
    pub fn new(value: T) -> Self {
        Self { turns: Turns::new(Some(value), |slot| u64::from(slot.is_some())) }
    }

    /// Waits for its turn. Dropped before it ends, it passes the turn on in a task of its own.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn lock(&self) -> MutexGuard<T> {
        let value = self.turns.turn(1, Option::take).await;
        MutexGuard { turns: self.turns.clone(), value }
    }
}

/// The value of a locked [`Mutex`]. Unlock it by name: if it is merely dropped, it is unlocked a step later, by a
/// task of its own.
#[must_use = "a guard is to be unlocked"]
pub struct MutexGuard<T: Send + 'static> {
    turns: Arc<Turns<Option<T>>>,
    value: Option<T>,
}

impl<T: Send + 'static> MutexGuard<T> {
    /// Lets the next one in.
    pub fn unlock(mut self) {
        let value = self.value.take();
        self.turns.change(|slot| *slot = value);
    }
}

impl<T: Send + 'static> std::ops::Deref for MutexGuard<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("one-owner")
    }
}

impl<T: Send + 'static> std::ops::DerefMut for MutexGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("one-owner")
    }
}

impl<T: Send + 'static> Drop for MutexGuard<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.turns.clone().bequeath_change(|slot| *slot = Some(value));
        }
    }
}
