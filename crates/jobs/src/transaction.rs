//! From a job's start to its end. Every job is in a transaction: all of its jobs commit, or all abort.
//!
//! Differs: a transaction has one job as yet; its jobs are a list because the order of prepare, commit, abort and
//! clean over several is what this room is for.

use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::BlockError;
use blockyard_sync::note;

use crate::job::{Cancel, Control, Job, JobEvent};
use crate::status::Status;

/// Jobs that end together.
pub(crate) struct Transaction(Vec<Arc<Job>>);

impl Transaction {
    pub fn new(jobs: Vec<Arc<Job>>) -> Self {
        Self(jobs)
    }

    /// Runs the jobs to their end.
    pub async fn run(self) {
        let mut result = Ok(());
        for job in &self.0 {
            if result.is_ok() {
                result = work(job).await;
            }
        }
        for job in &self.0 {
            if result.is_ok() {
                job.enter(Status::Waiting);
            }
        }
        for job in &self.0 {
            if result.is_ok() {
                result = pend(job).await;
            }
        }
        for job in &self.0 {
            if result.is_ok() {
                result = job.driver.prepare(job).await;
            }
        }
        self.settle(result).await;
    }

    async fn settle(&self, result: Result<(), BlockError>) {
        for job in &self.0 {
            match &result {
                Ok(()) => job.driver.commit(job).await,
                Err(error) => fail(job, error).await,
            }
            job.driver.clean(job).await;
        }
        for job in &self.0 {
            conclude(job);
        }
    }
}

async fn work(job: &Job) -> Result<(), BlockError> {
    job.enter(Status::Running);
    job.driver.run(job).await
}

/// Pending: outside any drained section, still tracking.
async fn pend(job: &Job) -> Result<(), BlockError> {
    job.enter(Status::Pending);
    if !job.options().auto_finalize {
        job.emit(JobEvent::Pending);
        job.layer().park(job.id());
        let told = |control: &Control| control.finalize || control.cancel == Some(Cancel::Force);
        job.control.wait_until(told).await;
        job.layer().unpark(job.id()).await;
    }
    job.check_cancelled()
}

async fn fail(job: &Job, error: &BlockError) {
    note!("{}: {error}", job.name());
    let forced = job.control.read(|control| control.cancel == Some(Cancel::Force));
    if !forced {
        job.control.write(|control| control.error = Some(alloc::format!("{error}")));
    }
    job.enter(Status::Aborting);
    job.driver.abort(job).await;
}

fn conclude(job: &Job) {
    let (error, cancelled) =
        job.control.read(|control| (control.error.clone(), control.cancel == Some(Cancel::Force)));
    job.emit(match error {
        None if cancelled && job.status() == Status::Aborting => JobEvent::Cancelled,
        error => JobEvent::Completed(error),
    });
    job.enter(Status::Concluded);
    if job.options().auto_dismiss {
        // A concluded job takes this verb.
        let dismissed = job.dismiss();
        debug_assert!(dismissed.is_ok(), "concluded-jobs-can-be-dismissed");
    }
}
