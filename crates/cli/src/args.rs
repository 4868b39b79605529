//! The command line.

use std::num::NonZeroU16;
use std::path::PathBuf;

use blockyard_sim::{Granularity, Sampling, Time};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::failure::Failure;
use crate::report::{Output, Status};
use crate::{amend, check, compare, explore, list, play, replay, shrink, zoo};

/// Explores what may go wrong in a block layer: schedules of guests, jobs and operators over a graph of nodes.
///
/// A scenario says who does what; the commands play it in a simulated world, where every interleaving can be tried,
/// or on real files.
///
/// Begin with:
///
///   blockyard list
///   blockyard explore resurrected-filter --design replace=naive
///   blockyard explore resurrected-filter --design replace=compare --exhaust
///
/// Exit status: 0 nothing broken; 1 a property was violated (the seed file and the command that replays it are
/// printed); 2 usage or bad input; 3 exhaustion was asked for and the budget ran out first; 130 interrupted,
/// 143 terminated (what is known is printed).
#[derive(Parser)]
#[command(name = "blockyard", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Print one JSON object on standard output instead of text; errors too.
    #[arg(long, global = true)]
    json: bool,

    /// Where findings go; it is made if it is not there.
    #[arg(long, global = true, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// List scenarios, design decisions, mutants, properties and commands.
    List,
    /// Try the interleavings of a scenario.
    ///
    /// The default strategy, reduced, runs one execution of each class of equivalent ones, and ends when there are
    /// no more: then the space is exhausted. Without --exhaust it stops after 10,000 executions.
    Explore(ExploreArgs),
    /// Run scenarios at random, one run for each seed.
    ///
    /// With --generate each seed makes a scenario of its own. One that breaks a property is made simpler, as long as it
    /// still does, and kept beside its seed file as generated-SEED.json, which every command takes.
    Fuzz(FuzzArgs),
    /// Run a failure again from its seed file.
    Replay(ReplayArgs),
    /// Make the failure in a seed file simpler, and keep it in another.
    ///
    /// Fewer faults count first, then fewer preemptions, disk requests, bytes and steps; of equals the one that comes
    /// first in order is taken. If all runs that may be simpler can be tried, the result is the simplest of all,
    /// whichever failure it began with. A star marks the faults and preemptions that the failure needs, and two steps
    /// whose order it needs. Ctrl-C keeps what is there.
    Shrink(ShrinkArgs),
    /// Play a scenario once, in the simulated world or on real files.
    Run(RunArgs),
    /// Put designs side by side: what each breaks, and what its guests and jobs wait for.
    ///
    /// --design is given for each of them, at least twice, with commas between its decisions; what it leaves open is as
    /// by default. First the interleavings of each are explored, as by `explore`, and the smallest counterexample is
    /// kept. Then each is run in virtual time, once for each seed and with the scenario's guest load, while disks take
    /// as long as the scenario says and nothing goes wrong: these runs give the figures. A job's time goes from its
    /// beginning to its being in sync (READY); `never` counts the runs in which that did not come about, or only after
    /// the load had made all its writes.
    ///
    /// What it prints depends on the scenario, the designs and the seeds alone.
    Compare(CompareArgs),
    /// Put known bugs back, one at a time, and tell how long it takes to notice each.
    ///
    /// Exits with 1 if one of them is not noticed within the budget.
    Zoo(ZooArgs),
    /// Check that all that stands in a qcow2 or dedup image goes together, and repair it if that is asked for.
    ///
    /// Nothing is written without --repair. Exits with 0 if the data are safe, 1 if something is wrong, or could not be
    /// repaired, 2 if it is no image that can be checked. Leaked clusters alone cost only space, so the status is 0:
    /// "leaks" in the output of --json tells. Ctrl-C leaves the image as it was, or better.
    Check(CheckArgs),
    /// Change what a qcow2 image is like, in place.
    ///
    /// What cannot be done is refused, and then nothing has changed. Whatever cuts it off leaves a sound image. Nobody
    /// else may have it open.
    Amend(AmendArgs),
}

