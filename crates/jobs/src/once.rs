//! A job that does one thing and leaves the graph as it is: it works on no node, so its end needs no drained section of
//! any.

use alloc::boxed::Box;
use alloc::sync::Arc;

use blockyard_block::{BlockError, BlockLayer};
use blockyard_runtime::BoxFuture;
use blockyard_sync::door::{self, world::Quiet};
use blockyard_units::JobId;

use crate::job::{Job, JobDriver, JobOptions};
use crate::registry::Jobs;
use crate::status::Status;
use crate::transaction::run_together;

/// What such a job does.
pub type Once = BoxFuture<'static, Result<(), BlockError>>;

struct Work {
    kind: &'static str,
    /// Gone once it is done, with whatever it holds: that may hold the job.
    work: Quiet<Option<Once>>,
}

impl JobDriver for Work {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            job.progressed(0, 1);
            let work = self.work.with(Option::take).expect("a-job-runs-once");
            let done = work.await;
            job.progressed(1, 0);
            done
        })
    }
}

/// Begins a job of this kind, which does `work` once.
///
/// # Errors
/// If the job's name is ill-formed or taken.
pub fn run_once(
    layer: &BlockLayer,
    jobs: &Jobs,
    options: JobOptions,
    kind: &'static str,
    work: Once,
) -> Result<(), BlockError> {
    jobs.check_name(&options.name)?;
    let work = Quiet::new(Some(work));
    let (id, driver) = (JobId(door::new_object()), Box::new(Work { kind, work }));
    let job: Arc<Job> = Job::new(id, options, layer.clone(), jobs.clone(), driver);
    jobs.insert(job.clone());
    layer.register_job(id);
    job.enter(Status::Created);
    run_together([job].into());
    Ok(())
}
