//! What checkers rely on: one good copy stays, what was lost was lost by us, and faults end.

mod common;

use std::sync::Arc;

use blockyard_runtime::Storage;
use blockyard_sim::{
    Action, Budgets, Chooser, Event, Execution, Families, Family, Finding, Limits, Loss, Outcome,
    Pick, Program, Reduction, SimDisk, Verdict, World, run_once,
};
use blockyard_sync::Shared;
use blockyard_sync::door::world::Quiet;
use blockyard_units::ByteRange;
use common::sectors::Request::{Flush, Read, Write};
use common::sectors::{ask, explore_all, in_digits, in_turn};
use common::{Small, program, search, setup, task};

const DAMAGING: Families =
    Families::NONE.with(Family::StickyEio).with(Family::Lost).with(Family::BitRot);

/// Disk `b` holds what disk `a` holds, if it is declared to.
struct Copied {
    program: Small,
    declared: bool,
}

impl Program for Copied {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        if self.declared {
            let whole = ByteRange::new(0, 4096);
            world.declare_copies(&[("a", whole), ("b", whole)]);
        }
        self.program.start(world)
    }
}

/// Writes both copies side by side, then wants one of them to be right.
fn mirrored(declared: bool) -> Copied {
    let program = program(|runtime, board| {
        for (index, disk) in board.disks.iter().cloned().enumerate() {
            let board = board.clone();
            task(runtime, disk.name().to_string().as_str(), async move {
                // A copy that cannot be written is a bad one.
                ask(&disk, Write(0, 1, 1)).await;
                let right = ask(&disk, Read(0, 1)).await == "1";
                board.values[index].write(|value| *value = u64::from(right));
            });
        }
    });
    let program = program.checked(|board| match board.first_values() {
        [0, 0] => Err("neither copy is right".into()),
        _ => Ok(()),
    });
    Copied { program, declared }
}

#[test]
fn one_declared_copy_stays_good() {
    for faults in [1, 2, 3] {
        let budgets = Budgets { faults, families: DAMAGING, ..Budgets::NONE };
        let declared = explore_all(&mirrored(true), budgets);
        assert_eq!(declared.verdict, Verdict::Clean { exhausted: true }, "{faults} faults");
        let undeclared = explore_all(&mirrored(false), budgets);
        assert_eq!(matches!(undeclared.verdict, Verdict::Violated { .. }), faults > 1);
    }
}

#[test]
fn searches_with_copies_see_the_same_traces() {
    let unchecked = |declared| {
        let Copied { program, .. } = mirrored(declared);
        Copied { program: program.checked(|_| Ok(())), declared }
    };
    let count = |families: Families, declared| {
        let budgets = Budgets { faults: 2, families, ..Budgets::NONE };
        search::compare("copies", &unchecked(declared), budgets, 2_000_000)
    };
    for families in [Families::NONE.with(Family::Lost), Families::NONE.with(Family::BitRot)] {
        // Fault on neither, one, the other; on both only where nobody minds.
        assert_eq!((count(families, true), count(families, false)), (Some(3), Some(4)));
    }
}

#[test]
fn different_places_of_the_copies_may_be_damaged() {
    let lost = |declared, places: [u64; 2]| {
        let program = program(move |runtime, board| {
            for (disk, place) in board.disks.iter().cloned().zip(places) {
                task(runtime, disk.name().to_string().as_str(), async move {
                    ask(&disk, Write(place, 2, 1)).await;
                });
            }
        });
        let families = Families::NONE.with(Family::Lost);
        let budgets = Budgets { faults: 2, families, ..Budgets::NONE };
        let explored = explore_all(&Copied { program, declared }, budgets);
        explored.summary.executions - explored.summary.blocked
    };
    assert_eq!((lost(true, [0, 2]), lost(true, [0, 1]), lost(false, [0, 1])), (4, 3, 4));
}

/// Takes the first fault that is offered, and else the first event.
struct FaultFirst;

impl Chooser for FaultFirst {
    fn pick(&mut self, _world: &World, enabled: &[Event]) -> Pick {
        let is_fault = |event: &Event| matches!(event.action, Action::Fault(_));
        Pick::Event(enabled.iter().position(is_fault).unwrap_or(0))
    }
}

