//! From a job's start to its end. Every job is in a transaction: all of its jobs commit, or all abort.
//!
//! Several jobs work in a task each. One that is done waits for the others, still tracking; one that fails or is
//! cancelled has the others cancelled by force. Then all are pending; if any of them does not finalize by itself, until
//! any of them is told to. The end is one drained section over what all of them work on, in which nothing is left to be
//! done by any, and one publication: there is no moment at which some have ended and others may still fail.
//!
//! Source: QEMU's documented job transactions, completion-mode `grouped`.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{BlockError, BlockLayer, Drained, Move, OnLost, Owner, Plan};
use blockyard_graph::Graph;
use blockyard_sync::{Shared, door, first_of, note, sometimes};
use blockyard_units::{Mutant, NodeId, StoredBitmaps};

use crate::control::{Cancel, Control};
use crate::job::{Job, JobEvent};
use crate::status::Status;

/// Runs `jobs`, which have begun, in a task; they end together.
pub fn run_together(jobs: Vec<Arc<Job>>) {
    let Some(leader) = jobs.first().cloned() else { return };
    let transaction = Transaction(jobs.into());
    drop(leader.layer().runtime().spawn(String::from(leader.name()), transaction.run()));
}

/// Jobs that end together; at least one. The first stands for all where one must.
#[derive(Clone)]
struct Transaction(Arc<[Arc<Job>]>);

/// How far the jobs are.
#[derive(Default)]
struct Progress {
    /// So many have done their work.
    worked: usize,
    /// One was told to finalize.
    finalize: bool,
}

/// A job has failed or was cancelled: what of that is to be told is in its control state, and the others are cancelled.
struct Failed;

impl Transaction {
    async fn run(self) {
        let mut section = None;
        let ended = match self.work().await {
            Ok(()) => self.finish(&mut section).await,
            Err(failed) => Err(failed),
        };
        if let Err(Failed) = ended {
            self.abort(&mut section).await;
        }
        self.0.iter().for_each(|job| job.driver.ended(job));
        section.into_iter().for_each(Drained::end);
        self.0.iter().for_each(|job| self.layer().unregister_job(job.id()));
        for job in self.0.iter() {
            job.driver.clean(job).await;
        }
        self.0.iter().for_each(|job| conclude(job));
    }

    fn layer(&self) -> &BlockLayer {
        self.0[0].layer()
    }

    /// Several: then each is parked but while it makes requests.
    fn is_group(&self) -> bool {
        self.0.len() > 1
    }

    /// What became of a job; if it failed, nothing that the others do matters any more.
    fn judged<T>(&self, job: &Job, result: Result<T, BlockError>) -> Result<T, Failed> {
        result.map_err(|error| {
            note!("{}: {error}", job.name());
            let told = job.control.read(Control::is_forced);
            if !told || job.has_begun_witness() {
                job.control.write(|control| control.error = Some(alloc::format!("{error}")));
            }
            for other in self.0.iter().filter(|other| other.id() != job.id()) {
                self.cancel_with_others(other);
            }
            Failed
        })
    }

    /// Another of its transaction has failed. By force: softly, one that is ready would wait for those that work.
    fn cancel_with_others(&self, job: &Job) {
        let softly = self.layer().design().is_mutant(Mutant::TxnAbortSoftcancelsReadyPeer);
        let status = job.control.write(|control| {
            let soft = softly && control.status.is_ready();
            let cancel = if soft { Cancel::Soft } else { Cancel::Force };
            control.cancel = control.cancel.max(Some(cancel));
            control.status
        });
        sometimes!(status.is_ready(), "a ready job was cancelled with its transaction");
        sometimes!(status == Status::Waiting, "a waiting job was cancelled with its transaction");
    }

    /// Until all are pending and none waits for finalize.
    async fn work(&self) -> Result<(), Failed> {
        if let [job] = &*self.0 {
            return self.judged(job, work_alone(job).await);
        }
        let progress = Arc::new(Shared::new(Progress::default()));
        let begin = |job: &Arc<Job>| {
            let (all, job, progress) = (self.clone(), job.clone(), progress.clone());
            let name = String::from(job.name());
            self.layer().runtime().spawn(name, async move {
                let worked = all.work_beside(&job, &progress).await;
                all.layer().park(job.id());
                all.judged(&job, worked)
            })
        };
        let tasks: Vec<_> = self.0.iter().map(begin).collect();
        let mut ended = Ok(());
        for task in tasks {
            let worked = task.join().await;
            ended = ended.and(worked);
        }
        ended
    }

