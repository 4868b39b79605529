//! What a comparison found, as a table and as JSON. Nothing in it depends on how fast the machine is.

use std::fmt::Write;
use std::path::Path;

use blockyard_scenario::Script;
use serde_json::{Map, Value, json};

use super::figures::{Measured, percentile};
use super::{Broken, Column};
use crate::outcome::replay_command;
use crate::report::Status;
use crate::spec::design_words;

/// Designs side by side.
pub(super) struct Comparison<'a> {
    pub script: &'a Script,
    /// As they were given.
    pub seeds: &'a str,
    pub columns: Vec<Column>,
    /// Somebody had no more patience.
    pub interrupted: bool,
}

impl Comparison<'_> {
    pub fn status(&self) -> Status {
        match self.columns.iter().any(|column| column.broken.is_some()) {
            // Whatever is known: not all was compared.
            _ if self.interrupted => Status::Interrupted,
            true => Status::Violated,
            false => Status::Clean,
        }
    }

    /// For people.
    pub fn as_text(&self) -> String {
        let mut text = format!("{}: {}\n\n", self.script.name, self.script.about);
        let rows = rows();
        let label = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let cells = |column: &Column| rows.iter().map(|(_, cell)| cell(column)).collect();
        let columns: Vec<(&str, Vec<String>)> =
            self.columns.iter().map(|column| (column.name.as_str(), cells(column))).collect();
        let widths: Vec<usize> = columns
            .iter()
            .map(|(name, cells)| {
                cells.iter().map(String::len).chain([name.len()]).max().unwrap_or(0)
            })
            .collect();
        let mut line = |first: &str, cells: &mut dyn Iterator<Item = &str>| {
            let mut line = format!("{first:<label$}");
            for (cell, width) in cells.zip(&widths) {
                // A String takes everything.
                let _ = write!(line, "  {cell:<width$}");
            }
            text += line.trim_end();
            text.push('\n');
        };
        line("", &mut columns.iter().map(|(name, _)| *name));
        for (row, (label, _)) in rows.iter().enumerate() {
            line(label, &mut columns.iter().map(|(_, cells)| cells[row].as_str()));
        }
        let _ = writeln!(text, "\nfigures: runs in virtual time with the seeds {}", self.seeds);
        if self.interrupted {
            text += "interrupted: this is what is known so far\n";
        }
        for column in &self.columns {
            if let Some(broken) = &column.broken {
                text += &in_words(&column.name, broken);
            }
        }
        text
    }

    /// For programs.
    pub fn as_json(&self) -> Map<String, Value> {
        let verdict = match self.status() {
            Status::Violated => "violated",
            Status::Interrupted => "interrupted",
            _ => "clean",
        };
        let members = [
            ("scenario", json!(self.script.name)),
            ("parameters", json!(self.script.parameters)),
            ("seeds", json!(self.seeds)),
            ("verdict", json!(verdict)),
            ("designs", Value::from_iter(self.columns.iter().map(column_as_json))),
        ];
        members.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }
}

type Cell = fn(&Column) -> String;

