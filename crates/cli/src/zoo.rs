//! `blockyard zoo`: how long it takes to notice each known bug that is put back.
//!
//! Every bug is hunted in the same way, without being told what it is: in rounds, each twice as long as the one before,
//! of random runs of every built-in scenario, as it is and with more that may go wrong, and of generated scenarios, by
//! await and by door. At last no bug is put back, for as long as the longest hunt: what is found then is a false alarm,
//! and the other hunts prove nothing.

use std::fmt::Write;
use std::time::{Duration, Instant};

use blockyard_scenario::BUILTIN;
use blockyard_scenario::generate::{Generate, Plan};
use blockyard_sim::{Exploration, Granularity, Limits, Sampling, Summary, Verdict};
use blockyard_units::Mutant;
use serde_json::{Map, Value, json};

use crate::args::{ScenarioArgs, Strategy, ZooArgs};
use crate::explore::Search;
use crate::failure::Failure;
use crate::progress::{Interrupt, Progress, quietly};
use crate::report::{Output, Status};
use crate::spec::Spec;

/// Runs of each scenario in the first round.
const FIRST_ROUND: u64 = 4;
/// Generated scenarios for each run of a built-in one: some bugs need a rare one.
const GENERATED: u64 = 64;

/// What may go wrong beyond what a scenario says.
const FAMILIES: &str = "eio,eio-late,flush";

/// What needs images that no scenario has yet (snapshots, thousands of clusters, one that is being made, one with an
/// external data file), a disk that leaves rubbish where something was discarded, a recovery that makes a disk longer
/// again, a header's write that fails late, or who tells what of a bitmap was stored: the test `crashes` of the crate
/// `qcow2` hunts these.
const BY_TESTS: &[Mutant] = &[
    Mutant::Qcow2FlushSkipsDataFile,
    Mutant::Qcow2MadeNotFlushed,
    Mutant::Qcow2HeaderForgotten,
    Mutant::Qcow2ReleasesBeforeFlush,
    Mutant::Qcow2ShrinksOverDirty,
    Mutant::Qcow2ReftableGrowsOverDirty,
    Mutant::Qcow2SnapshotFreesFirst,
    Mutant::Qcow2SharesCopied,
    Mutant::Qcow2SnapshotOverDirty,
    Mutant::Qcow2L2CowFreesFirst,
    Mutant::Qcow2BitmapsDisownedLate,
    Mutant::BitmapStoreErrorFreesWrongClusters,
    Mutant::Qcow2AmendsOverDirty,
    Mutant::CbwTimeoutWraps,
];

/// What noticed a bug.
struct Noticed {
    property: String,
    scenario: String,
}

/// One bug's hunt.
struct Hunt {
    mutant: Option<Mutant>,
    noticed: Option<Noticed>,
    executions: u64,
    seconds: f64,
}

pub(crate) fn zoo(args: &ZooArgs, output: &Output) -> Result<Status, Failure> {
    let mutants: Vec<Mutant> = match &args.mutants[..] {
        [] => Mutant::ALL.iter().copied().filter(|mutant| !BY_TESTS.contains(mutant)).collect(),
        named => named
            .iter()
            .map(|word| word.parse().map_err(|e| Failure::usage(format!("mutant: {e}"))))
            .collect::<Result<_, _>>()?,
    };
    let interrupt = Interrupt::listen();
    let budget = Duration::from_secs(args.budget);
    let mut hunts = Vec::new();
    for mutant in mutants {
        let progress = Progress::new(mutant.word(), None);
        let hunt = quietly(|| hunt(Some(mutant), u64::MAX, budget, &interrupt, &progress));
        progress.finish();
        let hunt = hunt?;
        output.print_part(|| hunt.as_text());
        hunts.push(hunt);
        if interrupt.is_set() {
            break;
        }
    }
    let missed = hunts.iter().filter(|hunt| hunt.noticed.is_none()).count();
    let most = hunts.iter().map(|hunt| hunt.executions).max().unwrap_or_default();
    let progress = Progress::new("none", None);
    let control = quietly(|| hunt(None, most, budget, &interrupt, &progress));
    progress.finish();
    let control = control?;
    output.print_part(|| control.as_text());
    output.print(
        || format!("{} of {} noticed\n", hunts.len() - missed, hunts.len()),
        || {
            let all: Vec<Value> = hunts.iter().map(Hunt::as_json).collect();
            Map::from_iter([("mutants".into(), json!(all)), ("none".into(), control.as_json())])
        },
    );
    Ok(match (interrupt.is_set(), missed == 0 && control.noticed.is_none()) {
        (true, _) => Status::Interrupted,
        (false, true) => Status::Clean,
        (false, false) => Status::Violated,
    })
}

