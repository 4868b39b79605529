//! Each family of faults does what the model says: every outcome of a few requests, and no other.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use blockyard_runtime::Storage;
use blockyard_sim::{
    Action, Budgets, Divergence, Event, Explorer, Families, Family, Limits, Outcome, RandomWalk,
    Reduction, Verdict, Watched, World, run_once,
};
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange};
use common::sectors::Request::{Flush, Read, Write};
use common::sectors::{Request, SECTOR, in_digits, in_turn, outcomes};
use common::{program, setup, task};

fn one(family: Family) -> Budgets {
    Budgets { faults: 1, families: Families::NONE.with(family), ..Budgets::NONE }
}

fn lines(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| String::from(*line)).collect()
}

/// With at most one fault of this family there are these outcomes; the first is what a disk that is well does.
#[track_caller]
fn check(family: Family, requests: &[Request], expected: &[&str]) {
    let is_right = |board: &common::Board, _: &str| {
        let disk = &board.disks[0];
        let truth = disk.observe_quietly(in_digits);
        let medium = disk.observe_medium(in_digits);
        if truth == medium { Ok(()) } else { Err(format!("{medium} at the end, not {truth}")) }
    };
    let found = outcomes(requests, one(family), is_right);
    assert_eq!(found, lines(expected), "{family:?}");
    let none = Budgets { faults: 2, families: Families::NONE, ..Budgets::NONE };
    assert_eq!(outcomes(requests, none, |_, _| Ok(())), lines(&expected[..1]));
}

#[test]
fn eio_fails_a_request_once_without_effect() {
    let requests = [Write(0, 1, 1), Read(0, 1), Read(0, 1)];
    check(Family::Eio, &requests, &["ok 1 1", "EIO 0 0", "ok EIO 1", "ok 1 EIO"]);
}

#[test]
fn late_eio_fails_a_write_once_that_had_its_effect() {
    let requests = [Write(0, 1, 1), Read(0, 1), Flush, Read(0, 1)];
    check(Family::EioLate, &requests, &["ok 1 ok 1", "EIO 1 ok 1"]);
}

#[test]
fn sticky_eio_fails_reads_until_the_range_is_rewritten() {
    let requests = [Read(1, 2), Read(0, 2), Read(0, 1), Write(1, 1, 1), Read(0, 2)];
    let expected = [
        "00 00 0 ok 01",
        "EIO EIO 0 ok 01",
        "00 EIO EIO ok EIO",
        "00 00 EIO ok EIO",
        "00 00 0 EIO 00",
        "00 00 0 ok EIO",
    ];
    check(Family::StickyEio, &requests, &expected);
}

#[test]
fn sticky_eio_fails_writes_for_good_and_keeps_what_was_there() {
    let requests = [Write(1, 2, 1), Write(0, 2, 2), Write(3, 1, 3), Read(0, 3)];
    let expected =
        ["ok ok ok 221", "EIO EIO ok 000", "ok EIO ok 011", "ok ok EIO 221", "ok ok ok EIO"];
    check(Family::StickyEio, &requests, &expected);
}

#[test]
fn enospc_fails_every_later_write_and_no_read() {
    let requests = [Write(0, 1, 1), Write(1, 1, 2), Read(0, 2), Flush];
    let expected = ["ok ok 12 ok", "ENOSPC ENOSPC 00 ok", "ok ENOSPC 10 ok"];
    check(Family::Enospc, &requests, &expected);
}

#[test]
fn short_write_leaves_a_prefix_and_fails() {
    let requests = [Write(0, 3, 1), Read(0, 3), Write(4, 1, 1), Flush];
    check(Family::Short, &requests, &["ok 111 ok ok", "EIO 100 ok ok", "EIO 110 ok ok"]);
}