    async fn work_beside(&self, job: &Job, progress: &Shared<Progress>) -> Result<(), BlockError> {
        work(job).await?;
        job.enter(Status::Waiting);
        job.layer().park(job.id());
        progress.write(|progress| progress.worked += 1);
        let count = self.0.len();
        let all = move |progress: &Progress| progress.worked == count;
        first_of(progress.wait_until(all), job.control.wait_until(Control::is_forced)).await;
        job.check_cancelled()?;
        job.enter(Status::Pending);
        if self.0.iter().any(|job| !job.options().auto_finalize) {
            if !job.options().auto_finalize {
                job.emit(JobEvent::Pending);
            }
            let told = move |control: &Control| control.finalize || control.is_forced();
            let others = progress.wait_until(|progress| progress.finalize);
            first_of(job.control.wait_until(told), others).await;
            job.check_cancelled()?;
            progress.write(|progress| progress.finalize = true);
        }
        Ok(())
    }

    /// Makes the graph what the jobs promised, in a drained section that is left in `section`.
    async fn finish(&self, section: &mut Option<Drained>) -> Result<(), Failed> {
        self.0.iter().for_each(|job| job.driver.begin_end(job));
        self.converge(section).await?;
        let layer = self.layer();
        layer.observer().milestone("final count");
        let too_early = layer.design().is_mutant(Mutant::WitnessBeforeTargetFlush);
        if too_early {
            self.attest().await?;
        }
        for job in self.0.iter() {
            self.judged(job, job.driver.seal(job).await)?;
        }
        for job in self.0.iter().filter(|_| !too_early) {
            self.judged(job, job.look_at_witness().await)?;
        }
        if layer.design().is_mutant(Mutant::MirrorPivotUndrainedWindow) {
            section.take().into_iter().for_each(Drained::end);
            door::boundary().await;
            *section = Some(self.drain().await);
        }
        self.get_ready_to_move().await?;
        // One may have been cancelled again meanwhile, and by force then.
        for job in self.0.iter() {
            self.judged(job, job.begin_to_end())?;
        }
        if !too_early {
            self.attest().await?;
        }
        sometimes!(self.is_group(), "jobs of one transaction ended together");
        let promised = |graph: &Graph| self.promised(graph);
        let what = self.0[0].driver.ending(&self.0[0]);
        let published = layer.publish(what, OnLost::StartOver, promised).await;
        published.or_else(|error| self.judged(&self.0[0], Err(error)))
    }

    /// What moves with it.
    fn moves(&self, job: &Job) -> Vec<Move> {
        match self.layer().design().bitmaps {
            StoredBitmaps::Stay => Vec::new(),
            StoredBitmaps::Follow => job.driver.moves(job),
        }
    }

    /// So that nothing can fail when bitmaps move.
    async fn get_ready_to_move(&self) -> Result<(), Failed> {
        let owner = Owner::Job(self.0[0].id());
        for job in self.0.iter() {
            let moves = self.moves(job);
            let ready = self.layer().get_ready_to_move(&moves, owner.into()).await;
            self.judged(job, ready)?;
        }
        Ok(())
    }

    /// Sets the witnesses of those that have one. What can be refused is refused before.
    async fn attest(&self) -> Result<(), Failed> {
        if !self.0.iter().any(|job| job.has_witness()) {
            return Ok(());
        }
        let graph = self.layer().graph();
        let possible = self.promised(&graph).and_then(|plan| Ok(graph.apply(&plan.edits)?));
        self.judged(&self.0[0], possible)?;
        for job in self.0.iter() {
            self.judged(job, job.set_witness().await)?;
        }
        Ok(())
    }

    /// Does what is left to be done, until nothing is in a drained section.
    async fn converge(&self, section: &mut Option<Drained>) -> Result<(), Failed> {
        if self.layer().design().is_mutant(Mutant::JobCompletionCallbackNotCounted) {
            self.0.iter().for_each(|job| self.layer().park(job.id()));
        }
        loop {
            for job in self.0.iter() {
                if self.is_group() {
                    self.layer().unpark(job.id()).await;
                }
                let caught_up = job.driver.catch_up(job).await;
                if self.is_group() {
                    self.layer().park(job.id());
                }
                self.judged(job, caught_up)?;
            }
            *section = Some(self.drain().await);
            for job in self.0.iter() {
                self.judged(job, job.check_cancelled())?;
            }
            let Some(behind) = self.0.iter().find(|job| !job.driver.is_caught_up(job)) else {
                return Ok(());
            };
            note!("{}: dirty again, leaves the drained section", behind.name());
            sometimes!(true, "mirror found dirty in the drained section");
            section.take().into_iter().for_each(Drained::end);
            if self.is_group() {
                self.layer().park(self.0[0].id());
            }
        }
    }

