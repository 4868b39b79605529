//! Ours beside QEMU: what a request costs from the backend down, what an edit of the graph costs, and what a node
//! weighs. Every figure is measured now, each side in processes of its own and in turn with the other, so that a
//! machine that is busy with something else is busy with both; a figure is the median of some goes.
//!
//! Differs: QEMU's requests are those of `qemu-img bench`, its edits go through the QMP pipe of a
//! `qemu-storage-daemon`; ours are made by a task on the host's executor, and by commands parsed from the same text.
//! Processor time is that of the whole process, in the system too, less what it takes to begin.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a bench measures the machine, and runs other tools

mod figure;
mod files;
mod graph;
mod layer;
mod machine;
mod nodes;
mod qemu;

use std::process::{Command, ExitCode};

use figure::{Absent, Row, median};

const USAGE: &str = "\
usage: cargo bench -p blockyard-tests --bench requests [-- --row NAME]

Prints a table: what is measured, QEMU, ours, how many times less or more ours is, the target, and whether ours meets
it. `-`: absent, and below the table it says why. --row NAME prints the rows whose names begin so; the names:";

/// How often each side of a row is measured.
const TIMES: usize = 5;

const QEMU: usize = 0;
const OURS: usize = 1;

fn rows() -> impl Iterator<Item = &'static Row> {
    [nodes::ROWS, files::ROWS, graph::ROWS].into_iter().flatten()
}

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] => table(rows()),
        ["--row", name] if rows().any(|row| row.name.starts_with(name)) => {
            table(rows().filter(|row| row.name.starts_with(name)));
        }
        ["--side", name, side] => {
            let row = rows().find(|row| row.name == name).expect("the parent names a row");
            let measure = if side == "ours" { row.ours } else { row.qemu };
            match measure() {
                Ok(value) => println!("{value}"),
                Err(Absent(why)) => println!("absent {why}"),
            }
        }
        _ => {
            println!("{USAGE}");
            rows().for_each(|row| println!("  {:<18} {}", row.name, row.what));
            return ExitCode::from(u8::from(words != ["--help"]) * 2);
        }
    }
    ExitCode::SUCCESS
}

fn table(rows: impl Iterator<Item = &'static Row>) {
    let line = |what: &str, qemu: &str, ours: &str, ratio: &str, target: &str, met: &str| {
        println!("{what:<62} {qemu:>12} {ours:>12} {ratio:>7}  {target:<13} {met}");
    };
    line("", "QEMU", "ours", "ratio", "target", "met");
    let mut absent = Vec::new();
    for row in rows {
        let sides = measured(row);
        let shown = |side: &Result<f64, Absent>| match side {
            Ok(value) => row.unit.format(*value),
            Err(_) => "-".into(),
        };
        let (qemu, ours) = (&sides[QEMU], &sides[OURS]);
        let ratio = match (qemu, ours) {
            (Ok(qemu), Ok(ours)) => format!("{:.2}", ours / qemu),
            _ => "-".into(),
        };
        let peer = qemu.as_ref().ok().copied();
        let met = match ours.as_ref().ok().and_then(|ours| row.target.is_met(*ours, peer)) {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let target = row.target.shown(row.unit);
        line(row.what, &shown(qemu), &shown(ours), &ratio, &target, met);
        for side in sides {
            absent.extend(side.err().map(|Absent(why)| format!("{}: {why}", row.name)));
        }
    }
    absent.iter().for_each(|line| println!("{line}"));
}

/// Both sides in turn, each time by another process of this program.
fn measured(row: &Row) -> [Result<f64, Absent>; 2] {
    let mut goes: [Result<Vec<f64>, Absent>; 2] = [Ok(Vec::new()), Ok(Vec::new())];
    for _ in 0..TIMES {
        for (side, name) in [(QEMU, "qemu"), (OURS, "ours")] {
            let Ok(values) = &mut goes[side] else { continue };
            match measure(row, name) {
                Ok(value) => values.push(value),
                Err(absent) => goes[side] = Err(absent),
            }
        }
    }
    goes.map(|values| values.map(median))
}

fn measure(row: &Row, side: &str) -> Result<f64, Absent> {
    let executable = std::env::current_exe().expect("this program has a file");
    let mut command = Command::new(executable);
    let output = command.args(["--side", row.name, side]).output();
    let output = output.expect("this program can be run again");
    let told = String::from_utf8_lossy(&output.stdout);
    if let Some(why) = told.trim().strip_prefix("absent ") {
        return Err(Absent(why.into()));
    }
    let complained = String::from_utf8_lossy(&output.stderr);
    Ok(told.trim().parse().unwrap_or_else(|_| panic!("{}, {side}: {told}{complained}", row.name)))
}
