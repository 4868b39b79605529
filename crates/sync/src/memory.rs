//! What a value was before each of the last steps that changed it, while a search runs: so that it can be said of a
//! guard whether it would have held then, also if nobody waited yet.

use std::collections::VecDeque;

use crate::door;

/// So many versions are kept: who waits long for what changes often is not asked about its beginning.
const VERSIONS: usize = 8;

pub(crate) struct Memory<T> {
    copy: fn(&T) -> T,
    /// Each with the step that changed it.
    versions: VecDeque<(u32, T)>,
    /// Of older steps nothing is known any more.
    since: u32,
}

impl<T> Memory<T> {
    pub fn new(copy: fn(&T) -> T) -> Self {
        Self { copy, versions: VecDeque::new(), since: 0 }
    }

    /// The value is about to change.
    pub fn note(&mut self, value: &T) {
        let Some(step) = door::remembers().filter(|step| !self.changed_in(*step)) else { return };
        if self.versions.len() == VERSIONS {
            self.since = self.versions.pop_front().map_or(0, |(step, _)| step + 1);
        }
        self.versions.push_back((step, (self.copy)(value)));
    }

    /// Whether this step changed it, if it is the last that did.
    pub fn changed_in(&self, step: u32) -> bool {
        self.versions.back().is_some_and(|(last, _)| *last == step)
    }

    /// Since which step it is known, and before each step that changed the value, whether `guard` would have held.
    pub fn held(&self, guard: impl Fn(&T) -> bool) -> (u32, Vec<(u32, bool)>) {
        (self.since, self.versions.iter().map(|(step, value)| (*step, guard(value))).collect())
    }
}
