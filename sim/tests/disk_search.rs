//! Reduced search of programs whose disk requests go wrong sees what plain search sees.

mod common;

use std::collections::BTreeMap;

use blockyard_runtime::Storage;
use blockyard_sim::{
    Budgets, Families, Family, Limits, RandomWalk, Reduction, Summary, World, swap_check,
};
use blockyard_units::ByteRange;
use common::programs::Operation::{DiskFlush, DiskRead, DiskWrite};
use common::programs::{Tasks, of_tasks};
use common::{Small, program, search, setup, task};

/// Plain searches that take more executions are left out.
const MOST: u64 = 20_000;

fn compare(name: &str, program: &Small, budgets: Budgets) -> Option<usize> {
    search::compare(name, program, budgets, MOST)
}

/// Programs of two tasks with one or two requests each; sectors are 512 bytes, and each request touches two.
fn generated(number: u64) -> Tasks {
    let mut dice = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut roll = |below: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice >> 33) % below
    };
    let lengths = [1 + roll(2), 1];
    let mut request = || match roll(5) {
        0 | 1 => DiskWrite(256 + 512 * roll(2)),
        2 | 3 => DiskRead(256 + 512 * roll(2)),
        _ => DiskFlush,
    };
    lengths.map(|length| (0..length).map(|_| request()).collect()).into()
}

#[test]
fn reduced_search_with_each_family_sees_the_traces_of_plain_search_each_once() {
    let mut traces = BTreeMap::<Family, usize>::new();
    for number in 0..40 {
        let tasks = generated(number);
        let program = of_tasks(tasks.clone());
        for &family in Family::ALL {
            let families = Families::NONE.with(family);
            let budgets = Budgets { faults: 1 + number as u32 % 2, families, ..Budgets::NONE };
            let compared = compare(&format!("{tasks:?}"), &program, budgets);
            *traces.entry(family).or_default() += compared.unwrap_or_default();
        }
    }
    println!("{traces:?}");
    assert!(traces.values().all(|traces| *traces > 100), "{traces:?}");
}

#[test]
fn reduced_search_with_all_families_sees_the_traces_of_plain_search_each_once() {
    let mut compared = 0;
    let written_then_flushed = vec![vec![DiskWrite(0), DiskFlush], vec![DiskFlush]];
    for tasks in (0..12).map(generated).chain([written_then_flushed]) {
        let program = of_tasks(tasks.clone());
        let budgets = Budgets { faults: 1, families: Families::ALL, ..Budgets::NONE };
        compared += usize::from(compare(&format!("{tasks:?}"), &program, budgets).is_some());
    }
    assert!(compared >= 6, "only {compared} programs could be exhausted");
}

/// Tasks that each make one request to a sector of their own.
fn apart(tasks: u64, is_write: bool) -> Small {
    program(move |runtime, board| {
        for index in 0..tasks {
            let disk = board.disks[0].clone();
            task(runtime, &format!("t{index}"), async move {
                if is_write {
                    // Whether it fails is what is searched.
                    let _ = disk.write(512 * index, vec![1; 512].into(), false).await;
                } else {
                    let _ = disk.read(ByteRange::new(512 * index, 512)).await;
                }
            });
        }
    })
}

fn optimal(program: &Small, budgets: Budgets) -> (usize, u64) {
    let Summary { traces, executions, blocked, .. } =
        search::explore(program, Reduction::Optimal, budgets, MOST).summary;
    assert_eq!(blocked, 0);
    (traces.len(), executions)
}

#[test]
fn a_fault_among_independent_requests_costs_an_execution_for_each_place_it_may_hit() {
    let before = Families::NONE.with(Family::Eio);
    for (families, writes) in [(before, (9, 9)), (Families::DEFAULT, (17, 17))] {
        let budgets = Budgets { faults: 1, families, ..Budgets::NONE };
        assert_eq!(optimal(&apart(8, true), budgets), writes, "{families}");
    }
    for (faults, traces) in [(1, 1 + 8), (2, 1 + 8 + 28)] {
        let budgets = Budgets { faults, ..Budgets::NONE };
        assert_eq!(optimal(&apart(8, false), budgets), (traces, traces as u64));
    }
    for (is_write, labels) in [(false, 1), (true, 2)] {
        for faults in [1, 2] {
            let budgets = Budgets { faults, ..Budgets::NONE };
            let expected = 1 + 2 * labels + if faults == 2 { labels * labels } else { 0 };
            let compared = compare("two tasks", &apart(2, is_write), budgets);
            assert_eq!(compared, Some(expected));
        }
    }
}

#[test]
fn three_independent_requests_with_faults_are_searched_as_plainly() {
    for faults in [1, 2] {
        let budgets = Budgets { faults, ..Budgets::NONE };
        let traces = [1 + 3, 1 + 3 + 3][faults as usize - 1];
        assert_eq!(
            search::compare("three tasks", &apart(3, false), budgets, 1_000_000),
            Some(traces)
        );
    }
}

#[test]
fn independent_steps_commute_with_every_family() {
    let mut swapped = 0;
    for number in 0..150 {
        let tasks = generated(number);
        let faults = 1 + number as u32 % 3;
        let budgets = Budgets { faults, families: Families::ALL, ..Budgets::NONE };
        let mut world = World::new(&setup(budgets).images, budgets, 0);
        for seed in 0..6 {
            let mut walk = RandomWalk::new(seed);
            let program = of_tasks(tasks.clone());
            let pairs = swap_check(&mut world, &program, &mut walk, Limits::default());
            swapped += pairs.unwrap_or_else(|found| panic!("{tasks:?}, walk {seed}: {found:?}"));
        }
    }
    assert!(swapped > 1000, "only {swapped} pairs were swapped");
}