/// What selects and changes a scenario.
#[derive(Args, Clone, Default)]
pub(crate) struct ScenarioArgs {
    /// Decide a design question, as K=V; see `blockyard list`.
    #[arg(long = "design", value_name = "K=V")]
    pub designs: Vec<String>,
    /// Put a known bug back; see `blockyard list`.
    #[arg(long, value_name = "MUTANT")]
    pub mutant: Option<String>,
    /// Set a parameter of the scenario, as K=V.
    #[arg(long = "set", value_name = "K=V")]
    pub sets: Vec<String>,
    /// Add a node before the scenario's own setup: as JSON, or `driver=file,node-name=a,filename=b`.
    #[arg(long = "blockdev", value_name = "OPTIONS")]
    pub blockdevs: Vec<String>,
    /// How many disk requests may go wrong, instead of what the scenario says.
    #[arg(long, value_name = "N")]
    pub faults: Option<u32>,
    /// How often power may be lost, instead of what the scenario says: 0 or 1. Whatever was flushed must be found after
    /// it, at whatever moment it comes.
    #[arg(long, value_name = "N")]
    pub crashes: Option<u32>,
    /// In which ways, with commas between them, instead of eio,eio-late; see `blockyard list`. Needs faults.
    #[arg(long, value_name = "FAMILIES")]
    pub families: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    /// Depth first, each trace once (wakeup trees); some executions are begun in vain and given up.
    Reduced,
    /// Depth first with sleep sets only.
    Sleep,
    /// Depth first, every execution.
    Dfs,
    /// At random, from seed 0 on.
    Random,
    /// At random; each run puts off some kinds of events and prefers some actors.
    Swarm,
    /// By random priorities of processes, which change at few moments.
    Pct,
    /// By random priorities of events, drawn anew where they conflict.
    Pos,
    /// By how much each process has left to do.
    Urw,
    /// The five before in turn.
    Portfolio,
}

impl Strategy {
    /// How it draws executions, unless it counts them off.
    pub fn sampling(self) -> Option<Sampling> {
        match self {
            Self::Reduced | Self::Sleep | Self::Dfs => None,
            Self::Random => Some(Sampling::Random),
            Self::Swarm => Some(Sampling::Swarm),
            Self::Pct => Some(Sampling::Pct),
            Self::Pos => Some(Sampling::Pos),
            Self::Urw => Some(Sampling::Urw),
            Self::Portfolio => Some(Sampling::Portfolio),
        }
    }

    /// As it is spelt on the command line and in seed files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reduced => "reduced",
            Self::Sleep => "sleep",
            Self::Dfs => "dfs",
            _ => self.sampling().map_or("", Sampling::word),
        }
    }
}

/// How many threads there are.
#[derive(Clone, Copy)]
pub(crate) struct Threads(NonZeroU16);

impl std::str::FromStr for Threads {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = text.parse().ok().filter(|count: &NonZeroU16| count.get() <= 256);
        count.map(Self).ok_or("a number from 1 to 256 is needed")
    }
}

impl From<Threads> for usize {
    fn from(Threads(count): Threads) -> usize {
        usize::from(count.get())
    }
}

/// What a task's step is, as the command line spells it.
fn granularity() -> impl TypedValueParser<Value = Granularity> {
    let words = [Granularity::Await, Granularity::Door].map(Granularity::word);
    PossibleValuesParser::new(words).try_map(|word| word.parse::<Granularity>())
}

/// Whether disks take time, as the command line spells it.
fn time() -> impl TypedValueParser<Value = Time> {
    let words = [Time::Untimed, Time::Timed].map(Time::word);
    PossibleValuesParser::new(words).try_map(|word| word.parse::<Time>())
}

/// The strategies that draw executions.
fn sampling_strategy() -> impl TypedValueParser<Value = Strategy> {
    let sampling = |strategy: &&Strategy| strategy.sampling().is_some();
    let words = Strategy::value_variants().iter().filter(sampling);
    PossibleValuesParser::new(words.map(|strategy| strategy.word()))
        .try_map(|word| Strategy::from_str(&word, false))
}

