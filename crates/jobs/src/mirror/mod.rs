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

pub use start::{MirrorOptions, MirrorPolicies, MirrorStart, SyncMode};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::SharedBitmap;
use blockyard_block::{BlockError, Io, Node, Requester};
use blockyard_graph::{EdgeKey, Edit, Graph};
use blockyard_runtime::BoxFuture;
use blockyard_sync::door::world::Quiet;
use blockyard_sync::first_of;
use blockyard_units::{ByteLen, CopyMode, Mutant, NodeId};

use crate::control::{Cancel, Control};
use crate::job::{Job, JobDriver};

/// A mirror job's own part.
pub(crate) struct Mirror {
    filter: Arc<Node>,
    /// Where the guest's data is: the node given, or what lies below the filters given.
    source: NodeId,
    target: NodeId,
    dirty: Arc<SharedBitmap>,
    mode: CopyMode,
    policies: MirrorPolicies,
    /// The filter's parents when the job began to end; only the transaction's task looks at it.
    recorded: Quiet<Vec<EdgeKey>>,
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

    fn note_progress(&self, job: &Job, done: ByteLen) {
        job.progressed(done.0, self.dirty.dirty_bytes().0);
    }

    /// In sync: waits until there is something to copy, or the job is to end. It makes no requests meanwhile.
    async fn follow(&self, job: &Job) -> Result<Next, BlockError> {
        self.note_progress(job, ByteLen(0));
        job.announce_ready();
        job.layer().park(job.id());
        let told = |control: &Control| control.wants_end() || control.paused;
        first_of(job.control.wait_until(told), self.dirty.wait_dirty()).await;
        job.layer().unpark(job.id()).await;
        job.pause_point().await?;
        let ends = job.control.read(Control::wants_end);
        Ok(if ends && self.dirty.count() == 0 { Next::Finish } else { Next::Copy })
    }

    async fn work(&self, job: &Job) -> Result<(), BlockError> {
        loop {
            job.pause_point().await?;
            if self.dirty.count() > 0 {
                job.pace().await?;
            }
            if self.copy_next(job).await? {
                continue;
            }
            if let Next::Finish = self.follow(job).await? {
                return Ok(());
            }
        }
    }

    fn parents_of_filter(&self, job: &Job) -> Vec<EdgeKey> {
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

    fn works_on(&self) -> Option<NodeId> {
        Some(self.source)
    }

    fn actively_synced(&self) -> Option<bool> {
        Some(self.mode == CopyMode::Active && self.dirty.count() == 0)
    }

    fn begin_end(&self, job: &Job) {
        let parents = self.parents_of_filter(job);
        self.recorded.with(|recorded| *recorded = parents);
    }

    fn catch_up<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            while self.copy_next(job).await? {
                job.pause_point().await?;
            }
            Ok(())
        })
    }

    fn is_caught_up(&self, job: &Job) -> bool {
        let outside = job.layer().design().is_mutant(Mutant::MirrorConvergeCheckOutsideDrain);
        outside || self.dirty.count() == 0
    }

    fn seal<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            if job.layer().design().is_mutant(Mutant::MirrorPivotSkipsFlush) {
                return Ok(());
            }
            // By force it is cancelled at the next look at it, if it is to try again.
            while let Err(error) = self.io(job).flush(filter::TARGET).await {
                job.met(error, self.policies.target, false)?;
                job.check_cancelled()?;
            }
            Ok(())
        })
    }

    fn ending(&self, job: &Job) -> &'static str {
        if is_soft(job) { "remove filter" } else { "pivot" }
    }

    fn promised(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        if is_soft(job) { self.without_filter(job, graph) } else { self.pivot(job, graph) }
    }

    fn undone(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        self.without_filter(job, graph)
    }

    fn commit(&self, job: &Job) {
        self.note_progress(job, ByteLen(0));
    }
}

/// Whether it ends where it is, in sync, without a pivot.
fn is_soft(job: &Job) -> bool {
    job.control.read(|control| control.cancel == Some(Cancel::Soft))
}
