//! `blockyard explore` and `blockyard fuzz`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use blockyard_sim::{Exploration, Limits, Verdict};
use serde_json::{Map, Value};

use crate::args::{ExploreArgs, FuzzArgs, Strategy};
use crate::checkpoint::{Keeper, Left};
use crate::failure::Failure;
use crate::generate;
use crate::outcome::Outcome;
use crate::progress::{Interrupt, Progress, quietly};
use crate::report::{Output, Status};
use crate::seed::{self, Found};
use crate::spec::Spec;
use crate::team::Team;

/// Without --exhaust.
pub(crate) const DEFAULT_EXECUTIONS: u64 = 10_000;

/// A search as asked for.
pub(crate) struct Search<'a> {
    pub spec: &'a Spec,
    pub strategy: Strategy,
    /// For the strategies that draw runs.
    pub seeds: Range<u64>,
    pub limits: Limits,
    pub exhaust: bool,
    /// At least one.
    pub threads: usize,
}

pub(crate) fn explore(args: &ExploreArgs, out: &Path, output: &Output) -> Result<Status, Failure> {
    let mut spec = Spec::read_simulated(&args.scenario, &args.change)?;
    spec.granularity = args.granularity;
    let unlimited = if args.exhaust { u64::MAX } else { DEFAULT_EXECUTIONS };
    let executions = args.max_executions.unwrap_or(unlimited);
    if executions == 0 {
        return Err(Failure::usage("--max-executions: at least 1"));
    }
    if args.exhaust && args.strategy.sampling().is_some() {
        return Err(Failure::usage(
            "--exhaust: random search never exhausts; use another --strategy",
        ));
    }
    if args.resume.is_some() && args.strategy.sampling().is_some() {
        return Err(Failure::usage(
            "--resume: random search has nothing to go on from; use fuzz with other --seeds",
        ));
    }
    make_directory(out)?;
    let strategy = args.strategy;
    let limits = Limits { executions, ..Limits::default() };
    let seeds = 0..executions;
    let (exhaust, threads) = (args.exhaust, args.threads.into());
    let search = Search { spec: &spec, strategy, seeds, limits, exhaust, threads };
    let outcome = search.run(&Interrupt::listen(), out, args.resume.as_deref())?;
    output.print(|| outcome.as_text(), || outcome.as_json());
    Ok(outcome.status())
}

pub(crate) fn fuzz(args: &FuzzArgs, out: &Path, output: &Output) -> Result<Status, Failure> {
    let seeds = read_seeds(&args.seeds)?;
    if args.generate.is_some() {
        let fuzzed = generate::fuzz(args, seeds, out, &Interrupt::listen())?;
        output.print(|| fuzzed.text, || fuzzed.json);
        return Ok(fuzzed.status);
    }
    let builtin = blockyard_scenario::BUILTIN.iter().map(|(name, _)| name.to_string());
    let mut names = if args.all { builtin.collect() } else { args.scenarios.clone() };
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    let specs: Vec<Spec> = names
        .iter()
        .map(|name| {
            let mut spec = Spec::read_simulated(name, &args.change)?;
            (spec.granularity, spec.time) = (args.granularity, args.time);
            Ok(spec)
        })
        .collect::<Result<_, _>>()?;
    make_directory(out)?;
    let interrupt = Interrupt::listen();
    let mut reports = Vec::new();
    let mut status = Status::Clean;
    for spec in &specs {
        let limits = Limits { executions: u64::MAX, ..spec.limits() };
        let seeds = seeds.clone();
        let (strategy, threads) = (args.strategy, args.threads.into());
        let search = Search { spec, strategy, seeds, limits, exhaust: false, threads };
        let outcome = search.run(&interrupt, out, None)?;
        output.print_part(|| outcome.as_text());
        reports.push(outcome.as_json());
        status = outcome.status();
        if status != Status::Clean {
            break;
        }
    }
    if args.all && status == Status::Clean {
        let fuzzed = generate::fuzz(args, seeds, out, &interrupt)?;
        output.print_part(|| fuzzed.text);
        reports.push(fuzzed.json);
        status = fuzzed.status;
    }
    output.print(String::new, || match <[_; 1]>::try_from(reports) {
        Ok([only]) => only,
        Err(reports) => {
            let verdict = reports.last().and_then(|last| last.get("verdict")).cloned();
            let marks = reports.iter().filter_map(|report| report.get("marks")?.as_array());
            let marks: BTreeSet<&str> = marks.flatten().filter_map(Value::as_str).collect();
            Map::from_iter([
                ("verdict".into(), verdict.unwrap_or_default()),
                ("marks".into(), Value::from_iter(marks)),
                ("scenarios".into(), Value::from_iter(reports.into_iter().map(Value::Object))),
            ])
        }
    });
    Ok(status)
}

