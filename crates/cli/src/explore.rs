//! `blockyard explore` and `blockyard fuzz`.

use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

use blockyard_sim::{Exploration, Explorer, Limits, Reduction, Summary, TapeLine, Verdict};
use serde_json::{Map, Value, json};

use crate::args::{ExploreArgs, FuzzArgs, Strategy};
use crate::failure::Failure;
use crate::progress::{Interrupt, Progress};
use crate::report::{Output, Status};
use crate::seed::{self, Found};
use crate::spec::Spec;

/// Without --exhaust.
const DEFAULT_EXECUTIONS: u64 = 10_000;

/// A search as asked for.
struct Search<'a> {
    spec: &'a Spec,
    strategy: &'static str,
    /// For random runs.
    seeds: Range<u64>,
    limits: Limits,
    exhaust: bool,
}

pub(crate) fn explore(args: &ExploreArgs, out: &Path, output: &Output) -> Result<Status, Failure> {
    let spec = Spec::read(&args.scenario, &args.change)?;
    check_directory(out)?;
    let unlimited = if args.exhaust { u64::MAX } else { DEFAULT_EXECUTIONS };
    let executions = args.max_executions.unwrap_or(unlimited);
    if executions == 0 {
        return Err(Failure::usage("--max-executions: at least 1"));
    }
    if args.exhaust && matches!(args.strategy, Strategy::Random) {
        return Err(Failure::usage(
            "--exhaust: random search never exhausts; use another --strategy",
        ));
    }
    let strategy = match args.strategy {
        Strategy::Reduced => "reduced",
        Strategy::Sleep => "sleep",
        Strategy::Dfs => "dfs",
        Strategy::Random => "random",
    };
    let limits = Limits { executions, ..Limits::default() };
    let seeds = 0..executions;
    let search = Search { spec: &spec, strategy, seeds, limits, exhaust: args.exhaust };
    search.run_and_report(out, output)
}

pub(crate) fn fuzz(args: &FuzzArgs, out: &Path, output: &Output) -> Result<Status, Failure> {
    let seeds = read_seeds(&args.seeds)?;
    check_directory(out)?;
    let builtin = blockyard_scenario::BUILTIN.iter().map(|(name, _)| name.to_string());
    let names = if args.all { builtin.collect() } else { args.scenarios.clone() };
    let specs: Vec<Spec> =
        names.iter().map(|name| Spec::read(name, &args.change)).collect::<Result<_, _>>()?;
    for spec in &specs {
        let limits = Limits { executions: u64::MAX, ..Limits::default() };
        let seeds = seeds.clone();
        let search = Search { spec, strategy: "random", seeds, limits, exhaust: false };
        let status = search.run_and_report(out, output)?;
        if status != Status::Clean {
            return Ok(status);
        }
    }
    Ok(Status::Clean)
}

/// Findings must have a place before hours are spent on them.
fn check_directory(out: &Path) -> Result<(), Failure> {
    let probe = out.join(".blockyard-probe");
    std::fs::write(&probe, b"")
        .map_err(|error| Failure::file(out, format!("not writable: {error}")))?;
    std::fs::remove_file(&probe).map_err(|error| Failure::file(&probe, error))
}

fn read_seeds(text: &str) -> Result<Range<u64>, Failure> {
    let wrong = || Failure::usage(format!("--seeds {text}: A..B with A below B is needed"));
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if from < to { Ok(from..to) } else { Err(wrong()) }
}

impl Search<'_> {
    fn run_and_report(&self, out: &Path, output: &Output) -> Result<Status, Failure> {
        let (exploration, seconds) = self.run();
        let seed_file = match &exploration.verdict {
            // A setup that fails has no interleavings: the scenario asks for what is not there.
            Verdict::Violated { finding, .. }
                if finding.property == "script" && finding.message.starts_with("setup: ") =>
            {
                let name = &self.spec.named;
                return Err(Failure::usage(format!("scenario {name}: {}", finding.message)));
            }
            Verdict::Violated { finding, tape, hash, seed } => {
                let (tape, strategy) = (tape.clone(), self.strategy);
                let found = Found { finding, tape, hash: *hash, strategy, seed: seed.unwrap_or(0) };
                Some(seed::write(self.spec, found, out)?.display().to_string())
            }
            _ => None,
        };
        let result = Outcome { search: self, exploration, seconds, seed_file };
        output.print(|| result.as_text(), || result.as_json());
        Ok(result.status())
    }

    fn run(&self) -> (Exploration, f64) {
        let interrupt = Interrupt::listen();
        let random = self.strategy == "random";
        let of = random.then(|| self.seeds.end - self.seeds.start);
        let progress = Progress::new(&self.spec.script.name, of);
        let mut go_on = |summary: &Summary| {
            progress.show(summary);
            !interrupt.is_set()
        };
        // A panic of a simulated task is a finding, reported with its tape; its message need not come twice.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let program = self.spec.program();
        let setup = self.spec.setup(0);
        let mut explorer = Explorer::new(&program, setup, self.limits, &mut go_on);
        let exploration = match self.strategy {
            "random" => explorer.random(self.seeds.clone()),
            "dfs" => explorer.depth_first(Reduction::Plain),
            "sleep" => explorer.depth_first(Reduction::SleepSets),
            _ => explorer.depth_first(Reduction::SourceSets),
        };
        std::panic::set_hook(hook);
        progress.finish();
        (exploration, progress.seconds())
    }
}

