//! Power losses of a world: when they may come, what they end, and what had happened by then.
//!
//! Power is not lost at every moment, which would multiply the executions by their lengths: the program runs to its
//! end, and then either that was it, or power had been lost before. When, is decided bit by bit by what recovery finds;
//! see `disk::fate`.

use alloc::vec::Vec;

use blockyard_sync::door::{Access, Kind, Reason};
use smallvec::smallvec;

use crate::disk::{Cut, Family, Undecided};
use crate::event::Kept;
use crate::footprint;
use crate::handle::Operation;
use crate::process::{Enabler, State};
use crate::world::{Budgets, World};

impl World {
    /// What had happened before power was lost, as far as it was: all, if it was not.
    pub fn cut(&self) -> Cut {
        self.fate.cut()
    }

    pub(crate) fn power_was_lost(&self) -> bool {
        self.crashes_left < self.budgets.crashes
    }

    /// What a request has to have decided before its effect.
    pub(crate) fn undecided(&self, disk: u32, operation: &Operation) -> Option<Undecided> {
        let beneath = looks_beneath(self.budgets);
        self.power_was_lost()
            .then(|| self.disks[disk as usize].undecided(operation, beneath, &self.fate))
            .flatten()
    }

    /// What the next atom may have kept, if that is a choice.
    pub(crate) fn open_fates(&self, disk: u32, operation: &Operation) -> Option<Vec<Kept>> {
        let permitted = self.undecided(disk, operation)?.permitted;
        (permitted.len() > 1).then_some(permitted)
    }

    pub(crate) fn lose_power(&mut self) {
        self.crashes_left -= 1;
        self.drop_everything();
        self.fate.lose_power();
        let again = self.crashes_left > 0 || self.budgets.has(Family::Flush);
        let fate = &mut self.fate;
        self.disks.iter().for_each(|disk| disk.lose_power(fate, again));
    }

    /// Whether the world itself has to see what steps touch: faults may last, or power may be lost.
    pub(crate) fn wants_footprints(&self) -> bool {
        self.touched.is_some() || self.budgets.crashes > 0
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
        let enabler = Enabler { step: self.steps - 1, reason: Reason::Waker };
        self.processes[index as usize].enablers = smallvec![enabler];
    }
}

/// Whether a write may leave what it should have replaced, so that it matters what that is.
pub(crate) fn looks_beneath(budgets: Budgets) -> bool {
    budgets.has(Family::Lost) || budgets.has(Family::Misdirected)
}
