//! What a search found, as text and as JSON.

use std::fmt::Write;
use std::path::Path;

use blockyard_scenario::CRASH_STATES;
use blockyard_sim::{Exploration, Granularity, Sampled, TapeLine, Verdict};
use serde_json::{Map, Value, json};

use crate::args::Strategy;
use crate::explore::Search;
use crate::failure::Failure;
use crate::play::quoted;
use crate::report::Status;

/// What a search found, for people and for programs.
pub(crate) struct Outcome<'a> {
    pub search: &'a Search<'a>,
    pub exploration: Exploration,
    pub seconds: f64,
    /// Where the failure was kept, or why it could not be.
    pub seed_file: Option<Result<String, Failure>>,
    /// Where the search can be taken up again, or why it cannot be.
    pub checkpoint: Option<Result<String, Failure>>,
    /// In the checkpoint that it was to go on from nothing was left.
    pub had_ended: bool,
}

impl Outcome<'_> {
    fn exhausted(&self) -> bool {
        self.exploration.verdict == Verdict::Clean { exhausted: true }
    }

    /// The exit status it stands for.
    pub fn status(&self) -> Status {
        match &self.exploration.verdict {
            Verdict::Violated { .. } => Status::Violated,
            Verdict::Interrupted => Status::Interrupted,
            Verdict::Clean { exhausted: true } if !self.missed().is_empty() => Status::Violated,
            Verdict::Clean { exhausted: false } if self.search.exhaust => Status::Budget,
            Verdict::Clean { .. } => Status::Clean,
        }
    }

    /// Marks of the scenario that an exhausted space does not have: the scenario does not test what it says.
    fn missed(&self) -> Vec<&str> {
        let marks = &self.exploration.summary.marks;
        let asked = self.search.spec.script.marks.iter().map(String::as_str);
        asked.filter(|mark| self.exhausted() && !marks.contains(*mark)).collect()
    }

    /// Different traces, where they are known: plain search meets each several times and does not compare.
    fn traces(&self) -> Option<u64> {
        let summary = &self.exploration.summary;
        match self.search.strategy {
            Strategy::Dfs => None,
            Strategy::Reduced | Strategy::Sleep => Some(summary.executions - summary.blocked),
            _ => Some(summary.new_traces),
        }
    }

    /// The limit of executions, if that ended the search.
    fn bound(&self) -> Option<u64> {
        let limit = self.search.limits.executions;
        let stopped = self.exploration.verdict == Verdict::Clean { exhausted: false };
        Some(limit).filter(|limit| stopped && self.exploration.summary.executions >= *limit)
    }

    fn rate(&self) -> f64 {
        self.exploration.summary.executions as f64 / self.seconds.max(1e-9)
    }

    /// For people.
    pub fn as_text(&self) -> String {
        let mut text = String::new();
        let summary = &self.exploration.summary;
        let spec = self.search.spec;
        // A String takes everything.
        let _ = match &self.exploration.verdict {
            Verdict::Violated { finding, tape, .. } => {
                writeln!(text, "{}: {}\n", finding.property, finding.message)
                    .and_then(|()| text.write_str(&schedule(tape)))
            }
            Verdict::Clean { exhausted: true } => writeln!(
                text,
                "{}: exhausted: all {} executions are clean",
                spec.script.name, summary.executions
            ),
            Verdict::Clean { exhausted: false } => writeln!(
                text,
                "{}: clean so far; not exhausted{}",
                spec.script.name,
                if self.search.strategy.sampling().is_some() {
                    ""
                } else {
                    " (--exhaust goes on to the end)"
                }
            ),
            Verdict::Interrupted => {
                writeln!(text, "{}: interrupted; clean so far", spec.script.name)
            }
        };
        let _ = self.write_summary(&mut text);
        match &self.checkpoint {
            Some(Err(failure)) => {
                let _ = writeln!(text, "the checkpoint could not be written: {failure}");
            }
            Some(Ok(path)) if self.had_ended => {
                let _ =
                    writeln!(text, "checkpoint: {path}: this search had ended; nothing was run");
            }
            Some(Ok(path)) if self.exhausted() => {
                let _ = writeln!(text, "checkpoint: {path}: this search has ended");
            }
            Some(Ok(path)) => {
                let command = std::env::args_os().map(|word| quoted(Path::new(&word)));
                let command = command.collect::<Vec<_>>().join(" ");
                let _ = writeln!(text, "checkpoint: {path}\ngo on:      {command}");
            }
            None => {}
        }
        if let Some(Err(failure)) = &self.seed_file {
            let _ = writeln!(text, "the seed file could not be written: {failure}");
        }
        if let Some(Ok(path)) = &self.seed_file {
            let command = replay_command(Path::new(path));
            let _ = writeln!(text, "seed file: {path}\nreplay it:  {command}");
        }
        text
    }

    fn write_summary(&self, text: &mut String) -> std::fmt::Result {
        let summary = &self.exploration.summary;
        let strategy = self.search.strategy;
        let by = match self.search.spec.granularity {
            Granularity::Await => "",
            Granularity::Door => " by door",
        };
        write!(text, "strategy {}{by}: {} executions", strategy.word(), summary.executions)?;
        let traces = self.traces().map(|traces| format!("{traces} traces"));
        let blocked = strategy.sampling().is_none().then(|| format!("{} blocked", summary.blocked));
        let parts: Vec<String> = traces.into_iter().chain(blocked).collect();
        write!(text, " ({})", parts.join(", "))?;
        let (seconds, rate) = (self.seconds, self.rate());
        writeln!(text, ", {} steps, {seconds:.1} s, {rate:.0} executions/s", summary.steps)?;
        if summary.sampled.len() > 1 {
            for (strategy, sampled) in &summary.sampled {
                let (word, traces) = (strategy.word(), sampled.new_traces);
                writeln!(text, "  {word}: {} executions, {traces} new traces", sampled.executions)?;
            }
        }
        if let Some(states) = self.crash_states() {
            writeln!(text, "  {states} states that a power loss may leave were judged")?;
        }
        if let Some(bound) = self.bound() {
            writeln!(text, "stopped by the bound of {bound} executions (--max-executions)")?;
        }
        for mark in &self.search.spec.script.marks {
            let reached = summary.marks.contains(mark.as_str());
            writeln!(text, "  {} {mark}", if reached { "reached    " } else { "not reached" })?;
        }
        if !self.missed().is_empty() {
            writeln!(
                text,
                "the space is exhausted without its marks: the scenario does not test what it says"
            )?;
        }
        Ok(())
    }

    fn crash_states(&self) -> Option<u64> {
        self.exploration.summary.counts.get(CRASH_STATES).map(|[judged, ..]| *judged)
    }

    /// For programs.
    pub fn as_json(&self) -> Map<String, Value> {
        let summary = &self.exploration.summary;
        let verdict = match self.status() {
            Status::Violated => "violated",
            Status::Clean => "clean",
            Status::Interrupted => "interrupted",
            _ => "budget",
        };
        let sampled = summary.sampled.iter().map(|(strategy, sampled)| {
            let Sampled { executions, new_traces } = *sampled;
            let counts = json!({ "executions": executions, "new_traces": new_traces });
            (strategy.word().to_string(), counts)
        });
        let sampled: Map<_, _> = sampled.collect();
        let members = [
            ("scenario", json!(self.search.spec.script.name)),
            ("verdict", json!(verdict)),
            ("exhausted", json!(self.exhausted())),
            ("strategy", json!(self.search.strategy.word())),
            ("granularity", json!(self.search.spec.granularity.word())),
            ("executions", json!(summary.executions)),
            ("blocked", json!(summary.blocked)),
            ("traces", json!(self.traces())),
            ("sampled", json!(sampled)),
            ("steps", json!(summary.steps)),
            ("crash_states", json!(self.crash_states())),
            ("seconds", json!(self.seconds)),
            ("executions_per_second", json!(self.rate())),
            ("bound", json!(self.bound().map(|bound| json!({ "executions": bound })))),
            ("marks", json!(summary.marks)),
            ("marks_missed", json!(self.missed())),
            ("checkpoint", json!(self.checkpoint.as_ref().and_then(|path| path.as_ref().ok()))),
        ];
        let mut object: Map<_, _> = members.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        if !self.missed().is_empty() {
            let message = format!("exhausted without reaching: {}", self.missed().join("; "));
            object.insert("property".into(), json!("marks"));
            object.insert("message".into(), json!(message));
        }
        if self.had_ended {
            object.insert("had_ended".into(), json!(true));
        }
        if let Some(Err(failure)) = &self.checkpoint {
            object.insert("checkpoint_error".into(), json!(failure.to_string()));
        }
        if let Verdict::Violated { finding, tape, .. } = &self.exploration.verdict {
            object.insert("property".into(), json!(finding.property));
            object.insert("message".into(), json!(finding.message));
            let kept = self.seed_file.as_ref();
            object.insert("seed_file".into(), json!(kept.and_then(|kept| kept.as_ref().ok())));
            object.insert("steps_to_failure".into(), json!(tape.len()));
            if let Some(Err(failure)) = kept {
                object.insert("seed_file_error".into(), json!(failure.to_string()));
            }
        }
        object
    }
}

