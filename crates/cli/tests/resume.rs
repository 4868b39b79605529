//! Threads and checkpoints: any number of threads sees what one sees, and a search that is killed or interrupted goes
//! on where it was.

mod common;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::{blockyard, blockyard_json, folder};
use serde_json::Value;

const LONG: [&str; 3] = ["explore", "resurrected-filter", "--exhaust"];

/// What a search counted.
fn counts(result: &Value) -> [&Value; 4] {
    ["executions", "blocked", "steps", "marks"].map(|key| &result[key])
}

fn start(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockyard"));
    command.args(arguments).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the command starts")
}

/// Waits until the checkpoint in `file` counts executions, or the process has ended.
fn wait_for_executions(child: &mut Child, file: &Path) {
    let counts = || {
        let text = std::fs::read_to_string(file).ok()?;
        let head: Value = serde_json::from_str(text.lines().next()?).expect("a head is JSON");
        head["executions"].as_u64().filter(|executions| *executions > 0)
    };
    while counts().is_none() && child.try_wait().expect("it is our child").is_none() {
        std::thread::yield_now();
    }
}

fn send(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    // It may have ended by itself.
    let _ = Command::new("kill").args([signal, &pid]).output().expect("there is a kill");
}

fn end(child: Child) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = child.wait_with_output().expect("it is our child");
    (status.code(), String::from_utf8(stdout).expect("output is text"))
}

#[test]
fn two_threads_see_the_traces_that_one_sees() {
    let folder = folder("threads");
    for (scenario, strategy) in
        [("mirror-active", "reduced"), ("mirror-active", "sleep"), ("mirror-passive", "reduced")]
    {
        let arguments = ["explore", scenario, "--exhaust", "--strategy", strategy];
        let (_, alone) = blockyard_json(&folder, &arguments);
        for threads in ["2", "3"] {
            let arguments = [&arguments[..], &["--threads", threads]].concat();
            let (status, together) = blockyard_json(&folder, &arguments);
            assert_eq!((status, &together["exhausted"]), (0, &Value::Bool(true)), "{together}");
            assert_eq!(together["traces"], alone["traces"], "{scenario}, {strategy}");
            assert_eq!(together["marks"], alone["marks"], "{scenario}, {strategy}");
        }
    }
}

#[test]
fn threads_find_a_failure_that_replays() {
    let folder = folder("threads-find");
    let naive = ["--design", "replace=naive", "--threads", "2"];
    for command in [
        &["explore", "resurrected-filter"][..],
        &["fuzz", "resurrected-filter", "--seeds", "0..2000"],
    ] {
        let (status, found) = blockyard_json(&folder, &[command, &naive].concat());
        assert_eq!((status, &found["property"]), (1, &Value::from("graph-validity")), "{found}");
        let seed_file = found["seed_file"].as_str().expect("it was kept");
        let (status, replayed) = blockyard_json(&folder, &["replay", seed_file]);
        assert_eq!((status, &replayed["same_hash"]), (1, &Value::Bool(true)), "{replayed}");
    }
}

#[test]
fn threads_draw_the_runs_that_one_draws_and_keep_the_least_seed() {
    let folder = folder("threads-draw");
    let naive = ["fuzz", "resurrected-filter", "--seeds", "0..2000", "--design", "replace=naive"];
    let generated =
        ["fuzz", "--generate", "--seeds", "0..500", "--mutant", "drain-skips-in-flight"];
    for command in [&naive[..], &generated] {
        let (status, alone) = blockyard_json(&folder, command);
        let (_, together) = blockyard_json(&folder, &[command, &["--threads", "3"]].concat());
        assert_eq!(status, 1, "{alone}");
        assert_eq!(together["seed_file"], alone["seed_file"]);
    }
    let clean = ["fuzz", "mirror-active", "--seeds", "5..105"];
    let (_, alone) = blockyard_json(&folder, &clean);
    let (_, together) = blockyard_json(&folder, &[&clean[..], &["--threads", "3"]].concat());
    let keys = ["executions", "steps", "traces", "marks", "verdict"];
    assert_eq!(keys.map(|key| &together[key]), keys.map(|key| &alone[key]));
}

#[test]
fn a_search_that_was_killed_goes_on_and_adds_up() {
    let folder = folder("killed");
    let (_, whole) = blockyard_json(&folder, &LONG);
    let arguments = [&LONG[..], &["--resume", "kept"]].concat();
    for _ in 0..2 {
        let mut child = start(&folder, &arguments);
        wait_for_executions(&mut child, &folder.join("kept"));
        send("-KILL", &child);
        end(child);
    }
    let (status, resumed) = blockyard_json(&folder, &arguments);
    assert_eq!((status, &resumed["exhausted"]), (0, &Value::Bool(true)), "{resumed}");
    assert_eq!(counts(&resumed), counts(&whole));
}

