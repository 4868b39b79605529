//! Programs that recover from power losses: how few executions that takes, and what it finds.

mod common;

use std::collections::BTreeSet;

use blockyard_runtime::{IoBuffer, Runtime, Storage};
use blockyard_sim::{
    Budgets, Cache, Cost, DiskImage, Exploration, Explorer, Families, Family, Finding, Limits,
    Outcome, Reduction, Setup, Summary, Verdict,
};
use blockyard_units::ByteRange;
use common::recovering::{ATOM, RECORDS, Recovering, Tools, eight_writers, log};
use common::task;

const CRASH: Budgets = Budgets { crashes: 1, ..Budgets::NONE };

fn setup(atoms: u64, budgets: Budgets) -> Setup {
    let image = DiskImage::new("a", vec![0; (atoms * ATOM) as usize]);
    Setup { images: vec![image], budgets, seed: 0 }
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

/// Which flushes an update of the two superblocks leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forgets {
    Nothing,
    FlushOfData,
    FlushOfSuperblock,
}

/// Generations go to two places in turn, data first, then the superblock that names it.
fn superblocks(forgets: Forgets, updates: u64) -> Recovering {
    let main = move |runtime: &Runtime, tools: Tools| {
        task(runtime, "writer", async move {
            for generation in 1..=updates {
                let place = generation % 2;
                tools.write(2 + place, generation).await;
                if forgets != Forgets::FlushOfData {
                    tools.flush().await;
                }
                tools.write(place, generation).await;
                if forgets != Forgets::FlushOfSuperblock {
                    tools.flush().await;
                }
                tools.acknowledge(generation);
            }
        });
    };
    let recovery = |runtime: &Runtime, tools: Tools| {
        task(runtime, "recovery", async move {
            let generation = tools.read(0).await.max(tools.read(1).await);
            let data = tools.read(2 + generation % 2).await;
            tools.observed.with(|observed| observed.recovered = Some(generation * 256 + data));
        });
    };
    Recovering::new(main, recovery).demanding(|recovered, acknowledged| {
        let (generation, data) = (recovered / 256, recovered % 256);
        let least = acknowledged.iter().max().copied().unwrap_or(0);
        if data != generation {
            return Err(format!("the superblock names {generation}, the data is {data}"));
        }
        if generation < least {
            return Err(format!("{generation} was recovered, {least} had been acknowledged"));
        }
        Ok(())
    })
}

fn violated(program: &Recovering, setup: &Setup) -> (Finding, Vec<String>) {
    match exhaust(program, setup.clone()).verdict {
        Verdict::Violated { finding, tape, .. } => {
            (finding, tape.into_iter().map(|line| line.event).collect())
        }
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn a_missing_flush_is_found_and_none_missing_is_clean() {
    let (setup, twice) = (setup(4, CRASH), setup(4, Budgets { crashes: 2, ..Budgets::NONE }));
    executions(&superblocks(Forgets::Nothing, 3), setup.clone());
    executions(&superblocks(Forgets::Nothing, 3), twice);
    for forgets in [Forgets::FlushOfData, Forgets::FlushOfSuperblock] {
        let (finding, _) = violated(&superblocks(forgets, 3), &setup);
        assert_eq!(finding.property, "durability");
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
fn what_a_power_loss_breaks_is_replayed_and_shrunk() {
    let program = superblocks(Forgets::FlushOfData, 3);
    let (finding, tape) = violated(&program, &setup(4, CRASH));
    let replay = |tape: Vec<String>| {
        explorer(&program, setup(4, CRASH), |explorer| explorer.replay(tape)).0.outcome
    };
    assert_eq!(replay(tape.clone()), Outcome::Violated(finding));
    let same = |finding: &Finding| finding.property == "durability";
    let mut forms = BTreeSet::new();
    let random = explorer(&program, setup(4, CRASH), |explorer| explorer.random(0..100).verdict);
    let Verdict::Violated { tape: other, .. } = random else { panic!("{random:?}") };
    let other = other.into_iter().map(|line| line.event).collect();
    for tape in [tape, other] {
        let limits = Limits { executions: 100_000, ..Limits::default() };
        let shrink = |explorer: &mut Explorer<'_>| explorer.shrink(tape, &same, limits);
        let shrunk = explorer(&program, setup(4, CRASH), shrink).expect("the tape fails");
        assert!(shrunk.minimal);
        let Cost { faults, crashes, .. } = shrunk.cost_after;
        assert_eq!((faults, crashes), (0, 1));
        let lines: Vec<String> = shrunk.tape.iter().map(|line| line.to_string()).collect();
        let events = shrunk.tape.into_iter().map(|line| line.event).collect();
        assert_eq!(replay(events), Outcome::Violated(shrunk.finding));
        forms.insert(lines);
    }
    assert_eq!(forms.len(), 1, "{forms:#?}");
    let lines = forms.pop_first().expect("there is one");
    println!("{}", lines.join("\n"));
    assert!(lines.iter().any(|line| line.contains("necessary crash")));
}
