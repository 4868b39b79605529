//! A job's control state, and the verbs that change it: each is taken in the states that the table allows, and acts
//! where the job looks next.
//!
//! A user's pause is a flag: who pauses twice is refused. Drained sections pause as well, and are counted where they
//! are kept: a job goes on when the last one has ended and no user has paused it.
//!
//! Source: QEMU's documented verbs of jobs, `block-job-cancel` and `BlockDeviceIoStatus`.

use alloc::format;
use alloc::string::String;

use blockyard_block::BlockError;
use blockyard_units::{CopyMode, Mutant};

use crate::errors::IoStatus;
use crate::job::Job;
use crate::pace::Pace;
use crate::status::{Status, Verb};
use crate::witness::Witness;

/// How far a job is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Done.
    pub offset: u64,
    /// To be done in all, as far as is known: it may become more.
    pub len: u64,
    /// At most so many a second; 0 is without limit.
    pub speed: u64,
}

/// Force outdoes soft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cancel {
    /// Ends at a consistent point, without a pivot.
    Soft,
    /// Ends as soon as possible.
    Force,
}

pub(crate) struct Control {
    pub status: Status,
    pub cancel: Option<Cancel>,
    /// By a user.
    pub paused: bool,
    pub complete: bool,
    pub witness: Witness,
    pub finalize: bool,
    /// It has looked for the last time whether it was cancelled.
    pub ends: bool,
    pub io_status: IoStatus,
    pub error: Option<String>,
    /// Bytes.
    pub done: u64,
    /// Bytes still to be done.
    pub left: u64,
    pub pace: Pace,
}

impl Control {
    pub fn new(speed: u64) -> Self {
        Self {
            status: Status::Undefined,
            cancel: None,
            paused: false,
            complete: false,
            witness: Witness::None,
            finalize: false,
            ends: false,
            io_status: IoStatus::Ok,
            error: None,
            done: 0,
            left: 0,
            pace: Pace::new(speed),
        }
    }

    pub fn position(&self) -> Position {
        Position { offset: self.done, len: self.done + self.left, speed: self.pace.speed }
    }

    /// It is to stop at once.
    pub fn is_forced(&self) -> bool {
        self.cancel == Some(Cancel::Force)
    }

    /// Whether it was told to finish or to stop, so that it should not wait for more work.
    pub fn wants_end(&self) -> bool {
        self.complete || self.cancel.is_some()
    }
}

impl Job {
    fn ask(
        &self,
        verb: Verb,
        change: impl FnOnce(&mut Control) -> Result<(), String>,
    ) -> Result<(), BlockError> {
        let name = self.name();
        self.control
            .write(|control| {
                if control.status.verbs().contains(&verb) {
                    return change(control);
                }
                let status = control.status;
                Err(format!("refused: job {name} in state {status} cannot take verb {verb}"))
            })
            .map_err(BlockError::Invalid)
    }

    /// Tells it to stop. Not by force, a job that is ready ends in sync, without a pivot.
    ///
    /// # Errors
    /// If it is not in a state for that, or past its last look at being cancelled; not by force, if a user has paused
    /// it, or if it is to end with a witness.
    pub fn cancel(&self, force: bool) -> Result<(), BlockError> {
        let name = self.name();
        self.ask(Verb::Cancel, |control| {
            if control.paused && !force {
                return Err(format!(
                    "refused: job {name} is paused: resume it first, or cancel it by force"
                ));
            }
            if control.ends {
                return Err(format!("refused: job {name} is ending: it is too late to cancel it"));
            }
            let soft = !force && control.status.is_ready();
            if soft && control.witness != Witness::None {
                return Err(format!(
                    "refused: job {name} is to switch with a witness: cancel it by force"
                ));
            }
            let cancel = if soft { Cancel::Soft } else { Cancel::Force };
            control.cancel = control.cancel.max(Some(cancel));
            control.paused = false;
            Ok(())
        })
    }

    /// Tells it to rest.
    ///
    /// # Errors
    /// If it is not in a state for that, or rests already.
    pub fn pause(&self) -> Result<(), BlockError> {
        let name = self.name();
        self.ask(Verb::Pause, |control| {
            if core::mem::replace(&mut control.paused, true) {
                return Err(format!("refused: job {name} is already paused"));
            }
            Ok(())
        })
    }

    /// Tells it to go on.
    ///
    /// # Errors
    /// If it is not in a state for that, or does not rest.
    pub fn resume(&self) -> Result<(), BlockError> {
        let name = self.name();
        self.ask(Verb::Resume, |control| {
            if !core::mem::replace(&mut control.paused, false) {
                return Err(format!("refused: job {name} is not paused"));
            }
            control.io_status = IoStatus::Ok;
            Ok(())
        })
    }

    /// Tells it to work at another rate, in bytes a second; 0 is without limit. One that sleeps because of the last one
    /// wakes.
    ///
    /// # Errors
    /// If it is not in a state for that.
    pub fn set_speed(&self, speed: u64) -> Result<(), BlockError> {
        self.ask(Verb::SetSpeed, |control| {
            control.pace = Pace::new(speed);
            Ok(())
        })
    }

    /// Whether it takes this verb now.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn check_verb(&self, verb: Verb) -> Result<(), BlockError> {
        self.ask(verb, |_| Ok(()))
    }

    /// Has it follow the guest's writes in another way, once those that began in the present one have ended.
    ///
    /// # Errors
    /// If it is not in a state for that, or no mirror, or always passive.
    ///
    /// # Yields
    /// While writes and copies are under way.
    pub async fn change_copy_mode(&self, mode: CopyMode) -> Result<(), BlockError> {
        self.check_verb(Verb::Change)?;
        self.driver.change_copy_mode(self, mode).await
    }

    /// Tells it to finish.
    ///
    /// # Errors
    /// If it is not ready, or was told to cancel.
    pub fn complete(&self) -> Result<(), BlockError> {
        self.ask_to_complete(Witness::None, true)
    }

    /// The same; `now`, or only whether it would be taken. A witness comes with the first to ask.
    pub(crate) fn ask_to_complete(&self, witness: Witness, now: bool) -> Result<(), BlockError> {
        let name = self.name();
        let mutant = Mutant::CompleteRefusedWhileDrained;
        let drained = self.layer().design().is_mutant(mutant) && self.is_drained();
        self.ask(Verb::Complete, |control| {
            if drained {
                return Err(format!("refused: job {name} is paused"));
            }
            if control.cancel.is_some() {
                return Err(format!("refused: job {name} is being cancelled"));
            }
            if witness != Witness::None && control.complete {
                return Err(format!("refused: job {name} is being completed already"));
            }
            if now && !core::mem::replace(&mut control.complete, true) {
                control.witness = witness;
            }
            Ok(())
        })
    }

    /// Tells it to change the graph now.
    ///
    /// # Errors
    /// If it is not pending.
    pub fn finalize(&self) -> Result<(), BlockError> {
        self.ask(Verb::Finalize, |control| {
            control.finalize = true;
            Ok(())
        })
    }

    /// Forgets it.
    ///
    /// # Errors
    /// If it has not concluded.
    pub fn dismiss(&self) -> Result<(), BlockError> {
        self.ask(Verb::Dismiss, |_| Ok(()))?;
        self.enter(Status::Null);
        self.jobs.forget(self.name());
        Ok(())
    }
}
