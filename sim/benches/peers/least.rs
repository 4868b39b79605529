//! What becomes of failures, and what a second thread is worth.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::figure::{Figure, Row, Target};
use crate::machine::seconds;
use crate::shrinking::Case;

const FAILURES: usize = 100;

/// The failures, their shrunk tapes counted, and the longest time that one of them took.
fn shrunk() -> (BTreeMap<Vec<String>, u64>, f64) {
    let case = Case::new(("resurrected-filter", "replace=naive", 0));
    let mut tapes = BTreeMap::new();
    let mut longest: f64 = 0.0;
    for (finding, tape) in case.failures(FAILURES) {
        let began = seconds();
        let shrunk = case.shrink(&finding, tape);
        longest = longest.max(seconds() - began);
        let tape = shrunk.tape.into_iter().map(|line| line.event).collect();
        *tapes.entry(tape).or_default() += 1;
    }
    (tapes, longest)
}

fn end_alike() -> Figure {
    let (tapes, _) = shrunk();
    Figure::executions(tapes.into_values().max().unwrap_or(0), false)
}

fn longest() -> Figure {
    Figure { value: shrunk().1 * 1000.0, ..Figure::default() }
}

/// How much sooner two threads than one have searched a scenario; processes of their own, timed by the clock.
fn second_thread() -> Figure {
    let executable = std::env::current_exe().expect("this program has a file");
    let search = |threads: &str| {
        let began = Instant::now();
        let mut command = Command::new(&executable);
        let status = command.args(["--explore", threads]).stdout(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "the search ends well");
        began.elapsed().as_secs_f64()
    };
    let mut ratios: Vec<f64> = (0..5).map(|_| search("1") / search("2")).collect();
    ratios.sort_by(f64::total_cmp);
    Figure { value: ratios[ratios.len() / 2], ..Figure::default() }
}

/// What [`second_thread`] runs.
pub fn explore(threads: &str) -> u8 {
    let words = ["blockyard", "explore", "resurrected-filter", "--faults", "1", "--exhaust"];
    let words = words.into_iter().chain(["--threads", threads, "--json"]);
    blockyard::run(words.map(Into::into))
}

pub const ROWS: &[Row] = &[
    Row {
        name: "shrinking",
        what: "resurrected-filter, naive: of 100 seeds, end in one tape",
        target: Target::Of100(95),
        sides: [None, None, Some(end_alike)],
    },
    Row {
        name: "shrinking-time",
        what: "the same: the longest",
        target: Target::InMs(10_000),
        sides: [None, None, Some(longest)],
    },
    Row {
        name: "threads",
        what: "resurrected-filter, one fault: two threads against one",
        target: Target::Times(1.9),
        sides: [None, None, Some(second_thread)],
    },
];
