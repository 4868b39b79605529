//! Where a job rests: at its pause points, parked, so that drained sections need not wait for it.

use alloc::format;

use blockyard_block::BlockError;
use blockyard_sync::{first_of, note, sometimes};
use blockyard_units::Mutant;

use crate::control::Control;
use crate::job::Job;
use crate::pace::Pace;
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

    /// Whether it would rest, or learn that it was cancelled, at a pause point.
    pub(crate) fn is_to_rest(&self) -> bool {
        self.control.read(|control| control.paused || control.is_forced()) || self.is_drained()
    }

    /// Whether it has to wait before it does more.
    pub(crate) fn is_paced(&self) -> bool {
        let pace = self.control.read(|control| control.pace);
        pace.wait_ns(|| self.layer().runtime().now_ns()) > 0
    }

    /// Where the job may do more, by its rate, or else sleeps until then. Verbs wake it that end it, that have it rest,
    /// and that change its rate; drained sections need not wait for it, and it does not go on in one.
    ///
    /// # Errors
    /// If it was cancelled by force.
    ///
    /// # Yields
    /// Only while it rests or sleeps.
    pub(crate) async fn pace(&self) -> Result<(), BlockError> {
        loop {
            let pace = self.control.read(|control| control.pace);
            let wait_ns = pace.wait_ns(|| self.layer().runtime().now_ns());
            if wait_ns == 0 {
                return Ok(());
            }
            self.sleep(wait_ns, pace).await;
            if self.layer().design().is_mutant(Mutant::JobPausedWhileAsleepResumes) {
                self.layer().register_job(self.id());
                return Ok(());
            }
            self.pause_point().await?;
        }
    }

    async fn sleep(&self, wait_ns: u64, pace: Pace) {
        note!("{}: sleeps for {wait_ns} ns", self.name());
        self.layer().park(self.id());
        let told =
            move |control: &Control| control.is_forced() || control.paused || control.pace != pace;
        let woken = self.control.wait_until(told);
        let slept = first_of(self.layer().runtime().sleep(wait_ns), woken).await;
        sometimes!(!slept, "a job was woken early");
        sometimes!(slept && self.is_drained(), "a job woke in a drained section");
        if !self.layer().design().is_mutant(Mutant::JobPausedWhileAsleepResumes) {
            self.layer().unpark(self.id()).await;
        }
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
        self.control.wait_until(|control| !control.paused || control.is_forced()).await;
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

    /// The last look: from then on it is too late to cancel it.
    pub(crate) fn begin_to_end(&self) -> Result<(), BlockError> {
        let ends = self.control.write(|control| {
            control.ends = !control.is_forced();
            control.ends
        });
        if ends { Ok(()) } else { Err(self.cancelled()) }
    }

    pub(crate) fn cancelled(&self) -> BlockError {
        BlockError::Invalid(format!("job {} was cancelled", self.name()))
    }
}
