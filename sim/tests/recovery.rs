//! Programs that recover from power losses: how few executions that takes, and what it finds.

mod common;

use blockyard_runtime::{IoBuffer, Runtime, Storage};
use blockyard_sim::{
    Budgets, Cache, DiskImage, Exploration, Explorer, Families, Family, Limits, Reduction, Setup,
    Summary, Verdict,
};
use blockyard_units::ByteRange;
use common::planted::storing::{Forgets, superblocks};
use common::recovering::{ATOM, RECORDS, Recovering, Tools, eight_writers, log};
use common::task;

const CRASH: Budgets = Budgets { crashes: 1, ..Budgets::NONE };

fn setup(atoms: u64, budgets: Budgets) -> Setup {
    let image = DiskImage::new("a", vec![0; (atoms * ATOM) as usize]);
    Setup { images: vec![image], budgets, ..Setup::default() }
}

fn explorer<T>(
    program: &Recovering,
    setup: Setup,
    explore: impl FnOnce(&mut Explorer<'_>) -> T,
) -> T {
    let limits = Limits { executions: 100_000, ..Limits::default() };
    let mut go_on = |_: &Summary| true;
    explore(&mut Explorer::new(program, setup, limits, &mut go_on))
}

fn exhaust(program: &Recovering, setup: Setup) -> Exploration {
    explorer(program, setup, |explorer| explorer.depth_first(Reduction::Optimal))
}

/// How many executions exhaust a clean program.
#[track_caller]
fn executions(program: &Recovering, setup: Setup) -> u64 {
    let exploration = exhaust(program, setup);
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
    assert_eq!(exploration.summary.blocked, 0);
    exploration.summary.executions
}

#[test]
fn power_losses_cost_what_recovery_can_tell_apart() {
    for reads in [0, 1, 3, 5] {
        for at_once in [false, true] {
            let program = eight_writers(reads, at_once);
            assert_eq!(executions(&program, setup(8, Budgets { crashes: 0, ..Budgets::NONE })), 1);
            assert_eq!(executions(&program, setup(8, CRASH)), 1 + (1 << reads));
            assert_eq!(program.ends.with(|ends| ends.len()), 1 << reads);
        }
    }
}

#[test]
fn a_fault_may_hit_a_writer_or_a_read_of_recovery() {
    let families = Families::NONE.with(Family::Eio);
    let fault = Budgets { faults: 1, families, ..Budgets::NONE };
    for reads in [1, 3] {
        for at_once in [false, true] {
            let program = eight_writers(reads, at_once);
            assert_eq!(executions(&program, setup(8, fault)), 1 + 8);
            // A read that fails tells nothing apart.
            let recoveries = 9 * (1 << reads) + reads * (1 << (reads - 1));
            let both = Budgets { crashes: 1, ..fault };
            assert_eq!(executions(&program, setup(8, both)), 9 + recoveries);
        }
    }
}

#[test]
fn a_write_in_flight_leaves_any_subset_of_its_atoms() {
    let main = |runtime: &Runtime, tools: Tools| {
        drop(tools.disk.write(0, IoBuffer::from(vec![1; 3 * ATOM as usize]), false));
        task(runtime, "t", async {});
    };
    let recovery = |runtime: &Runtime, tools: Tools| {
        task(runtime, "recovery", async move {
            let bytes = tools.disk.read(ByteRange::new(0, 3 * ATOM)).await.expect("reads succeed");
            let kept =
                bytes.chunks(ATOM as usize).fold(0, |all, atom| all * 2 + u64::from(atom[0]));
            tools.observed.with(|observed| observed.recovered = Some(kept));
        });
    };
    let program = Recovering::new(main, recovery);
    assert_eq!(executions(&program, setup(3, CRASH)), 1 + 8);
    assert_eq!(program.ends.with(|ends| ends.len()), 8);
}

#[test]
fn a_log_of_many_records_has_a_state_for_each_place_where_it_may_end() {
    let program = log();
    let executions = executions(&program, setup(2 * RECORDS, CRASH));
    assert_eq!(program.ends.with(|ends| ends.len()), 201);
    assert_eq!(executions, 1 + 201);
}

#[test]
fn a_missing_flush_is_found_and_none_missing_is_clean() {
    let (setup, twice) = (setup(4, CRASH), setup(4, Budgets { crashes: 2, ..Budgets::NONE }));
    executions(&superblocks(Forgets::Nothing, 3), setup.clone());
    executions(&superblocks(Forgets::Nothing, 3), twice);
    for forgets in [Forgets::FlushOfData, Forgets::FlushOfSuperblock] {
        let verdict = exhaust(&superblocks(forgets, 3), setup.clone()).verdict;
        let broken = matches!(&verdict, Verdict::Violated { finding, .. } if finding.property == "durability");
        assert!(broken, "{forgets:?}: {verdict:?}");
    }
}

#[test]
fn disks_that_promise_more_or_less_find_more_or_less() {
    let on = |cache, forgets| {
        let mut setup = setup(4, CRASH);
        setup.images[0].cache = cache;
        exhaust(&superblocks(forgets, 2), setup).verdict == Verdict::Clean { exhausted: true }
    };
    use Forgets::{FlushOfData, FlushOfSuperblock, Nothing};
    let clean = |cache| [Nothing, FlushOfData, FlushOfSuperblock].map(|forgets| on(cache, forgets));
    assert_eq!(clean(Cache::WriteThrough), [true, true, true]);
    assert_eq!(clean(Cache::Volatile), [true, false, false]);
    assert_eq!(clean(Cache::Ordered), [true, true, false]);
    assert_eq!(clean(Cache::Lying), [false, false, false]);
}

#[test]
fn a_flush_of_recovery_that_fails_keeps_what_it_covers() {
    let families = Families::NONE.with(Family::Flush);
    let main = |runtime: &Runtime, tools: Tools| {
        task(runtime, "main", async move { tools.write(0, 1).await });
    };
    let recovery = |runtime: &Runtime, tools: Tools| {
        task(runtime, "recovery", async move {
            tools.write(0, 2).await;
            let _ = tools.disk.flush().await;
            let found = tools.read(0).await;
            tools.observed.with(|observed| observed.recovered = Some(found));
        });
    };
    let own = |found, _: &[u64]| if found == 2 { Ok(()) } else { Err(format!("{found} is found")) };
    let program = Recovering::new(main, recovery).demanding(own);
    let fault = Budgets { faults: 1, families, ..CRASH };
    // No loss; a loss, and a flush that succeeds or fails.
    assert_eq!(executions(&program, setup(1, fault)), 3);
}
