//! `blockyard run`.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use blockyard_host::Host;
use blockyard_models::{Property, Violation};
use blockyard_scenario::{Ended, Moment, Stage};
use blockyard_sim::Limits;
use blockyard_sync::door::world::catch_panic;
use blockyard_sync::first_of;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use crate::args::{Ground, RunArgs, Strategy};
use crate::beside;
use crate::explore::{Search, make_directory};
use crate::failure::Failure;
use crate::files::{Images, Log, OnFiles};
use crate::progress::{Interrupt, quietly};
use crate::report::{Output, Status};
use crate::spec::Spec;

/// How often a run on files looks up.
const LOOK_NS: u64 = 50_000_000;
/// After a job's end: how long actors may go on before they wait for what never comes.
const WAIT_NS: u64 = 60_000_000_000;
/// How long what is still going on when the actors have ended may take to come to rest.
const REST_NS: u64 = 10_000_000_000;

pub(crate) fn play(args: &RunArgs, out: &Path, output: &Output) -> Result<Status, Failure> {
    match args.on {
        Ground::Sim => {
            let spec = Spec::read_simulated(&args.script, &args.change)?;
            play_simulated(args, &spec, out, output)
        }
        Ground::Files => {
            check_change(args)?;
            play_on_files(args, &Spec::read(&args.script, &args.change)?, output)
        }
        Ground::Qemu | Ground::All => {
            check_change(args)?;
            beside::play(args, Spec::read(&args.script, &args.change)?, output)
        }
    }
}

fn play_simulated(
    args: &RunArgs,
    spec: &Spec,
    out: &Path,
    output: &Output,
) -> Result<Status, Failure> {
    if args.hold.is_some() {
        return Err(Failure::usage(
            "--hold: there are no images to look at on sim; use --on files",
        ));
    }
    let end = args.seed.checked_add(1);
    let end = end.ok_or_else(|| Failure::usage("--seed: below 2^64 - 1 is needed"))?;
    make_directory(out)?;
    let limits = Limits::default();
    let seeds = args.seed..end;
    let strategy = Strategy::Random;
    let search = Search { spec, strategy, seeds, limits, exhaust: false, threads: 1 };
    let outcome = search.run(&Interrupt::listen(), out, None)?;
    let on = object([("on", json!("sim")), ("seed", json!(args.seed))]);
    output.print(|| outcome.as_text(), || outcome.as_json().into_iter().chain(on).collect());
    Ok(outcome.status())
}

pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
}

/// What is asked for must be possible on files.
fn check_change(args: &RunArgs) -> Result<(), Failure> {
    if args.change.faults.is_some_and(|faults| faults > 0) {
        return Err(Failure::usage("--faults: files do not fail when told to; use --on sim"));
    }
    if args.change.crashes.is_some_and(|crashes| crashes > 0) {
        return Err(Failure::usage("--crashes: files do not lose power; use --on sim"));
    }
    if args.change.families.is_some() {
        return Err(Failure::usage("--families: files do not fail when told to; use --on sim"));
    }
    Ok(())
}

fn play_on_files(args: &RunArgs, spec: &Spec, output: &Output) -> Result<Status, Failure> {
    let images = Images::of(&spec.script, &args.dir)?;
    let interrupt = Interrupt::listen();
    let hold = args.hold.is_some();
    // One thread: the models see what happens in the order in which it does, and guests are held exactly, only if a
    // step ends before the next begins.
    let host =
        Host::new(1).map_err(|error| Failure::usage(format!("cannot start threads: {error}")))?;
    let made = images.make(&spec.script, &args.dir, &host, &interrupt)?;
    let run = Run { spec, images, hold, interrupt };
    let outcome = if made.whole { run.play(&host) } else { Outcome::interrupted() };
    if let Some((property, message)) = &outcome.log.violation
        && let Err(failure) = Failure::check_setup(&spec.named, property, message)
    {
        made.remove();
        return Err(failure);
    }
    output.print(|| run.as_text(&outcome), || run.as_json(&outcome));
    Ok(outcome.status)
}

/// A run on files.
struct Run<'a> {
    spec: &'a Spec,
    images: Images,
    hold: bool,
    interrupt: Interrupt,
}

struct Outcome {
    status: Status,
    seconds: f64,
    log: Log,
    graph: Option<String>,
    /// Source and target of the mirror that has pivoted.
    mirrored: Option<(String, String)>,
    /// What was found about the last write after the pivot.
    last_write: Option<String>,
}

impl Outcome {
    fn interrupted() -> Self {
        Self {
            status: Status::Interrupted,
            seconds: 0.0,
            log: Log::default(),
            graph: None,
            mirrored: None,
            last_write: None,
        }
    }
}

