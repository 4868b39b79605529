//! `blockyard run --on qemu` and `--on all`: a scenario in turns on a real `qemu-storage-daemon`, and on our own layer
//! beside it.
//!
//! Invariant `nothing-stays`: the daemon has ended when the command has, and images that a failure leaves half made go.

mod images;
mod ours;
mod schema;
mod theirs;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use blockyard_host::Host;
use blockyard_peer::PeerError;
use blockyard_scenario::turns::{self, Broken, Difference, Played, Side};
use blockyard_units::Design;
use serde_json::{Map, Value, json};

use crate::args::{Ground, RunArgs};
use crate::failure::Failure;
use crate::files::{Images, Made};
use crate::play::object;
use crate::progress::Interrupt;
use crate::report::{Output, Status};
use crate::spec::Spec;
use ours::Ours;
use theirs::Theirs;

/// Where our decisions are QEMU's, unless somebody asks for others.
const AS_QEMU: &[(&str, &str)] = &[("pivot", "replace-node"), ("replace", "parents")];

/// The property that two layers which differ break.
const PROPERTY: &str = "same-everywhere";

pub(crate) fn play(args: &RunArgs, spec: Spec, output: &Output) -> Result<Status, Failure> {
    if args.hold.is_some() {
        return Err(Failure::usage("--hold: nothing goes on in turns; use --on files"));
    }
    let interrupt = Interrupt::listen();
    let both = args.on == Ground::All;
    let folder = |name: &str| if both { args.dir.join(name) } else { args.dir.clone() };
    let dirs: Vec<PathBuf> = match both {
        true => vec![folder("files"), folder("qemu")],
        false => vec![folder("qemu")],
    };
    let images = dirs.iter().map(|dir| Images::of(&spec.script, dir));
    let images: Vec<Images> = images.collect::<Result<_, _>>()?;
    let ids = turns::devices(&spec.script);
    let theirs = Theirs::start(images[images.len() - 1].clone(), ids, interrupt);
    let theirs = match theirs {
        Ok(theirs) => theirs,
        Err(PeerError::Stopped) => {
            let said = || object([("verdict", json!("interrupted"))]);
            output.print(|| "interrupted before anything was played\n".into(), said);
            return Ok(Status::Interrupted);
        }
        Err(error) => return Err(Failure::usage(error.to_string())),
    };
    let named = &spec.named;
    if let Some(why) = turns::refused(&spec.script, &theirs) {
        return Err(Failure::usage(format!("scenario {named}: {why}")));
    }
    let host =
        Host::new(1).map_err(|error| Failure::usage(format!("cannot start threads: {error}")))?;
    let design = as_qemu(args, spec.design)?;
    let run = Run { spec, images, dirs, seed: args.seed, host, interrupt, design };
    run.play(theirs, output)
}

fn as_qemu(args: &RunArgs, mut design: Design) -> Result<Design, Failure> {
    for (key, value) in AS_QEMU {
        let chosen = |word: &String| word.split('=').next() == Some(key);
        if !args.change.designs.iter().any(chosen) {
            design.set(key, value).map_err(|error| Failure::usage(error.to_string()))?;
        }
    }
    Ok(design)
}

struct Run {
    spec: Spec,
    /// Of each side; QEMU's are the last.
    images: Vec<Images>,
    dirs: Vec<PathBuf>,
    seed: u64,
    host: Host,
    interrupt: Interrupt,
    design: Design,
}

struct Outcome {
    status: Status,
    seconds: f64,
    version: String,
    played: Played,
    /// What is broken, if something is.
    message: Option<String>,
}

impl Run {
    fn both(&self) -> bool {
        self.images.len() > 1
    }

    fn play(&self, theirs: Theirs, output: &Output) -> Result<Status, Failure> {
        let began = Instant::now();
        let mut made = Vec::new();
        let mut whole = true;
        for (images, dir) in self.images.iter().zip(&self.dirs) {
            let one = images.make(&self.spec.script, dir, &self.host, &self.interrupt);
            let one = one.inspect_err(|_| made.iter().rev().for_each(Made::remove))?;
            whole &= one.whole;
            made.push(one);
        }
        let version = theirs.version().to_string();
        let played = if whole { self.play_sides(theirs) } else { Err(Broken::Interrupted) };
        let outcome = self.judge(played, version, began);
        let outcome = outcome.inspect_err(|_| made.iter().rev().for_each(Made::remove))?;
        output.print(|| self.as_text(&outcome), || self.as_json(&outcome));
        Ok(outcome.status)
    }

    fn play_sides(&self, theirs: Theirs) -> Result<Played, Broken> {
        let mut sides: Vec<Box<dyn Side + '_>> = Vec::new();
        if self.both() {
            let images = self.images[0].clone();
            sides.push(Box::new(Ours::new(&self.host, self.design, images, &self.interrupt)));
        }
        sides.push(Box::new(theirs));
        let mut played = turns::play(&self.spec.script, &mut sides, self.seed)?;
        for side in &mut sides {
            side.close()?;
        }
        drop(sides);
        if let [ours, theirs] = &self.images[..] {
            let found = images::compare(&self.spec.script, ours, theirs, self.interrupt)?;
            played.differences.extend(found);
        }
        Ok(played)
    }

