//! `blockyard run --on qemu` and `--on all`: scenarios on a real `qemu-storage-daemon`, and on us beside it.
#![allow(clippy::disallowed_methods, reason = "a test of a program runs it as users do")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

mod common;
use common::{blockyard, blockyard_json, folder};

/// What QEMU can play, with equal outcomes.
const EQUAL: &[&str] = &[
    "bitmap-clear",
    "bitmap-merge",
    "bitmap-persistent",
    "bitmap-transaction",
    "mirror-active",
    "mirror-durable",
    "mirror-errors",
    "mirror-overlapping-writes",
    "mirror-parallel",
    "mirror-passive",
    "qcow2-allocate",
    "qcow2-cow-over-backing",
    "qcow2-discard-and-reuse",
    "qcow2-refcount-block",
    "qcow2-resize",
    "qcow2-under-mirror",
];

/// The same, of scripts that are for this alone.
const EQUAL_HERE: &[&str] = &[
    "peer-backup",
    "peer-bitmap-algebra",
    "peer-bitmap-copy-on-read",
    "peer-bitmap-kept",
    "peer-commit",
    "peer-compress",
    "peer-mirror-modes",
    "peer-quorum",
    "peer-stream",
];

/// What it cannot, and why.
const REFUSED: &[(&str, &str)] = &[
    (
        "resurrected-filter",
        "admin, step 2: not on qemu: QEMU has no command x-blockdev-replace-child",
    ),
    ("bitmap-qcow2", "guest, step 1: not on qemu: write-compressed: NBD has no such request"),
    ("bitmap-device-merge", "disk0: QEMU has bitmaps of nodes, and none of devices"),
    ("mirror-keeps-upper-filter", "cannot be played: a mirror's device is to be a root node"),
    ("bitmap-unchanged", "setup, step 2: not on qemu: blockdev-add: driver: QEMU has no 'overlay'"),
    ("bitmap-resize", "setup, step 3: not on qemu: device disk0: an NBD export does not grow"),
    (
        "guest-stopped-by-error",
        "setup, step 2: not on qemu: device disk0: an NBD export has neither",
    ),
];

/// Turns are drawn from these.
const SEEDS: [&str; 4] = ["0", "1", "2", "3"];

/// Whether the daemon is there; says so if not. Where everything must be tested it must be.
fn is_there() -> bool {
    let found = blockyard_peer::is_there();
    assert!(found || std::env::var_os("CI").is_none(), "qemu-storage-daemon is not installed");
    if !found {
        eprintln!("skipped: qemu-storage-daemon is not installed, and this test compares with it");
    }
    found
}

#[test]
fn outcomes_are_equal_on_files_and_on_qemu() {
    if !is_there() {
        return;
    }
    let folder = folder("beside-equal");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let here =
        EQUAL_HERE.iter().map(|name| data.join(format!("{name}.json")).display().to_string());
    let scenarios: Vec<String> = EQUAL.iter().map(|name| (*name).into()).chain(here).collect();
    for (scenario, seed) in scenarios.iter().flat_map(|of| SEEDS.map(|seed| (of, seed))) {
        let arguments = ["run", scenario, "--on", "all", "--seed", seed, "--dir", "images"];
        let (status, said) = blockyard_json(&folder, &arguments);
        assert_eq!(
            (status, &said["verdict"]),
            (0, &Value::from("clean")),
            "{scenario} {seed}: {said}"
        );
        assert!(said["steps"].as_u64() > Some(2), "{scenario} {seed}: {said}");
        fs::remove_dir_all(folder.join("images")).expect("the images are kept");
    }
}

#[test]
fn what_qemu_cannot_do_is_refused_and_leaves_nothing() {
    if !is_there() {
        return;
    }
    let folder = folder("beside-refused");
    for (scenario, why) in REFUSED {
        for on in ["qemu", "all"] {
            let ran = blockyard(&folder, &["run", scenario, "--on", on, "--dir", "images"]);
            assert_eq!(ran.status, 2, "{scenario}: {}", ran.stdout);
            assert!(ran.stderr.contains(why), "{scenario}: {}", ran.stderr);
            assert!(!folder.join("images").exists(), "{scenario}");
        }
    }
}

#[test]
fn scenario_runs_on_qemu_alone() {
    if !is_there() {
        return;
    }
    let folder = folder("beside-alone");
    let arguments = ["run", "bitmap-persistent", "--on", "qemu", "--dir", "images"];
    let (status, said) = blockyard_json(&folder, &arguments);
    assert_eq!((status, &said["on"]), (0, &Value::from("qemu")), "{said}");
    assert!(folder.join("images/img.img").exists());
}

#[test]
fn known_bug_is_a_difference() {
    if !is_there() {
        return;
    }
    let folder = folder("beside-mutant");
    let found = SEEDS.iter().any(|seed| {
        let mutant = ["--mutant", "merge-leaves-count-stale", "--seed", seed];
        let arguments = ["run", "bitmap-merge", "--on", "all", "--dir", "images"];
        let (status, said) = blockyard_json(&folder, &[&arguments[..], &mutant].concat());
        fs::remove_dir_all(folder.join("images")).expect("the images are kept");
        let differences = said["differences"].as_array().expect("a list");
        let is_told = differences.iter().any(|found| found["what"] == "bitmap disk/frozen");
        assert_eq!((status, said["property"] == "same-everywhere"), (i32::from(is_told), is_told));
        is_told
    });
    assert!(found, "it is noticed with none of the seeds");
}

#[test]
fn without_a_daemon_it_says_what_to_install() {
    let folder = folder("beside-absent");
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockyard"));
    let arguments = ["run", "bitmap-merge", "--on", "qemu", "--dir", "images"];
    let command = command.args(arguments).current_dir(&folder).env("PATH", Path::new("/nowhere"));
    let output = command.output().expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("install QEMU's tools"), "{said}");
    assert!(!folder.join("images").exists());
}

/// A daemon that never says anything, in a folder for `PATH`; it tells its process in a file beside it.
fn silent_daemon(folder: &Path) {
    let program = folder.join("qemu-storage-daemon");
    fs::write(&program, "#!/bin/sh\necho $$ > pid\nexec tail -f /dev/null\n").expect("a file");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("it is ours");
}

#[test]
fn who_is_interrupted_leaves_no_daemon() {
    let folder = folder("beside-interrupted");
    silent_daemon(&folder);
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockyard"));
    command.args(["run", "bitmap-merge", "--on", "all", "--dir", "images"]).current_dir(&folder);
    command.env("PATH", format!("{}:{path}", folder.display()));
    let mut child = command.spawn().expect("the command starts");
    let daemon = loop {
        let pid = fs::read_to_string(folder.join("pid")).unwrap_or_default();
        if pid.ends_with('\n') {
            break pid.trim().to_string();
        }
    };
    assert!(Path::new("/proc").join(&daemon).exists());
    let interrupt = ["-INT".to_string(), child.id().to_string()];
    Command::new("kill").args(interrupt).output().expect("there is a kill");
    assert_eq!(child.wait().expect("it is our child").code(), Some(130));
    assert!(!Path::new("/proc").join(&daemon).exists(), "{daemon} is still there");
    assert!(!folder.join("images").exists());
}