#[derive(Args)]
pub(crate) struct ExploreArgs {
    /// A built-in scenario's name, or the path of a file (with `/` or ending in .json).
    pub scenario: String,
    #[command(flatten)]
    pub change: ScenarioArgs,
    /// How to search.
    #[arg(long, value_enum, default_value = "reduced")]
    pub strategy: Strategy,
    /// Go on until everything was tried; exit with 3 if --max-executions comes first.
    #[arg(long)]
    pub exhaust: bool,
    /// Stop after so many executions.
    #[arg(long, value_name = "N")]
    pub max_executions: Option<u64>,
    /// Search with so many threads.
    ///
    /// They find the same traces; how many executions are blocked may differ, and so may which failure is found: the
    /// shortest of those that are found when the search stops is kept.
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: Threads,
    /// Go on from the checkpoint in this file, and keep one there; it is made if it is not there.
    ///
    /// It is replaced every few moments, at Ctrl-C and at the end, so that a process that is killed loses what it did
    /// since then. --max-executions counts from the beginning. A checkpoint belongs to one search and one build, and
    /// one process at a time.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// What may not be interrupted: what is between two awaits, or each operation on what tasks share.
    #[arg(long, value_name = "await|door", value_parser = granularity(), default_value = "await")]
    pub granularity: Granularity,
}

#[derive(Args)]
pub(crate) struct FuzzArgs {
    /// Built-in scenarios, or paths of files; each is run once.
    #[arg(required_unless_present_any = ["all", "generate"])]
    pub scenarios: Vec<String>,
    /// Every built-in scenario, then generated ones.
    #[arg(long, conflicts_with = "scenarios")]
    pub all: bool,
    /// Scenarios that are generated, one from each seed: about devices, filters, media and mirrors; about chains of
    /// images and the jobs that overlap on them; or about stacks of filters and quorums above such chains.
    #[arg(long, value_name = "KIND", num_args = 0..=1, require_equals = true, default_missing_value = "devices")]
    #[arg(conflicts_with_all = ["scenarios", "all", "blockdevs"])]
    pub generate: Option<Kind>,
    /// How many runs each generated scenario gets; strategies that learn from run to run need several.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["scenarios", "all"])]
    pub runs: u64,
    /// The seeds, from A up to, not including, B.
    #[arg(long, value_name = "A..B")]
    pub seeds: String,
    /// Run with so many threads. Of the seeds that break something the least is kept.
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: Threads,
    /// How to draw the runs.
    #[arg(long, value_parser = sampling_strategy(), default_value = "random")]
    pub strategy: Strategy,
    /// What may not be interrupted: what is between two awaits, or each operation on what tasks share.
    #[arg(long, value_name = "await|door", value_parser = granularity(), default_value = "await")]
    pub granularity: Granularity,
    /// Whether disks take as long as the scenario says, and there is its guest load; untimed, a timer may fire at any
    /// moment.
    #[arg(long, value_name = "untimed|timed", value_parser = time(), default_value = "untimed")]
    pub time: Time,
    #[command(flatten)]
    pub change: ScenarioArgs,
}

/// What generated scenarios are about.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Devices,
    Chains,
    Stacks,
}

#[derive(Args)]
pub(crate) struct ZooArgs {
    /// Which; all, if none is named. See `blockyard list`.
    pub mutants: Vec<String>,
    /// How long each may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub budget: u64,
}

#[derive(Args)]
pub(crate) struct CompareArgs {
    /// A built-in scenario's name, or the path of a file (with `/` or ending in .json).
    pub scenario: String,
    /// The seeds of the timed runs, from A up to, not including, B.
    #[arg(long, value_name = "A..B", default_value = "0..100")]
    pub seeds: String,
    /// Explore so many executions of each design at most.
    #[arg(long, value_name = "N", default_value_t = explore::DEFAULT_EXECUTIONS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub max_executions: u64,
    #[command(flatten)]
    pub change: ScenarioArgs,
}

