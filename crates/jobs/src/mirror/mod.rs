//! The mirror: copies a source to a target while the guest writes, follows, and at its end pivots.
//!
//! A filter above the source holds the edge to the target and the bitmap of what is still to be copied. Passive, the
//! bitmap is recorded by the filter node's common end of requests, so a guest write is marked when it has ended;
//! active, the filter writes to both before the guest's write ends, and the bitmap only says what bulk copying still
//! has to do: then a copy keeps its place to itself while it lasts, and so does every guest write. The mode is changed
//! in a drained section: writes and copies of the old one have ended. Without a filter (design `source-bitmap`) the
//! job has both edges itself, and the bitmap is the source's.
//!
//! Invariant `counted-inside-the-section`: the pivot is published in the drained section in which nothing was found
//! dirty and the target was flushed.
//!
//! Source: QEMU's documentation of blockdev-mirror; "Meeting notes on -blockdev, dynamic backend reconfiguration"
//! (qemu-block, December 2016) for the filter.

mod begin;
mod commit;
mod copy;
mod filter;
mod first;
mod pivot;
mod start;

pub(crate) use begin::{Beginning, Filter};
pub use commit::CommitOptions;
pub(crate) use filter::{FILE, TARGET};
pub(crate) use pivot::{parents_to_redirect, redirect, retire};
pub(crate) use start::check_granules;
pub use start::{MirrorOptions, MirrorPolicies, MirrorStart, SyncMode};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::SharedBitmap;
use blockyard_block::{BlockError, Move, Node, Owner};
use blockyard_graph::{EdgeKey, Edit, Graph};
use blockyard_runtime::BoxFuture;
use blockyard_sync::door::{self, world::Quiet};
use blockyard_sync::{Shared, first_of, sometimes};
use blockyard_units::{ByteLen, ByteOffset, CopyMode, JobId, Mutant, NodeId};

use crate::chain::close_again;
use crate::control::{Cancel, Control};
use crate::flight::{Buffer, Failed, Flight};
use crate::job::{Job, JobDriver};
use crate::status::Verb;

use commit::Commit;
use copy::Copier;

/// What the job, its filter and its copies share.
pub(crate) struct Tracking {
    /// Changed in a drained section.
    mode: Shared<CopyMode>,
    dirty: Arc<SharedBitmap>,
    flight: Flight,
}

impl Tracking {
    fn mode(&self) -> CopyMode {
        self.mode.read(|mode| *mode)
    }
}

/// A mirror job's own part.
pub(crate) struct Mirror {
    filter: Option<Arc<Node>>,
    /// Where the guest's data is: the node given, or what lies below the filters given.
    source: NodeId,
    /// The node that was given.
    given: NodeId,
    target: NodeId,
    /// The node whose place the target takes, if somebody said.
    replaces: Option<NodeId>,
    tracking: Arc<Tracking>,
    copier: Copier,
    sync: SyncMode,
    /// If the target is a backing file of the source.
    commit: Option<Commit>,
    buffer: Buffer,
    policies: MirrorPolicies,
    /// Where the next copy is looked for; of the job's task alone.
    cursor: Quiet<ByteOffset>,
    /// For a mutant: it says again that it is ready.
    announces_again: Quiet<bool>,
    /// The parents that are to get the target, when the job began to end; only the transaction's task looks at it.
    recorded: Quiet<Vec<EdgeKey>>,
}

/// What the job does next, once nothing is dirty.
enum Next {
    Copy,
    Finish,
}

impl Mirror {
    fn dirty(&self) -> &SharedBitmap {
        &self.tracking.dirty
    }

    fn note_progress(&self, job: &Job, done: ByteLen) {
        let left = self.dirty().dirty_bytes().0 + self.tracking.flight.bytes().0;
        job.progressed(done.0, left);
    }

