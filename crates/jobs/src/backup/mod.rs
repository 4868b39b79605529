//! The backup: the target becomes what the source was at one moment, while the guest goes on.
//!
//! What a guest is about to overwrite is saved before. The design says how. Workers: a filter above the source has the
//! guest's write wait, and workers, which copy all the rest too, read what it waits for first; it goes on when that is
//! read, not when it is written to the target. Filter: the guest's write copies in its place. Notifier: so does a hook
//! of the source, chunk by chunk, and the job holds source and target itself.
//!
//! The job's own task looks for what need not be copied, keeps the rate, and does what is to be done about errors. It
//! rests when whatever is under way is for a request that waits for all of it: so drained sections, which wait for
//! requests and jobs, wait for every copy.
//!
//! Source: "new backup architecture" (qemu-devel, December 2016); QEMU's documentation of blockdev-backup and of
//! copy-before-write. Differs: an error of what a guest waits for is the guest's or the backup's at once, whatever the
//! job's policies say. With discard-source a guest's write waits until what it overwrites is discarded, too; what reads
//! as zeroes is not discarded; and only a backup of sync none gives up what it keeps, in whole chunks: where what
//! copies from it has smaller ones, it keeps all.

mod chunks;
mod filter;
mod saver;
mod start;
mod table;

pub use saver::OnCbwError;
pub use start::{BackupOptions, BackupStart, BitmapMode, BitmapUse};

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{BlockError, Io, NamedBitmap, Node};
use blockyard_graph::{Edit, Graph, Parent};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::door::world::Quiet;
use blockyard_sync::{first_of, sometimes};
use blockyard_units::{ByteLen, ByteRange, Mutant, NodeId};

use crate::control::Control;
use crate::flight::Failed;
use crate::job::{Job, JobDriver};
use crate::mirror::{
    FILE, MirrorPolicies, SyncMode, TARGET, parents_to_redirect, redirect, retire,
};
use crate::status::Status;

use chunks::News;
use saver::Saver;

/// Zeroes that are written at once at most.
const HOLE_MAX: ByteLen = ByteLen(16 << 20);

/// A backup job's own part.
struct Backup {
    saver: Arc<Saver>,
    /// The job's edges.
    io: Io,
    filter: Option<Arc<Node>>,
    /// The node given, and what holds its data.
    given: NodeId,
    source: NodeId,
    target: NodeId,
    sync: SyncMode,
    bitmap: Option<BitmapUse>,
    workers: u64,
    policies: MirrorPolicies,
    /// What was saved is durable though not all was; of the transaction's task alone.
    is_flushed: Quiet<bool>,
}

impl Backup {
    /// What has come to pass since the last look; whether something has failed.
    fn look(&self, job: &Job) -> Result<bool, BlockError> {
        let News { done, left, failed, void } = self.saver.chunks.take_news();
        let is_known = self.sync != SyncMode::None;
        job.progressed(done.0, if is_known { left.0 } else { 0 });
        job.spend(done.0);
        if let Some(error) = void {
            return Err(error);
        }
        let any = !failed.is_empty();
        for Failed { reads, error } in failed {
            let policy = if reads { self.policies.source } else { self.policies.target };
            job.met(error, policy, reads)?;
        }
        Ok(any)
    }

    /// Until everything is saved.
    async fn supervise(&self, job: &Job) -> Result<(), BlockError> {
        let chunks = &self.saver.chunks;
        let mut scanned = match self.sync {
            SyncMode::None => self.io.len(FILE)?,
            _ => ByteLen(0),
        };
        let mut failed = false;
        loop {
            failed |= self.look(job)?;
            if job.is_to_rest() || job.is_paced() {
                chunks.begin_to_rest().await;
                failed |= self.look(job)?;
                job.pause_point().await?;
                job.pace().await?;
                chunks.end_rest();
                continue;
            }
            if core::mem::take(&mut failed) {
                chunks.try_again();
            }
            if self.sync == SyncMode::None {
                self.wait_at_rest(job).await;
                continue;
            }
            let without_limit = job.control.read(|control| control.pace.speed == 0);
            chunks.allow(if without_limit { u64::MAX } else { 1 });
            if scanned < self.io.len(FILE)? {
                scanned = self.scan(job, scanned).await?;
                continue;
            }
            if chunks.is_done() {
                // What ended last may not have been looked at.
                return self.look(job).map(drop);
            }
            let told = |control: &Control| control.paused || control.is_forced();
            first_of(job.control.wait_until(told), chunks.wait_news()).await;
        }
    }

    /// Nothing is to be saved until a guest writes, which then is not for the job to do.
    async fn wait_at_rest(&self, job: &Job) {
        self.saver.chunks.begin_to_rest().await;
        job.layer().park(job.id());
        let told = |control: &Control| control.paused || control.is_forced();
        first_of(job.control.wait_until(told), self.saver.chunks.wait_news()).await;
        job.layer().unpark(job.id()).await;
        self.saver.chunks.end_rest();
    }

