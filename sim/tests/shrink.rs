//! Failing tapes get simpler, and stay failures.

mod common;

use blockyard_runtime::{IoBuffer, Storage};
use blockyard_sim::{
    Budgets, Cost, Explorer, Finding, Limits, Outcome, Shrunk, Summary, TapeLine, Verdict,
};
use blockyard_sync::door;
use common::{FAULTLESS, Small, program, setup, task};

const FAULTS: Budgets = Budgets { faults: 3, ..Budgets::NONE };

fn is_check(finding: &Finding) -> bool {
    finding.property == "check"
}

fn explorer<T>(
    program: &Small,
    budgets: Budgets,
    explore: impl FnOnce(&mut Explorer<'_>) -> T,
) -> T {
    let mut go_on = |_: &Summary| true;
    explore(&mut Explorer::new(program, setup(budgets), Limits::default(), &mut go_on))
}

/// The failures that these many random runs find, as tapes.
fn failures(program: &Small, budgets: Budgets, count: usize) -> Vec<Vec<String>> {
    let mut tapes = Vec::new();
    let mut seed = 0;
    while tapes.len() < count {
        let exploration =
            explorer(program, budgets, |explorer| explorer.random(seed..seed + 100_000));
        let Verdict::Violated { finding, tape, seed: Some(found), .. } = exploration.verdict else {
            panic!("only {} failures", tapes.len());
        };
        assert!(is_check(&finding), "{finding:?}");
        tapes.push(tape.into_iter().map(|line| line.event).collect());
        seed = found + 1;
    }
    tapes
}

fn shrink(program: &Small, budgets: Budgets, tape: Vec<String>, replays: u64) -> Shrunk {
    let limits = Limits { executions: replays, ..Limits::default() };
    let shrunk = explorer(program, budgets, |explorer| explorer.shrink(tape, &is_check, limits));
    shrunk.expect("the tape fails")
}

/// A writer whose write fails forgets that for a moment, in which a reader looks; so many others make noise.
fn forgetful(others: u64) -> Small {
    program(move |runtime, board| {
        let shared = board.clone();
        task(runtime, "writer", async move {
            shared.values[0].write(|pending| *pending = 1);
            let written = shared.disks[0].write(0, IoBuffer::from(vec![1; 512]), false).await;
            if written.is_err() {
                shared.values[1].write(|unnoticed| *unnoticed = 1);
                door::boundary().await;
                shared.values[1].write(|unnoticed| *unnoticed = 0);
            }
        });
        let shared = board.clone();
        task(runtime, "reader", async move {
            let unnoticed = shared.values[1].read(|value| *value);
            shared.values[2].write(|seen| *seen = unnoticed);
        });
        for index in 0..others {
            let board = board.clone();
            task(runtime, &format!("noise{index}"), async move {
                for round in 0..2 {
                    let data = IoBuffer::from(vec![round; 512]);
                    let _ = board.disks[1].write(512 * index, data, false).await;
                    board.values[3].write(|value| *value += 1);
                    door::boundary().await;
                }
            });
        }
    })
    .checked(|board| match board.first_values() {
        [_, _, 0] => Ok(()),
        [_, _, seen] => Err(format!("the reader saw {seen}")),
    })
}

/// Two tasks add to one number with a step between reading and writing; others make noise.
fn losing() -> Small {
    program(|runtime, board| {
        for (name, rounds) in [("adder", 1), ("doer", 2)] {
            let board = board.clone();
            task(runtime, name, async move {
                for _ in 0..rounds {
                    let value = board.values[0].read(|value| *value);
                    door::boundary().await;
                    board.values[0].write(|stored| *stored = value + 1);
                    door::boundary().await;
                }
            });
        }
        for index in 0..2 {
            let board = board.clone();
            task(runtime, &format!("noise{index}"), async move {
                for _ in 0..3 {
                    board.values[1].write(|value| *value += 1);
                    door::boundary().await;
                }
            });
        }
    })
    .checked(|board| match board.first_values() {
        [3] => Ok(()),
        [value] => Err(format!("{value} of 3")),
    })
}

fn events(shrunk: &Shrunk) -> Vec<String> {
    shrunk.tape.iter().map(|line| line.event.clone()).collect()
}

/// How often each tape comes out of shrinking `count` random failures, most frequent first.
fn forms(program: &Small, budgets: Budgets, count: usize, replays: u64) -> Vec<(usize, Shrunk)> {
    let mut forms: Vec<(usize, Shrunk)> = Vec::new();
    for tape in failures(program, budgets, count) {
        let shrunk = shrink(program, budgets, tape, replays);
        assert!(shrunk.minimal);
        assert!(shrunk.cost_after <= shrunk.cost_before);
        match forms.iter_mut().find(|(_, form)| form.tape == shrunk.tape) {
            Some((number, _)) => *number += 1,
            None => forms.push((1, shrunk)),
        }
    }
    forms.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    for (number, form) in &forms {
        println!("{number} times, {} replays: {}", form.replays, form.cost_after);
        form.tape.iter().for_each(|line| println!("    {line}"));
    }
    forms
}

fn notes(shrunk: &Shrunk, event: &str) -> Vec<String> {
    let line = shrunk.tape.iter().find(|line| line.event == event);
    line.unwrap_or_else(|| panic!("no '{event}'")).notes.clone()
}

fn assert_forgotten(form: &Shrunk, race: &str) {
    assert_eq!(notes(form, "fail writer#0 a write 0+512"), ["necessary fault"]);
    assert_eq!(notes(form, "poll reader"), ["necessary preemption", race]);
}

#[test]
fn a_fault_and_a_preemption_among_noise_shrink_to_themselves() {
    let forms = forms(&forgetful(1), FAULTS, 100, 100_000);
    let (number, form) = &forms[0];
    let least =
        Cost { faults: 1, crashes: 0, preemptions: 1, operations: 2, bytes: 1024, events: 15 };
    assert_eq!((*number, form.cost_after), (100, least));
    assert!(form.least);
    assert_forgotten(form, "races with step 15");
}

#[test]
fn among_more_noise_than_can_be_searched_edits_alone_do_nearly_as_well() {
    let forms = forms(&forgetful(3), FAULTS, 100, 1_000);
    let (number, form) = &forms[0];
    let least =
        Cost { faults: 1, crashes: 0, preemptions: 1, operations: 6, bytes: 3072, events: 33 };
    assert_eq!(form.cost_after, least);
    assert!(*number >= 95, "{number} of 100 shrink to one tape");
    assert!(!form.least);
    assert_forgotten(form, "races with step 33");
}

#[test]
fn random_failures_shrink_to_one_tape() {
    let forms = forms(&losing(), FAULTLESS, 100, 100_000);
    let (number, form) = &forms[0];
    assert_eq!((form.cost_after.preemptions, form.cost_after.events), (1, 16));
    assert_eq!((*number, form.least), (100, true));
}

/// A task writes to a disk, two others add to a number. The write must not fail, and no addition must be lost; to lose
/// one takes a preemption.
fn fails_in_two_ways() -> Small {
    program(|runtime, board| {
        let shared = board.clone();
        task(runtime, "writer", async move {
            let written = shared.disks[0].write(0, IoBuffer::from(vec![1; 512]), false).await;
            shared.values[1].write(|failed| *failed = u64::from(written.is_err()));
        });
        for (name, added) in [("adder", 1), ("taker", 2)] {
            let board = board.clone();
            task(runtime, name, async move {
                let value = board.values[0].read(|value| *value);
                door::boundary().await;
                board.values[0].write(|stored| *stored = value + added);
                door::boundary().await;
            });
        }
    })
    .checked(|board| match board.first_values() {
        [3, 0] => Ok(()),
        [value, failed] => Err(format!("{value} of 3, {failed} failed")),
    })
}

#[test]
fn a_fault_is_left_out_even_if_another_way_to_fail_takes_a_preemption() {
    let program = fails_in_two_ways();
    let fault = "fail writer#0 a write 0+512";
    let all = failures(&program, FAULTS, 40);
    let by_fault: Vec<_> = all.into_iter().filter(|tape| tape.iter().any(|e| e == fault)).collect();
    assert!(by_fault.len() >= 10, "{}", by_fault.len());
    for tape in by_fault {
        let shrunk = shrink(&program, FAULTS, tape, 100_000);
        let expected = [
            "poll adder",
            "poll taker",
            "poll taker",
            "poll taker",
            "poll adder",
            "poll adder",
            "poll writer",
            "effect writer#0 a write 0+512",
            "complete writer#0 a write 0+512",
            "poll writer",
        ];
        assert_eq!(events(&shrunk), expected, "{:#?}", shrunk.tape);
        let marked = |(step, line): (usize, &TapeLine)| {
            line.marks().map(|mark| (step + 1, mark.clone())).collect::<Vec<_>>()
        };
        let marks: Vec<_> = shrunk.tape.iter().enumerate().flat_map(marked).collect();
        let expected =
            [(1, "races with step 3"), (2, "necessary preemption"), (3, "races with step 1")];
        assert_eq!(marks, expected.map(|(step, mark)| (step, mark.to_string())));
        assert!(shrunk.least);
    }
}

#[test]
fn what_was_shrunk_replays_exactly_and_shrinks_no_further() {
    let program = forgetful(1);
    for tape in failures(&program, FAULTS, 10) {
        let shrunk = shrink(&program, FAULTS, tape, 100_000);
        let again = shrink(&program, FAULTS, events(&shrunk), 100_000);
        assert_eq!((&again.tape, again.cost_before), (&shrunk.tape, shrunk.cost_after));
        let tape = events(&shrunk);
        let (report, _) = explorer(&program, FAULTS, |explorer| explorer.replay(tape));
        assert_eq!((report.outcome, report.hash), (Outcome::Violated(shrunk.finding), shrunk.hash));
    }
}

#[test]
fn shrinking_that_is_stopped_early_says_so_and_still_fails() {
    let program = forgetful(1);
    let tape = failures(&program, FAULTS, 1).remove(0);
    for replays in [1, 2, 10, 50] {
        let shrunk = shrink(&program, FAULTS, tape.clone(), replays);
        assert!(!shrunk.minimal, "{replays} replays");
        assert!(shrunk.cost_after <= shrunk.cost_before);
        assert!(is_check(&shrunk.finding));
    }
}

#[test]
fn tape_that_breaks_nothing_or_something_else_is_refused() {
    let program = losing();
    let limits = Limits::default();
    let shrink = |tape: Vec<String>, same: &dyn Fn(&Finding) -> bool| {
        explorer(&program, FAULTLESS, |explorer| explorer.shrink(tape, same, limits))
    };
    assert_eq!(shrink(Vec::new(), &is_check).map(|_| ()), Err(Outcome::Ended));
    let failing = failures(&program, FAULTLESS, 1).remove(0);
    let other = shrink(failing, &|_| false);
    assert!(matches!(other, Err(Outcome::Violated(finding)) if is_check(&finding)));
    let unfit = shrink(vec!["poll nobody".into()], &is_check);
    assert!(matches!(unfit, Err(Outcome::Diverged(_))), "{unfit:?}");
}
