//! A job: what it does, what it is called, and the states that it goes through.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{BlockError, BlockLayer, ErrorAction, Move};
use blockyard_graph::{Edit, Graph};
use blockyard_runtime::BoxFuture;
use blockyard_sync::{Shared, note};
use blockyard_units::{CopyMode, JobId, NodeId};
use tracing::debug_span;

use crate::control::{Control, Position};
use crate::registry::Jobs;
use crate::status::Status;

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

    /// Of a job that follows writes: whether it has seen all, and does each before it ends.
    fn actively_synced(&self, _job: &Job) -> Option<bool> {
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

    /// What was sealed does not take place after all; still in the section.
    fn unseal<'a>(&'a self, _job: &'a Job) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }

    /// What people call the change of the graph at its end.
    fn ending(&self, _job: &Job) -> &'static str {
        "nothing"
    }

    /// The edits that make the graph what the job promised.
    fn promised(&self, _job: &Job, _graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        Ok(Vec::new())
    }

    /// The nodes that give up their place with that, and those that get it: stored bitmaps move there, if they follow
    /// the data.
    fn moves(&self, _job: &Job) -> Vec<Move> {
        Vec::new()
    }

    /// The edits that take away what the job had put up: it does not take place.
    fn undone(&self, _job: &Job, _graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        Ok(Vec::new())
    }

    /// Has it follow the guest's writes in another way.
    fn change_copy_mode<'a>(
        &'a self,
        job: &'a Job,
        _mode: CopyMode,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(core::future::ready(Err(job.has_no_copy_mode())))
    }

    /// What all jobs of the transaction promised is published, or what they had put up taken away.
    fn ended(&self, _job: &Job) {}

    /// The section has ended, and the job as far as others see it: what is left to be put in order.
    fn clean<'a>(&'a self, _job: &'a Job) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
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
    /// A request failed.
    Error {
        /// It read.
        reads: bool,
        /// What was done about it.
        action: ErrorAction,
    },
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
    /// At most so many bytes a second; 0 is without limit.
    pub speed: u64,
}

/// A job.
pub struct Job {
    id: JobId,
    options: JobOptions,
    layer: BlockLayer,
    pub(crate) jobs: Jobs,
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
        let control = Shared::new(Control::new(options.speed));
        Arc::new(Self { id, options, layer, jobs, driver, control })
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

    /// Whether it works on nodes, and so is what the commands and events of block jobs are about.
    pub fn is_block_job(&self) -> bool {
        self.driver.works_on().is_some()
    }

    /// Why its copy mode cannot be changed, if it is no mirror.
    pub(crate) fn has_no_copy_mode(&self) -> BlockError {
        let name = self.name();
        BlockError::Invalid(alloc::format!("job {name} has no copy mode: it is no mirror"))
    }

    /// So many bytes more are done, and so many are left to be done.
    pub(crate) fn progressed(&self, done: u64, left: u64) {
        self.control.write(|control| (control.done, control.left) = (control.done + done, left));
    }

    /// So many bytes are about to be done: its rate has to pay for them.
    pub(crate) fn spend(&self, bytes: u64) {
        let runtime = self.layer.runtime();
        self.control.write(|control| control.pace.spend(bytes, || runtime.now_ns()));
    }

    /// How far it is.
    pub fn position(&self) -> Position {
        self.control.read(Control::position)
    }

    /// Announces that the job is in sync; once, unless for a mutant `again`.
    pub(crate) fn announce_ready(&self, again: bool) {
        if self.status() == Status::Running || again {
            self.enter(Status::Ready);
            self.emit(JobEvent::Ready);
        }
    }
}