/// Findings must have a place before hours are spent on them: it is made if it is not there.
pub(crate) fn make_directory(out: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(out).map_err(|error| {
        let why = if out.exists() { "there is a file".into() } else { error.to_string() };
        Failure::file(out, format!("cannot be made a directory for findings: {why}"))
    })?;
    check_directory(out)
}

/// Whether files can be made there.
pub(crate) fn check_directory(out: &Path) -> Result<(), Failure> {
    // Other processes may look at the same time.
    let probe = out.join(format!(".blockyard-probe-{}", std::process::id()));
    std::fs::write(&probe, b"")
        .map_err(|error| Failure::file(out, format!("not writable: {error}")))?;
    std::fs::remove_file(&probe).map_err(|error| Failure::file(&probe, error))
}

pub(crate) fn read_seeds(text: &str) -> Result<Range<u64>, Failure> {
    let wrong = || Failure::usage(format!("--seeds {text}: A..B with A below B is needed"));
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if from < to { Ok(from..to) } else { Err(wrong()) }
}

impl Search<'_> {
    /// Runs it; a failure is kept in a seed file in `out`. A search that counts executions off goes on from the file
    /// `resume`, if it is there, and keeps there what is left.
    pub fn run(
        &self,
        interrupt: &Interrupt,
        out: &Path,
        resume: Option<&Path>,
    ) -> Result<Outcome<'_>, Failure> {
        if let Some(sampling) = self.strategy.sampling() {
            let of = self.seeds.end - self.seeds.start;
            let progress = Progress::new(&self.spec.script.name, Some(of));
            let exploration = quietly(|| self.draw(sampling, interrupt, &progress));
            progress.finish();
            return self.keep(exploration, progress.seconds(), out);
        }
        let (mut keeper, left) = match resume {
            Some(path) => {
                let (keeper, left) = Keeper::open(path, self)?;
                (Some(keeper), left)
            }
            None => (None, None),
        };
        let resumed = left.is_some();
        let had_ended = left.as_ref().is_some_and(Left::is_end);
        let team = match left {
            Some(left) => Team::resuming(self, left).map_err(|failure| {
                keeper.as_ref().map_or(failure.clone(), |k| k.about(&failure))
            })?,
            None => Team::new(self),
        };
        if let (Some(keeper), false) = (&mut keeper, resumed) {
            keeper.begin(&team.left())?;
        }
        let progress = Progress::new(&self.spec.script.name, None);
        let exploration = quietly(|| team.run(interrupt, &progress, keeper.as_mut()));
        progress.finish();
        let exploration = exploration?;
        // Where something was broken the file stays as it is: the executions since then are run again.
        if let Some(keeper) = &mut keeper
            && !had_ended
            && !matches!(exploration.verdict, Verdict::Violated { .. })
        {
            keeper.keep(&team.left());
        }
        let seconds = keeper.as_ref().map_or(progress.seconds(), Keeper::seconds);
        let mut outcome = self.keep(exploration, seconds, out)?;
        outcome.checkpoint = keeper.map(Keeper::result);
        outcome.had_ended = had_ended;
        Ok(outcome)
    }

    /// Keeps a failure in a seed file in `out`.
    pub fn keep(
        &self,
        exploration: Exploration,
        seconds: f64,
        out: &Path,
    ) -> Result<Outcome<'_>, Failure> {
        let seed_file = match &exploration.verdict {
            Verdict::Violated { finding, tape, hash, seed } => {
                // A setup that fails has no interleavings: the scenario asks for what is not there.
                Failure::check_setup(&self.spec.named, &finding.property, &finding.message)?;
                let (tape, strategy) = (tape.clone(), self.strategy.word());
                let found = Found { finding, tape, hash: *hash, strategy, seed: seed.unwrap_or(0) };
                // A finding that cannot be kept is a finding all the same.
                Some(seed::write(self.spec, found, out).map(|path| path.display().to_string()))
            }
            _ => None,
        };
        let had_ended = false;
        Ok(Outcome { search: self, exploration, seconds, seed_file, checkpoint: None, had_ended })
    }
}