impl Run<'_> {
    fn play(&self, host: &Host) -> Outcome {
        let began = Instant::now();
        let world = Arc::new(OnFiles::new(host.runtime(), self.images.clone(), self.hold));
        let (script, design) = (self.spec.script.clone(), self.spec.design);
        let (runtime, begun) = (host.runtime(), world.clone());
        // In one step of the worker: no actor runs before all are listening.
        let start =
            runtime.spawn("stage", async move { Stage::start(script, design, begun, true) });
        // A panic of a task is told in the outcome.
        let (stage, ended) = quietly(|| {
            let stage = host.block_on(start.join());
            let wait = async {
                first_of(stage.wait_actors(), self.watch(host, &world, &stage)).await
                    && self.interrupt_or_violation(&world).is_none()
            };
            let ended = catch_panic(|| host.block_on(wait));
            (stage, ended)
        });
        let mut outcome = Outcome { status: Status::Clean, ..Outcome::interrupted() };
        if let (Ok(true), None) = (&ended, host.failed()) {
            let judged = self.judge(host, &stage, &mut outcome);
            let _ = judged.map_err(|(property, message)| {
                blockyard_scenario::World::report(&*world, &property, message);
            });
        }
        outcome.log = world.log();
        if let Some(message) = host.failed() {
            outcome.log.violation.get_or_insert(("no-panic".into(), message));
        }
        outcome.seconds = began.elapsed().as_secs_f64();
        outcome.status = match outcome.log.violation {
            Some(_) => Status::Violated,
            None if matches!(ended, Ok(true)) => Status::Clean,
            None => Status::Interrupted,
        };
        outcome
    }

    fn interrupt_or_violation(&self, world: &OnFiles) -> Option<()> {
        (self.interrupt.is_set() || world.log().violation.is_some()).then_some(())
    }

    /// Shows how far it is; ends when there is a reason to stop before the actors' end.
    async fn watch(&self, host: &Host, world: &OnFiles, stage: &Stage) {
        let bar = ProgressBar::new_spinner();
        let runtime = host.runtime();
        while self.interrupt_or_violation(world).is_none() {
            runtime.sleep(LOOK_NS).await;
            let log = world.log();
            let jobs = stage.monitor().jobs().query().into_iter().map(|job| {
                let percent = 100 * job.position.offset / job.position.len.max(1);
                format!("{} {} {percent} %", job.id, job.status.word())
            });
            let jobs = jobs.collect::<Vec<_>>().join(", ");
            bar.set_message(format!("{jobs}, {} guest writes", log.load_writes));
            bar.tick();
            let late = |ended: &crate::files::Seen| runtime.now_ns() > ended.at_ns + WAIT_NS;
            if log.moments.get(&Moment::JobEnds).is_some_and(late) {
                let message = "actors still wait for something a minute after the job's end";
                blockyard_scenario::World::report(world, "progress", message.into());
            }
        }
        bar.finish_and_clear();
    }

    /// Judges the end: what is at rest, what the images hold.
    fn judge(
        &self,
        host: &Host,
        stage: &Stage,
        outcome: &mut Outcome,
    ) -> Result<(), (String, String)> {
        let ended = self.judge_at_rest(host, stage);
        let ended =
            ended.map_err(|Violation { property, message }| (property.word().into(), message))?;
        outcome.graph = Some(ended.graph);
        let closed = host.block_on(stage.monitor().close_all());
        closed.map_err(|error| ("io".to_string(), format!("cannot close the images: {error}")))?;
        outcome.mirrored = stage.mirrored();
        let unreadable = |error| ("io".to_string(), format!("cannot read the images: {error}"));
        if let (true, Some((source, target))) = (self.hold, &outcome.mirrored) {
            let len = self.spec.script.disks[source].size;
            let differs = self.images.first_difference(source, target, len).map_err(unreadable)?;
            if let Some(at) = differs {
                let word = Property::MirrorConvergence.word().into();
                let message = format!("held at the pivot, {source} and {target} differ at {at}");
                return Err((word, message));
            }
        }
        let (Some((source, target)), Some((write, disk))) = (&outcome.mirrored, stage.last_write())
        else {
            return Ok(());
        };
        let on_disk = self.images.holds(&disk, &write).map_err(unreadable)?;
        let on_source = self.images.holds(source, &write).map_err(unreadable)?;
        let found = |on: bool, disk: &str| {
            format!("{}on {}", if on { "" } else { "not " }, self.images.file_name(disk))
        };
        let (on, off) = (found(on_disk, &disk), found(on_source, source));
        let line = format!("{} {} is {on} and {off}", write.device, write.range);
        if disk == *target && on_disk && !on_source {
            outcome.last_write = Some(line);
            return Ok(());
        }
        let word = Property::GuestConsistency.word().into();
        Err((word, format!("the write after the pivot: {line}")))
    }

    /// Jobs may still be tidying up when the actors have ended: their end is waited for, for a while.
    fn judge_at_rest(&self, host: &Host, stage: &Stage) -> Result<Ended, Violation> {
        let runtime = host.runtime();
        let deadline = runtime.now_ns() + REST_NS;
        loop {
            match stage.judge(Vec::new()) {
                Err(violation)
                    if violation.property == Property::Progress && runtime.now_ns() < deadline =>
                {
                    host.block_on(runtime.sleep(1_000_000));
                }
                judged => return judged,
            }
        }
    }

    fn as_text(&self, outcome: &Outcome) -> String {
        let mut text = String::new();
        // A String takes everything.
        let _ = self.write_text(&mut text, outcome);
        text
    }

    fn write_text(&self, text: &mut String, outcome: &Outcome) -> std::fmt::Result {
        let (log, name) = (&outcome.log, &self.spec.script.name);
        match (&log.violation, outcome.status) {
            (Some((property, message)), _) => writeln!(text, "{property}: {message}")?,
            (None, Status::Interrupted) => writeln!(text, "{name} on files: interrupted")?,
            _ => writeln!(text, "{name} on files: nothing broken, {:.1} s", outcome.seconds)?,
        }
        self.write_mirror(text, outcome)?;
        if log.load_writes > 0 {
            let during = log.load_writes_between(Moment::JobBegins, Some(Moment::JobEnds));
            let ready = log.load_writes_between(Moment::JobReady, Some(Moment::JobEnds));
            let pivoted = log.load_writes_between(Moment::Pivot, None);
            writeln!(
                text,
                "guest writes completed: {} by the load, {during} while the job ran, \
                 {ready} of them after READY; {pivoted} after the pivot",
                log.load_writes
            )?;
        }
        if let Some(line) = &outcome.last_write {
            writeln!(text, "write after the pivot: {line}")?;
        }
        if let Some(graph) = &outcome.graph {
            writeln!(text, "graph at the end:")?;
            graph.lines().try_for_each(|line| writeln!(text, "  {line}"))?;
        }
        writeln!(text, "images are kept:")?;
        self.images.paths().try_for_each(|path| writeln!(text, "  {}", path.display()))?;
        if let (true, Some((source, target))) = (self.hold, &outcome.mirrored) {
            let word = |disk: &str| quoted(self.images.path(disk).unwrap_or(Path::new("")));
            let (source, target) = (word(source), word(target));
            writeln!(text, "compare them: qemu-img compare -f raw -F raw {source} {target}")?;
        }
        Ok(())
    }

    fn write_mirror(&self, text: &mut String, outcome: &Outcome) -> std::fmt::Result {
        let log = &outcome.log;
        let synced = log.seconds_between(Moment::JobBegins, Moment::JobReady);
        if let (Some((source, target)), Some(seconds)) = (&outcome.mirrored, synced) {
            let mib = self.spec.script.disks[source].size as f64 / f64::from(1 << 20);
            let rate = mib / seconds.max(1e-9);
            writeln!(
                text,
                "mirror {source} to {target}: READY after {seconds:.2} s ({rate:.0} MiB/s)"
            )?;
        }
        match (self.hold, log.moments.contains_key(&Moment::Pivot), outcome.status) {
            (true, true, Status::Clean) => writeln!(
                text,
                "guest I/O ended in the pivot's drained section: source and target are equal"
            ),
            (true, false, _) => writeln!(text, "no mirror has pivoted: nothing was held"),
            _ => Ok(()),
        }
    }

    fn as_json(&self, outcome: &Outcome) -> Map<String, Value> {
        let log = &outcome.log;
        let verdict = match outcome.status {
            Status::Violated => "violated",
            Status::Interrupted => "interrupted",
            _ => "clean",
        };
        let between = |from, to| log.load_writes_between(from, to);
        let images = self.images.paths().map(|path| path.display().to_string());
        let (property, message) = log.violation.clone().unzip();
        object([
            ("scenario", json!(self.spec.script.name)),
            ("verdict", json!(verdict)),
            ("on", json!("files")),
            ("seconds", json!(outcome.seconds)),
            ("graph", json!(outcome.graph)),
            ("load_writes", json!(log.load_writes)),
            ("load_writes_during_job", json!(between(Moment::JobBegins, Some(Moment::JobEnds)))),
            ("load_writes_after_ready", json!(between(Moment::JobReady, Some(Moment::JobEnds)))),
            ("load_writes_after_pivot", json!(between(Moment::Pivot, None))),
            ("seconds_to_ready", json!(log.seconds_between(Moment::JobBegins, Moment::JobReady))),
            ("write_after_pivot", json!(outcome.last_write)),
            ("images", images.collect()),
            ("property", json!(property)),
            ("message", json!(message)),
        ])
    }
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
