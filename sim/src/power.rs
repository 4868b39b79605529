//! Power losses of a world: when they may come, what they end, and what had happened by then.
//!
//! Power is not lost at every moment, which would multiply the executions by their lengths: the program runs to its
//! end, and then either that was it, or power had been lost before. When, is decided bit by bit by what recovery finds;
//! see `disk::fate`.

use alloc::vec::Vec;

use blockyard_sync::door::{Access, Kind};

use crate::disk::{Cut, Undecided};
use crate::event::{Action, Event, Kept};
use crate::footprint;
use crate::handle::Operation;
use crate::paths::ROOT;
use crate::process::{Enabler, State};
use crate::world::World;

impl World {
    /// What may come when nothing is enabled and the program can recover; nothing if the budget is used up.
    pub(crate) fn power_events(&mut self, events: &mut Vec<Event>) {
        if self.crashes_left > 0 {
            // They come after everything, and no race is about them: no single step enables them.
            self.processes[0].enablers.clear();
            let event = |action| Event { path: ROOT, action, process: 0 };
            events.extend([Action::End, Action::Crash].map(event));
        }
    }

    /// What had happened before power was lost, as far as it was: all, if it was not.
    pub fn cut(&self) -> Cut {
        self.fate.cut()
    }

    /// What a request has to have decided before its effect.
    pub(crate) fn undecided(&self, disk: u32, operation: &Operation) -> Option<Undecided> {
        let was_lost = self.crashes_left < self.budgets.crashes;
        if was_lost { self.disks[disk as usize].undecided(operation, &self.fate) } else { None }
    }

    pub(crate) fn lose_power(&mut self) {
        self.crashes_left -= 1;
        self.drop_everything();
        self.fate.lose_power();
        let (fate, again) = (&mut self.fate, self.crashes_left > 0);
        self.disks.iter().for_each(|disk| disk.lose_power(fate, again));
    }

    /// Keeps what a step touched while power may still be lost: it then happens before the loss, whatever it touched.
    pub(crate) fn note_for_power_loss(&mut self, follows: u32, accesses: &mut Vec<Access>) {
        if self.crashes_left > 0 {
            self.fate.push(follows, accesses);
            accesses.push(footprint::power(Kind::Add));
        }
    }

    pub(crate) fn keep(&mut self, index: u32, kept: Kept) {
        let process = &self.processes[index as usize];
        let State::Request { disk, .. } = &process.state else { unreachable!("runnable-is-exact") };
        self.disks[*disk as usize].keep(kept, &mut self.fate);
        let enabler = Enabler { step: self.steps - 1, guarded: false };
        self.processes[index as usize].enablers = Vec::from([enabler]);
    }
}
