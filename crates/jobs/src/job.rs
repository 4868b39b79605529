//! A job: its control state, the verbs that change it, and the points where it looks at it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{BlockError, BlockLayer};
use blockyard_graph::{Edit, Graph};
use blockyard_runtime::BoxFuture;
use blockyard_sync::{Shared, note};
use blockyard_units::{JobId, NodeId};
use tracing::debug_span;

use crate::registry::Jobs;
use crate::status::{Status, Verb};

/// What a job does, and what becomes of it in its transaction.
pub trait JobDriver: Send + Sync {
    /// What sort of job.
    fn kind(&self) -> &'static str;

    /// The work, until the job may be finished; an error fails the job.
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>>;

    /// The node under the drained section in which the job ends, if it is about one.
    fn works_on(&self) -> Option<NodeId> {
        None
    }

    /// The job is about to end.
    fn begin_end(&self, _job: &Job) {}

    /// Does what is left to be done; guests may make more of it meanwhile.
    fn catch_up<'a>(&'a self, _job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async { Ok(()) })
    }

    /// In the drained section: whether nothing is left to be done.
    fn is_caught_up(&self, _job: &Job) -> bool {
        true
    }

    /// Makes durable what was done, in the section in which nothing is left.
    fn seal<'a>(&'a self, _job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async { Ok(()) })
    }

    /// What people call the change of the graph at its end.
    fn ending(&self, _job: &Job) -> &'static str {
        "nothing"
    }

    /// The edits that make the graph what the job promised.
    fn promised(&self, _job: &Job, _graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        Ok(Vec::new())
    }

    /// The edits that take away what the job had put up: it does not take place.
    fn undone(&self, _job: &Job, _graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        Ok(Vec::new())
    }

    /// What all jobs of the transaction promised is published.
    fn commit(&self, _job: &Job) {}
}

/// Something that happened to a job, for whoever subscribed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// It entered a state.
    StatusChange(Status),
    /// It is in sync.
    Ready,
    /// It waits for finalize.
    Pending,
    /// It ended, well or with an error.
    Completed(Option<String>),
    /// It ended because it was told to.
    Cancelled,
}

/// What every kind of job is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOptions {
    /// Its name, unique among jobs.
    pub name: String,
    /// Whether it finalizes by itself.
    pub auto_finalize: bool,
    /// Whether it is forgotten by itself.
    pub auto_dismiss: bool,
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
    pub paused: bool,
    pub complete: bool,
    pub finalize: bool,
    pub error: Option<String>,
    pub done: u64,
    pub total: u64,
}

/// A job.
pub struct Job {
    id: JobId,
    options: JobOptions,
    layer: BlockLayer,
    jobs: Jobs,
    pub(crate) driver: Box<dyn JobDriver>,
    pub(crate) control: Shared<Control>,
}

impl Job {
    pub(crate) fn new(
        id: JobId,
        options: JobOptions,
        layer: BlockLayer,
        jobs: Jobs,
        driver: Box<dyn JobDriver>,
    ) -> Arc<Self> {
        let control = Control {
            status: Status::Undefined,
            cancel: None,
            paused: false,
            complete: false,
            finalize: false,
            error: None,
            done: 0,
            total: 0,
        };
        Arc::new(Self { id, options, layer, jobs, driver, control: Shared::new(control) })
    }

    /// Its id.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// What it was started with.
    pub fn options(&self) -> &JobOptions {
        &self.options
    }

    /// What sort of job it is.
    pub fn kind(&self) -> &'static str {
        self.driver.kind()
    }

    /// The layer it works in.
    pub fn layer(&self) -> &BlockLayer {
        &self.layer
    }

    /// Its state.
    pub fn status(&self) -> Status {
        self.control.read(|control| control.status)
    }

    /// Enters a state, and says so.
    ///
    /// # Panics
    /// `only-legal-transitions`: if it does not follow the present one.
    pub(crate) fn enter(&self, next: Status) {
        let last = self.control.write(|control| core::mem::replace(&mut control.status, next));
        let name = self.name();
        assert!(
            last.successors().contains(&next),
            "only-legal-transitions: {name} {last} -> {next}"
        );
        note!("{name}: {next}");
        let span = debug_span!("job transition", job = name, from = last.word(), to = next.word());
        span.in_scope(|| self.emit(JobEvent::StatusChange(next)));
    }

    pub(crate) fn emit(&self, event: JobEvent) {
        self.jobs.emit(self, &event);
    }

    /// What has been done and what there is to do, in bytes.
    pub fn set_progress(&self, done: u64, total: u64) {
        self.control.write(|control| (control.done, control.total) = (done, total));
    }

    /// Announces that the job is in sync; once.
    pub(crate) fn announce_ready(&self) {
        if self.status() == Status::Running {
            self.enter(Status::Ready);
            self.emit(JobEvent::Ready);
        }
    }

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
    /// If it is not in a state for that.
    pub fn cancel(&self, force: bool) -> Result<(), BlockError> {
        self.ask(Verb::Cancel, |control| {
            let soft = !force && control.status == Status::Ready;
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
            Ok(())
        })
    }

    /// Tells it to finish.
    ///
    /// # Errors
    /// If it is not ready, or was told to cancel.
    pub fn complete(&self) -> Result<(), BlockError> {
        let name = self.name();
        self.ask(Verb::Complete, |control| {
            if control.cancel.is_some() {
                return Err(format!("refused: job {name} is being cancelled"));
            }
            control.complete = true;
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
        if self.layer.is_quiesced(self.id) {
            self.layer.park(self.id);
            self.layer.unpark(self.id).await;
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
        self.layer.park(self.id);
        self.control.wait_until(|control| !control.paused).await;
        self.layer.unpark(self.id).await;
        self.enter(work);
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), BlockError> {
        match self.control.read(|control| control.cancel) {
            Some(Cancel::Force) => Err(self.cancelled()),
            _ => Ok(()),
        }
    }

    pub(crate) fn cancelled(&self) -> BlockError {
        BlockError::Invalid(format!("job {} was cancelled", self.name()))
    }

    /// Whether it was told to finish or to stop, so that it should not wait for more work.
    pub(crate) fn wants_end(control: &Control) -> bool {
        control.complete || control.cancel.is_some()
    }
}
