//! The mirror: copies a source to a target while the guest writes, follows, and at its end pivots.
//!
//! A filter above the source holds the edge to the target and the bitmap of what is still to be copied. Passive, the
//! bitmap is recorded by the filter node's common end of requests, so a guest write is marked when it has ended;
//! active, the filter writes to both before the guest's write ends, and the bitmap only says what bulk copying still
//! has to do: then a copy keeps its chunk to itself while it lasts, and so does every guest write.
//!
//! Invariant `counted-inside-the-section`: the pivot is published in the drained section in which nothing was found
//! dirty and the target was flushed.
//!
//! Source: QEMU's documentation of blockdev-mirror; "Meeting notes on -blockdev, dynamic backend reconfiguration"
//! (qemu-block, December 2016) for the filter.

mod copy;
mod filter;
mod pivot;
mod start;

pub use start::{MirrorOptions, MirrorStart, SyncMode};

use alloc::boxed::Box;
use alloc::sync::Arc;

use blockyard_bitmap::SharedBitmap;
use blockyard_block::{BlockError, Drained, Io, Node, Owner, Requester};
use blockyard_graph::EdgeKey;
use blockyard_runtime::BoxFuture;
use blockyard_sync::door::world::Quiet;
use blockyard_sync::{door, first_of, note, sometimes};
use blockyard_units::{ByteLen, CopyMode, Mutant, NodeId};

use crate::job::{Cancel, Job, JobDriver};

/// A mirror job's own part.
pub(crate) struct Mirror {
    filter: Arc<Node>,
    /// Where the guest's data is: the node given, or what lies below the filters given.
    source: NodeId,
    target: NodeId,
    dirty: Arc<SharedBitmap>,
    mode: CopyMode,
    len: ByteLen,
    /// The drained section from the last count to the pivot; only the job's own task looks at it.
    section: Quiet<Option<Drained>>,
}

/// What the job does next, once nothing is dirty.
enum Next {
    Copy,
    Finish,
}

impl Mirror {
    /// The filter's edges, on the job's behalf.
    fn io(&self, job: &Job) -> Io {
        Io::of_node(job.layer(), &self.filter, Requester::Job(job.id()))
    }

    fn note_progress(&self, job: &Job) {
        let left = self.dirty.dirty_bytes().0;
        job.set_progress(self.len.0 - left, self.len.0);
    }

    /// In sync: waits until there is something to copy, or the job is to end. It makes no requests meanwhile.
    async fn follow(&self, job: &Job) -> Result<Next, BlockError> {
        self.note_progress(job);
        job.announce_ready();
        job.layer().park(job.id());
        let told = |control: &crate::job::Control| Job::wants_end(control) || control.paused;
        first_of(job.control.wait_until(told), self.dirty.wait_dirty()).await;
        job.layer().unpark(job.id()).await;
        job.pause_point().await?;
        let ends = job.control.read(Job::wants_end);
        Ok(if ends && self.dirty.count() == 0 { Next::Finish } else { Next::Copy })
    }

    async fn work(&self, job: &Job) -> Result<(), BlockError> {
        loop {
            job.pause_point().await?;
            if self.copy_next(job).await? {
                continue;
            }
            if let Next::Finish = self.follow(job).await? {
                return Ok(());
            }
        }
    }

    /// Begins the drained section in which nothing is dirty, and flushes the target there.
    async fn converge(&self, job: &Job) -> Result<Drained, BlockError> {
        let outside = job.layer().design().is_mutant(Mutant::MirrorConvergeCheckOutsideDrain);
        loop {
            while self.copy_next(job).await? {
                job.pause_point().await?;
            }
            let section = job.layer().drain(Owner::Job(job.id()), &[self.source]).await;
            job.check_cancelled()?;
            if !outside && self.dirty.count() > 0 {
                note!("{}: dirty again, leaves the drained section", job.name());
                sometimes!(true, "mirror found dirty in the drained section");
                section.end();
                continue;
            }
            job.layer().observer().milestone("final count");
            if !job.layer().design().is_mutant(Mutant::MirrorPivotSkipsFlush) {
                self.io(job).flush(filter::TARGET).await?;
            }
            return Ok(section);
        }
    }

    async fn finish(&self, job: &Job) -> Result<(), BlockError> {
        let recorded = self.parents_of_filter(job);
        let mut section = self.converge(job).await?;
        if job.layer().design().is_mutant(Mutant::MirrorPivotUndrainedWindow) {
            section.end();
            door::boundary().await;
            section = job.layer().drain(Owner::Job(job.id()), &[self.source]).await;
        }
        self.section.with(|kept| *kept = Some(section));
        // It may have been cancelled again during the flush, and by force then.
        job.check_cancelled()?;
        let soft = job.control.read(|control| control.cancel == Some(Cancel::Soft));
        if soft { self.remove_filter(job).await } else { self.pivot(job, recorded).await }
    }

    fn parents_of_filter(&self, job: &Job) -> alloc::vec::Vec<EdgeKey> {
        pivot::parents_to_redirect(&job.layer().graph(), self.filter.id())
    }
}

impl JobDriver for Mirror {
    fn kind(&self) -> &'static str {
        "mirror"
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.work(job))
    }

    fn prepare<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.finish(job))
    }

    fn commit<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, ()> {
        self.note_progress(job);
        Box::pin(async {})
    }

    fn abort<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let kept = self.section.with(Option::take);
            let section = match kept {
                Some(section) => section,
                None => job.layer().drain(Owner::Job(job.id()), &[self.source]).await,
            };
            if let Err(error) = self.remove_filter(job).await {
                // Somebody holds the filter in a way that forbids it; it stays, and passes everything on.
                note!("{}: the filter stays: {error}", job.name());
            }
            section.end();
        })
    }

    fn clean<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, ()> {
        if let Some(section) = self.section.with(Option::take) {
            section.end();
        }
        job.layer().unregister_job(job.id());
        Box::pin(async {})
    }
}
