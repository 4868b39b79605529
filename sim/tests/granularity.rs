//! By door: what is between two awaits is interleaved as well.

mod common;

use std::sync::Arc;

use blockyard_sim::{
    Exploration, Explorer, Finding, Granularity, Limits, Outcome, RandomWalk, Reduction, Replay,
    Report, Setup, Summary, Verdict, Watched, WholePolls, World, run_once, swap_check,
};
use blockyard_sync::door::world::Quiet;
use common::compare::compare;
use common::programs::{Tasks, generate, generate_for, of_tasks, setup_of};
use common::{Board, FAULTLESS, Small, program, setup, task};

fn by(granularity: Granularity) -> Setup {
    Setup { granularity, ..setup(FAULTLESS) }
}

fn explore(small: &Small, setup: Setup, reduction: Reduction) -> Exploration {
    let limits = Limits { executions: 100_000, ..Limits::default() };
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(small, setup, limits, &mut go_on);
    explorer.keep_traces = true;
    explorer.depth_first(reduction)
}

/// Executions, blocked ones, and different traces of an exhausted search.
fn counts(small: &Small, granularity: Granularity, reduction: Reduction) -> (u64, u64, usize) {
    let Exploration { verdict, summary } = explore(small, by(granularity), reduction);
    assert_eq!(verdict, Verdict::Clean { exhausted: true });
    (summary.executions, summary.blocked, summary.traces.len())
}

fn increment(board: &Board) {
    let value = board.values[0].read(|value| *value);
    board.values[0].write(|new| *new = value + 1);
}

/// Tasks that add one to a value by looking at it and then changing it, with no await between.
fn increments(tasks: usize) -> Small {
    program(move |runtime, board| {
        for index in 0..tasks {
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move { increment(&board) });
        }
    })
}

fn none_is_lost(small: Small, tasks: u64) -> Small {
    small.checked(move |board| match board.first_values() {
        [count] if count == tasks => Ok(()),
        [count] => Err(format!("{count} of {tasks}")),
    })
}

#[test]
fn a_lost_update_is_seen_by_door_only() {
    let small = none_is_lost(increments(2), 2);
    let by_await = explore(&small, by(Granularity::Await), Reduction::Optimal);
    assert_eq!(by_await.verdict, Verdict::Clean { exhausted: true });
    let by_door = || explore(&small, by(Granularity::Door), Reduction::Optimal).verdict;
    let Verdict::Violated { finding, tape, hash, .. } = by_door() else { panic!("not found") };
    assert_eq!((finding.property.as_str(), finding.message.as_str()), ("check", "1 of 2"));
    assert_eq!(tape.len(), 6);
    assert_eq!(by_door(), Verdict::Violated { finding, tape: tape.clone(), hash, seed: None });
    let mut go_on = |_: &Summary| true;
    let setup = by(Granularity::Door);
    let mut explorer = Explorer::new(&small, setup, Limits::default(), &mut go_on);
    let tape = tape.into_iter().map(|line| line.event).collect();
    let (again, _) = explorer.replay(tape);
    assert_eq!(again.hash, hash);
}

/// Each task reads and then writes one value, and then tells whoever waits for its end: three steps. Two tasks have 20
/// interleavings; but there are four orders only of what is shared: one task after the other in either order, and both
/// reads first, with the writes in either order. By await n tasks have n! orders.
#[test]
fn the_traces_of_a_read_and_a_write_are_those_counted_by_hand() {
    let [two, three] = [2, 3].map(increments);
    for reduction in [Reduction::SleepSets, Reduction::SourceSets, Reduction::Optimal] {
        let (executions, blocked, traces) = counts(&two, Granularity::Door, reduction);
        assert_eq!((executions - blocked, traces), (4, 4), "{reduction:?}");
    }
    assert_eq!(counts(&two, Granularity::Door, Reduction::Plain), (20, 0, 4));
    assert_eq!(counts(&three, Granularity::Door, Reduction::Plain).0, 1_680);
    assert_eq!(counts(&two, Granularity::Await, Reduction::Optimal), (2, 0, 2));
    assert_eq!(counts(&three, Granularity::Await, Reduction::Optimal), (6, 0, 6));
}

/// What tasks do to values of their own needs one execution, however many operations it takes.
#[test]
fn operations_apart_need_one_execution() {
    let small = program(|runtime, board| {
        for index in 0..3 {
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move {
                for _ in 0..5 {
                    board.saw(index, 1);
                }
            });
        }
    });
    assert_eq!(counts(&small, Granularity::Door, Reduction::Optimal), (1, 0, 1));
}

/// A task is polled for the sake of one wait and looks at another first; both end by others' steps, in any order.
#[test]
fn a_guard_that_falls_in_the_middle_of_a_poll_is_waited_for_again() {
    let small = program(|runtime, board| {
        let other = board.clone();
        task(runtime, "waiter", async move {
            let first = board.values[0].wait_until(|value| *value == 2);
            let second = board.values[1].wait_for(|value| *value == 1, |value| *value += 10);
            if blockyard_sync::first_of(first, second).await {
                board.saw(0, 1);
            } else {
                board.saw(0, 2);
            }
        });
        task(runtime, "other", async move {
            for value in [1, 0, 1] {
                other.values[1].write(|now| *now = value);
            }
            other.values[0].write(|value| *value = 2);
        });
    });
    let plain = explore(&small, by(Granularity::Door), Reduction::Plain);
    assert_eq!(plain.verdict, Verdict::Clean { exhausted: true });
    for reduction in [Reduction::SleepSets, Reduction::SourceSets, Reduction::Optimal] {
        let reduced = explore(&small, by(Granularity::Door), reduction);
        assert_eq!(reduced.summary.traces, plain.summary.traces, "{reduction:?}");
    }
}

