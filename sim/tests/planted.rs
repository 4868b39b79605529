//! One planted bug of each kind: every search finds it, it shrinks to what it needs, and what was shrunk replays, also
//! from a seed file. The same program without the bug is exhausted clean.

mod common;

use blockyard_sim::{
    Budgets, Exploration, Explorer, Families, Family, Limits, Outcome, Program, Reduction,
    Sampling, SeedFile, Setup, Shrunk, Summary, TapeLine, Verdict,
};
use common::planted::retrying::{Retry, copied, flushing, retrying};
use common::planted::storing::{Forgets, Header, header, superblocks};
use common::planted::waiting::{closing, copies, drain};
use common::recovering::ATOM;
use common::setup;

/// (faults, crashes, preemptions) that a bug needs, as known by hand.
type Needs = (u32, u32, u32);

/// A program without a bug and with it.
struct Planted<'a> {
    name: &'a str,
    right: &'a dyn Program,
    wrong: &'a dyn Program,
    setup: Setup,
    /// The property that it breaks.
    breaks: &'a str,
    needs: Needs,
}

fn crash() -> Setup {
    setup(Budgets { crashes: 1, ..Budgets::NONE })
}

fn fault(family: Family) -> Setup {
    setup(Budgets { faults: 1, families: Families::NONE.with(family), ..Budgets::NONE })
}

fn events(tape: &[TapeLine]) -> Vec<String> {
    tape.iter().map(|line| line.event.clone()).collect()
}

impl Planted<'_> {
    fn explore<T>(&self, program: &dyn Program, explore: impl FnOnce(&mut Explorer<'_>) -> T) -> T {
        let limits = Limits { executions: 1_000, ..Limits::default() };
        let mut go_on = |_: &Summary| true;
        explore(&mut Explorer::new(program, self.setup.clone(), limits, &mut go_on))
    }

    #[track_caller]
    fn check(&self) {
        let exploration =
            self.explore(self.right, |explorer| explorer.depth_first(Reduction::Optimal));
        assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true }, "{}", self.name);
        println!("{}: clean after {} executions", self.name, exploration.summary.executions);
        for sampling in [None, Some(Sampling::Random), Some(Sampling::Portfolio)] {
            let shrunk = self.shrink(sampling);
            self.check_marks(&shrunk);
            self.check_replay(&shrunk);
        }
    }

    /// Finds the bug, by reduced search if not by sampling, and makes the tape simpler.
    fn shrink(&self, sampling: Option<Sampling>) -> Shrunk {
        let find = |explorer: &mut Explorer<'_>| match sampling {
            None => explorer.depth_first(Reduction::Optimal),
            Some(strategy) => explorer.sample(strategy, 0..1_000),
        };
        let Exploration { verdict, summary } = self.explore(self.wrong, find);
        let Verdict::Violated { finding, tape, .. } = verdict else {
            panic!("{}: not found by {sampling:?}: {verdict:?}", self.name);
        };
        assert_eq!(finding.property, self.breaks, "{}: {finding:?}", self.name);
        let limits = Limits { executions: 1_000, ..Limits::default() };
        let shrunk = self.explore(self.wrong, |explorer| {
            explorer.shrink(events(&tape), &|found| found.property == self.breaks, limits)
        });
        let shrunk = shrunk.expect("the tape fails");
        assert!(shrunk.minimal, "{}: {shrunk:?}", self.name);
        let cost = shrunk.cost_after;
        assert_eq!((cost.faults, cost.crashes, cost.preemptions), self.needs, "{}", self.name);
        println!(
            "{} executions by {sampling:?}, then {} replays: {cost}",
            summary.executions, shrunk.replays
        );
        shrunk.tape.iter().for_each(|line| println!("    {line}"));
        shrunk
    }

    /// What it needs is told, each once.
    fn check_marks(&self, shrunk: &Shrunk) {
        let marks = |mark: &str| {
            let notes = shrunk.tape.iter().flat_map(|line| &line.notes);
            notes.filter(|note| *note == mark).count() as u32
        };
        let marked: Needs =
            ["necessary fault", "necessary crash", "necessary preemption"].map(marks).into();
        assert_eq!(marked, self.needs, "{}: {:#?}", self.name, shrunk.tape);
    }

    /// Kept as a seed file and read again it is the same failure; without the bug it is none.
    fn check_replay(&self, shrunk: &Shrunk) {
        let mut file = SeedFile::default();
        file.push_head("hash", format!("{:016x}", shrunk.hash));
        file.tape = shrunk.tape.clone();
        let read = SeedFile::parse(&file.to_string()).expect("what was written can be read");
        assert_eq!(read, file);
        let replay =
            |program| self.explore(program, |explorer| explorer.replay(events(&read.tape))).0;
        let again = replay(self.wrong);
        assert_eq!(again.outcome, Outcome::Violated(shrunk.finding.clone()), "{}", self.name);
        assert_eq!(again.steps as usize, read.tape.len(), "{}: nothing was made up", self.name);
        assert_eq!(read.head("hash"), Ok(format!("{:016x}", again.hash).as_str()), "{}", self.name);
        let repaired = replay(self.right).outcome;
        assert!(!matches!(repaired, Outcome::Violated(_)), "{}: {repaired:?}", self.name);
    }
}

