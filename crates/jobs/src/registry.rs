//! The jobs there are, by name, and where their events go.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::BlockError;
use blockyard_sync::Shared;

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
    /// Bytes done.
    pub current_progress: u64,
    /// Bytes to do.
    pub total_progress: u64,
    /// Why it failed.
    pub error: Option<String>,
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

    /// The job called `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<Arc<Job>, BlockError> {
        let found = self.0.jobs.read(|jobs| jobs.get(name).cloned());
        found.ok_or_else(|| BlockError::NotFound(format!("there is no job '{name}'")))
    }

    /// Every job, by name.
    pub fn query(&self) -> Vec<JobInfo> {
        let jobs: Vec<Arc<Job>> = self.0.jobs.read(|jobs| jobs.values().cloned().collect());
        jobs.iter().map(|job| info(job)).collect()
    }
}

fn info(job: &Job) -> JobInfo {
    job.control.read(|control| JobInfo {
        id: job.name().into(),
        kind: job.driver.kind(),
        status: control.status,
        current_progress: control.done,
        total_progress: control.total,
        error: control.error.clone(),
    })
}
