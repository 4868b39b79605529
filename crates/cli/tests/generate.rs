//! `blockyard fuzz --generate`: what it finds is kept with its scenario, and every other command takes both.

mod common;

use common::{blockyard, blockyard_json, folder};

const MUTANT: [&str; 2] = ["--mutant", "mirror-active-clears-partial-chunk"];

fn fuzz<'a>(rest: &[&'a str]) -> Vec<&'a str> {
    [&["fuzz", "--generate"], rest].concat()
}

#[test]
fn a_failure_is_kept_with_its_scenario_and_replays_shrinks_and_is_explored() {
    let folder = folder("generate-finds");
    let found = fuzz(&[&["--seeds", "39..239"], &MUTANT[..]].concat());
    let (status, report) = blockyard_json(&folder, &found);
    assert_eq!(status, 1, "{report}");
    assert_eq!(report["property"], "mirror-convergence", "{report}");
    let seed_file = report["seed_file"].as_str().expect("it was kept");
    let scenario = report["scenario_file"].as_str().expect("it was kept");
    let (status, replayed) = blockyard_json(&folder, &["replay", seed_file]);
    assert_eq!((status, &replayed["same_hash"]), (1, &true.into()), "{replayed}");
    let (status, shrunk) = blockyard_json(&folder, &["shrink", seed_file]);
    assert_eq!((status, &shrunk["property"]), (1, &report["property"]), "{shrunk}");
    let explore = ["explore", scenario, "--strategy", "portfolio"];
    let (status, explored) = blockyard_json(&folder, &[&explore[..], &MUTANT[..]].concat());
    assert_eq!((status, &explored["property"]), (1, &report["property"]), "{explored}");
    let (status, again) = blockyard_json(&folder, &found);
    assert_eq!((status, &again["seed_file"]), (1, &report["seed_file"]), "the same seeds again");
}

#[test]
fn a_simplified_scenario_has_nothing_that_the_failure_does_not_need() {
    let folder = folder("generate-simplifies");
    let (status, report) =
        blockyard_json(&folder, &fuzz(&[&["--seeds", "39..239"], &MUTANT[..]].concat()));
    assert_eq!(status, 1, "{report}");
    let path = folder.join(report["scenario_file"].as_str().expect("it was kept"));
    let text = std::fs::read_to_string(path).expect("it can be read");
    let scenario: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let actors = scenario["actors"].as_object().expect("it has actors");
    let names: Vec<_> = actors.keys().map(String::as_str).collect();
    assert_eq!(names, ["guest0-0", "operator0"], "{text}");
    assert_eq!(actors["guest0-0"].as_array().map(Vec::len), Some(1), "{text}");
    assert_eq!(scenario["disks"]["d0"]["size"], 4096, "{text}");
}

#[test]
fn clean_seeds_leave_nothing_and_count_every_run() {
    let folder = folder("generate-clean");
    let (status, report) = blockyard_json(&folder, &fuzz(&["--seeds", "7..17", "--runs", "3"]));
    assert_eq!((status, report["verdict"].as_str()), (0, Some("clean")), "{report}");
    assert_eq!(report["scenarios"], 10, "{report}");
    assert_eq!(report["executions"], 30, "{report}");
    let left = std::fs::read_dir(&folder).expect("the folder is there").count();
    assert_eq!(left, 0, "clean scenarios are not kept");
}

#[test]
fn faults_come_only_where_nobody_would_wait_for_ever() {
    let folder = folder("generate-faults");
    let (status, report) =
        blockyard_json(&folder, &fuzz(&["--seeds", "0..200", "--runs", "2", "--faults", "2"]));
    assert_eq!((status, report["verdict"].as_str()), (0, Some("clean")), "{report}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let folder = folder("generate-refused");
    for arguments in [
        &["fuzz", "--generate", "mirror-passive", "--seeds", "0..1"][..],
        &["fuzz", "--generate", "--all", "--seeds", "0..1"],
        &["fuzz", "--generate", "--runs", "0", "--seeds", "0..1"],
        &["fuzz", "mirror-passive", "--runs", "2", "--seeds", "0..1"],
        &["fuzz", "--generate", "--set", "size=4k", "--seeds", "0..1"],
        &["fuzz", "--generate"],
    ] {
        let ran = blockyard(&folder, arguments);
        assert_eq!(ran.status, 2, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    }
}

/// The end of one job once acknowledged the switch of another, whose target was not flushed yet: scenario 366 was then
/// taken for a loss.
#[test]
fn generated_scenarios_lose_nothing_that_was_promised_where_jobs_end_side_by_side() {
    let folder = folder("side-by-side");
    let generate = ["fuzz", "--generate", "--seeds", "350..380", "--crashes", "1"];
    let (status, found) =
        blockyard_json(&folder, &[&generate[..], &["--granularity", "door"]].concat());
    assert_eq!(status, 0, "{found}");
}
