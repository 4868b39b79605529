//! What exploration promises: the naive design is caught and its failure replays; the right designs are exhausted
//! clean; each known bug is noticed.

mod common;
#[path = "common/noticed.rs"]
mod noticed;

use common::{blockyard, blockyard_json, check_exhausted, folder};
use noticed::NOTICED;
use serde_json::Value;

const RESURRECTED: [&str; 2] = ["explore", "resurrected-filter"];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no text '{key}' in {value}"))
}

#[test]
fn the_naive_design_brings_the_filter_back_in_a_short_schedule() {
    let folder = folder("naive");
    let ran = blockyard(&folder, &[&RESURRECTED[..], &["--design", "replace=naive"]].concat());
    assert_eq!(ran.status, 1, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("the retired node mf is reachable again"), "{}", ran.stdout);
    let is_step = |line: &&str| {
        let number = line.split_whitespace().next().unwrap_or_default();
        line.starts_with(' ') && number.parse::<u32>().is_ok()
    };
    let steps = ran.stdout.lines().filter(is_step).count();
    assert!((10..=40).contains(&steps), "{steps} steps from the mirror's start: {}", ran.stdout);
    let replay = ran.stdout.lines().find_map(|line| line.strip_prefix("replay it:  "));
    let mut words = replay.expect("the replay's command is printed").split(' ');
    assert_eq!(words.next(), Some(env!("CARGO_BIN_EXE_blockyard")));
    let arguments: Vec<&str> = words.collect();
    let again = blockyard(&folder, &arguments);
    assert_eq!(again.status, 1, "{}{}", again.stdout, again.stderr);
    assert!(again.stdout.contains("(the same property)"), "{}", again.stdout);
}

#[test]
fn a_failure_replays_with_the_same_hash_in_fresh_processes() {
    let folder = folder("replays");
    let naive = [&RESURRECTED[..], &["--design", "replace=naive"]].concat();
    let (_, found) = blockyard_json(&folder, &naive);
    let seed_file = text(&found, "seed_file");
    for _ in 0..100 {
        let (status, replayed) = blockyard_json(&folder, &["replay", seed_file]);
        assert_eq!(status, 1);
        assert_eq!(text(&replayed, "property"), text(&found, "property"));
        assert_eq!(text(&replayed, "message"), text(&found, "message"));
        assert_eq!(replayed["same_hash"], true, "{replayed}");
    }
}