struct Outcome<'a> {
    search: &'a Search<'a>,
    exploration: Exploration,
    seconds: f64,
    seed_file: Option<String>,
}

impl Outcome<'_> {
    fn exhausted(&self) -> bool {
        self.exploration.verdict == Verdict::Clean { exhausted: true }
    }

    fn status(&self) -> Status {
        match &self.exploration.verdict {
            Verdict::Violated { .. } => Status::Violated,
            Verdict::Interrupted => Status::Interrupted,
            Verdict::Clean { exhausted: true } if !self.missed().is_empty() => Status::Violated,
            Verdict::Clean { exhausted: false } if self.search.exhaust => Status::Budget,
            Verdict::Clean { .. } => Status::Clean,
        }
    }

    /// Marks of the scenario that an exhausted space does not have: the scenario does not test what it says.
    fn missed(&self) -> Vec<&str> {
        let marks = &self.exploration.summary.marks;
        let asked = self.search.spec.script.marks.iter().map(String::as_str);
        asked.filter(|mark| self.exhausted() && !marks.contains(mark)).collect()
    }

    fn as_text(&self) -> String {
        let mut text = String::new();
        let summary = &self.exploration.summary;
        let spec = self.search.spec;
        // A String takes everything.
        let _ = match &self.exploration.verdict {
            Verdict::Violated { finding, tape, .. } => {
                writeln!(text, "{}: {}\n", finding.property, finding.message)
                    .and_then(|()| text.write_str(&schedule(tape)))
            }
            Verdict::Clean { exhausted: true } => writeln!(
                text,
                "{}: exhausted: all {} executions are clean",
                spec.script.name, summary.executions
            ),
            Verdict::Clean { exhausted: false } => writeln!(
                text,
                "{}: clean so far; not exhausted{}",
                spec.script.name,
                if self.search.strategy == "random" {
                    ""
                } else {
                    " (--exhaust goes on to the end)"
                }
            ),
            Verdict::Interrupted => {
                writeln!(text, "{}: interrupted; clean so far", spec.script.name)
            }
        };
        let _ = self.write_summary(&mut text);
        if let Some(path) = &self.seed_file {
            let _ = writeln!(text, "seed file: {path}\nreplay it:  blockyard replay {path} --log");
        }
        text
    }

    fn write_summary(&self, text: &mut String) -> std::fmt::Result {
        let summary = &self.exploration.summary;
        let rate = summary.executions as f64 / self.seconds.max(1e-9);
        writeln!(
            text,
            "strategy {}: {} executions ({} blocked), {} steps, {:.1} s, {rate:.0} executions/s",
            self.search.strategy, summary.executions, summary.blocked, summary.steps, self.seconds
        )?;
        for mark in &self.search.spec.script.marks {
            let reached = summary.marks.contains(mark.as_str());
            writeln!(text, "  {} {mark}", if reached { "reached    " } else { "not reached" })?;
        }
        if !self.missed().is_empty() {
            writeln!(
                text,
                "the space is exhausted without its marks: the scenario does not test what it says"
            )?;
        }
        Ok(())
    }

    fn as_json(&self) -> Map<String, Value> {
        let summary = &self.exploration.summary;
        let verdict = match self.status() {
            Status::Violated => "violated",
            Status::Clean if self.exhausted() => "clean",
            Status::Clean => "clean",
            Status::Interrupted => "interrupted",
            _ => "budget",
        };
        let random = self.search.strategy == "random";
        let traces = (!random).then(|| summary.executions - summary.blocked);
        let members = [
            ("scenario", json!(self.search.spec.script.name)),
            ("verdict", json!(verdict)),
            ("exhausted", json!(self.exhausted())),
            ("strategy", json!(self.search.strategy)),
            ("executions", json!(summary.executions)),
            ("blocked", json!(summary.blocked)),
            ("traces", json!(traces)),
            ("steps", json!(summary.steps)),
            ("seconds", json!(self.seconds)),
            ("marks", json!(summary.marks)),
            ("marks_missed", json!(self.missed())),
        ];
        let mut object: Map<_, _> = members.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        if let Verdict::Violated { finding, tape, .. } = &self.exploration.verdict {
            object.insert("property".into(), json!(finding.property));
            object.insert("message".into(), json!(finding.message));
            object.insert("seed_file".into(), json!(self.seed_file));
            object.insert("steps_to_failure".into(), json!(tape.len()));
        }
        object
    }
}

/// The tape for people: from the first step in which somebody starts a job, if one does.
pub(crate) fn schedule(tape: &[TapeLine]) -> String {
    let starts =
        |line: &TapeLine| line.notes.iter().any(|note| note.starts_with("blockdev-mirror {"));
    let first = tape.iter().position(starts).unwrap_or(0);
    let mut text = String::new();
    for (index, line) in tape.iter().enumerate().skip(first) {
        // A String takes everything.
        let _ = writeln!(text, "{:>4}  {line}", index + 1);
    }
    text.push('\n');
    text
}