#[test]
fn torn_write_leaves_sectors_out_and_fails() {
    let requests = [Write(0, 3, 1), Read(0, 3), Write(4, 1, 1), Flush];
    check(Family::Torn, &requests, &["ok 111 ok ok", "EIO 011 ok ok", "EIO 101 ok ok"]);
    let requests = [Write(0, 2, 1), Read(0, 2)];
    check(Family::Torn, &requests, &["ok 11", "EIO 01"]);
}

#[test]
fn lost_write_is_said_to_be_done_and_is_not() {
    let requests = [Write(0, 2, 1), Read(0, 2), Write(1, 1, 2), Read(0, 2)];
    let expected = ["ok 11 ok 12", "ok 00 ok 02", "ok 11 ok 11"];
    check(Family::Lost, &requests, &expected);
}

#[test]
fn misdirected_request_goes_to_the_place_before_or_behind() {
    let requests = [Write(1, 1, 1), Read(0, 3), Write(2, 1, 2), Read(0, 4)];
    let expected = [
        "ok 010 ok 0120",
        "ok 100 ok 1020",
        "ok 001 ok 0020",
        "ok 000 ok 0120",
        "ok 010 ok 0200",
        "ok 010 ok 0102",
        "ok 010 ok 0000",
    ];
    check(Family::Misdirected, &requests, &expected);
}

#[test]
fn bit_rot_stays_until_it_is_rewritten() {
    let requests = [Read(0, 2), Read(0, 2), Write(0, 1, 1), Read(0, 2)];
    let expected = [
        "00 00 ok 10",
        "x0 x0 ok 10",
        "0x 0x ok 1x",
        "00 x0 ok 10",
        "00 0x ok 1x",
        "00 00 ok x0",
        "00 00 ok 1x",
    ];
    check(Family::BitRot, &requests, &expected);
}

#[test]
fn failed_flush_keeps_or_drops_what_it_covers_or_a_part() {
    let requests = [Write(0, 1, 1), Write(1, 1, 2), Flush, Read(0, 2), Flush, Read(0, 2)];
    let expected = [
        "ok ok ok 12 ok 12",
        "ok ok EIO 12 ok 12",
        "ok ok EIO 00 ok 00",
        "ok ok EIO 10 ok 10",
        "ok ok ok 12 EIO 12",
    ];
    check(Family::Flush, &requests, &expected);
    let before = Budgets { faults: 1, families: Families::NONE.with(Family::Flush), crashes: 1 };
    assert_eq!(outcomes(&requests, before, |_, _| Ok(())), lines(&expected));
}

#[test]
fn dropped_write_that_was_overwritten_in_flight_does_not_come_back() {
    let requests = [Write(0, 2, 1), Flush, Write(0, 2, 2), Write(1, 1, 3), Flush, Read(0, 2)];
    let expected = [
        "ok ok ok ok ok 23",
        "ok EIO ok ok ok 23",
        "ok ok ok ok EIO 23",
        "ok ok ok ok EIO 11",
        "ok ok ok ok EIO 22",
    ];
    check(Family::Flush, &requests, &expected);
}

#[test]
fn damage_ends_with_calm_and_the_truth_remains() {
    let requests = [Write(1, 2, 1), Flush, Read(0, 4), Write(0, 1, 2), Flush, Read(0, 4)];
    for family in [Family::Lost, Family::Misdirected, Family::BitRot, Family::Flush] {
        let families = Families::NONE.with(family);
        let budgets = Budgets { faults: 2, families, ..Budgets::NONE };
        let found = outcomes(&requests, budgets, |board, line| {
            let disk = &board.disks[0];
            let medium = disk.observe_medium(in_digits);
            match medium == "21100000" && disk.observe_quietly(in_digits) == medium {
                true => Ok(()),
                false => Err(format!("{line}: {medium}")),
            }
        });
        assert!(found.len() >= 4, "{family:?}: {found:?}");
    }
}