#[test]
fn a_panic_in_the_middle_of_a_poll_is_a_finding() {
    let small = program(|runtime, board| {
        for index in 0..2 {
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move {
                let value = board.values[0].read(|value| *value);
                board.values[0].write(|now| assert_eq!(*now, value, "somebody came between"));
                board.values[0].write(|now| *now += 1);
            });
        }
    });
    let found = explore(&small, by(Granularity::Door), Reduction::Optimal).verdict;
    let Verdict::Violated { finding, .. } = found else { panic!("not found") };
    assert_eq!(finding.property, "no-panic");
    assert!(finding.message.contains("somebody came between"), "{}", finding.message);
}

/// Counts its drops, and goes through the door in its destructor.
struct Counted(Arc<Board>, Arc<Quiet<u64>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.with(|drops| *drops += 1);
        increment(&self.0);
    }
}

/// A world that is reset or dropped in the middle of polls drops what they hold, once, and nothing else runs; also
/// where a poll paused in a destructor.
#[test]
fn polls_under_way_are_dropped_with_their_world() {
    let drops = Arc::new(Quiet::new(0_u64));
    let counting = drops.clone();
    let small = program(move |runtime, board| {
        for index in 0..3 {
            let (board, drops) = (board.clone(), counting.clone());
            task(runtime, &format!("t{index}"), async move {
                let _counted = Counted(board.clone(), drops);
                increment(&board);
            });
        }
    });
    let Setup { images, budgets, seed, .. } = by(Granularity::Door);
    let mut world = World::new(&images, budgets, seed);
    world.granularity = Granularity::Door;
    let limits = Limits { steps: 5, ..Limits::default() };
    let tape = ["t0", "t1", "t2", "t0", "t0"].map(|task| format!("poll {task}")).to_vec();
    let cut_short = |world: &mut World| {
        let mut replay = Replay::new(tape.clone());
        run_once(world, &small, &mut replay, limits, &mut |_, _| ())
    };
    let first = cut_short(&mut world);
    let Outcome::Violated(Finding { property, .. }) = &first.outcome else { panic!("it ended") };
    assert_eq!(property, "progress");
    assert_eq!(drops.with(|drops| *drops), 1);
    assert_eq!(cut_short(&mut world), first);
    assert_eq!(drops.with(|drops| *drops), 4);
    drop(world);
    assert_eq!(drops.with(|drops| *drops), 6);
}

fn run(
    number: u64,
    tasks: &Tasks,
    granularity: Granularity,
    chooser: &mut dyn blockyard_sim::Chooser,
) -> (Report, u64, Vec<String>) {
    let Setup { images, budgets, seed, .. } = setup_of(number, tasks);
    let mut world = World::new(&images, budgets, seed);
    world.granularity = granularity;
    let (mut digest, mut tape) = (0, Vec::new());
    let mut watch = |world: &World, watched: Watched<'_>| match watched {
        Watched::Before(event, _) => tape.push(world.describe(event)),
        Watched::End(execution) => digest = execution.digest(world),
        Watched::After(_) => {}
    };
    let small = of_tasks(tasks.clone());
    let report = run_once(&mut world, &small, chooser, Limits::default(), &mut watch);
    (report, digest, tape)
}

/// "An await tape is a door tape under 'continue the current task'."
#[test]
fn a_tape_by_await_is_one_by_door_whose_polls_run_whole() {
    for number in 0..400 {
        let tasks = generate(number);
        let (report, digest, tape) =
            run(number, &tasks, Granularity::Await, &mut RandomWalk::new(number));
        let mut whole = WholePolls(Replay::new(tape));
        let (by_door, same, longer) = run(number, &tasks, Granularity::Door, &mut whole);
        assert_eq!((by_door.outcome, same), (report.outcome, digest), "{number} {tasks:?}");
        let mut again = Replay::new(longer);
        let (again, same, _) = run(number, &tasks, Granularity::Door, &mut again);
        assert_eq!((again.hash, same), (by_door.hash, digest), "{number} {tasks:?}");
    }
}

/// Programs small enough that plain search ends by door, too.
#[test]
fn reduced_search_by_door_sees_the_traces_of_plain_search_each_once() {
    let reductions = [
        ("sleep sets", Reduction::SleepSets),
        ("source sets", Reduction::SourceSets),
        ("optimal", Reduction::Optimal),
    ];
    let (mut compared, mut large) = (0, 0);
    for number in 0..170 {
        let tasks = generate_for(number, Granularity::Door);
        let searched = compare(number, &tasks, Granularity::Door, &reductions);
        let searched = searched.unwrap_or_else(|differs| panic!("{number} {tasks:?}: {differs}"));
        compared += u64::from(searched.is_some());
        large += u64::from(searched.is_some_and(|searched| searched.traces >= 20));
    }
    assert!(compared >= 100 && large >= 3, "{compared} compared, {large} large");
}

#[test]
fn independent_parts_of_polls_commute() {
    let mut swapped = 0;
    for number in 0..100 {
        let tasks = generate(number);
        let Setup { images, budgets, seed, .. } = setup_of(number, &tasks);
        let mut world = World::new(&images, budgets, seed);
        world.granularity = Granularity::Door;
        let small = of_tasks(tasks.clone());
        let mut walk = RandomWalk::new(number);
        let result = swap_check(&mut world, &small, &mut walk, Limits::default());
        swapped += result.unwrap_or_else(|finding| panic!("{number} {tasks:?}: {finding:?}"));
    }
    assert!(swapped > 500, "{swapped}");
}
