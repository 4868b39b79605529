//! Whether shrinking ends in one tape, wherever it begins, and how long it takes: for scenarios of the whole block
//! layer with a known bug each, the first hundred failing seeds of random search are shrunk, and what came out is
//! counted.
//!
//! `cargo bench -p blockyard-sim --bench shrinking -- [--seeds N] [--tapes] [WORD]` runs the cases whose scenario or
//! bug contains the word; `--tapes` prints the tapes. Traces are told apart by happens-before, tapes by their text; the
//! time is that of one core.

#![allow(clippy::disallowed_types)] // a bench measures the machine's time

mod case;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use blockyard_sim::{Cost, Limits, Replay, Shrunk, Traced, World, run_once};

use case::Case;

/// Scenario, `KEY=VALUE` of the design or a mutant, and faults.
const CASES: [(&str, &str, u32); 14] = [
    ("resurrected-filter", "replace=naive", 0),
    ("mirror-passive", "mirror-pivot-undrained-window", 0),
    ("mirror-passive", "mirror-converge-check-outside-drain", 0),
    ("mirror-active", "mirror-active-clears-partial-chunk", 0),
    ("mirror-passive", "mirror-marks-before-io", 0),
    ("mirror-passive", "drain-skips-in-flight", 0),
    ("resurrected-filter", "drain-end-forgets-parked", 0),
    ("mirror-active", "pivot-keeps-filter-parent", 0),
    ("mirror-passive", "request-end-skips-failed", 1),
    ("mirror-keeps-upper-filter", "write-acknowledged-early", 0),
    ("mirror-keeps-upper-filter", "mirror-marks-before-io", 0),
    ("resurrected-filter", "mirror-marks-before-io", 0),
    ("mirror-keeps-upper-filter", "request-end-skips-failed", 1),
    ("resurrected-filter", "request-end-skips-failed", 1),
];

/// What this thread has computed for; where the system does not tell, the time since `began`.
fn cpu_time(began: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let told = told.and_then(|told| told.split(' ').next()?.parse().ok());
    told.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

fn trace(case: &Case, shrunk: &Shrunk) -> u64 {
    let tape = shrunk.tape.iter().map(|line| line.event.clone()).collect();
    let mut world = World::new(&case.setup.images, case.setup.budgets, case.setup.seed);
    let mut replay = Replay::new(tape);
    let mut traced = Traced::new(&mut replay);
    run_once(&mut world, &case.program, &mut traced, Limits::default(), &mut |_, _| ());
    traced.hash()
}

type Forms = BTreeMap<(String, Cost, Vec<String>), usize>;

fn row(case: (&str, &str, u32), count: usize, tapes: bool) {
    let (scenario, bug, faults) = case;
    let case = Case::new(case);
    let failures = case.failures(count);
    let began = Instant::now();
    let mut times = Vec::new();
    let mut replays = Vec::new();
    let mut least = 0;
    let mut forms = Forms::new();
    let mut traces: BTreeMap<u64, usize> = BTreeMap::new();
    for (finding, tape) in failures {
        let before = cpu_time(began);
        let shrunk = case.shrink(&finding, tape);
        times.push(cpu_time(began) - before);
        replays.push(shrunk.replays);
        least += usize::from(shrunk.least);
        *traces.entry(trace(&case, &shrunk)).or_default() += 1;
        let lines = shrunk.tape.iter().map(ToString::to_string).collect();
        *forms.entry((finding.property, shrunk.cost_after, lines)).or_default() += 1;
    }
    times.sort();
    replays.sort();
    let most = |counts: &mut dyn Iterator<Item = usize>| counts.max().unwrap_or(0);
    println!(
        "{:<60} {:>4} {:>5} {:>6} {:>7} {:>7} {:>7} {:>8} {:>8.2} {:>8.2} {:>8}",
        format!("{scenario} {bug} {faults}"),
        times.len(),
        least,
        traces.len(),
        most(&mut traces.values().copied()),
        forms.len(),
        most(&mut forms.values().copied()),
        replays[replays.len() / 2],
        times[times.len() / 2].as_secs_f64(),
        times[times.len() - 1].as_secs_f64(),
        replays[replays.len() - 1],
    );
    if !tapes {
        return;
    }
    let mut forms: Vec<_> = forms.into_iter().collect();
    forms.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    for ((property, cost, lines), number) in forms {
        println!("{number} times {property}; {cost}");
        lines.iter().for_each(|line| println!("    {line}"));
    }
}

fn main() {
    let mut count = 100;
    let mut tapes = false;
    let mut wanted = String::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seeds" => {
                let number = arguments.next().and_then(|number| number.parse().ok());
                count = number.expect("--seeds: a number is needed");
            }
            "--tapes" => tapes = true,
            // Cargo says so to every bench.
            "--bench" => {}
            _ => wanted = argument,
        }
    }
    println!(
        "{:<60} {:>4} {:>5} {:>6} {:>7} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8}",
        "scenario, bug, faults",
        "of",
        "least",
        "traces",
        "biggest",
        "tapes",
        "biggest",
        "replays",
        "median s",
        "worst s",
        "replays"
    );
    for case in CASES.iter().filter(|case| case.0.contains(&wanted) || case.1.contains(&wanted)) {
        row(*case, count, tapes);
    }
}