#[test]
fn one_process_goes_on_from_a_checkpoint_at_a_time() {
    let folder = folder("alone");
    let arguments = [&LONG[..], &["--resume", "kept"]].concat();
    let mut child = start(&folder, &arguments);
    // By then the file has been replaced.
    wait_for_executions(&mut child, &folder.join("kept"));
    send("-STOP", &child);
    let before = std::fs::read(folder.join("kept")).expect("it is there");
    let second = blockyard(&folder, &arguments);
    let has_ended = child.try_wait().expect("it is our child").is_some();
    if !has_ended {
        let said = "kept: another process goes on from it";
        assert!(second.status == 2 && second.stderr.contains(said), "{}", second.stderr);
        assert_eq!(std::fs::read(folder.join("kept")).expect("it is there"), before);
    }
    send("-KILL", &child);
    end(child);
    assert_eq!(blockyard(&folder, &arguments).status, 0, "a lock ends with its process");
    assert_eq!(std::fs::read_dir(&folder).expect("it is there").count(), 1, "nothing is left");
}

#[test]
fn a_checkpoint_goes_to_a_file() {
    let folder = folder("to-a-file");
    std::fs::write(folder.join("empty"), "").expect("the folder is writable");
    for (at, said) in
        [("/dev/null", "not a file"), (".", "directory"), ("empty/kept", "empty/kept")]
    {
        let ran = blockyard(&folder, &[&LONG[..], &["--resume", at]].concat());
        assert_eq!(ran.status, 2, "{at}: {}", ran.stdout);
        assert!(ran.stderr.contains(said), "{at}: {}", ran.stderr);
    }
    std::fs::create_dir(folder.join("taken.new")).expect("the folder is writable");
    let ran = blockyard(&folder, &[&LONG[..], &["--resume", "taken"]].concat());
    assert!(ran.status == 2 && ran.stderr.contains("taken.new: Is a directory"), "{ran:?}");
    assert!(!folder.join("taken").exists());
    std::os::unix::fs::symlink("target", folder.join("link")).expect("the folder is writable");
    let few = ["explore", "mirror-active", "--max-executions", "9", "--resume", "link"];
    assert_eq!(blockyard(&folder, &few).status, 0);
    assert!(folder.join("link").is_symlink(), "what a link leads to is replaced");
    // As whoever is killed at the very beginning leaves it.
    let ran = blockyard(&folder, &[&LONG[..], &["--resume", "empty"]].concat());
    assert_eq!(ran.status, 0, "{}", ran.stderr);
}

#[test]
fn an_interrupted_search_says_what_is_known_and_goes_on() {
    let folder = folder("interrupted");
    let (_, whole) = blockyard_json(&folder, &LONG);
    let arguments = [&LONG[..], &["--resume", "kept"]].concat();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        // A checkpoint of the other's counts executions already.
        let _ = std::fs::remove_file(folder.join("kept"));
        let mut child = start(&folder, &arguments);
        wait_for_executions(&mut child, &folder.join("kept"));
        send(signal, &child);
        let (status, said) = end(child);
        let was_in_time = status == Some(code);
        assert!(was_in_time || status == Some(0), "{status:?}: {said}");
        if was_in_time {
            assert!(said.contains("interrupted; clean so far"), "{said}");
            assert!(said.contains("checkpoint: kept\ngo on:      "), "{said}");
        }
    }
    let (status, resumed) = blockyard_json(&folder, &arguments);
    assert_eq!((status, counts(&resumed)), (0, counts(&whole)));
}

#[test]
fn a_search_goes_on_in_pieces_with_other_threads_until_it_has_ended() {
    let folder = folder("pieces");
    let (_, whole) = blockyard_json(&folder, &["explore", "mirror-active", "--exhaust"]);
    let piece = |most: &str, threads: &str| {
        let arguments = ["--max-executions", most, "--threads", threads, "--resume", "kept"];
        blockyard_json(
            &folder,
            &[&["explore", "mirror-active", "--exhaust"], &arguments[..]].concat(),
        )
    };
    for (most, threads) in [("1", "2"), ("50", "1"), ("120", "3")] {
        let (status, part) = piece(most, threads);
        assert_eq!((status, part["executions"].to_string()), (3, most.into()), "{part}");
    }
    let (status, resumed) = piece("100000", "2");
    assert_eq!((status, &resumed["traces"]), (0, &whole["traces"]), "{resumed}");
    let arguments = ["explore", "mirror-active", "--exhaust", "--resume", "kept"];
    let again = blockyard(&folder, &arguments);
    assert_eq!(again.status, 0, "{}", again.stderr);
    assert!(again.stdout.contains("this search had ended; nothing was run"), "{}", again.stdout);
}