#[test]
fn losses_are_excused_where_and_as_faults_explain_them() {
    let (here, elsewhere) = (ByteRange::new(1024, 1024), ByteRange::new(3072, 512));
    let cases = [
        (Family::Eio, [true, true, false], false),
        (Family::EioLate, [true, true, false], false),
        (Family::StickyEio, [true, true, false], false),
        (Family::Enospc, [true, true, false], false),
        (Family::Short, [true, true, false], false),
        (Family::Torn, [true, true, false], false),
        (Family::Lost, [false, true, false], false),
        (Family::Misdirected, [false, true, false], false),
        (Family::BitRot, [false, true, false], false),
        (Family::Stuck, [false, false, true], false),
        (Family::Flush, [true, false, false], true),
    ];
    for (family, explained, everywhere) in cases {
        for faults in [0, 1] {
            let families = Families::NONE.with(family);
            let budgets = Budgets { faults, families, ..Budgets::NONE };
            let mut world = World::new(&setup(budgets).images, budgets, 0);
            let program = in_turn(&[Write(2, 2, 1), Read(2, 2), Flush], &Default::default());
            let limits = Limits::default();
            let report = run_once(&mut world, &program, &mut FaultFirst, limits, &mut |_, _| ());
            assert_eq!(report.outcome, Outcome::Ended);
            let disk = world.disk("a").expect("there is a disk a");
            let losses = [Loss::Error, Loss::WrongBytes, Loss::Hang];
            let excused = |range| losses.map(|loss| disk.excuses(range, loss));
            let expected = explained.map(|explained| explained && faults == 1);
            assert_eq!(excused(here), expected, "{family:?}");
            assert_eq!(excused(elsewhere), expected.map(|it| it && everywhere), "{family:?}");
        }
    }
}

/// A disk behind a layer that writes less than it was asked to, if it `forgets`.
fn checked_layer(forgets: bool) -> Small {
    let seen: Arc<Quiet<Vec<String>>> = Arc::default();
    let writes = if forgets { Write(2, 1, 1) } else { Write(2, 2, 1) };
    in_turn(&[writes, Read(2, 2)], &seen).checked(move |board| {
        let range = ByteRange::new(1024, 1024);
        let excused = |loss| board.disks[0].excuses(range, loss);
        let seen = seen.with(|seen| seen.clone());
        let fine = match [seen[0].as_str(), seen[1].as_str()] {
            ["ok", "11"] => true,
            ["ok", read] if read.len() == 2 => excused(Loss::WrongBytes),
            _ => excused(Loss::Error),
        };
        if fine { Ok(()) } else { Err(format!("nobody broke it: {seen:?}")) }
    })
}

#[test]
fn losses_that_nobody_injected_are_found_among_those_that_were() {
    for family in Family::ALL {
        let families = Families::NONE.with(*family);
        let budgets = Budgets { faults: 2, families, ..Budgets::NONE };
        let sound = explore_all(&checked_layer(false), budgets);
        assert_eq!(sound.verdict, Verdict::Clean { exhausted: true }, "{family:?}");
        let forgetful = explore_all(&checked_layer(true), budgets);
        assert!(matches!(forgetful.verdict, Verdict::Violated { .. }), "{family:?}");
    }
}

/// Two writers; once faults have ended somebody writes all they wrote again, and reads it back.
struct Healed;

struct Healing {
    disk: SimDisk,
    healed: Arc<Shared<u64>>,
}

impl Program for Healed {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let disk = world.disk("a").expect("there is a disk a");
        let healed = world.begin(|runtime| {
            for index in 0..2 {
                let disk = disk.clone();
                task(runtime, &format!("t{index}"), async move {
                    ask(&disk, Write(index, 2, 1)).await;
                });
            }
            Arc::new(Shared::new(0))
        });
        Box::new(Healing { disk, healed })
    }
}

impl Execution for Healing {
    fn calm(&self, world: &mut World) {
        world.begin(|runtime| {
            let (disk, healed) = (self.disk.clone(), self.healed.clone());
            task(runtime, "healer", async move {
                assert_eq!(ask(&disk, Read(3, 2)).await, "00");
                assert_eq!(ask(&disk, Write(0, 3, 2)).await, "ok");
                healed.write(|healed| *healed += 1);
            });
        });
    }

    fn judge(&self, world: &World) -> Option<Finding> {
        let whole = self.disk.observe_quietly(in_digits);
        // What was stuck may land before or after what the healer wrote.
        let ends = ["22200000", "11200000", "21100000", "11100000"];
        let fine = self.healed.read(|healed| *healed == 1) && world.unfinished().is_empty();
        let fine = fine && ends.contains(&whole.as_str());
        (!fine).then(|| Finding { property: "heals".into(), message: whole })
    }

    fn digest(&self, world: &World) -> u64 {
        world.disk_digests()[0]
    }
}

#[test]
fn everything_goes_on_when_faults_have_ended() {
    for family in Families::ALL.iter().filter(|family| Families::NONE.with(*family).lasting()) {
        let families = Families::NONE.with(family);
        let budgets = Budgets { faults: 1, families, ..Budgets::NONE };
        let traces = search::compare("healed", &Healed, budgets, 100_000);
        assert!(traces.is_some_and(|traces| traces >= 2), "{family:?}: {traces:?}");
        // Nobody tries to end faults before what came first.
        let wasted = search::explore(&Healed, Reduction::Optimal, budgets, 100_000).summary.blocked;
        assert!(wasted <= 1, "{family:?}: {wasted} executions led nowhere");
    }
}