/// The command that replays a seed file, in whatever folder it is given.
pub(crate) fn replay_command(path: &Path) -> String {
    let anywhere = |path: &Path| quoted(&std::path::absolute(path).unwrap_or_else(|_| path.into()));
    let program = std::env::args_os().next().unwrap_or_else(|| "blockyard".into());
    let program = Path::new(&program);
    // A word is looked for on the path.
    let is_word = program.components().count() == 1;
    let program = if is_word { quoted(program) } else { anywhere(program) };
    format!("{program} replay {} --log", anywhere(path))
}

/// The tape for people: from the first step in which somebody starts a job, if one does, or from the first that is
/// marked. Marked steps have a star.
pub(crate) fn schedule(tape: &[TapeLine]) -> String {
    let is_marked = |line: &TapeLine| line.marks().next().is_some();
    let starts = |line: &TapeLine| {
        is_marked(line) || line.notes.iter().any(|note| note.starts_with("blockdev-mirror {"))
    };
    let first = tape.iter().position(starts).unwrap_or(0);
    let mut text = String::new();
    for (index, line) in tape.iter().enumerate().skip(first) {
        let star = if is_marked(line) { '*' } else { ' ' };
        // A String takes everything.
        let _ = writeln!(text, "{:>4}{star} {line}", index + 1);
    }
    text.push('\n');
    text
}