fn rows() -> [(&'static str, Cell); 14] {
    let took: [Cell; 3] = [
        |column| time(percentile(&column.timed.took_ns(), 50)),
        |column| time(percentile(&column.timed.took_ns(), 99)),
        |column| time(percentile(&column.timed.took_ns(), 100)),
    ];
    [
        ("property broken", |column| match &column.broken {
            None => "none".into(),
            Some(broken) => broken.finding.property.clone(),
        }),
        ("  counterexample", |column| match &column.broken {
            None => "-".into(),
            Some(Broken { steps, least: true, .. }) => format!("{steps} steps, none is simpler"),
            Some(Broken { steps, .. }) => format!("{steps} steps"),
        }),
        ("explored", explored),
        ("timed runs", |column| {
            let Measured { runs, broken, .. } = column.timed;
            if broken == 0 { runs.to_string() } else { format!("{runs}, {broken} broken") }
        }),
        ("guest requests", |column| column.timed.took_ns().len().to_string()),
        ("guest latency p50", took[0]),
        ("              p99", took[1]),
        ("              max", took[2]),
        ("bytes by guests", |column| column.timed.guest_bytes().to_string()),
        ("bytes at disks", |column| column.timed.disk_bytes().to_string()),
        ("I/O amplification", |column| {
            column.timed.amplification().map_or("-".into(), |factor| format!("{factor:.2}"))
        }),
        ("bytes marked dirty", |column| {
            column.timed.marked.map_or("-".into(), |marked| marked.to_string())
        }),
        ("time to READY p50", |column| ready(&column.timed, 50)),
        ("              max", |column| ready(&column.timed, 100)),
    ]
}

fn explored(column: &Column) -> String {
    let explored = &column.explored;
    let count = explored.executions;
    let how_far = match &column.broken {
        _ if explored.exhausted => "all of them",
        _ if explored.interrupted => "interrupted",
        Some(_) if explored.broken => "up to the first",
        _ => "not all",
    };
    let s = if count == 1 { "" } else { "s" };
    format!("{count} execution{s}, {how_far}")
}

/// In three digits or more.
fn time(ns: Option<u64>) -> String {
    let Some(ns) = ns else { return "-".into() };
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    match units.into_iter().find(|(unit, _)| ns >= *unit) {
        Some((unit, word)) => format!("{:.2} {word}", ns as f64 / unit as f64),
        None => format!("{ns} ns"),
    }
}

fn ready(timed: &Measured, percent: usize) -> String {
    let Measured { ready_ns, never, .. } = timed;
    let runs = ready_ns.len() as u64 + never;
    match (percentile(ready_ns, percent), never) {
        (None, 0) => "-".into(),
        (None, never) => format!("never in {never} of {runs} runs"),
        (ready, 0) => time(ready),
        (ready, never) => format!("{}, never in {never} of {runs} runs", time(ready)),
    }
}

fn in_words(name: &str, broken: &Broken) -> String {
    let finding = &broken.finding;
    let mut text = format!("\n{name}: {}: {}\n", finding.property, finding.message);
    text += &match &broken.seed_file {
        Err(failure) => format!("the seed file could not be written: {failure}\n"),
        Ok(path) => {
            let command = replay_command(Path::new(path));
            format!("seed file: {path}\nreplay it:  {command}\n")
        }
    };
    text
}

fn column_as_json(column: &Column) -> Value {
    let Column { name, design, explored, broken, timed } = column;
    let mut object = json!({
        "name": name,
        "design": design_words(design).into_iter().collect::<Map<_, _>>(),
        "verdict": if broken.is_some() { "violated" } else if explored.interrupted { "interrupted" } else { "clean" },
        "exhausted": explored.exhausted,
        "executions": explored.executions,
        "timed": timed_as_json(timed),
    });
    if let (Some(broken), Value::Object(object)) = (broken, &mut object) {
        let Broken { finding, steps, least, seed_file } = broken;
        object.insert("property".into(), json!(finding.property));
        object.insert("message".into(), json!(finding.message));
        object.insert("steps_to_failure".into(), json!(steps));
        object.insert("least".into(), json!(least));
        object.insert("seed_file".into(), json!(seed_file.as_ref().ok()));
        if let Err(failure) = seed_file {
            object.insert("seed_file_error".into(), json!(failure.to_string()));
        }
    }
    object
}

fn timed_as_json(timed: &Measured) -> Value {
    let devices = timed.devices.iter().map(|(device, served)| {
        let figures = json!({
            "requests": served.took_ns.len(),
            "read": served.read,
            "written": served.written,
            "latency_ns": latency_as_json(&served.took_ns),
        });
        (device.clone(), figures)
    });
    let disks = timed.disks.iter().map(|(disk, traffic)| {
        (disk.clone(), json!({ "read": traffic.read, "written": traffic.written }))
    });
    let ready = &timed.ready_ns;
    json!({
        "runs": timed.runs,
        "broken": timed.broken,
        "latency_ns": latency_as_json(&timed.took_ns()),
        "guest_bytes": timed.guest_bytes(),
        "disk_bytes": timed.disk_bytes(),
        "amplification": timed.amplification(),
        "marked_bytes": timed.marked,
        "ready": {
            "runs": ready.len(),
            "never": timed.never,
            "p50_ns": percentile(ready, 50),
            "max_ns": percentile(ready, 100),
        },
        "devices": Value::Object(devices.collect()),
        "disks": Value::Object(disks.collect()),
    })
}

fn latency_as_json(sorted: &[u64]) -> Value {
    let of = |percent| percentile(sorted, percent);
    json!({ "p50": of(50), "p99": of(99), "max": of(100) })
}
