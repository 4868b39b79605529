//! The commands about jobs: `job-*` for every job, `block-job-*` for those that work on nodes.
//!
//! Source: QEMU's QMP reference. Differs: a job is busy while it may be making requests, not while it computes; the
//! status of one that somebody has drained stays, though it counts as paused; a mirror's copy mode can
//! be changed both ways.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_jobs::{BlockJobInfo, Job, JobInfo, Position};
use blockyard_units::CopyMode;
use serde::Deserialize;

use crate::error::{ErrorClass, QmpError};
use crate::mirror::MirrorCopyMode;
use crate::monitor::Monitor;
use crate::value::{Dict, Value};
use crate::visitor::{Mode, Nothing, visit};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct JobId {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Device {
    device: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct BlockJobCancel {
    device: String,
    force: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SetSpeed {
    device: String,
    speed: u64,
}

#[derive(Deserialize)]
enum ChangedType {
    #[serde(rename = "mirror")]
    Mirror,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct BlockJobChange {
    id: String,
    #[serde(rename = "type")]
    _type: ChangedType,
    copy_mode: MirrorCopyMode,
}

/// What a verb needs beside the job.
enum Asked {
    Cancel { force: bool },
    Change { mode: CopyMode },
    Complete,
    Dismiss,
    Finalize,
    Pause,
    Resume,
    SetSpeed { speed: u64 },
}

/// A command about one job.
struct Command {
    name: String,
    /// Only a block job is meant.
    block: bool,
    asked: Asked,
}

/// Whether this is one of the commands here.
pub(crate) fn knows(command: &str) -> bool {
    let starts = |prefix| command.starts_with(prefix);
    starts("job-") || starts("block-job-") || ["query-jobs", "query-block-jobs"].contains(&command)
}

/// As far as that goes without a layer.
pub(crate) fn check(command: &str, value: &Value, mode: Mode) -> Result<(), QmpError> {
    if command.starts_with("query-") {
        return Ok(visit::<Nothing>(value, mode).map(drop)?);
    }
    Command::parse(command, value, mode).map(drop)
}

impl Command {
    fn parse(command: &str, value: &Value, mode: Mode) -> Result<Self, QmpError> {
        let block = command.strip_prefix("block-");
        let verb = block.unwrap_or(command);
        let asked = match verb {
            "job-cancel" if block.is_some() => {
                let BlockJobCancel { device, force } = visit(value, mode)?;
                let asked = Asked::Cancel { force: force.unwrap_or(false) };
                return Ok(Self { name: device, block: true, asked });
            }
            "job-set-speed" => {
                let SetSpeed { device, speed } = visit(value, mode)?;
                return Ok(Self { name: device, block: true, asked: Asked::SetSpeed { speed } });
            }
            "job-change" => {
                let BlockJobChange { id, copy_mode, .. } = visit(value, mode)?;
                let asked = Asked::Change { mode: copy_mode.into() };
                return Ok(Self { name: id, block: true, asked });
            }
            "job-cancel" => Asked::Cancel { force: true },
            "job-complete" => Asked::Complete,
            "job-dismiss" => Asked::Dismiss,
            "job-finalize" => Asked::Finalize,
            "job-pause" => Asked::Pause,
            _ => Asked::Resume,
        };
        let by_id = block.is_none() || matches!(asked, Asked::Dismiss | Asked::Finalize);
        let name = if by_id {
            visit::<JobId>(value, mode)?.id
        } else {
            visit::<Device>(value, mode)?.device
        };
        Ok(Self { name, block: block.is_some(), asked })
    }
}

impl Monitor {
    pub(crate) async fn job_command(
        &self,
        command: &str,
        value: &Value,
        mode: Mode,
    ) -> Result<Value, QmpError> {
        if command.starts_with("query-") {
            visit::<Nothing>(value, mode)?;
            let block = command == "query-block-jobs";
            let jobs = self.jobs().query();
            let told = jobs
                .iter()
                .filter_map(|job| if block { block_job(job) } else { Some(any_job(job)) });
            return Ok(Value::List(told.map(Value::Dict).collect()));
        }
        let Command { name, block, asked } = Command::parse(command, value, mode)?;
        let job = self.job(&name, block)?;
        match asked {
            Asked::Cancel { force } => job.cancel(force),
            Asked::Change { mode } => job.change_copy_mode(mode).await,
            Asked::Complete => job.complete(),
            Asked::Dismiss => job.dismiss(),
            Asked::Finalize => job.finalize(),
            Asked::Pause => job.pause(),
            Asked::Resume => job.resume(),
            Asked::SetSpeed { speed } => job.set_speed(speed),
        }?;
        Ok(Value::Dict(Dict::new()))
    }

    fn job(&self, name: &str, block: bool) -> Result<Arc<Job>, QmpError> {
        let found = self.jobs().get(name).filter(|job| !block || job.is_block_job());
        found.ok_or_else(|| {
            let (class, sort) = if block {
                (ErrorClass::DeviceNotActive, "block job")
            } else {
                (ErrorClass::GenericError, "job")
            };
            let desc = format!("there is no {sort} '{name}'");
            QmpError { class, desc, mismatch: false }
        })
    }
}

fn any_job(job: &JobInfo) -> Dict {
    let Position { offset, len, .. } = job.position;
    let mut members = Dict::from_iter([
        ("id", Value::from(job.id.as_str())),
        ("type", job.kind.into()),
        ("status", job.status.word().into()),
        ("current-progress", offset.into()),
        ("total-progress", len.into()),
    ]);
    if let Some(error) = &job.error {
        members.insert("error", error.as_str());
    }
    members
}

fn block_job(job: &JobInfo) -> Option<Dict> {
    let BlockJobInfo { auto_finalize, auto_dismiss, io_status, actively_synced } =
        job.block.as_ref()?;
    let Position { offset, len, speed } = job.position;
    let mut members = Vec::from([
        ("type", Value::from(job.kind)),
        ("device", job.id.as_str().into()),
        ("len", len.into()),
        ("offset", offset.into()),
        ("speed", speed.into()),
        ("busy", Value::Bool(job.busy)),
        ("paused", Value::Bool(job.paused)),
        ("io-status", io_status.word().into()),
        ("ready", Value::Bool(job.status.is_ready())),
        ("status", job.status.word().into()),
        ("auto-finalize", Value::Bool(*auto_finalize)),
        ("auto-dismiss", Value::Bool(*auto_dismiss)),
    ]);
    members.extend(actively_synced.map(|synced| ("actively-synced", Value::Bool(synced))));
    members.extend(job.error.as_deref().map(|error| ("error", error.into())));
    Some(Dict::from_iter(members))
}
