//! `--blockdev`: nodes from the command line, in either form, wherever the run goes afterwards.

mod common;

use std::path::Path;

use common::{blockyard, blockyard_json, folder};
use serde_json::{Value, json};

const DOTTED: &str = "file,node-name=src,filename=src";
const JSON: &str = r#"{"driver": "file", "node-name": "src", "filename": "src"}"#;

/// A scenario whose setup lacks the node `src`, in `folder`.
fn without_src(folder: &Path) -> &'static str {
    let text = blockyard_scenario::builtin("resurrected-filter").expect("it is built in");
    let mut scenario: Value = serde_json::from_str(text).expect("it is JSON");
    let removed = scenario["setup"].as_array_mut().expect("a list").remove(0);
    assert_eq!(removed["arguments"]["node-name"], "src");
    std::fs::write(folder.join("scenario.json"), scenario.to_string()).expect("it is writable");
    "./scenario.json"
}

fn read(folder: &Path, file: &Value) -> String {
    let path = folder.join(file.as_str().expect("a path"));
    std::fs::read_to_string(path).expect("it was written")
}

/// A seed file's events, without their notes: serde_json sorts the members of what was rewritten.
fn tape(seed: &str) -> Vec<&str> {
    let (_, tape) = seed.split_once("\ntape:\n").expect("there is a tape");
    tape.lines().map(|line| line.split("  ;").next().unwrap_or_default().trim_end()).collect()
}

#[test]
fn a_node_from_the_command_line_is_one_of_the_setup_and_reaches_replay_and_shrink() {
    let folder = folder("blockdev");
    let scenario = without_src(&folder);
    let naive = ["--design", "replace=naive"];
    let builtin = ["explore", "resurrected-filter", naive[0], naive[1]];
    let (_, whole) = blockyard_json(&folder, &builtin);
    let whole = read(&folder, &whole["seed_file"]);
    assert!(whole.contains("\nblockdev: []\n"), "{whole}");
    for (form, options) in [("dotted", DOTTED), ("json", JSON)] {
        let arguments = ["explore", scenario, naive[0], naive[1], "--blockdev", options];
        let (status, found) = blockyard_json(&folder, &arguments);
        assert_eq!(status, 1, "{form}: {found}");
        let seed = read(&folder, &found["seed_file"]);
        let head = r#"blockdev: [{"driver":"file","node-name":"src","filename":"src"}]"#;
        assert!(seed.contains(&format!("\n{head}\n")), "{form}: {seed}");
        assert_eq!(tape(&seed), tape(&whole), "{form}");
        let seed_file = found["seed_file"].as_str().expect("a path");
        let (status, again) = blockyard_json(&folder, &["replay", seed_file]);
        assert_eq!((status, &again["same_hash"]), (1, &json!(true)), "{form}: {again}");
        let shrunk = blockyard(&folder, &["shrink", seed_file, "-o", "min.seed"]);
        assert_eq!(shrunk.status, 1, "{form}: {}{}", shrunk.stdout, shrunk.stderr);
        let (status, again) = blockyard_json(&folder, &["replay", "min.seed"]);
        assert_eq!((status, &again["same_hash"]), (1, &json!(true)), "{form}: {again}");
        // Without it the setup fails.
        std::fs::write(folder.join("cut.seed"), seed.replace(head, "")).expect("it is writable");
        let cut = blockyard(&folder, &["replay", "cut.seed"]);
        assert!(cut.stdout.contains("no node 'src'"), "{form}: {}{}", cut.stdout, cut.stderr);
    }
}

#[test]
fn every_command_that_opens_nodes_takes_nodes() {
    let folder = folder("blockdev-commands");
    let scenario = without_src(&folder);
    for command in [
        &["run", scenario, "--on", "sim"][..],
        &["run", scenario, "--on", "files", "--dir", "images"],
        &["fuzz", scenario, "--seeds", "0..10"],
        &["explore", scenario, "--max-executions", "10"],
    ] {
        let arguments = [command, &["--design", "replace=compare"]].concat();
        let missing = blockyard(&folder, &arguments);
        assert_eq!(missing.status, 2, "{command:?}: {}{}", missing.stdout, missing.stderr);
        assert!(missing.stderr.contains("no node 'src'"), "{command:?}: {}", missing.stderr);
        let more = "raw,node-name=top,file=src";
        let arguments = [&arguments[..], &["--blockdev", JSON, "--blockdev", more]].concat();
        let ran = blockyard(&folder, &arguments);
        assert_eq!(ran.status, 0, "{command:?}: {}{}", ran.stdout, ran.stderr);
    }
}

