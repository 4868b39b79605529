//! The table: each row's sides measured in turn, by processes of their own.

use std::process::{Command, ExitCode};

use super::figure::{Absent, Figure, Group, Row, median};
use super::machine::Folder;

/// How often each side of a row is measured.
const TIMES: usize = 5;

const QEMU: usize = 0;
const OURS: usize = 1;

/// What a go of one side measures: a row's one figure, or a group's.
enum Entry {
    Row(&'static Row),
    Group(&'static Group),
}

impl Entry {
    fn name(&self) -> &'static str {
        match self {
            Self::Row(row) => row.name,
            Self::Group(group) => group.name,
        }
    }

    fn figures(&self) -> Vec<Figure> {
        match self {
            Self::Row(row) => vec![Figure { what: row.what, unit: row.unit, target: row.target }],
            Self::Group(group) => group.figures.to_vec(),
        }
    }

    fn measure(&self, side: &str) -> Result<Vec<f64>, Absent> {
        let ours = side == "ours";
        match self {
            Self::Row(row) => if ours { (row.ours)() } else { (row.qemu)() }.map(|one| vec![one]),
            Self::Group(group) => {
                if ours {
                    (group.ours)()
                } else {
                    (group.qemu)()
                }
            }
        }
    }
}

/// Does what the words of the command line say: prints the table of the rows whose names begin with one of them, or
/// measures one side of one row.
pub fn run(bench: &str, rows: &[&'static [Row]], groups: &[&'static [Group]]) -> ExitCode {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let groups = groups.iter().copied().flatten().map(Entry::Group);
    let rows = rows.iter().copied().flatten().map(Entry::Row);
    let entries: Vec<Entry> = groups.chain(rows).collect();
    if let [flag, name, side] = &words[..]
        && flag == "--side"
    {
        let entry = entries.iter().find(|entry| entry.name() == name);
        match entry.expect("the parent names a row").measure(side) {
            Ok(values) => values.iter().for_each(|value| println!("{value}")),
            Err(Absent(why)) => println!("absent {why}"),
        }
        return ExitCode::SUCCESS;
    }
    if !words.iter().all(|word| entries.iter().any(|entry| entry.name().starts_with(word))) {
        usage(bench, &entries);
        return ExitCode::from(u8::from(words != ["--help"]) * 2);
    }
    let wanted = |entry: &&Entry| {
        words.is_empty() || words.iter().any(|word| entry.name().starts_with(word))
    };
    let folder = Folder::of_bench();
    table(entries.iter().filter(wanted));
    drop(folder);
    ExitCode::SUCCESS
}

fn usage(bench: &str, entries: &[Entry]) {
    println!(
        "usage: cargo bench -p blockyard-tests --bench {bench} [-- NAME...]\n\n\
         Prints a table: what is measured, the peer (QEMU, unless the row names another), ours, how many times less\n\
         or more ours is, the target, and whether ours meets it. `-`: absent, and below the table it says why. With\n\
         NAMEs, the rows whose names begin so:"
    );
    for entry in entries {
        for figure in entry.figures() {
            println!("  {:<20} {}", entry.name(), figure.what);
        }
    }
}

fn line([what, qemu, ours, ratio, target, met]: [&str; 6]) {
    println!("{what:<62} {qemu:>12} {ours:>12} {ratio:>7}  {target:<13} {met}");
}

fn table<'a>(entries: impl Iterator<Item = &'a Entry>) {
    line(["", "peer", "ours", "ratio", "target", "met"]);
    let mut absent = Vec::new();
    for entry in entries {
        let sides = measured(entry);
        for (index, figure) in entry.figures().into_iter().enumerate() {
            let of = |side: usize| Some(sides[side].as_ref().ok()?[index]);
            show(figure, of(QEMU), of(OURS));
        }
        for side in sides {
            absent.extend(side.err().map(|Absent(why)| format!("{}: {why}", entry.name())));
        }
    }
    absent.iter().for_each(|line| println!("{line}"));
}

fn show(Figure { what, unit, target }: Figure, peer: Option<f64>, ours: Option<f64>) {
    let shown = |value: Option<f64>| value.map_or("-".into(), |value| unit.format(value));
    let ratio = match (peer, ours) {
        (Some(peer), Some(ours)) => format!("{:.2}", ours / peer),
        _ => "-".into(),
    };
    let met = match ours.and_then(|ours| target.is_met(ours, peer)) {
        Some(true) => "yes",
        Some(false) => "NO",
        None => "-",
    };
    line([what, &shown(peer), &shown(ours), &ratio, &target.shown(unit), met]);
}

/// Both sides in turn, each time by another process of this program; of each figure the median.
fn measured(entry: &Entry) -> [Result<Vec<f64>, Absent>; 2] {
    let mut goes: [Result<Vec<Vec<f64>>, Absent>; 2] = [Ok(Vec::new()), Ok(Vec::new())];
    for _ in 0..TIMES {
        for (side, name) in [(QEMU, "qemu"), (OURS, "ours")] {
            let Ok(values) = &mut goes[side] else { continue };
            match measure(entry, name) {
                Ok(value) => values.push(value),
                Err(absent) => goes[side] = Err(absent),
            }
        }
    }
    let of = |goes: &[Vec<f64>], index: usize| median(goes.iter().map(|go| go[index]).collect());
    let figures = 0..entry.figures().len();
    goes.map(|goes| goes.map(|goes| figures.clone().map(|index| of(&goes, index)).collect()))
}

fn measure(entry: &Entry, side: &str) -> Result<Vec<f64>, Absent> {
    let executable = std::env::current_exe().expect("this program has a file");
    let mut command = Command::new(executable);
    let output = command.args(["--side", entry.name(), side]).output();
    let output = output.expect("this program can be run again");
    let told = String::from_utf8_lossy(&output.stdout);
    if let Some(why) = told.trim().strip_prefix("absent ") {
        return Err(Absent(why.into()));
    }
    let values: Vec<f64> = told.lines().filter_map(|line| line.parse().ok()).collect();
    let complained = String::from_utf8_lossy(&output.stderr);
    let whole = values.len() == entry.figures().len();
    assert!(whole, "{}, {side}: {told}{complained}", entry.name());
    Ok(values)
}
