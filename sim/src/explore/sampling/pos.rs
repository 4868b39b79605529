//! Partial-order sampling: events have random priorities, and what an event conflicts with is drawn anew.
//!
//! Source: Yuan, Yang, Gu, "Partial Order Aware Concurrency Sampling", CAV 2018. A walk that redraws nothing prefers
//! orders that many interleavings share; redrawing where two events race makes the orders of each race even.
//!
//! Differs: the paper knows what every enabled event will touch; here that shows only in the step itself. So an event
//! is taken to touch what the same event (process, action, how-manieth step) touched when it last ran, in an earlier
//! run; if it never did, what its process's last step touched in this run; a process that never ran is taken to touch
//! nothing. A wrong guess makes the sampling less even and nothing else.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use blockyard_sync::door::Access;

use super::draw::Draw;
use super::{Sampler, Sampling};
use crate::event::{Action, Event};
use crate::explore::chooser::{Chooser, Pick};
use crate::footprint::conflicts;
use crate::paths::PathId;
use crate::world::World;

/// Of a process in this run: its steps, and what the last one touched.
#[derive(Default)]
struct Progress {
    steps: u32,
    last: Vec<Access>,
}

/// Runs the event of highest priority.
pub struct Pos {
    draw: Draw,
    priorities: BTreeMap<(PathId, Action), u64>,
    progress: BTreeMap<PathId, Progress>,
    /// What each event touched when it last ran, by how many steps its process had run before. Kept across runs.
    touched: BTreeMap<(PathId, Action, u32), Vec<Access>>,
}

impl Pos {
    /// Has seen no run yet.
    pub fn new() -> Self {
        Self {
            draw: Draw::new(0),
            priorities: BTreeMap::new(),
            progress: BTreeMap::new(),
            touched: BTreeMap::new(),
        }
    }
}

impl Default for Pos {
    fn default() -> Self {
        Self::new()
    }
}

impl Sampler for Pos {
    fn begin(&mut self, seed: u64) {
        self.draw = Draw::new(seed);
        self.priorities.clear();
        self.progress.clear();
    }

    fn running(&self) -> Sampling {
        Sampling::Pos
    }
}

impl Chooser for Pos {
    fn pick(&mut self, _world: &World, enabled: &[Event]) -> Pick {
        let mut highest = (0, 0);
        for (index, event) in enabled.iter().enumerate() {
            let draw = &mut self.draw;
            let key = (event.path, event.action);
            let priority = *self.priorities.entry(key).or_insert_with(|| draw.number());
            highest = highest.max((priority, index));
        }
        Pick::Event(highest.1)
    }

    fn ran(&mut self, _world: &World, event: Event, accesses: &[Access]) {
        let (progress, touched) = (&self.progress, &self.touched);
        let races = |path: PathId, action: Action| {
            let own = progress.get(&path);
            let steps = own.map_or(0, |own| own.steps);
            let last = || own.map(|own| &own.last);
            let guess = touched.get(&(path, action, steps)).or_else(last);
            guess.is_some_and(|guess| conflicts(guess, accesses))
        };
        self.priorities.retain(|(path, action), _| *path != event.path && !races(*path, *action));
        let own = self.progress.entry(event.path).or_default();
        self.touched.insert((event.path, event.action, own.steps), accesses.to_vec());
        own.steps += 1;
        own.last.clear();
        own.last.extend_from_slice(accesses);
    }
}
