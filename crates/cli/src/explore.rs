//! `blockyard explore` and `blockyard fuzz`.

use std::ops::Range;
use std::path::Path;

use blockyard_sim::{Exploration, Explorer, Limits, Reduction, Summary, Verdict};
use serde_json::{Map, Value};

use crate::args::{ExploreArgs, FuzzArgs, Strategy};
use crate::failure::Failure;
use crate::generate;
use crate::outcome::Outcome;
use crate::progress::{Interrupt, Progress, quietly};
use crate::report::{Output, Status};
use crate::seed::{self, Found};
use crate::spec::Spec;

/// Without --exhaust.
const DEFAULT_EXECUTIONS: u64 = 10_000;

/// A search as asked for.
pub(crate) struct Search<'a> {
    pub spec: &'a Spec,
    pub strategy: Strategy,
    /// For the strategies that draw runs.
    pub seeds: Range<u64>,
    pub limits: Limits,
    pub exhaust: bool,
}

pub(crate) fn explore(args: &ExploreArgs, out: &Path, output: &Output) -> Result<Status, Failure> {
    let mut spec = Spec::read_simulated(&args.scenario, &args.change)?;
    spec.granularity = args.granularity;
    check_directory(out)?;
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
    let strategy = args.strategy;
    let limits = Limits { executions, ..Limits::default() };
    let seeds = 0..executions;
    let search = Search { spec: &spec, strategy, seeds, limits, exhaust: args.exhaust };
    let outcome = search.run(&Interrupt::listen(), out)?;
    output.print(|| outcome.as_text(), || outcome.as_json());
    Ok(outcome.status())
}

pub(crate) fn fuzz(args: &FuzzArgs, out: &Path, output: &Output) -> Result<Status, Failure> {
    let seeds = read_seeds(&args.seeds)?;
    check_directory(out)?;
    if args.generate {
        return generate::fuzz(args, seeds, out, output);
    }
    let builtin = blockyard_scenario::BUILTIN.iter().map(|(name, _)| name.to_string());
    let names = if args.all { builtin.collect() } else { args.scenarios.clone() };
    let specs: Vec<Spec> = names
        .iter()
        .map(|name| {
            let mut spec = Spec::read_simulated(name, &args.change)?;
            spec.granularity = args.granularity;
            Ok(spec)
        })
        .collect::<Result<_, _>>()?;
    let interrupt = Interrupt::listen();
    let mut reports = Vec::new();
    let mut status = Status::Clean;
    for spec in &specs {
        let limits = Limits { executions: u64::MAX, ..Limits::default() };
        let seeds = seeds.clone();
        let search = Search { spec, strategy: args.strategy, seeds, limits, exhaust: false };
        let outcome = search.run(&interrupt, out)?;
        output.print_part(|| outcome.as_text());
        reports.push(outcome.as_json());
        status = outcome.status();
        if status != Status::Clean {
            break;
        }
    }
    output.print(String::new, || match <[_; 1]>::try_from(reports) {
        Ok([only]) => only,
        Err(reports) => {
            let verdict = reports.last().and_then(|last| last.get("verdict")).cloned();
            Map::from_iter([
                ("verdict".into(), verdict.unwrap_or_default()),
                ("scenarios".into(), Value::from_iter(reports.into_iter().map(Value::Object))),
            ])
        }
    });
    Ok(status)
}

/// Findings must have a place before hours are spent on them.
pub(crate) fn check_directory(out: &Path) -> Result<(), Failure> {
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
    /// Runs it; a failure is kept in a seed file in `out`.
    pub fn run(&self, interrupt: &Interrupt, out: &Path) -> Result<Outcome<'_>, Failure> {
        let of = self.strategy.sampling().map(|_| self.seeds.end - self.seeds.start);
        let progress = Progress::new(&self.spec.script.name, of);
        let mut go_on = |summary: &Summary| {
            progress.show(summary);
            !interrupt.is_set()
        };
        let exploration = quietly(|| self.explore(&mut go_on));
        progress.finish();
        self.keep(exploration, progress.seconds(), out)
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
        Ok(Outcome { search: self, exploration, seconds, seed_file })
    }

    /// Runs it and keeps nothing. `go_on` is asked after each execution.
    pub fn explore(&self, go_on: &mut dyn FnMut(&Summary) -> bool) -> Exploration {
        let program = self.spec.program();
        let mut explorer = Explorer::new(&program, self.spec.setup(0), self.limits, go_on);
        match (self.strategy.sampling(), self.strategy) {
            (Some(sampling), _) => explorer.sample(sampling, self.seeds.clone()),
            (None, Strategy::Dfs) => explorer.depth_first(Reduction::Plain),
            (None, Strategy::Sleep) => explorer.depth_first(Reduction::SleepSets),
            (None, _) => explorer.depth_first(Reduction::Optimal),
        }
    }
}
