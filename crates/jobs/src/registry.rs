//! The jobs there are, by name, and where their events go.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::BlockError;
use blockyard_sync::Shared;

use crate::control::Position;
use crate::errors::IoStatus;
use crate::job::{Job, JobEvent};
use crate::status::Status;

/// Receives every event of every job, in the step in which it happens.
pub trait EventSink: Send + Sync {
    /// `job` went through `event`.
    fn job_event(&self, job: &Job, event: &JobEvent);
}

/// The jobs. Clones are the same registry.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    jobs: Shared<BTreeMap<String, Arc<Job>>>,
    sink: Arc<dyn EventSink>,
}

/// What can be asked about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// Its name.
    pub id: String,
    /// What sort of job.
    pub kind: &'static str,
    /// Its state.
    pub status: Status,
    /// How far it is.
    pub position: Position,
    /// Neither parked nor at rest: it may be making requests.
    pub busy: bool,
    /// It is to rest, or does: a user has paused it, or somebody has drained what it reaches.
    pub paused: bool,
    /// For block jobs alone.
    pub block: Option<BlockJobInfo>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What can be asked about a job that works on nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockJobInfo {
    /// Whether it finalizes by itself.
    pub auto_finalize: bool,
    /// Whether it is forgotten by itself.
    pub auto_dismiss: bool,
    /// Whether it was stopped by an error.
    pub io_status: IoStatus,
    /// Of one that follows writes: whether it has seen all, and does each before it ends.
    pub actively_synced: Option<bool>,
}

/// Checks that `name` can be a job's.
///
/// # Errors
/// If it is ill-formed.
pub fn check_job_id(name: &str) -> Result<(), BlockError> {
    let rest = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(rest) {
        return Ok(());
    }
    Err(BlockError::Invalid(format!("invalid job id '{name}'")))
}

impl Jobs {
    /// No jobs yet; their events will go to `sink`.
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        Self(Arc::new(Inner { jobs: Shared::default(), sink }))
    }

    pub(crate) fn emit(&self, job: &Job, event: &JobEvent) {
        self.0.sink.job_event(job, event);
    }

    /// Checks that a job may be called `name`.
    ///
    /// # Errors
    /// If the name is ill-formed or taken.
    pub fn check_name(&self, name: &str) -> Result<(), BlockError> {
        check_job_id(name)?;
        if self.0.jobs.read(|jobs| jobs.contains_key(name)) {
            return Err(BlockError::Invalid(format!("job id '{name}' is in use")));
        }
        Ok(())
    }

    pub(crate) fn insert(&self, job: Arc<Job>) {
        self.0.jobs.write(|jobs| jobs.insert(job.name().into(), job));
    }

    pub(crate) fn forget(&self, name: &str) {
        self.0.jobs.write(|jobs| jobs.remove(name));
    }

    /// Nobody dismisses those that have ended any more: a job knows the registry, and so they would keep each other.
    pub fn let_go(&self) {
        drop(self.0.jobs.write(core::mem::take));
    }

    /// The job called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<Arc<Job>> {
        self.0.jobs.read(|jobs| jobs.get(name).cloned())
    }

    /// Every job, by name.
    pub fn query(&self) -> Vec<JobInfo> {
        let jobs: Vec<Arc<Job>> = self.0.jobs.read(|jobs| jobs.values().cloned().collect());
        jobs.iter().map(|job| info(job)).collect()
    }
}

fn info(job: &Job) -> JobInfo {
    let options = job.options();
    let block = job.is_block_job().then(|| BlockJobInfo {
        auto_finalize: options.auto_finalize,
        auto_dismiss: options.auto_dismiss,
        io_status: job.control.read(|control| control.io_status),
        actively_synced: job.driver.actively_synced(job),
    });
    let (busy, drained) = (job.layer().is_active(job.id()), job.is_drained());
    job.control.read(|control| JobInfo {
        id: job.name().into(),
        kind: job.driver.kind(),
        status: control.status,
        position: control.position(),
        busy,
        paused: control.paused || drained,
        error: control.error.clone(),
        block,
    })
}
