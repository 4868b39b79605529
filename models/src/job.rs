//! Job protocol: legal transitions only, and events in order.
//!
//! Source: QEMU's `JobStatus` in `qapi/job.json` and `JobSTT` in `job.c`; a job that never ran tells nobody its end.

use crate::{Property, Violation};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

/// Where each status may lead.
const TRANSITIONS: &[(&str, &[&str])] = &[
    ("undefined", &["created"]),
    ("created", &["running", "aborting", "null"]),
    ("running", &["paused", "ready", "waiting", "aborting"]),
    ("paused", &["running"]),
    ("ready", &["standby", "waiting", "aborting"]),
    ("standby", &["ready"]),
    ("waiting", &["pending", "aborting"]),
    ("pending", &["aborting", "concluded"]),
    ("aborting", &["aborting", "concluded"]),
    ("concluded", &["null"]),
    ("null", &[]),
];

/// What a job tells whoever listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// `BLOCK_JOB_READY`
    Ready,
    /// `BLOCK_JOB_PENDING`
    Pending,
    /// `BLOCK_JOB_ERROR`
    Error,
    /// `BLOCK_JOB_COMPLETED`, with or without an error.
    Completed,
    /// `BLOCK_JOB_CANCELLED`
    Cancelled,
}

/// Sees each transition and event of each job. A name may be used again once its job is null.
#[derive(Default)]
pub struct JobProtocol {
    jobs: BTreeMap<String, Job>,
}

struct Job {
    status: String,
    ran: bool,
    ready: bool,
    pending: bool,
    ended: bool,
}

impl JobProtocol {
    /// No jobs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `name` went from one status to another; the words are QEMU's.
    ///
    /// # Errors
    /// The transition is not legal, or does not begin where the job was, or a job that ran goes without having told
    /// its end.
    pub fn observe(&mut self, name: &str, from: &str, to: &str) -> Result<(), Violation> {
        let was = self.jobs.get(name).map_or("undefined", |job| &job.status);
        if was != from {
            return broken(format!("job {name} goes from {from} to {to}, but it was {was}"));
        }
        if !TRANSITIONS.iter().any(|(status, next)| *status == from && next.contains(&to)) {
            return broken(format!("job {name} goes from {from} to {to}, which is not legal"));
        }
        let job = self.jobs.entry(name.into()).or_insert_with(|| Job {
            status: String::new(),
            ran: false,
            ready: false,
            pending: false,
            ended: false,
        });
        job.status = to.into();
        job.ran |= to == "running";
        if to != "null" {
            return Ok(());
        }
        let told = job.ended || !job.ran;
        self.jobs.remove(name);
        if told { Ok(()) } else { broken(format!("job {name} went without telling its end")) }
    }

    /// `name` told its listeners.
    ///
    /// # Errors
    /// It had said so before, or it was in a status where it may not.
    pub fn event(&mut self, name: &str, event: JobEvent) -> Result<(), Violation> {
        let Some(job) = self.jobs.get_mut(name) else {
            return broken(format!("event {event:?} of {name}, which is no job"));
        };
        // A request may fail wherever the job makes one, and as often as it likes.
        let mut any = false;
        let (told, when): (_, &[&str]) = match event {
            JobEvent::Error => (&mut any, &["running", "ready", "pending"]),
            JobEvent::Ready => (&mut job.ready, &["ready"]),
            JobEvent::Pending => (&mut job.pending, &["pending"]),
            _ => (&mut job.ended, &["pending", "aborting", "concluded"]),
        };
        if core::mem::replace(told, true) {
            return broken(format!("job {name} tells {event:?} after it had told it, or its end"));
        }
        if !when.contains(&job.status.as_str()) {
            return broken(format!("job {name} tells {event:?} while {}", job.status));
        }
        Ok(())
    }

    /// The execution is over.
    ///
    /// # Errors
    /// A job that ran has concluded without telling its end.
    pub fn end(&self) -> Result<(), Violation> {
        let silent = |job: &Job| job.status == "concluded" && job.ran && !job.ended;
        match self.jobs.iter().find(|(_, job)| silent(job)) {
            Some((name, _)) => broken(format!("job {name} concluded without telling its end")),
            None => Ok(()),
        }
    }
}

fn broken<T>(message: String) -> Result<T, Violation> {
    Err(Property::JobProtocol.broken(message))
}

#[cfg(test)]
mod tests;
