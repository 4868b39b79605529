//! What a job does about requests that fail.
//!
//! Who is to stop rests, until a user resumes it, and then does again what has failed; who is to ignore an error does
//! it again a little later. Of a job that may not rest any more, as it only waits for its end, a stop is a report.
//!
//! Source: QEMU's documented `on-source-error` and `on-target-error`, `BLOCK_JOB_ERROR` and `BlockDeviceIoStatus`.

use blockyard_block::{BlockError, ErrorAction, OnError};
use blockyard_runtime::IoErrorKind;
use blockyard_sync::{note, sometimes};

use crate::job::{Job, JobEvent};
use crate::status::Verb;

/// An error that stays would be met again and again in no time.
const TRIED_AGAIN_NS: u64 = 100_000_000;

/// Why a job stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoStatus {
    /// It did not, or has been resumed.
    Ok,
    /// A request failed.
    Failed,
    /// No space was left.
    NoSpace,
}

impl IoStatus {
    /// QEMU's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::NoSpace => "nospace",
        }
    }
}

impl Job {
    /// A request of the job has failed: one that `reads`, or another. If it comes back well, what failed is to be done
    /// again, behind the next pause point.
    ///
    /// # Errors
    /// The error, if the policy is to report it, or it is no failure of a disk.
    pub(crate) fn met(
        &self,
        error: BlockError,
        policy: OnError,
        reads: bool,
    ) -> Result<(), BlockError> {
        let Some(kind) = error.io_kind() else { return Err(error) };
        let no_space = kind == IoErrorKind::NoSpace;
        let action = self.control.write(|control| match policy.action(no_space) {
            ErrorAction::Stop if !control.status.verbs().contains(&Verb::Resume) => {
                ErrorAction::Report
            }
            ErrorAction::Stop => {
                // It may have been told to end since.
                control.paused = !control.is_forced();
                control.io_status = if no_space { IoStatus::NoSpace } else { IoStatus::Failed };
                ErrorAction::Stop
            }
            action => action,
        });
        if action == ErrorAction::Ignore {
            let now_ns = self.layer().runtime().now_ns();
            self.control.write(|control| control.pace.wait(TRIED_AGAIN_NS, now_ns));
        }
        note!("{}: {error}: {action:?}", self.name());
        sometimes!(action == ErrorAction::Stop, "a job was stopped by an error");
        sometimes!(action == ErrorAction::Ignore, "a job ignored an error");
        self.emit(JobEvent::Error { reads, action });
        if action == ErrorAction::Report { Err(error) } else { Ok(()) }
    }

    /// In the job's own section, where it does not rest: what failed is tried again a little later.
    pub(crate) async fn wait_to_try_again(&self) {
        self.layer().runtime().sleep(TRIED_AGAIN_NS).await;
    }
}
