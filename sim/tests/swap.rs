//! Steps that are called independent commute; a program that goes round the door is noticed.

mod common;

use std::sync::Arc;

use blockyard_runtime::Runtime;
use blockyard_sim::{
    Budgets, Explorer, Finding, Limits, RandomWalk, Reduction, Verdict, World, swap_check,
};
use blockyard_sync::door::{self, world::Quiet};
use common::programs::{Operation, generate, of_tasks};
use common::{Board, FAULTLESS, Small, program, setup, task};

fn swap(program: &Small, budgets: Budgets, seed: u64) -> Result<usize, Finding> {
    let mut world = World::new(&setup(budgets).images, budgets, 0);
    swap_check(&mut world, program, &mut RandomWalk::new(seed), Limits::default())
}

#[test]
fn independent_steps_of_generated_programs_commute() {
    let mut swapped = 0;
    for number in 0..250 {
        let tasks = generate(number);
        // A poll that only finds a guard false again takes place or not as its wait was registered.
        if tasks.iter().flatten().any(|operation| matches!(operation, Operation::Take(_))) {
            continue;
        }
        let budgets = Budgets { faults: u32::from(number % 3 == 0), ..Budgets::NONE };
        for seed in 0..4 {
            let pairs = swap(&of_tasks(tasks.clone()), budgets, seed);
            swapped += pairs.unwrap_or_else(|found| panic!("{tasks:?}, walk {seed}: {found:?}"));
        }
    }
    assert!(swapped > 1000, "only {swapped} pairs were swapped");
}

/// Two tasks that share a number behind the door's back, as `share` says.
fn going_round(share: fn(usize, &Quiet<u64>, &Board)) -> Small {
    program(move |runtime, board| {
        let hidden: Arc<Quiet<u64>> = Arc::default();
        for index in 0..2 {
            let (hidden, board) = (hidden.clone(), board.clone());
            task(runtime, &format!("t{index}"), async move {
                door::boundary().await;
                share(index, &hidden, &board);
            });
        }
    })
}

#[track_caller]
fn check_swap_notices(program: &Small) {
    let found = (0..20).find_map(|seed| swap(program, FAULTLESS, seed).err());
    assert_eq!(found.map(|finding| finding.property).as_deref(), Some("determinism"));
}

#[test]
fn write_that_leaves_no_footprint_does_not_commute() {
    check_swap_notices(&going_round(|index, hidden, board| {
        board.saw(index, hidden.with(|value| (*value * 2 + index as u64, *value = 5).0));
    }));
}

#[test]
fn read_that_leaves_no_footprint_does_not_commute() {
    check_swap_notices(&going_round(|index, hidden, board| match index {
        0 => hidden.with(|value| *value = board.values[0].write(|shown| (*shown = 1, *shown).1)),
        _ => board.saw(index, hidden.with(|value| *value)),
    }));
}

#[test]
fn add_whose_result_is_looked_at_does_not_commute() {
    check_swap_notices(&program(|runtime, board| {
        for index in 0..2 {
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move {
                door::boundary().await;
                let mut looked = 0;
                board.values[0].add(|value| {
                    *value += 1;
                    looked = *value;
                });
                board.saw(index, looked);
            });
        }
    }));
}

#[test]
fn clock_that_leaves_no_footprint_does_not_commute() {
    let body = |runtime: &Runtime, board: Arc<Board>, hidden: Arc<Quiet<u64>>| {
        let (sleeper, slept) = (runtime.clone(), hidden.clone());
        task(runtime, "sleeper", async move {
            sleeper.sleep(5).await;
            slept.with(|now_ns| *now_ns = 5);
        });
        task(runtime, "looker", async move {
            door::boundary().await;
            board.saw(1, hidden.with(|now_ns| *now_ns));
        });
    };
    check_swap_notices(&program(move |runtime, board| body(runtime, board, Arc::default())));
}

#[test]
fn state_that_outlives_an_execution_is_a_finding_of_determinism() {
    let kept: Arc<Quiet<u64>> = Arc::default();
    let leaking = program(move |runtime, board| {
        let times = kept.with(|times| (*times += 1, *times).1);
        task(runtime, "t", async move {
            for _ in 0..times {
                board.values[0].write(|value| *value += 1);
                door::boundary().await;
            }
        });
    });
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let mut explorer = Explorer::new(&leaking, setup(FAULTLESS), Limits::default(), &mut go_on);
    let Verdict::Violated { finding, .. } = explorer.depth_first(Reduction::SourceSets).verdict
    else {
        panic!("the second run differs from the first");
    };
    assert_eq!(finding.property, "determinism");
}