    async fn drain(&self) -> Drained {
        let nodes: Vec<NodeId> = self.0.iter().filter_map(|job| job.driver.works_on()).collect();
        self.layer().drain(Owner::Job(self.0[0].id()), &nodes).await
    }

    /// The edits of all, each derived from what those before it leave.
    fn promised(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let mut plan = Plan::default();
        for job in self.0.iter() {
            let seen = graph.sketch(&plan.edits)?;
            plan.edits.extend(job.without_witness(&seen));
            plan.edits.extend(job.driver.promised(job, &seen)?);
            plan.moves.extend(self.moves(job));
        }
        Ok(plan)
    }

    async fn abort(&self, section: &mut Option<Drained>) {
        let mutant = Mutant::TxnCancelledMemberCommits;
        let worked = |job: &Job| matches!(job.status(), Status::Waiting | Status::Pending);
        let commits = self.is_group() && self.layer().design().is_mutant(mutant);
        let worked: Vec<bool> = self.0.iter().map(|job| commits && worked(job)).collect();
        self.0.iter().for_each(|job| job.enter(Status::Aborting));
        if section.is_none() {
            *section = Some(self.drain().await);
        }
        self.cut_off().await;
        for job in self.0.iter() {
            job.driver.unseal(job).await;
        }
        for (job, commits) in self.0.iter().zip(worked) {
            let undone = |graph: &Graph| {
                let driver = &job.driver;
                let mut edits = job.without_witness(graph);
                edits.extend(if commits {
                    driver.promised(job, graph)?
                } else {
                    driver.undone(job, graph)?
                });
                Ok(Plan { edits, ..Plan::default() })
            };
            let layer = self.layer();
            if let Err(error) = layer.publish("remove filter", OnLost::StartOver, undone).await {
                // Somebody holds what the job put up in a way that forbids it; it stays, and passes everything on.
                note!("{}: the filter stays: {error}", job.name());
            }
        }
    }
}

impl Transaction {
    /// Who would resume where a witness may say that he did not resumes nowhere.
    async fn cut_off(&self) {
        let layer = self.layer();
        if layer.design().is_mutant(Mutant::UnknownWitnessResumesOnSource) {
            return;
        }
        for job in self.0.iter().filter(|job| job.has_begun_witness()) {
            job.say_that_outcome_is_unknown();
            let cut = |graph: &Graph| Ok(Plan { edits: job.cut_off(graph), ..Plan::default() });
            let cut = layer.publish("cut off", OnLost::StartOver, cut).await;
            assert!(cut.is_ok(), "unknown-outcome-resumes-nowhere: {cut:?}");
        }
    }
}

async fn work(job: &Job) -> Result<(), BlockError> {
    job.enter(Status::Running);
    job.driver.run(job).await
}

/// With nobody to wait for. Pending: outside any drained section, still tracking.
async fn work_alone(job: &Job) -> Result<(), BlockError> {
    work(job).await?;
    job.enter(Status::Waiting);
    job.enter(Status::Pending);
    if !job.options().auto_finalize {
        job.emit(JobEvent::Pending);
        job.layer().park(job.id());
        let told = |control: &Control| control.finalize || control.is_forced();
        job.control.wait_until(told).await;
        job.layer().unpark(job.id()).await;
    }
    job.check_cancelled()
}

fn conclude(job: &Job) {
    let (error, cancelled) =
        job.control.read(|control| (control.error.clone(), control.is_forced()));
    let end = match error {
        None if cancelled && job.status() == Status::Aborting => JobEvent::Cancelled,
        error => JobEvent::Completed(error),
    };
    let forgets = job.layer().design().is_mutant(Mutant::JobCancelUntold);
    if !(forgets && end == JobEvent::Cancelled) {
        job.emit(end);
    }
    job.enter(Status::Concluded);
    if job.options().auto_dismiss {
        // A concluded job takes this verb.
        let dismissed = job.dismiss();
        debug_assert!(dismissed.is_ok(), "concluded-jobs-can-be-dismissed");
    }
}
