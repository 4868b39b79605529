//! `blockyard replay`.

use std::fmt::Write;
use std::path::Path;

use blockyard_sim::{Divergence, Explorer, Outcome, Report, Summary, TapeLine};
use serde_json::{Map, Value, json};

use crate::args::ReplayArgs;
use crate::failure::Failure;
use crate::html::{self, Head};
use crate::outcome::schedule;
use crate::progress::quietly;
use crate::report::{Output, Status};
use crate::seed::{self, Kept, put};

pub(crate) fn replay(args: &ReplayArgs, output: &Output) -> Result<Status, Failure> {
    let kept = seed::read(&args.seed_file, args.scenario.as_deref())?;
    let (report, mut tape) = run(&kept);
    if let Outcome::Diverged(divergence) = &report.outcome {
        return Err(diverged(&args.seed_file, &kept, divergence));
    }
    let again =
        matches!(&report.outcome, Outcome::Violated(finding) if finding.property == kept.property);
    let same_hash = kept.hash == report.hash;
    if same_hash {
        // What shrinking found out about this very run is still so.
        for (line, kept) in tape.iter_mut().zip(&kept.file.tape) {
            line.notes.extend(kept.marks().cloned());
        }
    }
    let replayed = Replayed { kept: &kept, report: &report, tape: &tape, again, same_hash };
    if let Some(path) = &args.html {
        put(path, &replayed.as_html())?;
    }
    output.print(|| replayed.as_text(args.log), || replayed.as_json());
    Ok(match report.outcome {
        Outcome::Violated(_) => Status::Violated,
        _ => Status::Clean,
    })
}

/// Why the tape of the file at `path` does not fit.
pub(crate) fn diverged(path: &Path, kept: &Kept, divergence: &Divergence) -> Failure {
    let otherwise = "the code, or a head of the file, has changed";
    let why = if kept.changed { "the scenario has changed" } else { otherwise };
    Failure::file(path, format!("{why}; the replay diverged at {divergence}"))
}

fn run(kept: &Kept) -> (Report, Vec<TapeLine>) {
    let program = kept.spec.program();
    let mut go_on = |_: &Summary| true;
    let limits = kept.spec.limits();
    let mut explorer = Explorer::new(&program, kept.setup(), limits, &mut go_on);
    quietly(|| explorer.replay(kept.events()))
}

struct Replayed<'a> {
    kept: &'a Kept,
    report: &'a Report,
    tape: &'a [TapeLine],
    /// The property that the file names was broken.
    again: bool,
    same_hash: bool,
}

impl Replayed<'_> {
    fn as_text(&self, log: bool) -> String {
        let mut text = String::new();
        let then = &self.kept.property;
        // A String takes everything.
        let _ = match &self.report.outcome {
            Outcome::Violated(finding) => {
                let how = match self.again {
                    true => "the same property".into(),
                    false => format!("another property than then: the file says {then}"),
                };
                writeln!(text, "{}: {} ({how})", finding.property, finding.message)
            }
            _ => writeln!(text, "nothing broken: the failure of {then} is not there any more"),
        };
        let same = if self.same_hash { "as then" } else { "another than then" };
        let _ =
            writeln!(text, "steps {}, hash {:016x} ({same})", self.report.steps, self.report.hash);
        if self.kept.changed {
            text += "the scenario has changed since; the tape still fits\n";
        }
        if log {
            text += "\n";
            text += &schedule(self.tape);
        }
        text
    }

    fn as_html(&self) -> String {
        let verdict = match &self.report.outcome {
            Outcome::Violated(finding) => format!("{}: {}", finding.property, finding.message),
            _ => "nothing broken".into(),
        };
        let Kept { file, spec, .. } = self.kept;
        html::page(&Head { title: &spec.named, verdict: &verdict, facts: &file.heads }, self.tape)
    }

    fn as_json(&self) -> Map<String, Value> {
        let (verdict, property, message) = match &self.report.outcome {
            Outcome::Violated(finding) => {
                ("violated", json!(finding.property), json!(finding.message))
            }
            _ => ("clean", Value::Null, Value::Null),
        };
        let members = [
            ("verdict", json!(verdict)),
            ("property", property),
            ("message", message),
            ("steps", json!(self.report.steps)),
            ("hash", json!(format!("{:016x}", self.report.hash))),
            ("same_hash", json!(self.same_hash)),
            ("same_property", json!(self.again)),
            ("property_then", json!(self.kept.property)),
        ];
        members.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }
}
