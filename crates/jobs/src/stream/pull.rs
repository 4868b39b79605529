//! Pulling up: what the layers hold is found out first, then pulled up in places beside each other.

use alloc::string::String;
use alloc::sync::Arc;

use blockyard_bitmap::SharedBitmap;
use blockyard_block::{BlockError, Io, OnLost, Plan, ReadFlags};
use blockyard_graph::Graph;
use blockyard_sync::{first_of, note, sometimes};
use blockyard_units::{ByteLen, ByteOffset, ByteRange, Mutant};

use super::Stream;
use super::start::FILTER;
use crate::chain::{below_filters, held_by};
use crate::control::Control;
use crate::flight::{Failed, Flight};
use crate::job::Job;

/// Pulls up `range`, which counts as done and is listed. What fails is to be done again.
async fn pull(io: Io, range: ByteRange, dirty: Arc<SharedBitmap>, flight: Arc<Flight>) {
    note!("pulls up {range}");
    let flags = ReadFlags { prefetch: true, ..ReadFlags::default() };
    let pulled = io.read(FILTER, range, flags).await;
    if pulled.is_err() {
        dirty.mark(range);
    }
    flight.end(range, pulled.map(drop).map_err(|error| Failed { reads: true, error }));
}

impl Stream {
    pub(super) fn note_progress(&self, job: &Job, done: ByteLen) {
        let left = self.dirty.dirty_bytes().0 + self.flight.bytes().0;
        job.progressed(done.0, left);
    }

    pub(super) async fn work(&self, job: &Job) -> Result<(), BlockError> {
        let (design, graph) = (job.layer().design(), job.layer().graph());
        let base = self.base(&graph).map(|base| below_filters(&graph, base));
        self.recorded.with(|recorded| *recorded = base);
        if design.is_mutant(Mutant::StreamFreezesChainTooLate) {
            self.freeze_late(job).await;
        }
        if design.is_mutant(Mutant::StreamNamesBaseFirst) {
            self.name_base(job).await?;
        }
        self.find_out(job).await?;
        let pulled = self.pull_all(job).await;
        if !design.is_mutant(Mutant::CloseWithStreamRunning) {
            self.flight.settle().await;
        }
        pulled
    }

    /// For a mutant.
    async fn freeze_late(&self, job: &Job) {
        let by = held_by(job.name());
        let derive =
            |_: &Graph| Ok(Plan { edits: self.chain.freezes(&by).collect(), ..Plan::default() });
        // What others have frozen is theirs.
        let _frozen = job.layer().publish("freeze", OnLost::StartOver, derive).await;
    }

    /// Marks what a layer below the top holds and is to be pulled up.
    async fn find_out(&self, job: &Job) -> Result<(), BlockError> {
        let len = self.io.len(FILTER)?;
        let mut at = 0;
        while at < len.0 && self.below.is_some() {
            job.pause_point().await?;
            let base = job.layer().backing_of(self.chain.bottom);
            let rest = ByteRange::between(at, len.0);
            let above = match self.io.status_above(FILTER, base, rest).await {
                Ok(above) => above,
                Err(error) => {
                    job.met(error, self.policy, true)?;
                    job.pace().await?;
                    continue;
                }
            };
            let found = ByteRange::new(at, above.extent.len.max(ByteLen(1)).0);
            let forgets = job.layer().design().is_mutant(Mutant::StreamForgetsShortLayer);
            let shorter = forgets && above.extent.zero && !above.extent.data;
            if above.depth > 1 && !shorter {
                self.dirty.mark(found);
            }
            sometimes!(above.depth == 0, "a stream left alone what the base holds");
            at = found.end();
        }
        self.note_progress(job, ByteLen(0));
        Ok(())
    }

    /// What has come of those that were under way.
    fn look_at_ended(&self, job: &Job) -> Result<(), BlockError> {
        let (done, failed) = self.flight.take_ended();
        self.note_progress(job, done);
        failed
            .into_iter()
            .try_for_each(|Failed { reads, error }| job.met(error, self.policy, reads))
    }

    /// Waits for those under way, and looks at what has come of them.
    async fn settle(&self, job: &Job) -> Result<(), BlockError> {
        if job.layer().design().is_mutant(Mutant::CloseWithStreamRunning) {
            first_of(self.flight.wait_empty(), job.control.wait_until(Control::is_forced)).await;
        } else {
            self.flight.settle().await;
        }
        self.look_at_ended(job)
    }

    async fn pull_all(&self, job: &Job) -> Result<(), BlockError> {
        loop {
            self.look_at_ended(job)?;
            if job.is_to_rest() || self.dirty.count() == 0 {
                self.settle(job).await?;
                job.pause_point().await?;
            }
            if self.dirty.count() == 0 {
                return Ok(());
            }
            if job.is_paced() {
                self.settle(job).await?;
                job.pace().await?;
            }
            self.begin_pull(job).await;
        }
    }

    async fn begin_pull(&self, job: &Job) {
        let from = self.cursor.with(|cursor| *cursor);
        let Some(range) = self.dirty.take_next(from, self.buffer.copy) else { return };
        self.cursor.with(|cursor| *cursor = ByteOffset(range.end()));
        self.flight.begin(range, self.buffer, job.layer().design()).await;
        job.spend(range.len().0);
        let (io, dirty, flight) = (self.io.clone(), self.dirty.clone(), self.flight.clone());
        let pull = pull(io, range, dirty, flight);
        if self.buffer.has_one {
            pull.await;
        } else {
            drop(job.layer().runtime().spawn(String::from(job.name()), pull));
        }
    }
}