    /// # Errors
    /// The scenario is wrong, or QEMU does not work: then nothing is known.
    fn judge(
        &self,
        played: Result<Played, Broken>,
        version: String,
        began: Instant,
    ) -> Result<Outcome, Failure> {
        let seconds = began.elapsed().as_secs_f64();
        let outcome =
            |status, played, message| Outcome { status, seconds, version, played, message };
        let played = match played {
            Ok(played) => played,
            Err(Broken::Interrupted) => {
                return Ok(outcome(Status::Interrupted, Played::default(), None));
            }
            Err(Broken::Failed("files", why)) => {
                let message = format!("progress: files: {why}");
                return Ok(outcome(Status::Violated, Played::default(), Some(message)));
            }
            Err(Broken::Failed(side, why)) => {
                return Err(Failure::usage(format!("{side}: {why}")));
            }
        };
        if let Some(message) = &played.unexpected {
            Failure::check_setup(&self.spec.named, "script", message)?;
        }
        let unexpected = played.unexpected.as_ref().map(|why| format!("script: {why}"));
        let count = played.differences.iter().filter(|found| found.expected.is_none()).count();
        let differ = (count > 0).then(|| format!("{PROPERTY}: {count} differences"));
        let waiting = (!played.waiting.is_empty())
            .then(|| format!("progress: {}", played.waiting.join(", ")));
        let message = differ.or(unexpected).or(waiting);
        let status = if played.is_clean() { Status::Clean } else { Status::Violated };
        Ok(outcome(status, played, message))
    }

    fn as_text(&self, outcome: &Outcome) -> String {
        let mut text = String::new();
        // A String takes everything.
        let _ = self.write_text(&mut text, outcome);
        text
    }

    fn write_text(&self, text: &mut String, outcome: &Outcome) -> std::fmt::Result {
        let Outcome { status, seconds, version, played, message } = outcome;
        let on = if self.both() { "files and qemu-storage-daemon" } else { "qemu-storage-daemon" };
        let name = &self.spec.script.name;
        let verdict = match (status, message) {
            (Status::Interrupted, _) => "interrupted".to_string(),
            (_, Some(message)) => message.clone(),
            (_, None) if self.both() => "no difference but those expected".to_string(),
            (_, None) => "nothing broken".to_string(),
        };
        let Played { steps, events, .. } = played;
        writeln!(
            text,
            "{name} on {on} {version}: {verdict}; {steps} steps, {events} events, {seconds:.1} s"
        )?;
        for difference in &played.differences {
            writeln!(text, "difference: {difference}")?;
        }
        if let Some(why) = &played.unexpected {
            writeln!(text, "not as the scenario says: {why}")?;
        }
        played.waiting.iter().try_for_each(|who| writeln!(text, "for ever: {who}"))?;
        writeln!(text, "in the end:")?;
        played.seen.iter().try_for_each(|line| writeln!(text, "  {line}"))?;
        writeln!(text, "images are kept:")?;
        let mut paths = self.images.iter().flat_map(Images::paths);
        paths.try_for_each(|path| writeln!(text, "  {}", path.display()))
    }

    fn as_json(&self, outcome: &Outcome) -> Map<String, Value> {
        let Outcome { status, seconds, version, played, message } = outcome;
        let verdict = match status {
            Status::Violated => "violated",
            Status::Interrupted => "interrupted",
            _ => "clean",
        };
        let difference = |found: &Difference| {
            let said = found.said.iter().map(|(side, said)| (side.clone(), json!(said)));
            let expected =
                found.expected.map(|why| json!({ "why": why.why, "source": why.source }));
            json!({
                "step": found.step, "what": found.what, "said": Value::Object(said.collect()),
                "expected": expected,
            })
        };
        let (property, message) = match message.as_ref().and_then(|text| text.split_once(": ")) {
            Some((property, message)) => (Some(property), Some(message)),
            None => (None, None),
        };
        let images = self.images.iter().flat_map(Images::paths);
        object([
            ("scenario", json!(self.spec.script.name)),
            ("verdict", json!(verdict)),
            ("on", json!(if self.both() { "all" } else { "qemu" })),
            ("qemu", json!(version)),
            ("seed", json!(self.seed)),
            ("seconds", json!(seconds)),
            ("steps", json!(played.steps)),
            ("events", json!(played.events)),
            ("differences", played.differences.iter().map(difference).collect()),
            ("unexpected", json!(played.unexpected)),
            ("waiting", json!(played.waiting)),
            ("seen", json!(played.seen)),
            ("images", images.map(|path| path.display().to_string()).collect()),
            ("property", json!(property)),
            ("message", json!(message)),
        ])
    }
}
