//! One tape, one run; and what a tape that does not fit says.

mod common;

use blockyard_sim::{
    Budgets, Divergence, Explorer, Finding, Limits, Outcome, RandomWalk, Reduction, Replay,
    SeedFile, SeedFileError, Summary, TapeLine, Verdict, Watched, World, run_once,
};
use blockyard_sync::{door, note};
use common::programs::{generate, of_tasks};
use common::{FAULTLESS, Small, program, setup, task};

fn explorer<T>(program: &Small, explore: impl FnOnce(&mut Explorer<'_>) -> T) -> T {
    let mut go_on = |_: &Summary| true;
    explore(&mut Explorer::new(program, setup(FAULTLESS), Limits::default(), &mut go_on))
}

#[test]
fn same_tape_gives_the_same_hash_in_any_world() {
    for number in 0..40 {
        let program = of_tasks(generate(number));
        let budgets = Budgets { faults: number as u32 % 2, ..Budgets::NONE };
        let setup = setup(budgets);
        let mut world = World::new(&setup.images, budgets, 0);
        for seed in 0..5 {
            let mut tape = Vec::new();
            let mut watch = |world: &World, watched: Watched<'_>| {
                if let Watched::Before(event, _) = watched {
                    tape.push(world.describe(event));
                }
            };
            let mut walk = RandomWalk::new(seed);
            let first = run_once(&mut world, &program, &mut walk, Limits::default(), &mut watch);
            let mut walk = RandomWalk::new(seed);
            let limits = Limits::default();
            let second = run_once(&mut world, &program, &mut walk, limits, &mut |_, _| ());
            assert_eq!(first, second, "program {number}, walk {seed}");
            let mut fresh = World::new(&setup.images, budgets, 0);
            let mut replay = Replay::new(tape);
            let third = run_once(&mut fresh, &program, &mut replay, limits, &mut |_, _| ());
            assert_eq!(first, third, "program {number}, walk {seed}");
        }
    }
}

#[test]
fn random_numbers_drawn_while_setting_up_repeat() {
    let drawing = program(|runtime, board| {
        let drawn = runtime.random_u64();
        task(runtime, "t", async move { board.saw(0, drawn) });
    })
    .checked(|board| {
        let mut seen = 0u64;
        board.seen[0].read(|number| seen = *number);
        Err(format!("drew {seen}"))
    });
    let mut world = World::new(&[], FAULTLESS, 3);
    let mut run = || {
        let mut walk = RandomWalk::new(0);
        run_once(&mut world, &drawing, &mut walk, Limits::default(), &mut |_, _| ()).outcome
    };
    assert_eq!(run(), run());
}

fn two_notes() -> Small {
    program(|runtime, board| {
        for name in ["one", "two"] {
            let board = board.clone();
            task(runtime, name, async move {
                note!("{name} looks; and looks again");
                board.values[0].read(|_| ());
                door::boundary().await;
                note!("{name} is done");
            });
        }
    })
}

fn replay(tape: &[&str]) -> (Outcome, Vec<TapeLine>) {
    let tape = tape.iter().map(|line| String::from(*line)).collect();
    let (report, lines) = explorer(&two_notes(), |explorer| explorer.replay(tape));
    (report.outcome, lines)
}

#[test]
fn replay_follows_its_tape_and_tells_what_each_step_did() {
    let (outcome, lines) = replay(&["poll two", "poll one", "poll two"]);
    assert_eq!(outcome, Outcome::Ended);
    let text: Vec<_> = lines.iter().map(|line| line.to_string()).collect();
    let expected = [
        "poll two                                      ; two looks; and looks again",
        "poll one                                      ; one looks; and looks again",
        "poll two                                      ; two is done",
        "poll one                                      ; one is done",
    ];
    assert_eq!(text, expected);
}

#[test]
fn replay_that_does_not_fit_tells_step_expected_and_possible() {
    let (outcome, _) = replay(&["poll two", "poll three"]);
    let divergence = Divergence {
        step: 2,
        expected: "poll three".into(),
        possible: vec!["poll one".into(), "poll two".into()],
    };
    let text = "step 2: the tape says 'poll three'; possible were poll one, poll two";
    assert_eq!(divergence.to_string(), text);
    assert_eq!(outcome, Outcome::Diverged(divergence));
}

#[test]
fn violation_is_replayed_by_its_tape() {
    let losing = program(|runtime, board| {
        for index in 0..2 {
            let board = board.clone();
            task(runtime, &format!("t{index}"), async move {
                let value = board.values[0].read(|value| *value);
                door::boundary().await;
                board.values[0].write(|stored| *stored = value + 1);
            });
        }
    })
    .checked(|board| match board.first_values() {
        [2] => Ok(()),
        [value] => Err(format!("{value} of 2 increments")),
    });
    let lost = Finding { property: "check".into(), message: "1 of 2 increments".into() };
    for random in [false, true] {
        let verdict = explorer(&losing, |explorer| match random {
            true => explorer.random(0..100).verdict,
            false => explorer.depth_first(Reduction::SourceSets).verdict,
        });
        let Verdict::Violated { finding, tape, hash, seed } = verdict else {
            panic!("an update is lost");
        };
        assert_eq!((finding, seed.is_some()), (lost.clone(), random));
        let tape = tape.into_iter().map(|line| line.event).collect();
        let (report, _) = explorer(&losing, |explorer| explorer.replay(tape));
        assert_eq!((report.outcome, report.hash), (Outcome::Violated(lost.clone()), hash));
    }
}

#[test]
fn seed_file_is_read_as_it_was_printed() {
    let mut file = SeedFile::default();
    file.push_head("scenario", "resurrected-filter");
    file.push_head("finding", "two\nlines: one");
    let line = |event: &str, notes: &[&str]| TapeLine {
        event: event.into(),
        notes: notes.iter().map(|note| String::from(*note)).collect(),
    };
    file.tape = vec![line("poll t0", &[]), line("effect t0#0 a write 0+512", &["wrote", "twice"])];
    let text = "blockyard seed file 1\nscenario: resurrected-filter\nfinding: two lines: one\n\
                tape:\npoll t0\n\
                effect t0#0 a write 0+512                     ; wrote; twice\n";
    assert_eq!(file.to_string(), text);
    assert_eq!(SeedFile::parse(text), Ok(file.clone()));
    assert_eq!(file.head("scenario"), Ok("resurrected-filter"));
    let for_people = text.replace("tape:\n", "\n# for people\ntape:\n\n# more\n");
    assert_eq!(SeedFile::parse(&for_people), Ok(file));
}

#[test]
fn wrong_seed_file_is_told_by_line() {
    let first = "blockyard seed file 1\n";
    let cases = [
        ("", 1, "not a seed file: the first line is not 'blockyard seed file 1'"),
        ("blockyard seed file 2\ntape:\n", 1, "not a seed file: the first line is not"),
        (&format!("{first}a: b\n\nnonsense\ntape:\n"), 4, "neither 'key: value' nor 'tape:'"),
        (&format!("{first}a: b\n"), 2, "there is no 'tape:'"),
    ];
    for (text, line, message) in cases {
        let error = SeedFile::parse(text).expect_err("it is wrong");
        assert_eq!(error.line, line, "{text:?}");
        assert!(error.message.starts_with(message), "{error}");
    }
    let empty = SeedFile::default();
    let error = empty.head("seed");
    let message = "there is no head 'seed:'".into();
    assert_eq!(error, Err(SeedFileError { line: 1, message }));
}
