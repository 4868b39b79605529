//! `blockyard compare`.

mod figures;
mod report;

use std::path::Path;

use blockyard_sim::{Budgets, Finding, Limits, TapeLine, Time, Verdict};
use blockyard_units::Design;

use crate::args::{CompareArgs, ScenarioArgs, Strategy};
use crate::explore::{Search, make_directory, read_seeds};
use crate::failure::Failure;
use crate::progress::{Interrupt, Progress, quietly};
use crate::report::{Output, Status};
use crate::seed::{self, Found};
use crate::shrink::Failing;
use crate::spec::Spec;
use crate::team::Team;
use figures::Measured;
use report::Comparison;

/// Replays that a counterexample is made simpler by.
const REPLAYS: u64 = 100_000;

/// What is known of one design.
struct Column {
    /// Its decisions, as they were given.
    name: String,
    design: Design,
    explored: Explored,
    /// What exploring found; if that is nothing, what a timed run did.
    broken: Option<Broken>,
    timed: Measured,
}

/// What exploring came to.
#[derive(Default)]
struct Explored {
    executions: u64,
    exhausted: bool,
    interrupted: bool,
    broken: bool,
}

/// A property that a design breaks.
struct Broken {
    finding: Finding,
    steps: usize,
    /// No run that is simpler breaks it.
    least: bool,
    /// Where it is kept, or why it is not.
    seed_file: Result<String, Failure>,
}

pub(crate) fn compare(args: &CompareArgs, out: &Path, output: &Output) -> Result<Status, Failure> {
    let seeds = read_seeds(&args.seeds)?;
    let specs = read_specs(args)?;
    make_directory(out)?;
    let interrupt = Interrupt::listen();
    let mut columns = Vec::new();
    for (name, spec) in &specs {
        let (explored, found) = explore(spec, args.max_executions, &interrupt, out)?;
        let (timed, failure) = figures::measure(spec, name, seeds.clone(), &interrupt);
        let broken = match (found, failure) {
            (None, Some(failure)) => Some(failure.keep(out)?),
            (found, _) => found,
        };
        let name = name.clone();
        columns.push(Column { name, design: spec.design, explored, broken, timed });
        if interrupt.is_set() {
            break;
        }
    }
    let script = &specs[0].1.script;
    let interrupted = interrupt.is_set();
    let comparison = Comparison { script, seeds: &args.seeds, columns, interrupted };
    output.print(|| comparison.as_text(), || comparison.as_json());
    Ok(comparison.status())
}

/// The scenario under each design, by its words.
fn read_specs(args: &CompareArgs) -> Result<Vec<(String, Spec)>, Failure> {
    let designs = &args.change.designs;
    if designs.len() < 2 {
        return Err(Failure::usage("--design: two designs at least are needed to compare them"));
    }
    let mut specs: Vec<(String, Spec)> = Vec::new();
    for words in designs {
        let designs = words.split(',').map(String::from).collect();
        let change = ScenarioArgs { designs, ..args.change.clone() };
        let spec = Spec::read_simulated(&args.scenario, &change)?;
        let same = |(_, other): &&(String, Spec)| other.design == spec.design;
        if let Some((other, _)) = specs.iter().find(same) {
            return Err(Failure::usage(format!(
                "--design {words}: the same design as {other}: what is not decided is as by default"
            )));
        }
        specs.push((words.clone(), spec));
    }
    Ok(specs)
}

/// Explores a design; what it breaks is made as simple as can be, and kept.
fn explore(
    spec: &Spec,
    executions: u64,
    interrupt: &Interrupt,
    out: &Path,
) -> Result<(Explored, Option<Broken>), Failure> {
    let limits = Limits { executions, ..spec.limits() };
    let strategy = Strategy::Reduced;
    let search = Search { spec, strategy, seeds: 0..0, limits, exhaust: false, threads: 1 };
    let progress = Progress::new(&spec.script.name, Some(executions));
    let exploration = quietly(|| Team::new(&search).run(interrupt, &progress, None));
    progress.finish();
    let exploration = exploration?;
    let explored = Explored {
        executions: exploration.summary.executions,
        exhausted: exploration.verdict == Verdict::Clean { exhausted: true },
        interrupted: exploration.verdict == Verdict::Interrupted,
        broken: matches!(exploration.verdict, Verdict::Violated { .. }),
    };
    let Verdict::Violated { finding, tape, hash, .. } = exploration.verdict else {
        return Ok((explored, None));
    };
    let property = finding.property.clone();
    let events = tape.iter().map(|line| line.event.clone()).collect();
    let failing = Failing { spec, setup: spec.setup(0), property: &property, tape: events };
    let (shrunk, _) = failing.shrink(REPLAYS, interrupt);
    // What cannot be made simpler is kept as it was found.
    let (finding, tape, hash, least) = match shrunk {
        Ok(shrunk) => (shrunk.finding, shrunk.tape, shrunk.hash, shrunk.least),
        Err(_) => (finding, tape, hash, false),
    };
    let failure = Failed { spec: spec.clone(), strategy, seed: 0, finding, tape, hash, least };
    Ok((explored, Some(failure.keep(out)?)))
}

/// A failure that is not kept yet.
struct Failed {
    spec: Spec,
    strategy: Strategy,
    seed: u64,
    finding: Finding,
    tape: Vec<TapeLine>,
    hash: u64,
    least: bool,
}

impl Failed {
    fn keep(self, out: &Path) -> Result<Broken, Failure> {
        let Self { spec, strategy, seed, finding, tape, hash, least } = self;
        Failure::check_setup(&spec.named, &finding.property, &finding.message)?;
        let (steps, strategy) = (tape.len(), strategy.word());
        let found = Found { finding: &finding, tape, hash, strategy, seed };
        let seed_file = seed::write(&spec, found, out).map(|path| path.display().to_string());
        Ok(Broken { finding, steps, least, seed_file })
    }
}

/// The same, in virtual time, with the load, and with nothing going wrong.
fn in_time(spec: &Spec) -> Spec {
    Spec { time: Time::Timed, budgets: Budgets::NONE, ..spec.clone() }
}
