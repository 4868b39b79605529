//! Ours beside loom and shuttle: how few executions the same programs take, how fast they run, and what of ours the
//! others have no words for. Every figure is measured now, each in a process of its own, so that processor time and
//! peak resident size are those of nothing else.
//!
//! Differs: the others' programs are threads over locks and atomics, ours are tasks that end a step where theirs may be
//! preempted. Their searches end at a number of executions; a figure that was
//! ended so begins with `>`.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a bench measures the machine, and runs other tools

mod bugs;
mod counts;
mod figure;
mod least;
mod long;
mod machine;
mod memory;
mod programs;
mod rates;
#[path = "../../tests/common/recovering.rs"]
#[allow(dead_code)] // the tests demand more
mod recovering;
mod requests;
mod search;
#[path = "../shrinking/case.rs"]
mod shrinking;
mod stack;
mod storage;
mod with_loom;
mod with_shuttle;

use std::process::{Command, ExitCode};

use figure::{Figure, Row, Target};

const USAGE: &str = "\
usage: cargo bench -p blockyard-sim --bench peers [-- --row NAME]

Prints a table: what is measured, loom, shuttle, ours, the target, and whether ours meets it. Rates are per second of
processor time; one of several programs is their geometric mean, and each stands below it. `>`: ended there, `-`: that
cannot be said there. --row NAME prints one row only; the names:";

/// Every row, in the order of the table.
fn rows() -> impl Iterator<Item = &'static Row> {
    [
        counts::ROWS,
        bugs::ROWS,
        rates::ROWS,
        requests::ROWS,
        storage::ROWS,
        memory::ROWS,
        least::ROWS,
    ]
    .into_iter()
    .flatten()
}

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let named = |name: &str| rows().find(|row| row.name == name);
    match words[..] {
        [] => table(rows()),
        ["--row", name] if named(name).is_some() => table(named(name)),
        ["--side", name, side] => {
            let measure =
                named(name).and_then(|row| side.parse().map(|side: usize| row.sides[side]).ok());
            machine::finish(measure.flatten().expect("the parent names a row and a side")());
        }
        ["--explore", threads] => return ExitCode::from(least::explore(threads)),
        _ => {
            println!("{USAGE}");
            rows().for_each(|row| println!("  {:<22} {}", row.name, row.what));
            return ExitCode::from(u8::from(words != ["--help"]) * 2);
        }
    }
    ExitCode::SUCCESS
}

fn table(rows: impl IntoIterator<Item = &'static Row>) {
    let line = |what: &str, [loom, shuttle, ours]: [String; 3], target: &str, met: &str| {
        println!("{what:<58} {loom:>12} {shuttle:>12} {ours:>14}  {target:<14} {met}");
    };
    line("", ["loom", "shuttle", "ours"].map(String::from), "target", "met");
    for row in rows {
        let sides = [0, 1, 2].map(|side| row.sides[side].map(|_| measured(row, side)));
        let shown = |figure: &Option<Figure>| match figure {
            Some(figure) => figure.shown(row.target),
            None => "-".into(),
        };
        let [_, _, ours] = &sides;
        let met = ours.as_ref().is_some_and(|ours| row.target.is_met(ours));
        let met = if met { "yes" } else { "NO" };
        line(row.what, sides.each_ref().map(shown), &row.target.to_string(), met);
        let Some(ours) = ours else { continue };
        for (name, _) in &ours.parts {
            let part = |figure: &Option<Figure>| {
                let part = figure.as_ref().and_then(|figure| figure.part(name));
                part.map_or_else(String::new, |value| Target::AtLeast(0).format(value))
            };
            line(&format!("    {name}"), sides.each_ref().map(part), "", "");
        }
    }
}

/// One side of a row, measured by another process of this program.
fn measured(row: &Row, side: usize) -> Figure {
    let executable = std::env::current_exe().expect("this program has a file");
    let mut command = Command::new(executable);
    command.args(["--side", row.name, &side.to_string()]);
    let output = command.output().expect("this program can be run again");
    let [told, complained] =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    told.parse().unwrap_or_else(|()| panic!("{}, side {side}: {told}{complained}", row.name))
}
