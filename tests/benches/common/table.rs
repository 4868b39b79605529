//! The table: each row's sides measured in turn, by processes of their own.

use std::process::{Command, ExitCode};

use super::figure::{Absent, Row, median};
use super::machine::Folder;

/// How often each side of a row is measured.
const TIMES: usize = 5;

const QEMU: usize = 0;
const OURS: usize = 1;

/// Does what the words of the command line say: prints the table of the rows whose names begin with one of them, or
/// measures one side of one row.
pub fn run(bench: &str, rows: &[&'static [Row]]) -> ExitCode {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let rows: Vec<&'static Row> = rows.iter().copied().flatten().collect();
    if let [flag, name, side] = &words[..]
        && flag == "--side"
    {
        let row = rows.iter().find(|row| row.name == name).expect("the parent names a row");
        match if side == "ours" { (row.ours)() } else { (row.qemu)() } {
            Ok(value) => println!("{value}"),
            Err(Absent(why)) => println!("absent {why}"),
        }
        return ExitCode::SUCCESS;
    }
    if !words.iter().all(|word| rows.iter().any(|row| row.name.starts_with(word))) {
        usage(bench, &rows);
        return ExitCode::from(u8::from(words != ["--help"]) * 2);
    }
    let wanted =
        |row: &&Row| words.is_empty() || words.iter().any(|word| row.name.starts_with(word));
    let folder = Folder::of_bench();
    table(rows.into_iter().filter(|row| wanted(row)));
    drop(folder);
    ExitCode::SUCCESS
}

fn usage(bench: &str, rows: &[&'static Row]) {
    println!(
        "usage: cargo bench -p blockyard-tests --bench {bench} [-- NAME...]\n\n\
         Prints a table: what is measured, the peer (QEMU, unless the row names another), ours, how many times less\n\
         or more ours is, the target, and whether ours meets it. `-`: absent, and below the table it says why. With\n\
         NAMEs, the rows whose names begin so:"
    );
    rows.iter().for_each(|row| println!("  {:<20} {}", row.name, row.what));
}

fn table(rows: impl Iterator<Item = &'static Row>) {
    let line = |what: &str, qemu: &str, ours: &str, ratio: &str, target: &str, met: &str| {
        println!("{what:<62} {qemu:>12} {ours:>12} {ratio:>7}  {target:<13} {met}");
    };
    line("", "peer", "ours", "ratio", "target", "met");
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