/// Follows a tape of one write; how it ended, and the lines run.
fn replay(family: Family, tape: &[&str]) -> (Outcome, Vec<String>) {
    let seen: Arc<Quiet<Vec<String>>> = Arc::default();
    let writer = in_turn(&[Write(0, 1, 1)], &seen);
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let mut explorer = Explorer::new(&writer, setup(one(family)), Limits::default(), &mut go_on);
    let (report, tape) = explorer.replay(tape.iter().map(|line| String::from(*line)).collect());
    (report.outcome, tape.into_iter().map(|line| line.event).collect())
}

#[test]
fn stuck_request_goes_on_when_faults_have_ended() {
    let poll = "poll t";
    let (effect, complete) = ("effect t#0 a write 0+512", "complete t#0 a write 0+512");
    let (stall, late) = ("stall t#0 a write 0+512", "stall-late t#0 a write 0+512");
    let early = [poll, stall, "calm", effect, complete, poll];
    let late = [poll, effect, late, "calm", complete, poll];
    for tape in [early, late] {
        let (outcome, lines) = replay(Family::Stuck, &tape);
        assert_eq!((outcome, lines), (Outcome::Ended, tape.map(String::from).to_vec()));
    }
    let (outcome, _) = replay(Family::Stuck, &[poll, stall, effect]);
    let divergence = Divergence { step: 3, expected: effect.into(), possible: vec!["calm".into()] };
    assert_eq!(outcome, Outcome::Diverged(divergence));
    check(Family::Stuck, &[Write(0, 1, 1), Read(0, 1), Flush], &["ok 1 ok"]);
}

#[test]
fn faults_are_spelt_in_tapes() {
    let spelt = [
        (Family::Eio, "fail t#0 a write 0+512"),
        (Family::StickyEio, "fail t#0 a write 0+512 for good"),
        (Family::Enospc, "fail t#0 a write 0+512 ENOSPC"),
        (Family::Lost, "lose t#0 a write 0+512"),
        (Family::Misdirected, "misdirect t#0 a write 0+512 to 512"),
    ];
    for (family, line) in spelt {
        let (outcome, lines) = replay(family, &["poll t", line]);
        assert_eq!((outcome, lines[1].as_str()), (Outcome::Ended, line));
    }
}

#[test]
fn a_write_given_up_may_still_land_on_the_one_after_it() {
    let board_end = Arc::<Quiet<BTreeSet<String>>>::default();
    let kept = board_end.clone();
    let giving_up = program(|runtime, board| {
        let disk = board.disks[0].clone();
        task(runtime, "t", async move {
            drop(disk.write(0, vec![1; 512].into(), false));
            // The second write's outcome says nothing about the first one's.
            board.saw(0, disk.write(0, vec![2; 512].into(), false).await.is_ok().into());
        });
    })
    .checked(move |board| {
        kept.with(|kept| kept.insert(board.disks[0].observe_quietly(in_digits)));
        Ok(())
    });
    for budgets in [Budgets::NONE, one(Family::Stuck)] {
        common::sectors::explore_all(&giving_up, budgets);
        let ends = board_end.with(std::mem::take);
        assert_eq!(ends, lines(&["10000000", "20000000"]), "{budgets:?}");
    }
}

#[test]
fn only_families_that_are_on_are_offered_and_all_of_those() {
    let seen: Arc<Quiet<Vec<String>>> = Arc::default();
    let requests = [Flush, Write(1, 2, 1), Read(1, 2)];
    let program = in_turn(&requests, &seen);
    for number in 0..100_u64 {
        let is_on =
            |index: usize| number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (40 + index) & 1 == 1;
        let families = Family::ALL.iter().enumerate().filter(|(index, _)| is_on(*index));
        let families = families.fold(Families::NONE, |all, (_, family)| all.with(*family));
        let budgets = Budgets { faults: 2, families, ..Budgets::NONE };
        let mut offered = Families::NONE;
        let mut world = World::new(&setup(budgets).images, budgets, 0);
        for seed in 0..200 {
            let mut injected = 0;
            let mut watch = |_: &World, watched: Watched<'_>| {
                if let Watched::Before(event, enabled) = watched {
                    for Event { action, .. } in enabled {
                        if let Action::Fault(fault) = action {
                            assert!(injected < 2, "{families}: the budget is spent");
                            offered = offered.with(fault.family());
                        }
                    }
                    injected += u32::from(matches!(event.action, Action::Fault(_)));
                }
            };
            let mut walk = RandomWalk::new(seed);
            run_once(&mut world, &program, &mut walk, Limits::default(), &mut watch);
        }
        assert_eq!(offered, families);
    }
}

