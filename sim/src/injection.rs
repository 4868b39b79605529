//! Faults in a running world: which are offered, what injecting one does, and how they end.
//!
//! Invariant `offers-go-by-sets`: whether a fault is offered depends on the set of faults injected before, never on
//! their order, and no fault makes another one possible.

use blockyard_runtime::{Io, IoBuffer};
use blockyard_sync::door::{self, Access, Kind, Reason};
use blockyard_units::ByteRange;

use smallvec::smallvec;

use crate::disk::{self, Fault, SimDisk};
use crate::event::Action;
use crate::handle::Operation;
use crate::process::{BEGINNING, Enabler, State};
use crate::world::World;

impl World {
    /// What may go wrong with a request, in order.
    pub(crate) fn faults_of(
        &self,
        (disk, operation): (u32, &Operation),
        result: Option<&Io<IoBuffer>>,
        push: &mut dyn FnMut(Action),
    ) {
        let sizes = self.disks[disk as usize].sizes();
        let was_lost = self.power_was_lost();
        let mut offer = |fault| {
            // What is durable below it may not be decided: a flush of recovery that fails keeps what it covers.
            if was_lost && matches!(fault, Fault::FlushDropped | Fault::FlushPartly) {
                return;
            }
            if self.copies.permit(&self.disks, disk, operation, fault) {
                push(Action::Fault(fault));
            }
        };
        for family in self.budgets.families.iter() {
            match result {
                None => disk::before_effect(family, operation, sizes, &mut offer),
                Some(result) => disk::at_completion(family, operation, result.is_ok(), &mut offer),
            }
        }
    }

    /// Declares that these ranges, (disk's name, bytes), hold the same data: in this run no fault is offered that would
    /// leave none of them good. What was damaged once counts as damaged, even if it was mended: that makes the answer
    /// independent of the order of steps.
    ///
    /// # Panics
    /// `copies-are-alike`: if a disk does not exist, or the ranges' lengths differ.
    pub fn declare_copies(&mut self, copies: &[(&str, ByteRange)]) {
        let number = |name: &str| self.disk(name).map(|disk| disk.number);
        let group = copies.iter().map(|(name, range)| {
            assert_eq!(range.len(), copies[0].1.len(), "copies-are-alike");
            (number(name).expect("copies-are-alike"), *range)
        });
        let group = group.collect();
        self.copies.declare(group);
    }

    /// Ends every fault that lasts, and injects no more; requests that are stuck go on.
    pub fn end_faults(&mut self) {
        self.faults_left = 0;
        self.touched = None;
        self.disks.iter().for_each(SimDisk::end_faults);
        let step = self.steps.checked_sub(1).unwrap_or(BEGINNING);
        for index in 0..u32::try_from(self.processes.len()).expect("processes-are-few") {
            let process = &mut self.processes[index as usize];
            if let State::Request { stuck: stuck @ true, .. } = &mut process.state {
                *stuck = false;
                process.enablers = smallvec![Enabler { step, reason: Reason::Waker }];
                self.set_runnable(index, true);
            }
        }
    }

    /// The event `calm` comes when nothing else can, so it is ordered behind everything: it writes every object.
    pub(crate) fn calm(&mut self) {
        let mut touched = self.touched.take().unwrap_or_default();
        touched.sort_unstable();
        touched.dedup();
        touched.into_iter().for_each(|object| door::enter(Access::whole(object, Kind::Write)));
        self.end_faults();
    }

    pub(crate) fn inject(&mut self, index: u32, fault: Fault) {
        self.faults_left -= 1;
        let State::Request { disk, operation, stuck, .. } =
            &mut self.processes[index as usize].state
        else {
            unreachable!("runnable-is-exact")
        };
        match fault {
            Fault::Stuck | Fault::StuckLate => {
                *stuck = true;
                self.disks[*disk as usize].note(operation, fault);
                self.set_runnable(index, false);
            }
            Fault::EioLate => {
                self.disks[*disk as usize].note(operation, fault);
                self.complete(index, false);
            }
            _ => self.effect(index, Some(fault)),
        }
    }
}
