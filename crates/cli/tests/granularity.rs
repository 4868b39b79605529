//! `--granularity door`: the whole stack is interleaved operation by operation.

mod common;

use common::{blockyard, blockyard_json, folder};

const BY_DOOR: [&str; 4] = ["--granularity", "door", "--strategy", "portfolio"];

#[test]
fn scenarios_are_clean_operation_by_operation_and_twice_the_same() {
    let folder = folder("by-door");
    for scenario in ["resurrected-filter", "mirror-passive", "mirror-active"] {
        let arguments = [&["fuzz", scenario, "--seeds", "0..1000"], &BY_DOOR[..]].concat();
        let [first, second] = [(); 2].map(|()| blockyard_json(&folder, &arguments));
        assert_eq!(first.0, 0, "{}", first.1);
        assert_eq!(first.1["granularity"], "door");
        assert_eq!(first.1["steps"], second.1["steps"], "{scenario}");
        assert_eq!(first.1["traces"], second.1["traces"], "{scenario}");
    }
    let explore = ["explore", "mirror-passive", "--granularity", "door", "--max-executions", "500"];
    let ran = blockyard(&folder, &explore);
    assert_eq!(ran.status, 0, "{}", ran.stdout);
    assert!(ran.stdout.contains("strategy reduced by door: 500 executions"), "{}", ran.stdout);
}

/// The known bugs, each with the scenario and the options that show it.
const MUTANTS: [(&str, &str, &[&str]); 9] = [
    ("mirror-pivot-undrained-window", "mirror-passive", &[]),
    ("mirror-converge-check-outside-drain", "mirror-passive", &[]),
    ("mirror-active-clears-partial-chunk", "mirror-active", &[]),
    ("mirror-marks-before-io", "mirror-passive", &[]),
    ("drain-skips-in-flight", "mirror-passive", &[]),
    ("drain-end-forgets-parked", "mirror-passive", &[]),
    ("pivot-keeps-filter-parent", "mirror-passive", &[]),
    ("write-acknowledged-early", "mirror-passive", &[]),
    ("request-end-skips-failed", "mirror-passive", &["--faults", "1"]),
];

#[test]
fn every_known_bug_is_found_operation_by_operation_and_replays() {
    let folder = folder("mutants-by-door");
    for (mutant, scenario, options) in MUTANTS {
        let fuzz = ["fuzz", scenario, "--seeds", "0..3000", "--mutant", mutant];
        let (status, found) = blockyard_json(&folder, &[&fuzz, &BY_DOOR[..], options].concat());
        assert_eq!(status, 1, "{mutant}: {found}");
        let seed_file = found["seed_file"].as_str().expect("it was kept");
        let (status, replayed) = blockyard_json(&folder, &["replay", seed_file]);
        assert_eq!((status, &replayed["same_hash"]), (1, &true.into()), "{mutant}: {replayed}");
    }
}
