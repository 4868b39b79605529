//! Compares the reduced searches with plain search on many generated programs.
//!
//! `cargo run --release -p blockyard-sim --example soundness -- [--programs N] [--from N] [--by-door]`
//! prints each program on which they differ, the first of them made smaller, and a table; it ends with code 1 if there
//! were any.

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use blockyard_sim::{Granularity, Reduction};
use common::compare::{Compared, compare, smallest, tapes, truly};
use common::programs::{Tasks, generate_for};

const REDUCTIONS: &[(&str, Reduction)] =
    &[("source sets", Reduction::SourceSets), ("optimal", Reduction::Optimal)];

/// How often progress is told.
const TELL: u64 = 5_000;

#[derive(Default)]
struct Table {
    compared: u64,
    skipped: u64,
    failures: u64,
    /// Those with 20 traces or more.
    large: u64,
    traces: u64,
    plain: u64,
    blocked: BTreeMap<&'static str, u64>,
    primitives: BTreeMap<&'static str, u64>,
}

impl Table {
    fn enter(&mut self, tasks: &Tasks, compared: Option<Compared>) {
        let Some(compared) = compared else {
            self.skipped += 1;
            return;
        };
        self.compared += 1;
        self.large += u64::from(compared.traces >= 20);
        self.traces += compared.traces as u64;
        self.plain += compared.plain;
        for (reduction, blocked) in compared.blocked {
            *self.blocked.entry(reduction).or_default() += blocked;
        }
        let primitives: BTreeSet<_> = tasks.iter().flatten().map(|o| o.primitive()).collect();
        for primitive in primitives {
            *self.primitives.entry(primitive).or_default() += 1;
        }
    }

    fn print(&self) {
        println!("programs compared       {:>10}", self.compared);
        println!("skipped over the cap    {:>10}", self.skipped);
        println!("with 20 traces or more  {:>9}%", self.large * 100 / self.compared.max(1));
        println!("traces                  {:>10}", self.traces);
        println!("plain executions        {:>10}", self.plain);
        for (reduction, blocked) in &self.blocked {
            println!("blocked, {reduction:<14} {blocked:>10}");
        }
        for (primitive, programs) in &self.primitives {
            println!("with {primitive:<18} {programs:>10}");
        }
        println!("failures                {:>10}", self.failures);
    }
}

fn main() -> ExitCode {
    let (mut programs, mut from) = (100_000, 0);
    let mut arguments = std::env::args().skip(1);
    let mut granularity = Granularity::Await;
    while let Some(name) = arguments.next() {
        if name == "--by-door" {
            granularity = Granularity::Door;
            continue;
        }
        let number = arguments.next().and_then(|value| value.parse().ok());
        match (name.as_str(), number) {
            ("--programs", Some(number)) => programs = number,
            ("--from", Some(number)) => from = number,
            _ => {
                eprintln!("usage: soundness [--programs N] [--from N] [--by-door]");
                return ExitCode::from(2);
            }
        }
    }
    let mut table = Table::default();
    for number in from..from + programs {
        let tasks = generate_for(number, granularity);
        match compare(number, &tasks, granularity, REDUCTIONS) {
            Ok(compared) => table.enter(&tasks, compared),
            Err(differs) => {
                println!("program {number}: {differs}\n  {tasks:?}");
                if table.failures == 0 {
                    print_smallest(number, tasks, granularity);
                }
                table.failures += 1;
            }
        }
        if (number - from + 1).is_multiple_of(TELL) {
            eprintln!("{} programs, {} failures", number - from + 1, table.failures);
        }
    }
    table.print();
    if table.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The program made smaller, and one execution of each trace that a reduced search misses.
fn print_smallest(number: u64, tasks: Tasks, granularity: Granularity) {
    let (tasks, differs) = smallest(number, tasks, granularity, REDUCTIONS);
    println!("made smaller: {differs}\n  {tasks:?}");
    let all = tapes(number, &tasks, granularity, Reduction::Plain, &truly);
    for (name, reduction) in REDUCTIONS {
        let found = tapes(number, &tasks, granularity, *reduction, &truly);
        for (_, tape) in all.iter().filter(|(trace, _)| !found.contains_key(trace)) {
            println!("missing, {name}:");
            tape.iter().for_each(|line| println!("  {line}"));
        }
    }
}
