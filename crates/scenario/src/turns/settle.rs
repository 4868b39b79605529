//! When a side has come to rest: nothing will happen there before somebody does something.
//!
//! A job's verbs are answered before they have an effect, so whoever has used one waits until it shows; and in some
//! states a job rests only if it was told to when it was made. A mirror that is ready may still copy what guests have
//! written: what its target holds is known when it has ended, and not by force.

use std::collections::{BTreeMap, BTreeSet};

use blockyard_qmp::{Dict, Value};

use super::look::ask;
use super::side::{Broken, Side};
use crate::bitmaps::actions_of;

/// Moments that a side may take to come to rest; each is a millisecond at least.
const MOMENTS_MAX: u32 = 20_000;

/// States in which a job waits for somebody.
const AT_REST: &[&str] = &["ready", "paused", "standby", "waiting"];

/// What is known of the jobs of a side.
#[derive(Default)]
pub(super) struct Jobs {
    /// The states that they are to leave.
    leave: BTreeMap<String, &'static [&'static str]>,
    /// Those that wait for somebody to finalize or dismiss them, each with that state.
    wait: BTreeSet<(String, &'static str)>,
}

impl Jobs {
    /// A command was done.
    pub fn note(&mut self, command: &str, arguments: &Dict) {
        self.begin(command, arguments);
        actions_of(command, arguments).for_each(|(kind, data)| self.begin(&kind, &data));
        let id = arguments.get("id").or_else(|| arguments.get("device")).and_then(Value::as_str);
        let Some(id) = id else { return };
        let verb = command.strip_prefix("block-job-").or_else(|| command.strip_prefix("job-"));
        let leaves: &[&str] = match verb {
            Some("complete") => &["ready"],
            Some("cancel") => &["ready", "paused", "standby", "pending", "waiting"],
            Some("pause") => &["ready"],
            Some("resume") => &["paused", "standby"],
            Some("finalize") => &["pending"],
            Some("dismiss") => &["concluded"],
            _ => return,
        };
        self.leave.insert(id.into(), leaves);
    }

    /// A job, perhaps.
    fn begin(&mut self, command: &str, arguments: &Dict) {
        let id = arguments.get("job-id").or_else(|| arguments.get("device"));
        let Some(id) = id.and_then(Value::as_str) else { return };
        let is_off = |key: &str| match arguments.get(key) {
            Some(Value::Bool(on)) => !on,
            Some(Value::Str(word)) => ["off", "no", "false", "n"].contains(&word.as_str()),
            _ => false,
        };
        let once = ["blockdev-create", "x-blockdev-amend"].contains(&command);
        let waits =
            [("pending", is_off("auto-finalize")), ("concluded", once || is_off("auto-dismiss"))];
        for (state, waits) in waits {
            let of = (id.to_string(), state);
            if waits {
                self.wait.insert(of)
            } else {
                self.wait.remove(&of)
            };
        }
    }

    fn are_at_rest(&mut self, jobs: &Value) -> bool {
        let jobs = jobs.as_list().unwrap_or_default().iter().filter_map(Value::as_dict);
        let text = |job: &Dict, key| job.get(key).and_then(Value::as_str).map(String::from);
        let states: BTreeMap<String, String> =
            jobs.filter_map(|job| Some((text(job, "id")?, text(job, "status")?))).collect();
        self.leave.retain(|id, leaves| {
            states.get(id).is_some_and(|status| leaves.contains(&status.as_str()))
        });
        let rests = |(id, status): (&String, &String)| {
            let waits = self.wait.iter().any(|(of, state)| of == id && state == status);
            waits || AT_REST.contains(&status.as_str())
        };
        self.leave.is_empty() && states.iter().all(rests)
    }

    /// Waits for it.
    ///
    /// # Errors
    /// It takes too long, or does not answer.
    pub fn settle(&mut self, side: &mut dyn Side) -> Result<(), Broken> {
        let mut jobs = Value::Null;
        for _ in 0..MOMENTS_MAX {
            jobs = ask(side, "query-jobs", &Dict::new())?;
            if self.are_at_rest(&jobs) {
                // A state is there a moment before the event that tells of it.
                return side.pause();
            }
            side.pause()?;
        }
        let why = format!("after {MOMENTS_MAX} moments it is not at rest: {jobs}");
        Err(Broken::Failed(side.name(), why))
    }
}
