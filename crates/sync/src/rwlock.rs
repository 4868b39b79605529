//! A lock for many readers or one writer.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::turns::Turns;

/// A lock for many readers or one writer, that may be held across awaits; first come, first served: a reader that asks
/// after a writer waits for it. Invariant `one-writer-or-readers`: while there is a [`WriteGuard`] there is no other
/// guard.
pub struct RwLock<T> {
    turns: Arc<Turns<Held<T>>>,
}

struct Held<T> {
    readers: u64,
    /// None while a writer has it.
    value: Option<Arc<T>>,
}

impl<T> Held<T> {
    /// A reader needs one, a writer all.
    fn free(&self) -> u64 {
        if self.value.is_some() { u64::MAX - self.readers } else { 0 }
    }
}

impl<T: Send + Sync + 'static> RwLock<T> {
    /// An unlocked lock.
    pub fn new(value: T) -> Self {
        Self { turns: Turns::new(Held { readers: 0, value: Some(Arc::new(value)) }, Held::free) }
    }

    /// Waits for its turn and the writer's end. Dropped before it ends, it passes the turn on in a task of its own.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn read(&self) -> ReadGuard<T> {
        let take = |held: &mut Held<T>| {
            held.readers += 1;
            held.value.clone()
        };
        let value = self.turns.turn(1, take).await;
        ReadGuard { turns: self.turns.clone(), value }
    }

    /// Waits for its turn and the end of all others. Dropped before it ends, it passes the turn on in a task of its
    /// own.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn write(&self) -> WriteGuard<T> {
        let value = self.turns.turn(u64::MAX, |held| held.value.take()).await;
        WriteGuard { turns: self.turns.clone(), value }
    }
}

/// The value of an [`RwLock`], to look at. Unlock it by name: if it is merely dropped, it is unlocked a step later, by
/// a task of its own.
#[must_use = "a guard is to be unlocked"]
pub struct ReadGuard<T: Send + Sync + 'static> {
    turns: Arc<Turns<Held<T>>>,
    value: Option<Arc<T>>,
}

/// The value of an [`RwLock`], to change. Unlock it by name: if it is merely dropped, it is unlocked a step later, by a
/// task of its own.
#[must_use = "a guard is to be unlocked"]
pub struct WriteGuard<T: Send + Sync + 'static> {
    turns: Arc<Turns<Held<T>>>,
    value: Option<Arc<T>>,
}

impl<T: Send + Sync + 'static> ReadGuard<T> {
    /// Lets others in.
    pub fn unlock(mut self) {
        // Given up before the writer is let in, who wants it alone.
        self.value = None;
        self.turns.change(|held| held.readers -= 1);
    }
}

impl<T: Send + Sync + 'static> WriteGuard<T> {
    /// Lets others in.
    pub fn unlock(mut self) {
        let value = self.value.take();
        self.turns.change(|held| held.value = value);
    }
}

impl<T: Send + Sync + 'static> Deref for ReadGuard<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("one-writer-or-readers")
    }
}

impl<T: Send + Sync + 'static> Deref for WriteGuard<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("one-writer-or-readers")
    }
}

impl<T: Clone + Send + Sync + 'static> DerefMut for WriteGuard<T> {
    /// Nobody else holds the value, so that it is not cloned.
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(self.value.as_mut().expect("one-writer-or-readers"))
    }
}

impl<T: Send + Sync + 'static> Drop for ReadGuard<T> {
    fn drop(&mut self) {
        if self.value.take().is_some() {
            self.turns.clone().bequeath_change(|held| held.readers -= 1);
        }
    }
}

impl<T: Send + Sync + 'static> Drop for WriteGuard<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.turns.clone().bequeath_change(|held| held.value = Some(value));
        }
    }
}
