//! Designs side by side: what each breaks, and what its guests and jobs wait for.

mod common;

use std::process::{Command, Stdio};

use common::{blockyard, blockyard_json, folder};
use serde_json::Value;

const ENDLESS: [&str; 6] =
    ["compare", "mirror-endless-load", "--design", "mirror=passive", "--design", "mirror=active"];
const UNCHANGED: [&str; 6] = [
    "compare",
    "bitmap-unchanged",
    "--design",
    "unchanged-marks=no",
    "--design",
    "unchanged-marks=yes",
];

fn number(value: &Value, pointer: &str) -> u64 {
    let found = value.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no number {pointer} in {value}"))
}

/// The cells of a row of the table.
fn row<'a>(table: &'a str, label: &str) -> Vec<&'a str> {
    let line = table.lines().find_map(|line| line.strip_prefix(label));
    let line = line.unwrap_or_else(|| panic!("no row '{label}' in {table}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn an_active_mirror_converges_under_endless_load_and_a_passive_one_does_not() {
    let folder = folder("compare-endless");
    let short = [&ENDLESS[..], &["--seeds", "0..20"]].concat();
    let (status, both) = blockyard_json(&folder, &short);
    assert_eq!((status, &both["verdict"]), (0, &"clean".into()), "{both}");
    let [passive, active] = [&both["designs"][0], &both["designs"][1]];
    for design in [passive, active] {
        assert_eq!((&design["verdict"], &design["exhausted"]), (&"clean".into(), &true.into()));
        assert_eq!((number(design, "/timed/runs"), number(design, "/timed/broken")), (20, 0));
    }
    assert_eq!(passive["design"]["mirror"], "passive");
    let ready =
        |design| (number(design, "/timed/ready/runs"), number(design, "/timed/ready/never"));
    assert_eq!((ready(passive), ready(active)), ((0, 20), (20, 0)), "{both}");
    assert_eq!(passive["timed"]["ready"]["p50_ns"], Value::Null);
    // 256 KiB to a disk that takes 64 MiB in a second: not before 4 ms are over.
    let (p50, max) = (number(active, "/timed/ready/p50_ns"), number(active, "/timed/ready/max_ns"));
    assert!((4_000_000..40_000_000).contains(&p50) && p50 <= max, "{active}");
    let latency = |design, which| number(design, &format!("/timed/latency_ns/{which}"));
    // The price: a guest's write waits for both disks. They overlap, and the slower one is the target.
    assert!(latency(passive, "max") < 100_000, "{passive}");
    assert!(latency(active, "p50") >= 200_000, "{active}");
    for design in [passive, active] {
        assert!(latency(design, "p50") <= latency(design, "p99"), "{design}");
        assert!(latency(design, "p99") <= latency(design, "max"), "{design}");
        let moved = |kind| number(design, &format!("/timed/disks/dst/{kind}"));
        assert!(moved("written") >= 20 * (256 << 10), "{design}");
        let guest = number(design, "/timed/guest_bytes");
        assert_eq!(guest, number(design, "/timed/devices/disk0/written"), "{design}");
        assert!(design["timed"]["amplification"].as_f64().is_some_and(|factor| factor > 2.0));
    }
}

#[test]
fn copies_that_mark_break_the_precision_of_bitmaps() {
    let folder = folder("compare-unchanged");
    let (status, both) = blockyard_json(&folder, &UNCHANGED);
    assert_eq!((status, &both["verdict"]), (1, &"violated".into()), "{both}");
    let [no, yes] = [&both["designs"][0], &both["designs"][1]];
    assert_eq!((&no["verdict"], &no["exhausted"]), (&"clean".into(), &true.into()), "{no}");
    assert_eq!(yes["property"], "bitmap-precision", "{yes}");
    assert_eq!((number(no, "/timed/broken"), number(yes, "/timed/broken")), (0, 100), "{both}");
    // Half as much again is copied by whoever goes by the bitmap.
    let marked = |design| number(design, "/timed/marked_bytes");
    assert_eq!((marked(no), marked(yes)), (100 * 2048, 100 * 3072), "{both}");
    let steps = number(yes, "/steps_to_failure");
    assert!(steps < 40 && yes["least"] == true, "{yes}");
    // What was kept is that counterexample.
    let file = yes["seed_file"].as_str().expect("a path");
    let (status, replayed) = blockyard_json(&folder, &["replay", file]);
    assert_eq!(
        (status, &replayed["steps"], &replayed["same_hash"]),
        (1, &steps.into(), &true.into())
    );
    assert_eq!(std::fs::read_dir(&folder).expect("it is there").count(), 1, "one file is kept");
}

#[test]
fn the_table_has_a_column_for_each_design() {
    let folder = folder("compare-table");
    let ran = blockyard(&folder, &[&ENDLESS[..], &["--seeds", "0..3"]].concat());
    assert_eq!(ran.status, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(row(&ran.stdout, "   "), ["mirror=passive", "mirror=active"]);
    assert_eq!(row(&ran.stdout, "property broken"), ["none", "none"]);
    assert_eq!(row(&ran.stdout, "timed runs"), ["3", "3"]);
    let ready = row(&ran.stdout, "time to READY p50");
    assert!(ready[0] == "never in 3 of 3 runs" && ready[1].ends_with(" ms"), "{ready:?}");
    assert!(row(&ran.stdout, "guest latency p50").iter().all(|cell| cell.ends_with(" us")));
    let ran = blockyard(&folder, &UNCHANGED);
    assert_eq!(ran.status, 1, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(row(&ran.stdout, "property broken"), ["none", "bitmap-precision"]);
    assert_eq!(row(&ran.stdout, "timed runs"), ["100", "100, 100 broken"]);
    assert_eq!(row(&ran.stdout, "bytes marked dirty"), ["204800", "307200"]);
    assert_eq!(row(&ran.stdout, "time to READY p50"), ["-", "-"]);
    let replay = ran.stdout.lines().find_map(|line| line.strip_prefix("replay it:  "));
    let words: Vec<&str> = replay.expect("the command is printed").split(' ').skip(1).collect();
    assert_eq!(blockyard(&folder, &words).status, 1);
}

#[test]
fn a_comparison_says_the_same_each_time() {
    let folder = folder("compare-again");
    for arguments in [[&ENDLESS[..], &["--seeds", "5..15"]].concat(), UNCHANGED.to_vec()] {
        let [one, two] = [(); 2].map(|()| blockyard(&folder, &arguments).stdout);
        assert_eq!(one, two);
        let [one, two] = [(); 2].map(|()| blockyard_json(&folder, &arguments));
        assert_eq!(one, two);
    }
    let other = |seeds| blockyard(&folder, &[&ENDLESS[..], &["--seeds", seeds]].concat()).stdout;
    assert_ne!(other("0..3"), other("3..6").replace("3..6", "0..3"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let folder = folder("compare-misuse");
    let two = ["--design", "mirror=passive", "--design", "mirror=active"];
    let cases: &[(&[&str], &str)] = &[
        (&["mirror-endless-load"], "--design: two designs at least are needed"),
        (&["mirror-endless-load", "--design", "mirror=active"], "two designs at least"),
        (&[&["mirror-for-ever"], &two[..]].concat(), "there is no scenario 'mirror-for-ever'"),
        (
            &["mirror-endless-load", "--design", "mirror=passive", "--design", "mirror=lazy"],
            "'lazy' is none of",
        ),
        (
            &["mirror-endless-load", "--design", "mirror=active", "--design", "speed=high"],
            "there is no design decision 'speed'",
        ),
        (
            &["mirror-endless-load", "--design", "mirror=active", "--design", "mirror=active"],
            "--design mirror=active: the same design as mirror=active",
        ),
        // The default is spelt out.
        (
            &[
                "mirror-endless-load",
                "--design",
                "mirror=active,pivot=filter-parent",
                "--design",
                "mirror=active",
            ],
            "the same design as mirror=active,pivot=filter-parent",
        ),
        (
            &[
                "mirror-endless-load",
                "--design",
                "mirror=active,mirror=passive",
                "--design",
                "pivot=replace-node",
            ],
            "'mirror' is given twice",
        ),
        (
            &["mirror-endless-load", "--design", "mirror", "--design", "mirror=active"],
            "K=V is needed",
        ),
        (&[&["mirror-endless-load", "--seeds", "5..5"], &two[..]].concat(), "A below B"),
    ];
    for (arguments, said) in cases {
        let arguments = [&["compare"], *arguments].concat();
        let ran = blockyard(&folder, &arguments);
        assert_eq!(ran.status, 2, "{arguments:?}: {}", ran.stdout);
        assert!(
            ran.stderr.contains(said) && ran.stdout.is_empty(),
            "{arguments:?}: {}",
            ran.stderr
        );
        let (status, refused) = blockyard_json(&folder, &arguments);
        let error = refused["error"].as_str().expect("an error");
        assert!(status == 2 && error.contains(said), "{arguments:?}: {refused}");
    }
    assert_eq!(std::fs::read_dir(&folder).expect("it is there").count(), 0);
}

#[test]
fn three_designs_stand_side_by_side_and_one_may_decide_several_questions() {
    let folder = folder("compare-three");
    let third = ["--design", "mirror=active,pivot=replace-node", "--seeds", "0..2"];
    let (status, three) = blockyard_json(&folder, &[&ENDLESS[..], &third].concat());
    assert_eq!(status, 0, "{three}");
    let pivots: Vec<&Value> =
        (0..3).map(|index| &three["designs"][index]["design"]["pivot"]).collect();
    assert_eq!(pivots, ["filter-parent", "filter-parent", "replace-node"], "{three}");
    assert_eq!(three["designs"][2]["name"], "mirror=active,pivot=replace-node");
}

#[test]
fn what_only_a_timed_run_breaks_is_kept_and_replayed() {
    let folder = folder("compare-timed");
    // The load writes parts of chunks; one execution of a search meets none.
    let mutant = [
        "--mutant",
        "mirror-active-clears-partial-chunk",
        "--max-executions",
        "1",
        "--seeds",
        "0..4",
    ];
    let (status, both) = blockyard_json(&folder, &[&ENDLESS[..], &mutant].concat());
    let [passive, broken] = [&both["designs"][0], &both["designs"][1]];
    assert_eq!((status, &broken["executions"]), (1, &1.into()), "{both}");
    assert_eq!(
        (number(passive, "/timed/broken"), number(broken, "/timed/broken")),
        (0, 4),
        "{both}"
    );
    assert_eq!(broken["property"], "mirror-convergence", "{both}");
    let file = broken["seed_file"].as_str().expect("a path");
    let text = std::fs::read_to_string(folder.join(file)).expect("it is there");
    assert!(text.contains("\ntime: timed\n"), "{text:.400}");
    let (status, replayed) = blockyard_json(&folder, &["replay", file]);
    assert_eq!((status, &replayed["property"]), (1, &broken["property"]), "{replayed}");
    assert_eq!(replayed["same_hash"], true, "{replayed}");
    assert_eq!(blockyard(&folder, &["shrink", file]).status, 2);
}

#[test]
fn random_runs_may_be_timed() {
    let folder = folder("fuzz-timed");
    let timed =
        ["fuzz", "mirror-endless-load", "mirror-passive", "--seeds", "0..5", "--time", "timed"];
    let (status, clean) = blockyard_json(&folder, &timed);
    assert_eq!((status, &clean["verdict"]), (0, &"clean".into()), "{clean}");
    // Untimed there is no load: runs are shorter.
    let steps = |ran: &Value| number(ran, "/scenarios/0/steps");
    let (_, untimed) = blockyard_json(&folder, &timed[..5]);
    assert!(steps(&clean) > 10 * steps(&untimed), "{clean} {untimed}");
    let generated = ["fuzz", "--generate", "--seeds", "0..30", "--time", "timed"];
    let (status, clean) = blockyard_json(&folder, &generated);
    assert_eq!((status, &clean["verdict"]), (0, &"clean".into()), "{clean}");
}

#[test]
fn a_comparison_that_is_interrupted_says_what_is_known() {
    let folder = folder("compare-interrupted");
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockyard"));
    let first = ["--design", "unchanged-marks=yes", "--design", "unchanged-marks=no", "--json"];
    command.args(&UNCHANGED[..2]).args(first).args(["--seeds", "0..1000000000"]);
    let child = command.current_dir(&folder).stdout(Stdio::piped()).spawn();
    let child = child.expect("the command starts");
    let is_kept = || {
        let mut files = std::fs::read_dir(&folder).expect("it is there");
        files.any(|file| file.is_ok_and(|file| file.path().extension() == Some("seed".as_ref())))
    };
    while !is_kept() {
        std::thread::yield_now();
    }
    let interrupt = ["-INT".into(), child.id().to_string()];
    Command::new("kill").args(interrupt).output().expect("there is a kill");
    let output = child.wait_with_output().expect("it is our child");
    let said = String::from_utf8(output.stdout).expect("output is text");
    assert_eq!(output.status.code(), Some(130), "{said}");
    let known: Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!(known["verdict"], "interrupted", "{known}");
    let designs = known["designs"].as_array().expect("a list");
    assert!(designs.len() == 1 && designs[0]["property"] == "bitmap-precision", "{known}");
}