    /// What copies and active writes have come to since the last look.
    fn look_at_ended(&self, job: &Job) -> Result<(), BlockError> {
        let (done, failed) = self.tracking.flight.take_ended();
        self.note_progress(job, done);
        let again = job.layer().design().is_mutant(Mutant::MirrorReadyTwiceAfterError);
        let met = |Failed { reads, error }| {
            self.announces_again.with(|announces| *announces = again && job.status().is_ready());
            let policies = self.policies;
            job.met(error, if reads { policies.source } else { policies.target }, reads)
        };
        failed.into_iter().try_for_each(met)
    }

    /// Where it rests, once no copy is under way; those of which one is end first, if it is to rest.
    async fn pause_point(&self, job: &Job) -> Result<(), BlockError> {
        if self.tracking.flight.bytes() > ByteLen(0) {
            if !job.is_to_rest() {
                return Ok(());
            }
            self.tracking.flight.settle().await;
            self.look_at_ended(job)?;
        }
        job.pause_point().await
    }

    /// Begins to copy what is dirty next; false if nothing is.
    async fn begin_copy(&self, job: &Job) -> bool {
        let from = self.cursor.with(|cursor| *cursor);
        let Some(range) = self.dirty().take_next(from, self.buffer.copy) else { return false };
        self.cursor.with(|cursor| *cursor = ByteOffset(range.end()));
        self.tracking.flight.begin(range, self.buffer, job.layer().design()).await;
        job.spend(range.len().0);
        let copy = self.copier.clone().copy(range);
        if self.buffer.has_one {
            copy.await;
        } else {
            drop(job.layer().runtime().spawn(String::from(job.name()), copy));
        }
        true
    }

    /// Copies some of what is dirty; false if nothing is, and no copy is under way.
    async fn copy_some(&self, job: &Job) -> Result<bool, BlockError> {
        self.look_at_ended(job)?;
        self.pause_point(job).await?;
        if job.layer().design().is_mutant(Mutant::MirrorDrainPollSaysIdle) {
            job.layer().park(job.id());
            door::boundary().await;
            job.layer().register_job(job.id());
        }
        if job.is_paced() && self.dirty().count() > 0 {
            // It sleeps.
            self.tracking.flight.settle().await;
            self.look_at_ended(job)?;
            job.pace().await?;
        }
        if self.begin_copy(job).await {
            return Ok(true);
        }
        let flight = &self.tracking.flight;
        if flight.bytes() > ByteLen(0) {
            first_of(flight.wait_empty(), self.dirty().wait_dirty()).await;
            return Ok(true);
        }
        self.look_at_ended(job)?;
        Ok(self.dirty().count() > 0)
    }

    /// In sync: waits until there is something to copy, or the job is to end. It makes no requests meanwhile.
    async fn follow(&self, job: &Job) -> Result<Next, BlockError> {
        job.announce_ready(self.announces_again.with(core::mem::take));
        job.layer().park(job.id());
        let told = |control: &Control| control.wants_end() || control.paused;
        first_of(job.control.wait_until(told), self.dirty().wait_dirty()).await;
        job.layer().unpark(job.id()).await;
        job.pause_point().await?;
        let ends = job.control.read(Control::wants_end);
        Ok(if ends && self.dirty().count() == 0 { Next::Finish } else { Next::Copy })
    }

    async fn work(&self, job: &Job) -> Result<(), BlockError> {
        self.fit_base(job).await?;
        self.mark_top(job).await?;
        loop {
            while self.copy_some(job).await? {}
            if self.commit.as_ref().is_some_and(|commit| !commit.is_active) {
                return Ok(());
            }
            if let Next::Finish = self.follow(job).await? {
                return Ok(());
            }
        }
    }

    /// The same, with no copy under way.
    async fn settled<T>(&self, result: Result<T, BlockError>) -> Result<T, BlockError> {
        self.tracking.flight.settle().await;
        result
    }

    fn set_mode(&self, job: JobId, filter: &Node, mode: CopyMode) {
        let old = self.tracking.mode.write(|old| core::mem::replace(old, mode));
        match (old, mode) {
            (CopyMode::Active, CopyMode::Passive) => {
                filter.add_bitmap(job, self.tracking.dirty.clone());
            }
            (CopyMode::Passive, CopyMode::Active) => filter.remove_bitmap(job),
            _ => {}
        }
    }
}