#[test]
fn a_read_only_node_takes_no_guest_that_writes() {
    let folder = folder("blockdev-read-only");
    let scenario = without_src(&folder);
    for read_only in ["off", "on"] {
        for node in [
            format!("file,node-name=src,filename=src,read-only={read_only}"),
            format!("raw,node-name=src,read-only={read_only},file.driver=file,file.filename=src"),
        ] {
            let arguments = ["run", scenario, "--on", "sim", "--design", "replace=compare"];
            let ran = blockyard(&folder, &[&arguments[..], &["--blockdev", &node]].concat());
            let refused =
                ran.stderr.contains("setup: device failed: ") && ran.stderr.contains("read-only");
            let expected = if read_only == "on" { (2, true) } else { (0, false) };
            assert_eq!((ran.status, refused), expected, "{node}: {}{}", ran.stdout, ran.stderr);
        }
    }
}

#[test]
fn a_checkpoint_belongs_to_its_nodes() {
    let folder = folder("blockdev-resume");
    let scenario = without_src(&folder);
    let search = ["explore", scenario, "--max-executions", "5", "--resume", "kept"];
    let with = |options| [&search[..], &["--blockdev", options]].concat();
    assert_eq!(blockyard(&folder, &with(DOTTED)).status, 0);
    assert_eq!(blockyard(&folder, &with(JSON)).status, 0, "the other form of the same node");
    let other = blockyard(&folder, &with("file,node-name=src,filename=dst"));
    assert_eq!(other.status, 2, "{}", other.stdout);
    assert!(other.stderr.contains("another search: blockdev was"), "{}", other.stderr);
}

#[test]
fn wrong_options_are_refused_before_anything_runs_and_the_key_is_named() {
    let folder = folder("blockdev-refused");
    let check = |command: &[&str], options: &str, said: &str| {
        let ran = blockyard(&folder, &[command, &["--blockdev", options]].concat());
        assert_eq!(ran.status, 2, "{options}: {}{}", ran.stdout, ran.stderr);
        let said = format!("--blockdev {options}: {said}");
        assert!(ran.stderr.contains(&said), "{said}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    };
    let explore = ["explore", "mirror-passive"];
    check(&explore, "node-name=a", "driver: missing");
    check(&explore, "memory,node-name=a,size=1X", "size: expected a size such as");
    check(&explore, "memory,node-name=a,siez=1", "siez: unexpected; the known key is size");
    check(
        &explore,
        "memory,node-name=a,size=1,cache.no-flush=on",
        "cache.no-flush: not implemented",
    );
    check(&explore, "memory,node-name", "node-name: expected '=' and a value");
    check(&explore, "memory,size=1,node-name=a,size.x=1", "size: used as a value and as an object");
    check(&explore, r#"{"driver":"memory","node-name":"a","size":"1"}"#, "size: expected a number");
    check(&explore, r#"{"driver":"memory""#, "line 1, column 18: EOF");
    check(&["run", "mirror-passive", "--on", "files"], "raw,node-name=a", "file: missing");
    check(
        &["fuzz", "mirror-passive", "--seeds", "0..1"],
        "foo,node-name=a",
        "driver: expected one",
    );
    // What only the graph can tell is told by its setup.
    let twice = [&explore[..], &["--blockdev", "memory,node-name=src,size=1k"]].concat();
    let ran = blockyard(&folder, &twice);
    assert_eq!(ran.status, 2, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("there is a node src already"), "{}", ran.stderr);
    let generate = ["fuzz", "--generate", "--seeds", "0..1", "--blockdev", JSON];
    assert_eq!(blockyard(&folder, &generate).status, 2, "nobody would use the node");
    assert_eq!(std::fs::read_dir(&folder).expect("it is there").count(), 0, "nothing is left");
}