#[test]
fn lost_wake_up() {
    Planted {
        name: "lost wake-up",
        right: &drain(false),
        wrong: &drain(true),
        setup: setup(Budgets::NONE),
        breaks: "progress",
        needs: (0, 0, 1),
    }
    .check();
}

#[test]
fn lock_order() {
    Planted {
        name: "lock order",
        right: &copies(false),
        wrong: &copies(true),
        setup: setup(Budgets::NONE),
        breaks: "progress",
        needs: (0, 0, 1),
    }
    .check();
}

#[test]
fn missing_flush_before_a_pointer_update() {
    for wrong in [Forgets::FlushOfData, Forgets::FlushOfSuperblock] {
        Planted {
            name: &format!("{wrong:?}"),
            right: &superblocks(Forgets::Nothing, 2),
            wrong: &superblocks(wrong, 2),
            setup: crash(),
            breaks: "durability",
            needs: (0, 1, 0),
        }
        .check();
    }
}

#[test]
fn torn_header() {
    // Of two atoms, or of one on a disk that tears them.
    for (half, torn) in [(ATOM, false), (ATOM / 2, true)] {
        let mut setup = crash();
        setup.images[0].torn = torn;
        for wrong in [Header::Unchecked, Header::Alone, Header::InPlace] {
            Planted {
                name: &format!("header {wrong:?}, halves of {half}"),
                right: &header(Header::Safe, half),
                wrong: &header(wrong, half),
                setup: setup.clone(),
                breaks: "durability",
                needs: (0, 1, 0),
            }
            .check();
        }
    }
}

#[test]
fn retry_that_forgets() {
    for (family, wrong) in
        [(Family::Torn, Retry::Rest), (Family::Eio, Retry::Rest), (Family::Eio, Retry::Elsewhere)]
    {
        Planted {
            name: &format!("retry {wrong:?} after {}", family.word()),
            right: &retrying(Retry::Whole),
            wrong: &retrying(wrong),
            setup: fault(family),
            breaks: "check",
            needs: (1, 0, 0),
        }
        .check();
    }
    for family in [Family::EioLate, Family::Short, Family::Torn] {
        Planted {
            name: &format!("copies nothing that failed by {}", family.word()),
            right: &copied(false),
            wrong: &copied(true),
            setup: fault(family),
            breaks: "check",
            needs: (1, 0, 0),
        }
        .check();
    }
    Planted {
        name: "retry of a flush alone",
        right: &flushing(true),
        wrong: &flushing(false),
        setup: fault(Family::Flush),
        breaks: "check",
        needs: (1, 0, 0),
    }
    .check();
}

#[test]
fn cancel_that_leaks() {
    Planted {
        name: "cancel that leaks",
        right: &closing(false),
        wrong: &closing(true),
        setup: setup(Budgets::NONE),
        breaks: "progress",
        needs: (0, 0, 0),
    }
    .check();
}
