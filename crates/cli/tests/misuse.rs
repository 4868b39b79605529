//! What a user may get wrong is refused in one line that says what to do, and nothing is begun.

mod common;

use std::fs;
use std::path::Path;

use common::{blockyard, blockyard_json, folder};
use serde_json::{Value, json};

const NAIVE: [&str; 4] = ["explore", "resurrected-filter", "--design", "replace=naive"];

/// Exit status 2 and one line that has all of `said`; the same as JSON.
fn check_refused(folder: &Path, arguments: &[&str], said: &[&str]) {
    let ran = blockyard(folder, arguments);
    assert_eq!(ran.status, 2, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    let (status, json) = blockyard_json(folder, arguments);
    let error = json["error"].as_str().unwrap_or_else(|| panic!("no error in {json}"));
    assert_eq!((status, error.lines().count()), (2, 1), "{arguments:?}: {error}");
    for said in said {
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no text '{key}' in {value}")).into()
}

/// A scenario of two disks and a device on one of them, with these steps more in the setup.
fn scenario(setup: &[Value], actor: &[Value]) -> String {
    let file = |name: &str| {
        json!({ "execute": "blockdev-add",
            "arguments": { "driver": "file", "node-name": name, "filename": name } })
    };
    let device = json!({ "device": { "id": "disk0", "node": "src" } });
    let setup: Vec<Value> =
        [file("src"), file("dst"), device].into_iter().chain(setup.iter().cloned()).collect();
    let scenario = json!({ "scenario": "misuse", "version": 1, "about": "misuse",
        "disks": { "src": { "size": "4k" }, "dst": { "size": "4k" } },
        "setup": setup, "actors": { "guest": actor } });
    scenario.to_string()
}

fn mirror(with: Value) -> Value {
    let mut arguments = json!({ "device": "src", "target": "dst", "sync": "full" });
    let members = with.as_object().expect("arguments are an object").clone();
    arguments.as_object_mut().expect("it is one").extend(members);
    json!({ "execute": "blockdev-mirror", "arguments": arguments })
}

#[test]
fn what_no_memory_could_hold_is_refused() {
    let folder = folder("misuse-long");
    let request = |kind: &str, length: &str| {
        let place = json!({ "device": "disk0", "offset": 0, "length": length });
        scenario(&[], &[json!({ "read": place.clone() }), json!({ kind: place })])
    };
    let memory = json!({ "execute": "blockdev-add",
        "arguments": { "driver": "memory", "node-name": "m", "size": "1T" } });
    for (text, said) in [
        (request("write", "1T"), "actors.guest: step 1: read.length: 1099511627776 bytes"),
        (request("read", "1G"), "a request of 1073741824 bytes does not fit the simulated world"),
        (scenario(&[memory], &[]), "setup: step 4: blockdev-add: size: 1099511627776 bytes"),
    ] {
        fs::write(folder.join("long.json"), text).expect("the folder is writable");
        check_refused(&folder, &["explore", "long.json"], &[said]);
    }
}

#[test]
fn a_bitmap_that_no_memory_could_hold_fails_its_job() {
    let folder = folder("misuse-bitmap");
    let null = |name: &str| {
        json!({ "execute": "blockdev-add",
            "arguments": { "driver": "null-co", "node-name": name, "size": "1E" } })
    };
    let mut job = mirror(json!({ "device": "a", "target": "b", "job-id": "j" }));
    job["expect"] = json!("error");
    let text = scenario(&[null("a"), null("b")], &[job]);
    fs::write(folder.join("bitmap.json"), text).expect("the folder is writable");
    let ran = blockyard(&folder, &["explore", "bitmap.json", "--exhaust"]);
    assert_eq!(ran.status, 0, "{ran:?}");
}

#[test]
fn a_load_that_never_fits_and_never_rests_ends() {
    let folder = folder("misuse-load");
    let read = json!({ "read": { "device": "disk0", "offset": 0, "length": 512 } });
    for (length, status, said) in [("8k", 1, "load: 8192 bytes do not fit"), ("4k", 0, "nothing")] {
        let load = json!({ "device": "disk0", "length": length, "every": 0 }).to_string();
        let text = scenario(&[], std::slice::from_ref(&read));
        let text = text.replacen("\"scenario\"", &format!("\"load\":{load},\"scenario\""), 1);
        fs::write(folder.join("load.json"), text).expect("the folder is writable");
        let ran = blockyard(&folder, &["run", "load.json", "--on", "files", "--dir", length]);
        assert!(ran.status == status && ran.stdout.contains(said), "{ran:?}");
    }
}

#[test]
fn a_mirror_that_can_never_begin_is_refused_with_its_step() {
    let folder = folder("misuse-mirror");
    for (with, said) in [
        (json!({ "granularity": 0 }), "granularity: refused: granularity 0 is not a power of two"),
        (json!({ "granularity": 4095 }), "granularity 4095 is not a power of two"),
        (json!({ "granularity": "4G" }), "granularity 4294967296 is not a power of two"),
        (json!({ "job-id": "0" }), "invalid job id '0'"),
        (json!({ "filter-node-name": "a b" }), "invalid node-name 'a b'"),
    ] {
        let text = scenario(&[], &[mirror(with)]);
        fs::write(folder.join("mirror.json"), text).expect("the folder is writable");
        let step = "scenario mirror.json: actors.guest: step 1: blockdev-mirror: ";
        check_refused(&folder, &["explore", "mirror.json"], &[step, said]);
    }
}

#[test]
fn what_is_done_for_ever_is_the_last_step_of_an_actor() {
    let folder = folder("misuse-always");
    let always = json!({ "always": [{ "wait": "STOP" }, { "execute": "cont" }] });
    let flush = json!({ "flush": { "device": "disk0" } });
    for text in [
        scenario(std::slice::from_ref(&always), &[]),
        scenario(&[], &[always.clone(), flush]),
        scenario(&[], &[json!({ "either": [[always.clone()], []] })]),
    ] {
        fs::write(folder.join("always.json"), text).expect("the folder is writable");
        check_refused(&folder, &["explore", "always.json"], &["always: it is the last step"]);
    }
    let text = scenario(&[], &[always]);
    fs::write(folder.join("always.json"), text).expect("the folder is writable");
    assert_eq!(blockyard(&folder, &["explore", "always.json"]).status, 0);
}

#[test]
fn names_that_could_not_be_kept_are_refused() {
    let folder = folder("misuse-names");
    let text = scenario(&[], &[]).replace("\"misuse\"", "\"../misuse\"");
    fs::write(folder.join("name.json"), text).expect("the folder is writable");
    check_refused(&folder, &["explore", "name.json"], &["'../misuse' is no name for a scenario"]);
    let text = scenario(&[], &[]).replace("\"guest\"", "\"setup\"");
    fs::write(folder.join("actor.json"), text).expect("the folder is writable");
    check_refused(&folder, &["explore", "actor.json"], &["'setup' is another task's name"]);
    let set = ["explore", "mirror-passive", "--set", "size=4k 8k"];
    check_refused(&folder, &set, &["parameters.size", "words without spaces"]);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let folder = folder("misuse-contradicts");
    let explore = ["explore", "mirror-passive"];
    let fuzz = ["fuzz", "--generate", "--seeds", "0..9", "--faults", "0"];
    for (command, arguments, said) in [
        (&explore[..], &["--design", "replace=naive", "--design", "replace=compare"][..], "twice"),
        (&explore, &["--set", "size=8k", "--set", "size=8k"], "--set size=8k: 'size' is given"),
        (&explore, &["--faults", "1", "--families", ""], "--families: there is no family ''"),
        (&explore, &["--families", "eio"], "--faults N says how many may"),
        (&fuzz, &["--families", "eio"], "--faults N says how many may"),
    ] {
        check_refused(&folder, &[command, arguments].concat(), &[said]);
    }
    let (status, ran) =
        blockyard_json(&folder, &["fuzz", "mirror-active", "mirror-active", "--seeds", "0..9"]);
    assert_eq!((status, &ran["executions"]), (0, &json!(9)), "it is run once: {ran}");
}

#[test]
fn an_error_as_json_is_the_whole_error() {
    let folder = folder("misuse-json");
    check_refused(&folder, &["fuzz", "mirror-active"], &["not provided: --seeds <A..B>"]);
    check_refused(&folder, &["explore"], &["<SCENARIO>"]);
    check_refused(&folder, &["exlpore"], &["'exlpore'", "similar", "'explore'"]);
    check_refused(&folder, &[], &["requires a subcommand", "explore, fuzz"]);
    let (_, json) = blockyard_json(&folder, &["explore", "--strategy", "luck", "mirror-active"]);
    let error = text(&json, "error");
    assert!(error.ends_with(']') && error.contains("portfolio"), "{error}");
}

#[test]
fn the_place_for_findings_is_made_unless_it_is_a_file() {
    let folder = folder("misuse-out");
    let out = |out: &'static str| [&NAIVE[..], &["--out", out]].concat();
    let (status, found) = blockyard_json(&folder, &out("new/findings"));
    assert_eq!(status, 1, "{found}");
    assert!(folder.join(text(&found, "seed_file")).is_file(), "{found}");
    fs::write(folder.join("file"), "mine").expect("the folder is writable");
    for at in ["file", "file/below"] {
        check_refused(&folder, &out(at), &[at, "cannot be made a directory"]);
    }
    assert_eq!(fs::read(folder.join("file")).expect("it is there"), b"mine");
    for never_ends in [["explore", "/dev/zero"], ["replay", "/dev/zero"]] {
        check_refused(&folder, &never_ends, &["longer than 67108864 bytes"]);
    }
    check_refused(&folder, &["explore", "nobody", "--out", "unmade"], &["nobody"]);
    assert!(!folder.join("unmade").exists());
}

#[test]
fn a_head_of_a_seed_file_that_is_wrong_is_refused_with_its_line() {
    let folder = folder("misuse-heads");
    let (_, found) = blockyard_json(&folder, &NAIVE);
    let seed = fs::read_to_string(folder.join(text(&found, "seed_file"))).expect("it was kept");
    let replay = |from: &str, to: &str| {
        assert!(seed.contains(from), "{seed}");
        fs::write(folder.join("x.seed"), seed.replacen(from, to, 1)).expect("it is writable");
    };
    let hash = format!("\nhash: {}", &seed.split("\nhash: ").nth(1).expect("a hash")[..16]);
    for (from, to, said) in [
        ("\nstrategy: reduced", "\nstrategy: luck", "line 11: strategy: 'luck'"),
        ("\nstrategy: reduced", "", "there is no head 'strategy:'"),
        ("\nseed: 0", "\nseed: zero", "line 12: seed: 'zero': invalid digit"),
        ("\nproperty: graph-", "\nproperty: graf-", "line 13: property: 'graf-validity': there is"),
        ("\nseed: 0", "\nseed: 0\ncolour: red", "line 13: colour: there is no such head"),
        ("replace=naive", "replace=naive replace=compare", "line 6: design: "),
        ("replace=naive", "replace=naive replace=compare", "'replace' is given twice"),
        ("faults=0", "faults=none", "line 8: budgets: "),
        ("faults=0", "flaws=0", "flaws: there are faults, families and crashes"),
        ("faults=0 ", "", "faults and crashes are needed"),
        ("\ngranularity: await", "\ngranularity: 4k", "line 9: granularity: '4k': neither 'await'"),
        ("\ntime: untimed", "\ntime: late", "line 10: time: 'late': neither 'untimed'"),
        ("\nsteps: ", "\nsteps: 1", "line 15: steps: "),
        (&hash, "\nhash: 0x12345678901234", "line 16: hash: "),
        ("\nscenario-hash: ", "\nscenario-hash: 0", "line 3: scenario-hash: "),
    ] {
        replay(from, to);
        check_refused(&folder, &["replay", "x.seed"], &["x.seed: ", said]);
        check_refused(&folder, &["shrink", "x.seed"], &["x.seed: ", said]);
    }
    replay("\ntime: untimed", "\ntime: timed");
    check_refused(&folder, &["shrink", "x.seed"], &["x.seed: the failure of a timed run"]);
    replay("\nproperty: graph-validity", "\nproperty: durability");
    let ran = blockyard(&folder, &["replay", "x.seed"]);
    assert_eq!(ran.status, 1, "{}", ran.stdout);
    let said = "(another property than then: the file says durability)";
    assert!(ran.stdout.starts_with("graph-validity: ") && ran.stdout.contains(said), "{ran:?}");
    replay("x", "x");
}

#[test]
fn a_replay_is_at_home_in_every_folder() {
    let folder = folder("misuse-elsewhere");
    let elsewhere = folder.join("elsewhere");
    fs::create_dir(&elsewhere).expect("the folder is writable");
    let builtin = blockyard_scenario::builtin("resurrected-filter").expect("it is built in");
    fs::write(folder.join("mine.json"), builtin).expect("the folder is writable");
    let replayed = |found: &str| {
        let line = found.lines().find_map(|line| line.strip_prefix("replay it:  "));
        let words: Vec<&str> = line.expect("it is printed").split(' ').skip(1).collect();
        let ran = blockyard(&elsewhere, &words);
        assert!(ran.stdout.contains("(the same property)"), "{}{}", ran.stdout, ran.stderr);
        assert!(!ran.stdout.contains("has changed"), "{}", ran.stdout);
    };
    for (scenario, out) in
        [("mine.json", "."), ("./mine.json", "elsewhere"), ("elsewhere/../mine.json", "new")]
    {
        let arguments = ["explore", scenario, "--design", "replace=naive", "--out", out];
        replayed(&blockyard(&folder, &arguments).stdout);
        let (_, found) = blockyard_json(&folder, &arguments);
        let shrink = ["shrink", &text(&found, "seed_file"), "-o", "elsewhere/shrunk.seed"];
        replayed(&blockyard(&folder, &shrink).stdout);
    }
    let generate = ["fuzz", "--generate", "--seeds", "0..500", "--mutant", "drain-skips-in-flight"];
    replayed(&blockyard(&folder, &generate).stdout);
    // A folder that is moved takes its scenarios with it.
    let (_, found) = blockyard_json(&folder, &[&generate[..], &["--out", "new"]].concat());
    let seed = text(&found, "seed_file").replacen("new", "moved", 1);
    fs::rename(folder.join("new"), folder.join("moved")).expect("the folder is writable");
    let (status, again) = blockyard_json(&folder, &["replay", &seed]);
    assert_eq!((status, &again["same_hash"]), (1, &json!(true)), "{again}");
}

#[test]
fn what_cannot_be_said_is_no_reason_to_say_something_else() {
    let folder = folder("misuse-closed");
    let exit = |command: &str| {
        let line = format!("{command}; exit $?");
        let program = env!("CARGO_BIN_EXE_blockyard");
        let output = std::process::Command::new("bash")
            .args(["-c", "set -o pipefail; blockyard() { \"$PROGRAM\" \"$@\"; }; eval \"$LINE\""])
            .env("PROGRAM", program)
            .env("LINE", line)
            .current_dir(&folder)
            .output();
        let output = output.expect("there is a shell");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let naive = "blockyard explore resurrected-filter --design replace=naive";
    assert_eq!(exit(&format!("{naive} | true")), (Some(1), String::new()));
    let (status, said) = exit(&format!("{naive} > /dev/full"));
    assert!(status == Some(2) && said.contains("standard output: No space left"), "{said}");
    assert_eq!(exit("blockyard explore nobody 2> /dev/full"), (Some(2), String::new()));
}

/// A file that a full disk would cut short is not begun, and what was there stays whole.
#[test]
fn a_file_that_cannot_be_written_whole_is_not_left_in_pieces() {
    let folder = folder("misuse-full");
    let shell = |limit: &str, line: &str| {
        // Writing beyond the limit is an error like that of a full disk.
        let script = format!("trap '' XFSZ; {limit}; exec \"$PROGRAM\" {line}");
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).env("PROGRAM", env!("CARGO_BIN_EXE_blockyard"));
        shell.current_dir(&folder).output().expect("there is a shell")
    };
    let find = NAIVE.join(" ");
    let full = shell("ulimit -f 0", &find);
    let said = String::from_utf8_lossy(&full.stdout).into_owned();
    // What was found is told all the same.
    let told = said.contains("the seed file could not be written");
    assert!(full.status.code() == Some(1) && told, "{said}");
    let names = || fs::read_dir(&folder).expect("it is there").count();
    assert_eq!(names(), 0, "{said}");
    let (_, found) = blockyard_json(&folder, &NAIVE);
    let seed = text(&found, "seed_file");
    let before = fs::read(folder.join(&seed)).expect("it was written");
    let full = shell("ulimit -f 0", &format!("shrink {seed} -o {seed}"));
    assert_eq!(full.status.code(), Some(1), "{}", String::from_utf8_lossy(&full.stderr));
    assert_eq!(fs::read(folder.join(&seed)).expect("it is there"), before);
    assert_eq!(names(), 1);
}
