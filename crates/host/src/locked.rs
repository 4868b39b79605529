//! The lock that openings of one disk which follow each other share, and the part that each of them has in it.
//!
//! Invariant `writers-are-counted`: the lock keeps readers out while an opening under it writes, and no longer.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blockyard_runtime::Access;

use crate::error::HostError;
use crate::lock::{lock, unlock, unlock_writing};
use crate::opening::Opening;

/// What carries the lock, and how many openings write under it.
struct Locked {
    file: File,
    writers: Mutex<usize>,
}

impl Locked {
    fn writers(&self) -> MutexGuard<'_, usize> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others read. The lock was held until now, so nobody but another reader is in the way.
    fn share(&self) {
        // What cannot be given back is kept: others are then kept out for longer than they need to be.
        let _ = unlock_writing(&self.file);
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Not left to the close: the system may hold an opening for a moment after the last operation through it.
        let _ = unlock(&self.file);
    }
}

/// An opening's part. It goes when the opening is closed.
pub(crate) struct Part {
    locked: Arc<Locked>,
    writes: bool,
}

impl Part {
    /// Locks `file`, as `opening` says, on its own.
    pub fn first(file: &File, path: &Path, opening: Opening) -> Result<Self, HostError> {
        if let Some(keeps) = opening.keeps() {
            lock(file, path, keeps)?;
        }
        let file = file.try_clone().map_err(|error| HostError::from_io("lock", path, &error))?;
        let writes = opening.access == Access::Write;
        let locked = Locked { file, writers: Mutex::new(usize::from(writes)) };
        Ok(Self { locked: Arc::new(locked), writes })
    }

    /// That of another opening under the same lock, which becomes exclusive if it is the first to write.
    pub fn another(&self, path: &Path, opening: Opening) -> Result<Self, HostError> {
        let writes = opening.access == Access::Write;
        if writes {
            let mut writers = self.locked.writers();
            if let Some(keeps) = opening.keeps().filter(|_| *writers == 0) {
                let exclusive = lock(&self.locked.file, path, keeps);
                if exclusive.is_err() {
                    self.locked.share();
                }
                exclusive?;
            }
            *writers += 1;
        }
        Ok(Self { locked: self.locked.clone(), writes })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.writes {
            let mut writers = self.locked.writers();
            *writers -= 1;
            if *writers == 0 {
                self.locked.share();
            }
        }
    }
}
