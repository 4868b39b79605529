//! `blockyard shrink`: a seed file made simpler is a seed file of the same failure.

mod common;

use std::collections::BTreeSet;

use common::{blockyard, blockyard_json, folder};
use serde_json::Value;

#[test]
fn a_failure_that_was_shrunk_replays_and_says_what_it_needs() {
    let folder = folder("shrink");
    let naive = ["fuzz", "resurrected-filter", "--seeds", "0..10000", "--design", "replace=naive"];
    let (_, found) = blockyard_json(&folder, &naive);
    let seed_file = found["seed_file"].as_str().expect("it was kept");
    let before = std::fs::read(folder.join(seed_file)).expect("it is there");
    let ran = blockyard(&folder, &["shrink", seed_file]);
    assert_eq!(ran.status, 1, "{}{}", ran.stdout, ran.stderr);
    let said =
        ["before: faults 0", "after:  faults 0, crashes 0", "replays", "no failing run is simpler"];
    said.iter().for_each(|said| assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout));
    assert_eq!(std::fs::read(folder.join(seed_file)).expect("it is there"), before);
    let replay = ran.stdout.lines().find_map(|line| line.strip_prefix("replay it:  "));
    let words = replay.expect("the replay's command is printed").split(' ').skip(1);
    let words: Vec<&str> = words.filter(|word| *word != "--log").collect();
    let (status, again) = blockyard_json(&folder, &words);
    assert_eq!((status, &again["property"]), (1, &found["property"]));
    assert_eq!((&again["same_hash"], &again["same_property"]), (&true.into(), &true.into()));
    let (status, shrunk) = blockyard_json(&folder, &["shrink", seed_file, "-o", "here.seed"]);
    assert_eq!((status, &shrunk["minimal"]), (1, &Value::Bool(true)));
    assert_eq!((&shrunk["hash"], &shrunk["seed_file"]), (&again["hash"], &"here.seed".into()));
    assert_eq!((&shrunk["after"]["preemptions"], &shrunk["least"]), (&0.into(), &true.into()));
}

#[test]
fn whichever_seed_found_it_a_failure_ends_in_one_tape() {
    let folder = folder("shrink-one-tape");
    for (mutant, faults) in
        [("mirror-pivot-undrained-window", "0"), ("request-end-skips-failed", "1")]
    {
        let mut hashes = BTreeSet::new();
        let mut found_files = BTreeSet::new();
        for first in 0..6 {
            let seeds = format!("{}..10000", 1_000 * first);
            let fuzz = ["fuzz", "mirror-passive", "--mutant", mutant, "--faults", faults];
            let (_, found) = blockyard_json(&folder, &[&fuzz[..], &["--seeds", &seeds]].concat());
            let seed_file = found["seed_file"].as_str().expect("it was kept");
            found_files.insert(seed_file.to_string());
            let (_, shrunk) = blockyard_json(&folder, &["shrink", seed_file, "-o", "one.seed"]);
            assert_eq!(shrunk["least"], true, "{shrunk}");
            hashes.insert(shrunk["hash"].to_string());
        }
        assert!(found_files.len() > 3, "{mutant}: {found_files:?}");
        assert_eq!(hashes.len(), 1, "{mutant}: {hashes:?}");
    }
}

/// The filter is created over the mirror's, and then the mirror pivots: the other way round nothing breaks.
#[test]
fn the_two_steps_that_race_have_a_star_in_what_shrink_and_replay_print() {
    let folder = folder("shrink-marks");
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/corpus/");
    for (seed_file, expected) in [
        ("resurrected-filter-naive.seed", &["create filter: th.file", "; pivot: mf.target"][..]),
        ("request-end-skips-failed.seed", &["effect operator", "effect guest#0", "fail-late"]),
    ] {
        let seed_file = format!("{corpus}{seed_file}");
        let shrunk = blockyard(&folder, &["shrink", &seed_file, "-o", "again.seed"]);
        let replayed = blockyard(&folder, &["replay", "again.seed", "--log"]);
        for ran in [shrunk, replayed] {
            let is_starred = |line: &&str| line.get(4..5) == Some("*");
            let starred: Vec<_> = ran.stdout.lines().filter(is_starred).collect();
            assert_eq!(starred.len(), expected.len(), "{}", ran.stdout);
            for (line, expected) in starred.iter().zip(expected) {
                assert!(line.contains(expected), "{line}");
            }
        }
    }
}

#[test]
fn a_file_that_does_not_fail_is_refused() {
    let folder = folder("shrink-refuses");
    std::fs::write(folder.join("no.seed"), "something else").expect("the folder is writable");
    let naive = ["explore", "resurrected-filter", "--design", "replace=naive"];
    let (_, found) = blockyard_json(&folder, &naive);
    let seed_file = found["seed_file"].as_str().expect("it was kept");
    let text = std::fs::read_to_string(folder.join(seed_file)).expect("it is there");
    let other = text.replace("property: graph-validity", "property: progress");
    let unfit = text.replacen("\npoll ", "\npoll nobody", 1);
    std::fs::write(folder.join("other.seed"), other).expect("the folder is writable");
    std::fs::write(folder.join("unfit.seed"), unfit).expect("the folder is writable");
    for (arguments, said) in [
        (&["missing.seed"][..], "missing.seed: No such file"),
        (&["no.seed"], "not a seed file"),
        (&["other.seed"], "breaks another property now: graph-validity"),
        (&["unfit.seed"], "the replay diverged at step 1"),
        (&[seed_file, "--max-replays", "0"], "at least 1"),
        (&[seed_file, "--out", "no.seed"], "cannot be made a directory"),
    ] {
        let ran = blockyard(&folder, &[&["shrink"], arguments].concat());
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.stdout);
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{arguments:?}: {}", ran.stderr);
    }
    assert!(!folder.join("other.min.seed").exists());
}