    /// Looks what there is from `at` on that need not be copied: how far it has looked. What is still to be saved is as
    /// it was at the beginning, so what is said of it holds.
    async fn scan(&self, job: &Job, at: ByteLen) -> Result<ByteLen, BlockError> {
        let len = self.io.len(FILE)?;
        let Some(first) = self.saver.chunks.first_from(at) else { return Ok(len) };
        sometimes!(first > at, "a backup did not look at what it need not save");
        let at = first;
        let rest = ByteRange::between(at.0, len.0);
        let top = self.sync == SyncMode::Top;
        let base = if top { job.layer().backing_of(self.source) } else { None };
        let above = match self.io.status_above(FILE, base, rest).await {
            Ok(above) => above,
            Err(error) => {
                job.met(error, self.policies.source, true)?;
                return Ok(at);
            }
        };
        let found = ByteRange::new(at.0, above.extent.len.max(ByteLen(1)).0);
        if above.depth > 0 {
            return Ok(ByteLen(found.end()));
        }
        sometimes!(true, "a backup left out what is not there");
        if top {
            self.saver.chunks.leave_out(found);
            return Ok(ByteLen(found.end()));
        }
        let to_do = self.saver.chunks.take_zeroes(found, HOLE_MAX);
        let Some(chunk) = to_do else { return Ok(ByteLen(found.end())) };
        let forgets = job.layer().design().is_mutant(Mutant::BackupSkipsWithoutZeroes);
        let zeroed = if forgets { Ok(()) } else { self.saver.zero(&self.io, chunk).await };
        match zeroed {
            Ok(()) => self.saver.chunks.is_saved(chunk),
            Err(error) => {
                // A guest may have written there meanwhile: it must not be read.
                let zeroes = IoBuffer::zeroes(chunk.len().as_usize());
                self.saver.fail(chunk, Some(zeroes), Failed { reads: false, error });
            }
        }
        Ok(at)
    }

    /// The edits after which everything is as if the job had never been.
    fn without_backup(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        let gone = || BlockError::NotFound(String::from("the backup's filter has lost its child"));
        let Some(filter) = self.filter.as_ref().map(|filter| filter.id()) else {
            return Ok(retire(graph, job.id(), None, [self.given, self.source], true));
        };
        let below = graph.child(Parent::Node(filter), FILE).ok_or_else(gone)?;
        let looks_back = |parent: Parent| match parent {
            Parent::Node(node) => {
                job.layer().node_by_id(node).is_some_and(|node| node.looks_back())
            }
            _ => false,
        };
        let literally = job.layer().design().is_mutant(Mutant::BackupPivotLiteral);
        let new = if literally { self.target } else { below };
        let led = parents_to_redirect(graph, filter).into_iter().map(|edge| {
            if !looks_back(edge.parent) {
                return redirect(edge, Some(filter), new);
            }
            // There is nothing any more to look at.
            sometimes!(true, "a backup ended whose source was still looked at as it was");
            Edit::RemoveEdge { parent: edge.parent, name: edge.name, expected: Some(filter) }
        });
        let mut edits: Vec<Edit> = led.collect();
        edits.extend(retire(graph, job.id(), Some(filter), [below, self.source], true));
        Ok(edits)
    }

    /// What becomes of the bitmap: `well` if all of it was saved.
    fn settle_bitmap(&self, job: &Job, well: bool) {
        let Some(BitmapUse { name, mode }) = &self.bitmap else { return };
        let Some(node) = job.layer().node_by_id(self.given) else { return };
        let left = self.saver.chunks.left();
        let forgets = job.layer().design().is_mutant(Mutant::BackupFailedClearsBitmap);
        let settle = |bitmap: &mut NamedBitmap| {
            match (mode, well) {
                (BitmapMode::OnSuccess, false) if forgets => bitmap.abdicate(),
                (BitmapMode::Never, _) | (BitmapMode::OnSuccess, false) => bitmap.reclaim(),
                (BitmapMode::OnSuccess | BitmapMode::Always, true) => bitmap.abdicate(),
                (BitmapMode::Always, false) if self.is_flushed.with(|flushed| *flushed) => {
                    bitmap.abdicate_but(&left);
                }
                (BitmapMode::Always, false) => bitmap.reclaim(),
            }
            Ok(())
        };
        // It is busy: nobody has taken it away.
        let settled = node.bitmaps().change(name, settle);
        debug_assert!(settled.is_ok(), "a-busy-bitmap-stays: {settled:?}");
    }
}

impl JobDriver for Backup {
    fn kind(&self) -> &'static str {
        "backup"
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            for _ in 0..self.workers {
                self.saver.chunks.worker_begins();
                let work = self.saver.clone().work(self.io.clone());
                drop(job.layer().runtime().spawn(String::from(job.name()), work));
            }
            let ended = self.supervise(job).await;
            self.saver.chunks.stop(ended.as_ref().err().cloned()).await;
            ended
        })
    }

    fn works_on(&self) -> Option<NodeId> {
        Some(self.source)
    }

    fn seal<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            if job.layer().design().is_mutant(Mutant::BackupSkipsFlush) {
                return Ok(());
            }
            while let Err(error) = self.io.flush(TARGET).await {
                job.met(error, self.policies.target, false)?;
                job.check_cancelled()?;
                job.wait_to_try_again().await;
            }
            Ok(())
        })
    }

    fn unseal<'a>(&'a self, _job: &'a Job) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if self.bitmap.as_ref().is_some_and(|bitmap| bitmap.mode == BitmapMode::Always) {
                let flushed = self.io.flush(TARGET).await.is_ok();
                self.is_flushed.with(|is_flushed| *is_flushed = flushed);
            }
        })
    }

    fn ending(&self, _job: &Job) -> &'static str {
        "end backup"
    }

    fn promised(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        self.without_backup(job, graph)
    }

    fn undone(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        self.without_backup(job, graph)
    }

    fn ended(&self, job: &Job) {
        let ended = BlockError::Invalid(alloc::format!("backup {} has ended", job.name()));
        self.settle_bitmap(job, job.status() != Status::Aborting);
        self.saver.chunks.breaks(ended);
        if let (None, Some(source)) = (&self.filter, job.layer().node_by_id(self.source)) {
            source.remove_hooks(job.id());
        }
    }
}