#[test]
fn a_replay_says_where_it_diverged_when_the_scenario_was_edited() {
    let folder = folder("diverges");
    let scenario = blockyard_scenario::builtin("resurrected-filter").expect("it is built in");
    let path = folder.join("edited.json");
    std::fs::write(&path, scenario).expect("the folder is writable");
    let arguments = ["explore", "./edited.json", "--design", "replace=naive"];
    let (_, found) = blockyard_json(&folder, &arguments);
    let edited = scenario.replace(r#""admin": ["#, r#""nobody": ["#);
    assert_ne!(edited, scenario);
    std::fs::write(&path, edited).expect("the folder is writable");
    let ran = blockyard(&folder, &["replay", text(&found, "seed_file")]);
    assert_eq!(ran.status, 2, "{}", ran.stdout);
    let said = ["the scenario has changed", "step 1: the tape says 'poll admin'", "possible were"];
    said.iter().for_each(|said| assert!(ran.stderr.contains(said), "{}", ran.stderr));
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[test]
fn random_search_finds_the_resurrected_filter() {
    let folder = folder("random");
    let arguments =
        ["fuzz", "resurrected-filter", "--seeds", "0..10000", "--design", "replace=naive"];
    let (status, found) = blockyard_json(&folder, &arguments);
    assert_eq!((status, text(&found, "property")), (1, "graph-validity"));
    let (status, replayed) = blockyard_json(&folder, &["replay", text(&found, "seed_file")]);
    assert_eq!((status, &replayed["same_hash"]), (1, &Value::Bool(true)));
}

#[test]
fn every_sampling_strategy_finds_the_resurrected_filter_and_says_what_it_did() {
    let folder = folder("sampling");
    for strategy in ["random", "swarm", "pct", "pos", "urw", "portfolio"] {
        let naive = ["--strategy", strategy, "--design", "replace=naive"];
        let explore = [&RESURRECTED[..], &naive].concat();
        let fuzz = [&["fuzz", "resurrected-filter", "--seeds", "0..2000"], &naive[..]].concat();
        let (status, found) = blockyard_json(&folder, &explore);
        assert_eq!((status, text(&found, "strategy")), (1, strategy), "{found}");
        let (status, again) = blockyard_json(&folder, &fuzz);
        assert_eq!((status, &again["seed_file"]), (1, &found["seed_file"]), "{again}");
        let (status, replayed) = blockyard_json(&folder, &["replay", text(&found, "seed_file")]);
        assert_eq!((status, &replayed["same_hash"]), (1, &Value::Bool(true)), "{replayed}");

        let clean = ["--strategy", strategy, "--max-executions", "50"];
        let arguments = [&RESURRECTED[..], &clean].concat();
        let (status, clean) = blockyard_json(&folder, &arguments);
        assert_eq!((status, &clean["executions"]), (0, &50.into()), "{clean}");
        assert_eq!(clean["bound"]["executions"], 50, "{clean}");
        let traces = clean["traces"].as_u64().expect("a number");
        assert!((2..=50).contains(&traces), "{clean}");
        let said = blockyard(&folder, &arguments).stdout;
        let counts = format!("strategy {strategy}: 50 executions ({traces} traces), ");
        assert!(said.contains(&counts), "{said}");
        assert!(said.contains("stopped by the bound of 50 executions"), "{said}");
        let exhaust = [&arguments[..], &["--exhaust"]].concat();
        assert_eq!(blockyard(&folder, &exhaust).status, 2);
    }
    let refused = ["fuzz", "resurrected-filter", "--seeds", "0..9", "--strategy", "reduced"];
    assert_eq!(blockyard(&folder, &refused).status, 2);
}

#[test]
fn comparing_exhausts_clean() {
    check_exhausted("resurrected-filter", &["--design", "replace=compare"]);
}

#[test]
fn a_transaction_exhausts_clean() {
    check_exhausted("resurrected-filter", &["--design", "replace=transaction"]);
}

#[test]
fn changes_of_the_graph_while_a_mirror_completes_exhaust_clean() {
    for scenario in [
        "insert-filter-transaction",
        "reopen-during-mirror",
        "replace-child-during-mirror",
        "transaction-during-mirror",
    ] {
        check_exhausted(scenario, &[]);
    }
    for scenario in ["insert-filter-transaction", "transaction-during-mirror"] {
        check_exhausted(scenario, &["--faults", "1"]);
    }
    check_exhausted("insert-filter-alone", &["--granularity", "door"]);
}

#[test]
fn redirecting_every_parent_exhausts_clean() {
    check_exhausted("resurrected-filter", &["--design", "replace=parents"]);
}

#[test]
fn the_mirror_scenarios_exhaust_clean() {
    for scenario in ["mirror-passive", "mirror-active", "mirror-keeps-upper-filter"] {
        for pivot in ["pivot=filter-parent", "pivot=replace-node"] {
            check_exhausted(scenario, &["--design", pivot]);
        }
    }
    check_exhausted("mirror-keeps-upper-filter", &["--design", "mirror=active"]);
}

#[test]
fn bitmaps_of_devices_exhaust_clean_with_one_fault() {
    let with_medium = ["bitmap-device", "bitmap-device-medium", "bitmap-device-merge"];
    for scenario in with_medium.into_iter().chain(["bitmap-resize"]) {
        check_exhausted(scenario, &["--faults", "1"]);
    }
}

#[test]
fn the_mirror_scenarios_exhaust_clean_with_one_fault() {
    let alone = ["mirror-busy-guest", "mirror-cancel-ready", "mirror-errors", "mirror-finalize"];
    let written = ["mirror-active", "mirror-incremental", "mirror-keeps-upper-filter"];
    let copied = ["mirror-parallel", "mirror-speed", "mirror-switch", "mirror-top"];
    for scenario in alone.iter().chain(&written).chain(&copied) {
        check_exhausted(scenario, &["--faults", "1"]);
    }
    check_exhausted("mirror-busy-source", &[]);
    // Power is lost at every moment of it, too.
    for mirror in ["mirror=passive", "mirror=active"] {
        check_exhausted("mirror-witness", &["--faults", "1", "--design", mirror]);
    }
}

#[test]
fn the_mirror_scenarios_exhaust_clean_with_one_crash() {
    for scenario in ["mirror-cancel-ready", "mirror-parallel", "mirror-switch"] {
        check_exhausted(scenario, &["--crashes", "1"]);
    }
}

#[test]
fn a_mirror_without_a_filter_is_as_good() {
    for scenario in ["mirror-passive", "mirror-group", "mirror-incremental", "mirror-top"] {
        check_exhausted(scenario, &["--design", "mirror=source-bitmap", "--faults", "1"]);
    }
    for scenario in ["mirror-durable", "mirror-witness"] {
        check_exhausted(scenario, &["--design", "mirror=source-bitmap", "--crashes", "1"]);
    }
}

#[test]
fn the_backup_scenarios_exhaust_clean() {
    let small = ["backup-durable", "backup-holes", "backup-incremental", "backup-large-clusters"];
    let others = ["backup-incremental-holes", "backup-paused", "backup-top", "backup-unaligned"];
    for scenario in small.into_iter().chain(others) {
        check_exhausted(scenario, &["--faults", "1"]);
        check_exhausted(scenario, &["--design", "backup=filter", "--crashes", "0"]);
        check_exhausted(scenario, &["--design", "backup=notifier", "--crashes", "0"]);
    }
    check_exhausted("backup-full", &["--design", "backup-chunks=single"]);
    check_exhausted("backup-discard-source", &[]);
    check_exhausted("backup-fleecing", &[]);
    check_exhausted("backup-retry", &[]);
}

/// Where timers fire in time: elsewhere any of them may be the first.
#[test]
fn a_guest_waits_for_a_slow_target_as_long_as_it_may() {
    let folder = folder("slow-target");
    let looked_at = include_str!("data/backup-slow-target.json");
    let full = include_str!("data/backup-slow-target-full.json");
    let holes = include_str!("data/backup-slow-target-holes.json");
    for (script, mutant) in [looked_at, full, holes].into_iter().zip(BY_TIME) {
        std::fs::write(folder.join("slow.json"), script).expect("the folder is writable");
        let fuzz = ["fuzz", "slow.json", "--time", "timed", "--seeds", "0..20"];
        let (status, clean) = blockyard_json(&folder, &fuzz);
        assert_eq!(status, 0, "{clean}");
        let (status, found) = blockyard_json(&folder, &[&fuzz[..], &["--mutant", mutant]].concat());
        assert_eq!((status, text(&found, "property")), (1, "progress"), "{found}");
    }
}

/// The usual way of tools: what is written between the pivot and the command is in no bitmap.
#[test]
fn a_bitmap_that_records_again_only_after_a_commit_misses_writes() {
    let folder = folder("commit-bitmap-late");
    let script = blockyard_scenario::builtin("commit-bitmap").expect("it is built in");
    let enable = script.lines().find(|line| line.contains("bitmap-enable")).expect("it has one");
    let merge = script.lines().find(|line| line.contains("bitmap-merge")).expect("it has one");
    let late = script.replace(&format!("{enable}\n"), "");
    let late = late.replace(merge, &format!("{enable}\n{merge}"));
    std::fs::write(folder.join("late.json"), late).expect("the folder is writable");
    let (status, found) = blockyard_json(&folder, &["explore", "late.json"]);
    assert_eq!((status, text(&found, "property")), (1, "guest-consistency"), "{found}");
}

#[test]
fn every_known_bug_is_noticed_by_random_and_by_reduced_search_then_shrunk_and_replayed() {
    let folder = folder("mutants");
    let (_, listed) = blockyard_json(&folder, &["list"]);
    let listed = listed["mutants"].as_array().expect("a list").clone();
    let is_listed = |mutant: &&str| listed.iter().any(|listed| listed == mutant);
    assert!(NOTICED.iter().map(|(mutant, ..)| *mutant).all(|mutant| is_listed(&mutant)));
    for (mutant, scenario, property, faults, preemptions) in NOTICED {
        let change = ["--mutant", mutant, "--faults", &faults.to_string()];
        let fuzz = [&["fuzz", scenario, "--seeds", "0..10000"], &change[..]].concat();
        let explore = [&["explore", scenario], &change[..]].concat();
        for arguments in [fuzz, explore] {
            let (status, found) = blockyard_json(&folder, &arguments);
            assert_eq!(status, 1, "{arguments:?}: {found}");
            assert_eq!(text(&found, "property"), *property, "{arguments:?}: {found}");
            let shrink = ["shrink", text(&found, "seed_file"), "-o", "shrunk.seed"];
            let (_, shrunk) = blockyard_json(&folder, &shrink);
            assert_eq!(shrunk["minimal"], true, "{arguments:?}: {shrunk}");
            let needs = [&shrunk["after"]["faults"], &shrunk["after"]["preemptions"]];
            assert_eq!(needs, [faults, preemptions], "{arguments:?}: {shrunk}");
            let (status, again) = blockyard_json(&folder, &["replay", "shrunk.seed"]);
            assert_eq!((status, text(&again, "property")), (1, *property), "{again}");
            assert_eq!(again["same_hash"], true, "{arguments:?}: {again}");
        }
    }
}

#[test]
fn a_copy_on_read_marks_no_bitmap_and_the_design_in_which_it_does_is_imprecise() {
    for scenario in ["bitmap-unchanged", "bitmap-subsection"] {
        check_exhausted(scenario, &["--faults", "1"]);
        let marks = ["explore", scenario, "--design", "unchanged-marks=yes"];
        let (status, found) = blockyard_json(&folder("unchanged"), &marks);
        assert_eq!((status, text(&found, "property")), (1, "bitmap-precision"), "{found}");
    }
}

const FOLLOW: [&str; 2] = ["--design", "bitmaps=follow"];

/// Each known bug that only a design other than the default has room for, a scenario that shows it, that design, what
/// it breaks, and the faults that it needs.
const BY_DESIGN: [(&str, &str, &str, &str, &str); 6] = [
    (
        "cbw-read-waits-on-serialising-request",
        "backup-unaligned",
        "backup=notifier",
        "progress",
        "0",
    ),
    ("follow-old-vouched", "bitmap-follow-snapshot", "bitmaps=follow", "bitmap-soundness", "0"),
    ("follow-new-vouched", "bitmap-follow-mirror", "bitmaps=follow", "bitmap-soundness", "0"),
    ("follow-after-drain", "bitmap-follow-snapshot", "bitmaps=follow", "bitmap-soundness", "0"),
    (
        "follow-takes-place-for-granted",
        "bitmap-follow-unplaced",
        "bitmaps=follow",
        "bitmap-soundness",
        "0",
    ),
    (
        "mirror-fails-guest-unmarked",
        "mirror-active",
        "mirror-failure=guest",
        "mirror-convergence",
        "1",
    ),
];

#[test]
fn known_bugs_of_other_designs_are_noticed_under_these() {
    for (mutant, scenario, design, property, faults) in BY_DESIGN {
        let with = ["--mutant", mutant, "--design", design, "--faults", faults];
        let arguments = [&["explore", scenario], &with[..]].concat();
        let (status, found) = blockyard_json(&folder("by-design"), &arguments);
        assert_eq!((status, text(&found, "property")), (1, property), "{found}");
    }
}

#[test]
fn stored_bitmaps_follow_the_data_and_no_image_vouches_for_one_that_lacks_a_write() {
    for scenario in ["bitmap-follow-closed", "bitmap-follow-snapshot", "bitmap-follow-unplaced"] {
        check_exhausted(scenario, &["--faults", "1", "--crashes", "0"]);
        check_exhausted(scenario, &[&FOLLOW[..], &["--faults", "1", "--crashes", "1"]].concat());
    }
    check_exhausted("bitmap-follow-mirror", &FOLLOW);
}

#[test]
fn a_guest_s_write_that_fails_on_an_active_mirror_s_target_alone_leaves_both_sides_equal() {
    let guest = ["--design", "mirror-failure=guest", "--faults", "1"];
    check_exhausted("mirror-active", &guest);
    check_exhausted("mirror-parallel", &guest);
    let (_, found) = blockyard_json(
        &folder("fails-guest"),
        &[&["explore", "mirror-active"], &guest[..]].concat(),
    );
    let marks = found["marks"].as_array().expect("a list");
    let reached = "a guest's write failed on a mirror's target alone";
    assert!(marks.iter().any(|mark| mark == reached), "{found}");
}

/// What shows only where timers fire in time.
const BY_TIME: [&str; 3] =
    ["cbw-timeout-wraps", "backup-serves-in-its-order", "backup-holes-hold-guests"];

/// What the tests `crashes` of qcow2 hunt.
const BY_CRASHES: [&str; 13] = [
    "qcow2-flush-skips-data-file",
    "qcow2-made-not-flushed",
    "qcow2-header-forgotten",
    "qcow2-releases-before-flush",
    "qcow2-shrinks-over-dirty",
    "qcow2-reftable-grows-over-dirty",
    "snapshot-delete-frees-before-unlink",
    "qcow2-shares-copied",
    "qcow2-snapshot-over-dirty",
    "l2-cow-frees-old-table-first",
    "qcow2-bitmaps-disowned-late",
    "bitmap-store-error-frees-wrong-clusters",
    "qcow2-amends-over-dirty",
];

/// What the tests of the drivers hunt, by virtual time, or by what lies below a node.
const BY_DRIVERS: [&str; 3] = [
    "blklogwrites-logs-first",
    "luks-erased-slot-keeps-key",
    "throttle-drained-member-waits-for-others",
];

/// Has the zoo hunt those that are not hunted one by one above: every second of them, for two tests beside each other.
fn hunt_others(first: usize) {
    let folder = folder(&format!("zoo-{first}"));
    let (_, listed) = blockyard_json(&folder, &["list"]);
    let listed = listed["mutants"].as_array().expect("a list");
    let noticed = |mutant: &&str| NOTICED.iter().any(|(known, ..)| known == mutant);
    let others = listed.iter().filter_map(Value::as_str).filter(|mutant| !noticed(mutant));
    let others = others.filter(|mutant| !BY_CRASHES.contains(mutant) && !BY_TIME.contains(mutant));
    let others = others.filter(|mutant| !BY_DRIVERS.contains(mutant));
    let others = others.filter(|mutant| BY_DESIGN.iter().all(|(known, ..)| known != mutant));
    let others = others.skip(first).step_by(2);
    let zoo: Vec<&str> = ["zoo", "--budget", "600"].into_iter().chain(others).collect();
    let (status, hunted) = blockyard_json(&folder, &zoo);
    let hunted_all = hunted["mutants"].as_array().expect("a list");
    let missed = hunted_all.iter().find(|hunt| hunt["noticed"] != true);
    assert!(status == 0 && missed.is_none(), "{missed:?} {}", hunted["none"]);
}

#[test]
fn the_zoo_notices_every_other_known_bug() {
    hunt_others(0);
}

#[test]
fn the_zoo_notices_those_in_between() {
    hunt_others(1);
}

#[test]
fn an_exploration_says_how_many_states_a_power_loss_may_leave() {
    let arguments = ["explore", "qcow2-refcount-block", "--exhaust", "--crashes", "1"];
    let (status, result) = blockyard_json(&folder("crash-states"), &arguments);
    assert_eq!((status, &result["exhausted"]), (0, &Value::Bool(true)), "{result}");
    // Nothing runs beside its one task: only the disk decides.
    assert_eq!([&result["executions"], &result["crash_states"]], [1, 375], "{result}");
}

#[test]
fn what_a_fault_changed_behind_everybody_s_back_is_no_finding() {
    // A write to the target is lost, and nobody can know.
    check_exhausted("mirror-passive", &["--faults", "1", "--families", "lost"]);
}

#[test]
fn families_of_faults_are_kept_in_the_seed_file_and_replayed() {
    let folder = folder("families");
    let scenario = "guest-stopped-by-error";
    let with = ["--mutant", "failed-flush-marks-clean", "--faults", "1", "--families", "flush"];
    let arguments = [&["explore", scenario, "--crashes", "1"], &with[..]].concat();
    let (status, found) = blockyard_json(&folder, &arguments);
    assert_eq!((status, text(&found, "property")), (1, "durability"), "{found}");
    let path = folder.join(text(&found, "seed_file"));
    let seed = std::fs::read_to_string(&path).expect("the seed file is there");
    assert!(seed.contains("\nbudgets: faults=1 families=flush crashes=1\n"), "{seed}");
    assert!(seed.contains(" flush kept"), "{seed}");
    let replay = |text: String| {
        std::fs::write(&path, text).expect("the folder is writable");
        blockyard_json(&folder, &["replay", path.to_str().expect("the path is text")])
    };
    let (status, replayed) = replay(seed.clone());
    assert_eq!((status, &replayed["same_hash"]), (1, &Value::Bool(true)), "{replayed}");
    // Without the head's families a fault is EIO, early or late, as in files that are older.
    let (status, replayed) = replay(seed.replace(" families=flush", ""));
    assert_eq!(status, 2, "{replayed}");
    assert!(text(&replayed, "error").contains("the replay diverged"), "{replayed}");
}

#[test]
fn a_late_fault_is_a_family_of_its_own_and_was_not_in_files_that_are_older() {
    let folder = folder("late");
    let mutant = ["explore", "mirror-passive", "--mutant", "request-end-skips-failed"];
    let faulty = [&mutant[..], &["--faults", "1"]].concat();
    let (status, early) = blockyard_json(&folder, &[&faulty[..], &["--families", "eio"]].concat());
    assert_eq!((status, text(&early, "verdict")), (0, "clean"), "{early}");
    let (status, found) = blockyard_json(&folder, &faulty);
    assert_eq!((status, text(&found, "property")), (1, "mirror-convergence"), "{found}");
    let path = folder.join(text(&found, "seed_file"));
    let seed = std::fs::read_to_string(&path).expect("the seed file is there");
    let families = " families=eio,eio-late ";
    assert!(seed.contains(families) && seed.contains("\nfail-late "), "{seed}");
    for older in [" families=eio ", " "] {
        std::fs::write(&path, seed.replace(families, older)).expect("the folder is writable");
        let path = path.to_str().expect("the path is text");
        let (status, replayed) = blockyard_json(&folder, &["replay", path]);
        assert_eq!((status, &replayed["same_hash"]), (1, &Value::Bool(true)), "{replayed}");
    }
}

#[test]
fn a_budget_that_runs_out_before_exhaustion_is_said() {
    let folder = folder("budget");
    let arguments = ["explore", "mirror-passive", "--exhaust", "--max-executions", "10"];
    let (status, result) = blockyard_json(&folder, &arguments);
    assert_eq!((status, text(&result, "verdict")), (3, "budget"));
    assert_eq!((&result["exhausted"], &result["executions"]), (&Value::Bool(false), &10.into()));
}

/// Bad input: exit status 2, one line that says `said`, nothing left behind.
fn check_refused(arguments: &[&str], said: &str) {
    let folder = folder("refused").join(format!("{:x}", arguments.join(" ").len()));
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    for (name, contents) in [
        ("malformed.json", "{ \"scenario\": "),
        ("unknown-key.json", include_str!("data/unknown-key.json")),
        ("unknown-driver.json", include_str!("data/unknown-driver.json")),
        ("missing-disk.json", include_str!("data/missing-disk.json")),
        ("no.seed", "something else"),
    ] {
        std::fs::write(folder.join(name), contents).expect("the folder is writable");
    }
    let count = || std::fs::read_dir(&folder).expect("it is there").count();
    let before = count();
    let ran = blockyard(&folder, arguments);
    assert_eq!(ran.status, 2, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{arguments:?}: {}", ran.stderr);
    assert_eq!(count(), before, "{arguments:?} left something behind");
    let json = blockyard(&folder, &[arguments, &["--json"]].concat());
    let error: Value = serde_json::from_str(&json.stdout).expect("errors are JSON too");
    assert!(text(&error, "error").contains(said), "{error}");
}

#[test]
fn bad_input_is_refused_in_one_line_and_changes_nothing() {
    check_refused(&["explore", "no-such"], "there is no scenario 'no-such'; there are");
    check_refused(&["explore", "./missing.json"], "./missing.json: No such file");
    check_refused(&["explore", "./malformed.json"], "line 1");
    check_refused(&["explore", "./unknown-key.json"], "surprise: unexpected");
    check_refused(
        &["explore", "./unknown-driver.json"],
        "setup: step 1: blockdev-add: driver: expected one of blkdebug, blklogwrites, blkverify,",
    );
    check_refused(&["explore", "./missing-disk.json"], "there is no disk 'sorc'");
    check_refused(&["explore", "mirror-passive", "--design", "replace=maybe"], "none of naive");
    check_refused(&["explore", "mirror-passive", "--design", "colour=red"], "no design decision");
    check_refused(&["explore", "mirror-passive", "--mutant", "mosquito"], "mutant: 'mosquito'");
    check_refused(&["explore", "mirror-passive", "--set", "sise=1k"], "no parameter 'sise'");
    check_refused(&["explore", "mirror-passive", "--set", "size=1"], "multiple of 512");
    check_refused(&["explore", "mirror-passive", "--set", "size"], "K=V is needed");
    check_refused(&["explore", "mirror-passive", "--families", "fire"], "no family 'fire'");
    check_refused(&["explore", "mirror-passive", "--max-executions", "0"], "at least 1");
    check_refused(&["fuzz", "mirror-passive", "--seeds", "9..3"], "A..B");
    check_refused(&["replay", "missing.seed"], "missing.seed: No such file");
    check_refused(&["replay", "no.seed"], "not a seed file");
}

#[test]
fn a_replay_can_be_drawn_as_a_page_with_a_lane_for_each_task() {
    let folder = folder("page");
    let naive = [&RESURRECTED[..], &["--design", "replace=naive"]].concat();
    let (_, found) = blockyard_json(&folder, &naive);
    let seed_file = text(&found, "seed_file");
    let (status, _) = blockyard_json(&folder, &["replay", seed_file, "--html", "page.html"]);
    assert_eq!(status, 1);
    let page = std::fs::read_to_string(folder.join("page.html")).expect("it was written");
    let rows: Vec<&str> = page.lines().filter(|line| line.contains("\"number\"")).collect();
    let seed = std::fs::read_to_string(folder.join(seed_file)).expect("it was written");
    let steps = seed.split("\ntape:\n").nth(1).expect("a tape").lines().count();
    assert_eq!(rows.len(), steps, "a row for each step");
    let header = page.split("<th></th>").nth(1).and_then(|rest| rest.lines().next());
    let header = header.expect("lanes have names");
    for lane in ["admin", "operator", "operator/m0"] {
        assert!(header.contains(&format!("<th>{lane}</th>")), "{header}");
    }
    let others = header.matches("<th>").count() - 1;
    assert!(rows.iter().all(|row| row.matches("<td></td>").count() == others), "one lane a step");
    assert!(page.contains("-&gt;") && !page.contains(" -> "), "what is printed is escaped");
    let refused = blockyard(&folder, &["replay", seed_file, "--html", "missing/page.html"]);
    assert_eq!(refused.status, 2, "{}", refused.stdout);
    assert!(refused.stderr.contains("missing/page.html: No such file"), "{}", refused.stderr);
}
