//! Which processes may run: tasks that were woken or have a guard that holds, and what made them so.

use alloc::vec::Vec;

use blockyard_sync::door::{Access, Kind, Reason, Wait, Wake};
use blockyard_units::Id;

use crate::body::Granularity;
use crate::event::{Action, Event};
use crate::footprint;
use crate::process::{Enabler, State};
use crate::world::World;

impl World {
    /// Does what the step that just ran had to say of tasks: who may be polled now, and why, and who may not.
    pub(crate) fn wake_tasks(&mut self, running: u32, step: u32) {
        for index in 0..self.log.wakes.len() {
            let Wake { task, reason } = self.log.wakes[index];
            let process = &mut self.processes[task as usize];
            process.overlooks &= !matches!(reason, Reason::Fell(_));
            if reason == Reason::Waker {
                process.woken_plainly = true;
                self.log.accesses.push(footprint::readiness(process.path, Kind::Add));
            }
            let State::Task { body, woken, holding } = &mut process.state else { continue };
            match reason {
                Reason::Guard(_) | Reason::Handed(_) | Reason::Since(..) => *holding += 1,
                Reason::Fell(access) => {
                    *holding -= 1;
                    if body.is_under_way() && task != running {
                        process.fallen.push(access);
                    } else if task != running {
                        let path = process.path;
                        self.lost
                            .push((Event { path, action: Action::Poll, process: task }, access));
                    }
                    let of_it = |e: &Enabler| e.guard().is_some_and(|(guard, _)| guard == access);
                    if let Some(index) = process.enablers.iter().position(of_it) {
                        process.enablers.remove(index);
                    }
                    continue;
                }
                Reason::Waker | Reason::Boundary => *woken = true,
            }
            // Since when a primitive's guard holds is told of operations that are whole: by await.
            let reason = match reason {
                Reason::Since(access, _) if self.granularity == Granularity::Door => {
                    Reason::Guard(access)
                }
                reason => reason,
            };
            process.enablers.push(Enabler { step, reason });
        }
        for index in 0..self.log.wakes.len() {
            self.list(self.log.wakes[index].task);
        }
    }

    /// Notes which waits of the running task go on, and those of them that it did not look at.
    pub(crate) fn note_waits(&mut self, index: u32) {
        let waits = &mut self.processes[index as usize].waits;
        let accesses = &self.log.accesses;
        let unseen = |wait: &Access| !accesses.iter().any(|seen| place(seen) == place(wait));
        self.unseen.clear();
        self.unseen.extend(waits.iter().map(|wait| wait.access).filter(unseen));
        self.log.guards.extend_from_slice(&self.unseen);
        if !self.log.pasts.is_empty() {
            // Of waits for the same all are known, or none.
            let known = |wait: &Wait| self.log.pasts.iter().any(|past| past.wait == *wait);
            let unknown = waits.iter().filter(|wait| !known(wait));
            let unknown: Vec<_> = unknown.map(|wait| place(&wait.access)).collect();
            self.log.pasts.retain(|past| !unknown.contains(&place(&past.wait.access)));
        }
        for &(begins, wait) in &self.log.waits {
            let place = waits.iter().position(|other| !begins && *other == wait);
            match place {
                Some(place) => drop(waits.remove(place)),
                None if begins => waits.push(wait),
                // It began in another task, which gave it up.
                None => {}
            }
        }
    }

    /// Whether a guard that the task of the last step waits for, or waited for, would have held before another step;
    /// none if nobody knows.
    pub(crate) fn held_before(&self, guard: &Access, step: u32) -> Option<bool> {
        let pasts = self.log.pasts.iter().filter(|past| place(&past.wait.access) == place(guard));
        let held = pasts.map(|past| past.before(step));
        held.reduce(|one, other| Some(one? || other?)).flatten()
    }

    /// Whether the task that was just polled was ready for the sake of a guard only, and looked at none that held: it
    /// would be ready for ever.
    pub(crate) fn overlooked_its_guard(&mut self, event: Event) -> bool {
        let process = &mut self.processes[event.process as usize];
        if event.action != Action::Poll || process.is_under_way() {
            return false;
        }
        // Where the poll ended, a wait may go on that could have ended before these fell.
        self.log.peeks.append(&mut process.fallen);
        process.overlooks
    }

    /// Lists a task as runnable if it is.
    pub(crate) fn list(&mut self, index: u32) {
        let State::Task { body, woken, holding } = &self.processes[index as usize].state else {
            return;
        };
        self.set_runnable(index, *woken || *holding > 0 || body.is_under_way());
    }

    /// Lists a process as runnable, in canonical order, or takes it off the list.
    pub(crate) fn set_runnable(&mut self, index: u32, runnable: bool) {
        let place = self.runnable.iter().position(|listed| *listed == index);
        match place {
            Some(place) if !runnable => drop(self.runnable.remove(place)),
            None if runnable => {
                let label = |index: u32| self.paths.label(self.processes[index as usize].path);
                let own = label(index);
                let place = self.runnable.partition_point(|other| label(*other) < own);
                self.runnable.insert(place, index);
            }
            _ => {}
        }
    }
}

/// What is the same for all operations on the same part of an object.
fn place(access: &Access) -> (Id, u64, u64) {
    (access.object, access.from, access.to)
}
