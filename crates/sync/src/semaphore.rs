//! Permits that are handed out and come back.

use std::sync::Arc;

use crate::turns::Turns;

/// A number of permits; first come, first served: a small request behind a large one waits for it. Invariant
/// `permits-are-kept`: those that are free and those that are held add up to the number at the beginning.
pub struct Semaphore {
    /// The permits that nobody holds.
    turns: Arc<Turns<u64>>,
}

impl Semaphore {
    /// A semaphore with `permits` free permits.
    pub fn new(permits: u64) -> Self {
        Self { turns: Turns::new(permits, |free| *free) }
    }

    /// Waits for its turn and for `count` permits. For ever, and everybody behind it too, if there are fewer in all.
    /// Dropped before it ends, it passes the turn on in a task of its own.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn acquire(&self, count: u64) -> Permit {
        self.turns.turn(count, move |free| *free -= count).await;
        Permit { turns: self.turns.clone(), count }
    }

    /// `count` permits, if they are free and nobody waits.
    pub fn try_acquire(&self, count: u64) -> Option<Permit> {
        self.turns.try_turn(count, |free| *free -= count)?;
        Some(Permit { turns: self.turns.clone(), count })
    }
}

/// Permits of a [`Semaphore`]. Release them by name: if they are merely dropped, they are released a step later, by a
/// task of its own.
#[must_use = "permits are to be released"]
pub struct Permit {
    turns: Arc<Turns<u64>>,
    /// Zero once they were released.
    count: u64,
}

impl Permit {
    /// Gives them back.
    pub fn release(mut self) {
        let count = std::mem::take(&mut self.count);
        self.turns.change(|free| *free += count);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let count = std::mem::take(&mut self.count);
        if count > 0 {
            self.turns.clone().bequeath_change(move |free| *free += count);
        }
    }
}