#[test]
fn a_checkpoint_of_another_search_is_refused_and_left_as_it_is() {
    let folder = folder("another");
    let kept = folder.join("kept");
    let first = ["explore", "mirror-active", "--max-executions", "20", "--resume", "kept"];
    assert_eq!(blockyard(&folder, &first).status, 0);
    let text = std::fs::read_to_string(&kept).expect("it was written");
    let refused = |arguments: &[&str], said: &str| {
        let before = std::fs::read_to_string(&kept).expect("it is there");
        let ran = blockyard(&folder, &[arguments, &["--resume", "kept"]].concat());
        assert_eq!(ran.status, 2, "{}", ran.stdout);
        assert!(ran.stderr.contains(said) && ran.stderr.lines().count() == 1, "{}", ran.stderr);
        assert_eq!(std::fs::read_to_string(&kept).expect("it is there"), before);
    };
    let search = ["explore", "mirror-active"];
    refused(&["explore", "mirror-passive"], "kept from another search: scenario");
    let changed = |arguments: &[&str], said: &str| {
        let said = format!("kept from another search: {said} now");
        refused(&[&search[..], arguments].concat(), &said);
    };
    changed(&["--design", "replace=naive"], "design: replace was compare and is naive");
    changed(&["--faults", "1"], "budgets: faults was 0 and is 1");
    changed(&["--set", "size=32k"], "parameters: size was 16k and is 32k");
    changed(&["--mutant", "drain-skips-in-flight"], "mutant was none and is drain-skips-in-flight");
    // What differs in a scenario is of no interest where it is another.
    refused(&["explore", "mirror-passive", "--faults", "1"], "kept from another search: scenario");
    refused(&[&search[..], &["--strategy", "dfs"]].concat(), "another search: strategy was");
    refused(&[&search[..], &["--strategy", "random"]].concat(), "nothing to go on from");
    for (from, to, said) in [
        ("\"blockyard-checkpoint\":1", "\"blockyard-checkpoint\":2", "a checkpoint of version 2"),
        ("\"program\":\"", "\"program\":\"0", "kept from another search: program was"),
        ("\"executions\":", "\"executions\":1", "damaged"),
        ("\"seconds\":", "\"seconds\":1", "damaged"),
        ("\"paths\":[", "\"paths\":[[0,\"nobody\",0],", "damaged"),
        ("{", "", "not a checkpoint"),
    ] {
        assert!(text.contains(from), "{text}");
        std::fs::write(&kept, text.replacen(from, to, 1)).expect("the folder is writable");
        refused(&search, said);
    }
}

#[test]
fn results_are_told_even_if_they_cannot_be_kept() {
    let folder = folder("unkept");
    let nowhere = [&LONG[..], &["--resume", "nowhere/kept"]].concat();
    let ran = blockyard(&folder, &nowhere);
    assert_eq!((ran.status, ran.stderr.lines().count()), (2, 1), "{}", ran.stderr);
    assert!(ran.stderr.contains("nowhere/kept"), "{}", ran.stderr);

    std::fs::create_dir(folder.join("nowhere")).expect("the folder is writable");
    let mut child = start(&folder, &nowhere);
    wait_for_executions(&mut child, &folder.join("nowhere/kept"));
    std::fs::rename(folder.join("nowhere"), folder.join("gone")).expect("the folder is writable");
    let (status, said) = end(child);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the checkpoint could not be written: nowhere/kept"), "{said}");
    assert!(said.contains("exhausted: all "), "{said}");
}

#[test]
fn a_number_of_threads_is_needed() {
    let folder = folder("no-threads");
    for threads in ["0", "-1", "two", "65536"] {
        for command in [&LONG[..], &["fuzz", "mirror-active", "--seeds", "0..9"]] {
            let threads = format!("--threads={threads}");
            let ran = blockyard(&folder, &[command, &[&threads]].concat());
            assert_eq!(ran.status, 2, "{}", ran.stdout);
            assert!(ran.stderr.contains("a number from 1 to 256 is needed"), "{}", ran.stderr);
        }
    }
}