#[test]
fn families_are_read_and_written_by_name() {
    assert_eq!(Families::default().to_string(), "eio,eio-late");
    let all = "eio,eio-late,sticky-eio,enospc,short,torn,lost,misdirected,bit-rot,stuck,flush";
    assert_eq!(Families::ALL.to_string(), all);
    assert_eq!(all.parse(), Ok(Families::ALL));
    assert_eq!("flush,lost".parse::<Families>().map(|f| f.to_string()), Ok("lost,flush".into()));
    let unknown = "there is no family 'fire'; there are ".to_string() + all;
    assert_eq!("eio,fire".parse::<Families>(), Err(unknown));
}

/// What becomes of a disk of one sector that may have four, with one fault of this family at most: what each of the
/// requests brings, and how many sectors there are after it.
fn grown(family: Family, requests: &'static [(bool, u64, u64)]) -> BTreeSet<String> {
    let seen: Arc<Quiet<BTreeSet<String>>> = Arc::default();
    let found = seen.clone();
    let growing = program(move |runtime, board| {
        let (disk, seen) = (board.disks[0].clone(), seen.clone());
        task(runtime, "t", async move {
            let mut said = Vec::new();
            for (zeroes, first, count) in requests {
                let range = ByteRange::new(first * SECTOR, count * SECTOR);
                let done = match zeroes {
                    true => disk.write_zeroes(range, false).await,
                    false => {
                        let data = vec![1; (count * SECTOR) as usize].into();
                        disk.write(range.start(), data, false).await
                    }
                };
                let word = done.map_or_else(|error| error.errno_name(), |()| "ok");
                said.push(format!("{word} {}", disk.len().0 / SECTOR));
            }
            seen.with(|seen| seen.insert(said.join(", ")));
        });
    });
    let mut setup = setup(one(family));
    setup.images.truncate(1);
    setup.images[0].bytes = vec![1; SECTOR as usize].into();
    setup.images[0].capacity = ByteLen(4 * SECTOR);
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let mut explorer = Explorer::new(&growing, setup, Limits::default(), &mut go_on);
    let verdict = explorer.depth_first(Reduction::Optimal).verdict;
    assert_eq!(verdict, Verdict::Clean { exhausted: true });
    found.with(|found| found.clone())
}

#[test]
fn a_write_that_ends_in_the_middle_makes_a_disk_as_long_as_what_was_written() {
    let write = &[(false, 1, 3)];
    assert_eq!(grown(Family::Short, write), lines(&["ok 4", "EIO 2", "EIO 3"]));
    assert_eq!(grown(Family::Torn, write), lines(&["ok 4", "EIO 4"]));
    assert_eq!(grown(Family::Lost, write), lines(&["ok 4"]));
    assert_eq!(grown(Family::Eio, write), lines(&["ok 4", "EIO 1"]));
    assert_eq!(grown(Family::EioLate, write), lines(&["ok 4", "EIO 4"]));
}

#[test]
fn zeroes_that_make_a_disk_longer_take_space_and_may_have_done_so_when_they_fail() {
    let zeroes = &[(true, 1, 1), (true, 2, 1)];
    let said = lines(&["ok 2, ok 3", "ENOSPC 1, ENOSPC 1", "ok 2, ENOSPC 2"]);
    assert_eq!(grown(Family::Enospc, zeroes), said);
    let said = lines(&["ok 2, ok 3", "EIO 2, ok 3", "ok 2, EIO 3"]);
    assert_eq!(grown(Family::EioLate, zeroes), said);
}
