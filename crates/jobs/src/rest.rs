//! Where a job rests: at its pause points, parked, so that drained sections need not wait for it.

use alloc::format;

use blockyard_block::BlockError;

use crate::control::Control;
use crate::job::Job;
use crate::status::Status;

impl Job {
    /// Where the job rests: while a user has paused it, and while somebody has drained what it reaches.
    ///
    /// # Errors
    /// If it was cancelled by force.
    ///
    /// # Yields
    /// Only while it rests.
    pub async fn pause_point(&self) -> Result<(), BlockError> {
        if self.control.read(|control| control.paused) {
            self.rest().await;
        }
        if self.is_drained() {
            self.layer().park(self.id());
            self.layer().unpark(self.id()).await;
        }
        self.check_cancelled()
    }

    async fn rest(&self) {
        let (rest, work) = match self.status() {
            Status::Ready => (Status::Standby, Status::Ready),
            Status::Running => (Status::Paused, Status::Running),
            // It is past the states that take the verb resume: nobody could wake it.
            _ => return,
        };
        self.enter(rest);
        self.layer().park(self.id());
        self.control.wait_until(|control| !control.paused).await;
        self.layer().unpark(self.id()).await;
        self.enter(work);
    }

    /// Whether somebody else has drained what it reaches.
    pub(crate) fn is_drained(&self) -> bool {
        self.layer().is_quiesced(self.id())
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), BlockError> {
        if self.control.read(Control::is_forced) { Err(self.cancelled()) } else { Ok(()) }
    }

    pub(crate) fn cancelled(&self) -> BlockError {
        BlockError::Invalid(format!("job {} was cancelled", self.name()))
    }
}