impl JobDriver for Mirror {
    fn kind(&self) -> &'static str {
        if self.commit.is_some() { "commit" } else { "mirror" }
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move { self.settled(self.work(job).await).await })
    }

    fn works_on(&self) -> Option<NodeId> {
        Some(self.source)
    }

    fn actively_synced(&self, job: &Job) -> Option<bool> {
        let copies = self.tracking.flight.bytes() > ByteLen(0) || self.dirty().count() > 0;
        Some(self.tracking.mode() == CopyMode::Active && job.status().is_ready() && !copies)
    }

    fn change_copy_mode<'a>(
        &'a self,
        job: &'a Job,
        mode: CopyMode,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            if self.commit.is_some() {
                return Err(job.has_no_copy_mode());
            }
            let Some(filter) = &self.filter else {
                let why = alloc::format!("job {} has no filter: it is always passive", job.name());
                return Err(BlockError::Invalid(why));
            };
            if self.tracking.mode() == mode {
                return Ok(());
            }
            if job.layer().design().is_mutant(Mutant::MirrorSwitchesUndrained) {
                self.set_mode(job.id(), filter, mode);
                return Ok(());
            }
            let section = job.layer().drain(Owner::command(), &[self.source]).await;
            // It may have ended since.
            let changed =
                job.check_verb(Verb::Change).map(|()| self.set_mode(job.id(), filter, mode));
            sometimes!(changed.is_ok(), "a mirror has changed its copy mode");
            section.end();
            changed
        })
    }

    fn begin_end(&self, job: &Job) {
        let parents = self.parents_now(&job.layer().graph());
        self.recorded.with(|recorded| *recorded = parents);
    }

    fn catch_up<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let caught_up = async {
                while self.copy_some(job).await? {}
                Ok(())
            };
            self.settled(caught_up.await).await
        })
    }

    fn is_caught_up(&self, job: &Job) -> bool {
        let outside = job.layer().design().is_mutant(Mutant::MirrorConvergeCheckOutsideDrain);
        outside || self.dirty().count() == 0 && !self.tracking.flight.has_failed()
    }

    fn seal<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            if job.layer().design().is_mutant(Mutant::MirrorPivotSkipsFlush) {
                return Ok(());
            }
            let early = job.layer().design().is_mutant(Mutant::CommitRenamesBeforeFlush);
            if self.commit.is_some() && !is_soft(job) {
                // An overlay may have become longer since.
                self.try_to_fit_base(job).await?;
                if early {
                    self.rename(job).await?;
                }
            }
            // By force it is cancelled at the next look at it, if it is to try again.
            while let Err(error) = self.copier.io.flush(filter::TARGET).await {
                job.met(error, self.policies.target, false)?;
                job.check_cancelled()?;
                job.wait_to_try_again().await;
            }
            if is_soft(job) { Ok(()) } else { self.rename(job).await }
        })
    }

    fn unseal<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, ()> {
        Box::pin(self.rename_back(job))
    }

    fn ending(&self, job: &Job) -> &'static str {
        if is_soft(job) { "remove filter" } else { "pivot" }
    }

    fn promised(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        if is_soft(job) { self.undone(job, graph) } else { self.pivot(job, graph) }
    }

    fn moves(&self, job: &Job) -> Vec<Move> {
        let moves = (self.source, self.target);
        if is_soft(job) { Vec::new() } else { Vec::from([moves]) }
    }

    fn undone(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        self.without_pivot(job, graph)
    }

    fn ended(&self, job: &Job) {
        self.note_progress(job, ByteLen(0));
        if self.filter.is_none()
            && let Some(source) = job.layer().node_by_id(self.source)
        {
            source.remove_bitmap(job.id());
        }
    }

    fn clean<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Some(commit) = &self.commit {
                close_again(job, &commit.read_only).await;
            }
        })
    }
}

/// Whether it ends where it is, in sync, without a pivot.
fn is_soft(job: &Job) -> bool {
    job.control.read(|control| control.cancel == Some(Cancel::Soft))
}
