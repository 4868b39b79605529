//! `blockyard shrink`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use blockyard_sim::{Explorer, Finding, Limits, Outcome, Setup, Shrunk, Summary, Time};
use serde_json::{Map, Value, json};

use crate::args::ShrinkArgs;
use crate::explore::{check_directory, make_directory};
use crate::failure::Failure;
use crate::outcome::{replay_command, schedule};
use crate::progress::{Interrupt, Progress, quietly};
use crate::replay::diverged;
use crate::report::{Output, Status};
use crate::seed;
use crate::spec::Spec;

pub(crate) fn shrink(args: &ShrinkArgs, out: &Path, output: &Output) -> Result<Status, Failure> {
    let input = &args.seed_file;
    let kept = seed::read(input, args.scenario.as_deref())?;
    if args.max_replays == 0 {
        return Err(Failure::usage("--max-replays: at least 1"));
    }
    let path = match &args.output {
        Some(path) => path.clone(),
        None => {
            let stem = input.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            out.join(format!("{stem}.min.seed"))
        }
    };
    match &args.output {
        Some(path) if path.is_dir() => return Err(Failure::file(path, "is a directory")),
        Some(path) => check_directory(seed::folder_of(path))?,
        None => make_directory(out)?,
    }
    if kept.spec.time == Time::Timed {
        let why = "the failure of a timed run is not made simpler: what it needs is also a matter of time";
        return Err(Failure::file(input, why));
    }
    let interrupt = Interrupt::listen();
    let failing = Failing {
        spec: &kept.spec,
        setup: kept.setup(),
        property: &kept.property,
        tape: kept.events(),
    };
    let (result, seconds) = failing.shrink(args.max_replays, &interrupt);
    let shrunk = result.map_err(|outcome| match outcome {
        Outcome::Diverged(divergence) => diverged(input, &kept, &divergence),
        Outcome::Violated(finding) => Failure::file(
            input,
            format!("breaks another property now: {}: {}", finding.property, finding.message),
        ),
        Outcome::Ended | Outcome::Blocked => {
            Failure::file(input, "nothing broken: there is no failure to shrink")
        }
    })?;
    let unkept = seed::write_again(&kept, &shrunk, &path).err();
    let done = Done { shrunk: &shrunk, seconds, path: &path, unkept };
    output.print(|| done.as_text(), || done.as_json());
    Ok(if interrupt.is_set() { Status::Interrupted } else { Status::Violated })
}

/// A failure to be made simpler.
pub(crate) struct Failing<'a> {
    pub spec: &'a Spec,
    pub setup: Setup,
    pub property: &'a str,
    pub tape: Vec<String>,
}

impl Failing<'_> {
    /// Makes it simpler, by so many replays at most; how many seconds that took.
    pub fn shrink(self, replays: u64, interrupt: &Interrupt) -> (Result<Shrunk, Outcome>, f64) {
        let Self { spec, setup, property, tape } = self;
        let progress = Progress::new("shrinking", None);
        let mut go_on = |summary: &Summary| {
            progress.show(summary.executions);
            !interrupt.is_set()
        };
        let program = spec.program();
        let same = |finding: &Finding| finding.property == property;
        let limits = spec.limits();
        let mut explorer = Explorer::new(&program, setup, limits, &mut go_on);
        let limits = Limits { executions: replays, ..limits };
        let result = quietly(|| explorer.shrink(tape, &same, limits));
        progress.finish();
        (result, progress.seconds())
    }
}

struct Done<'a> {
    shrunk: &'a Shrunk,
    seconds: f64,
    path: &'a PathBuf,
    /// Why it is not there.
    unkept: Option<Failure>,
}

impl Done<'_> {
    fn as_text(&self) -> String {
        let Shrunk { tape, finding, cost_before, cost_after, replays, minimal, least, .. } =
            self.shrunk;
        let mut text = format!("{}: {}\n\n", finding.property, finding.message);
        text += &schedule(tape);
        let how_far = match (least, minimal) {
            (true, _) => "no failing run is simpler",
            (false, true) => "no edit makes it simpler; another failing run may yet be",
            (false, false) => "stopped early: it may get simpler yet",
        };
        // A String takes everything.
        let _ = writeln!(text, "before: {cost_before}\nafter:  {cost_after}");
        let _ = writeln!(text, "{replays} replays, {:.1} s; {how_far}", self.seconds);
        let (path, replay) = (self.path.display(), replay_command(self.path));
        let _ = match &self.unkept {
            Some(failure) => writeln!(text, "the seed file could not be written: {failure}"),
            None => writeln!(text, "seed file: {path}\nreplay it:  {replay}"),
        };
        text
    }

    fn as_json(&self) -> Map<String, Value> {
        let Shrunk { tape, finding, hash, cost_before, cost_after, replays, minimal, least } =
            self.shrunk;
        let cost = |cost: &blockyard_sim::Cost| {
            json!({ "faults": cost.faults, "crashes": cost.crashes,
                "preemptions": cost.preemptions, "operations": cost.operations,
                "bytes": cost.bytes, "events": cost.events })
        };
        let members = [
            ("verdict", json!("violated")),
            ("property", json!(finding.property)),
            ("message", json!(finding.message)),
            ("seed_file", json!(self.unkept.is_none().then_some(self.path))),
            ("seed_file_error", json!(self.unkept.as_ref().map(ToString::to_string))),
            ("hash", json!(format!("{hash:016x}"))),
            ("before", cost(cost_before)),
            ("after", cost(cost_after)),
            ("replays", json!(replays)),
            ("minimal", json!(minimal)),
            ("least", json!(least)),
            ("seconds", json!(self.seconds)),
            ("tape", Value::from_iter(tape.iter().map(ToString::to_string))),
        ];
        members.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }
}