/// What a repair puts right.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Clusters that nothing refers to, but are counted.
    Leaks,
    /// All that can be without losing data.
    All,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The image: a file, or a block device. Of a dedup image, its metadata.
    pub image: PathBuf,
    /// The data of a dedup image; all that it refers to is read.
    #[arg(long, value_name = "DATA")]
    pub data: Option<PathBuf>,
    /// Put right what is wrong.
    #[arg(long, value_enum, value_name = "leaks|all")]
    pub repair: Option<What>,
}

#[derive(Args)]
pub(crate) struct AmendArgs {
    /// The image: a file, or a block device.
    pub image: PathBuf,
    /// What is to change, as `qemu-img amend` has it, with `,,` for a comma: compat=0.10 or 1.1, size,
    /// lazy_refcounts=on or off, refcount_bits, backing_file and data_file (empty: none is named), backing_fmt,
    /// data_file_raw=off.
    #[arg(short = 'o', value_name = "KEY=VALUE,...", required = true)]
    pub options: Vec<String>,
}

#[derive(Args)]
pub(crate) struct ReplayArgs {
    /// The seed file.
    pub seed_file: PathBuf,
    /// Take the scenario from here instead of the one that the file names.
    #[arg(long, value_name = "S")]
    pub scenario: Option<String>,
    /// Print every step.
    #[arg(long)]
    pub log: bool,
    /// Write a page with a lane for each task, to look at with a browser.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ShrinkArgs {
    /// The seed file.
    pub seed_file: PathBuf,
    /// Where the simpler failure goes, instead of NAME.min.seed in the folder for findings.
    #[arg(short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Take the scenario from here instead of the one that the file names.
    #[arg(long, value_name = "S")]
    pub scenario: Option<String>,
    /// Stop after so many replays.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub max_replays: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ground {
    /// The simulated world, in one random order.
    Sim,
    /// Real files and time.
    Files,
    /// A real qemu-storage-daemon, in turns; guests are clients of its NBD server.
    Qemu,
    /// Files and qemu at once, in turns; every difference is told.
    All,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Hold {
    /// In the drained section of a mirror's pivot.
    Pivot,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// A built-in scenario's name, or the path of a file (with `/` or ending in .json).
    pub script: String,
    /// Where to play it.
    #[arg(long, value_enum, value_name = "sim|files|qemu|all")]
    pub on: Ground,
    /// Where the image files are made (on all: in its folders files and qemu).
    #[arg(long, value_name = "DIR", default_value = "blockyard-images")]
    pub dir: PathBuf,
    /// End guest I/O at this point, so that both images can be compared.
    #[arg(long, value_enum)]
    pub hold: Option<Hold>,
    /// The seed of the order in the simulated world, or of the turns (on qemu and on all).
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub change: ScenarioArgs,
}

/// Runs the command line; the process's exit status.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> u8 {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && json => {
            return Output::json().fail(&Failure::usage(in_one_line(&error)));
        }
        Err(error) => {
            // Nobody is left to tell if even this cannot be written.
            let _ = error.print();
            let status = if error.use_stderr() { Status::BadInput } else { Status::Clean };
            return status.code();
        }
    };
    let output = if cli.json { Output::json() } else { Output::text() };
    let done = match &cli.command {
        Command::List => list::list(&output),
        Command::Explore(args) => explore::explore(args, &cli.out, &output),
        Command::Fuzz(args) => explore::fuzz(args, &cli.out, &output),
        Command::Replay(args) => replay::replay(args, &output),
        Command::Shrink(args) => shrink::shrink(args, &cli.out, &output),
        Command::Run(args) => play::play(args, &cli.out, &output),
        Command::Compare(args) => compare::compare(args, &cli.out, &output),
        Command::Zoo(args) => zoo::zoo(args, &output),
        Command::Check(args) => check::check(args, &output),
        Command::Amend(args) => amend::amend(args, &output),
    };
    match done {
        Ok(status) => status.code(),
        Err(failure) => output.fail(&failure),
    }
}

/// What is wrong with a command line, without the usage and the hint at `--help` that come after it.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let is_trailer = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more info");
    let lines = text.lines().take_while(|line| !is_trailer(line));
    let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
    words.join(" ").trim_start_matches("error: ").into()
}