/// Hunts a bug until it is noticed, or `most` executions or the time are over.
fn hunt(
    mutant: Option<Mutant>,
    most: u64,
    budget: Duration,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<Hunt, Failure> {
    let began = Instant::now();
    let mut hunt = Hunt { mutant, noticed: None, executions: 0, seconds: 0.0 };
    let mut from = 0;
    let mut runs = FIRST_ROUND;
    loop {
        for spec in specs(mutant, from, runs)? {
            let limits = Limits { executions: u64::MAX, ..Limits::default() };
            let (strategy, seeds) = (Strategy::Portfolio, from..from + spec.runs);
            let spec = &spec.spec;
            let search = Search { spec, strategy, seeds, limits, exhaust: false, threads: 1 };
            let mut go_on = |summary: &Summary| {
                progress.show(hunt.executions + summary.executions);
                !interrupt.is_set() && began.elapsed() < budget
            };
            let Exploration { verdict, summary } =
                search.draw_here(Sampling::Portfolio, &mut go_on);
            hunt.executions += summary.executions;
            hunt.seconds = began.elapsed().as_secs_f64();
            match verdict {
                Verdict::Violated { finding, .. } => {
                    let scenario = spec.script.name.clone();
                    hunt.noticed = Some(Noticed { property: finding.property, scenario });
                    return Ok(hunt);
                }
                Verdict::Interrupted => return Ok(hunt),
                Verdict::Clean { .. } if hunt.executions >= most => return Ok(hunt),
                Verdict::Clean { .. } => {}
            }
        }
        from += runs;
        runs *= 2;
    }
}

/// A scenario of a round.
struct Trial {
    spec: Spec,
    runs: u64,
}

fn specs(
    mutant: Option<Mutant>,
    from: u64,
    runs: u64,
) -> Result<impl Iterator<Item = Trial>, Failure> {
    let change = |faults, crashes, families: Option<&str>| ScenarioArgs {
        mutant: mutant.map(|mutant| mutant.word().into()),
        faults,
        crashes,
        families: families.map(String::from),
        ..ScenarioArgs::default()
    };
    let ways = [change(None, None, None), change(Some(1), Some(1), Some(FAMILIES))];
    let mut trials = Vec::new();
    for (name, _) in BUILTIN {
        for way in &ways {
            trials.push(Trial { spec: Spec::read_simulated(name, way)?, runs });
        }
    }
    // Each of these is another scenario, so there are more of them.
    let generated = move |seed: u64| {
        let name = format!("generated-{seed}");
        let text = Plan::from_seed(seed).scenario(&name);
        let mut spec = Spec::of_text(&name, text, &ways[0]).ok()?;
        spec.granularity = [Granularity::Await, Granularity::Door][(seed % 2) as usize];
        Some(Trial { spec, runs: 1 })
    };
    let (first, last) = (GENERATED * from, GENERATED * (from + runs));
    Ok(trials.into_iter().chain((first..last).filter_map(generated)))
}

impl Hunt {
    fn word(&self) -> &'static str {
        self.mutant.map_or("none", Mutant::word)
    }

    fn as_text(&self) -> String {
        let Self { executions, seconds, .. } = self;
        let mut text = String::new();
        // A String takes everything.
        let _ = match &self.noticed {
            Some(Noticed { property, scenario }) => writeln!(
                text,
                "{:<44} {property} in {scenario}, {executions} executions, {seconds:.2} s",
                self.word()
            ),
            None => writeln!(
                text,
                "{:<44} NOT NOTICED in {executions} executions, {seconds:.2} s",
                self.word()
            ),
        };
        text
    }

    fn as_json(&self) -> Value {
        let noticed = self.noticed.as_ref();
        json!({
            "mutant": self.word(),
            "noticed": noticed.is_some(),
            "property": noticed.map(|noticed| &noticed.property),
            "scenario": noticed.map(|noticed| &noticed.scenario),
            "executions": self.executions,
            "seconds": self.seconds,
        })
    }
}
