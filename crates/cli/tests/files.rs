//! `blockyard run`: scenarios on real files, and what the images hold afterwards.
#![allow(clippy::disallowed_methods, reason = "a test of a program runs it as users do")]

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A directory of one test, gone at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("run-{test}"));
        // Of a run that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    fn images(&self) -> PathBuf {
        self.0.join("images")
    }

    fn read(&self, image: &str) -> Vec<u8> {
        fs::read(self.images().join(image)).expect("an image was made")
    }

    /// Runs the command on the images of this directory.
    fn run(&self, arguments: &[&str]) -> Output {
        run(&self.images(), &self.0, arguments)
    }

    /// Runs it, expects that nothing is broken, and returns what it says.
    fn run_clean(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--on", "files", "--json"]].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}");
        let said: Value = serde_json::from_str(&text).expect("one object");
        assert_eq!(said["verdict"], "clean");
        said
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What is left is left in the build directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(images: &Path, out: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockyard"));
    command.arg("run").args(arguments).arg("--dir").arg(images).arg("--out").arg(out);
    command.output().expect("the command starts")
}

/// Exit status 2, one line on standard error that has all of `parts`, and nothing on standard output.
fn assert_refused(output: &Output, parts: &[&str]) {
    let line = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(output.stdout.is_empty());
    for part in parts {
        assert!(line.contains(part), "'{part}' is not in: {line}");
    }
}

#[test]
fn write_after_the_pivot_is_on_the_target_only() {
    let dir = Dir::new("write-after-pivot");
    let said = dir.run_clean(&["mirror-passive", "--set", "size=64M"]);
    assert!(said["load_writes"].as_u64() > Some(100), "{said}");
    assert!(said["load_writes_after_ready"].as_u64() >= Some(99), "{said}");
    let (source, target) = (dir.read("src.img"), dir.read("dst.img"));
    assert_eq!((source.len(), target.len()), (64 << 20, 64 << 20));
    assert_ne!(source[..4096], target[..4096]);
    // The load may have written there once more before it stopped; nothing is claimed then.
    if let Some(line) = said["write_after_pivot"].as_str() {
        assert_eq!(line, "disk0 0+4096 is on dst.img and not on src.img");
    }
}

#[test]
fn images_held_at_the_pivot_are_equal() {
    let dir = Dir::new("hold");
    let output =
        dir.run(&["mirror-passive", "--on", "files", "--set", "size=64M", "--hold", "pivot"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("qemu-img compare -f raw -F raw "), "{text}");
    assert!(!text.contains("write after the pivot"), "{text}");
    assert!(dir.read("src.img") == dir.read("dst.img"), "source and target differ");
    let images = dir.images();
    let mut command = Command::new("qemu-img");
    command.args(["compare", "-f", "raw", "-F", "raw"]);
    match command.arg(images.join("src.img")).arg(images.join("dst.img")).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: qemu-img is not installed");
        }
        compared => assert!(compared.expect("qemu-img starts").status.success()),
    }
}

#[test]
fn guests_held_at_the_pivot_make_no_write_again() {
    let dir = Dir::new("hold-often");
    for _ in 0..20 {
        let said = dir.run_clean(&["mirror-passive", "--set", "size=256k", "--hold", "pivot"]);
        assert_eq!(said["load_writes_after_pivot"], 0, "{said}");
        assert_eq!(said["write_after_pivot"], Value::Null);
        assert!(dir.read("src.img") == dir.read("dst.img"), "source and target differ");
        fs::remove_dir_all(dir.images()).expect("the images are ours");
    }
}

#[test]
fn scenarios_run_on_files() {
    let dir = Dir::new("scenarios");
    for scenario in ["mirror-active", "resurrected-filter", "mirror-keeps-upper-filter"] {
        let said = dir.run_clean(&[scenario]);
        assert!(said["graph"].as_str().is_some_and(|graph| graph.contains("disk0.root")), "{said}");
        fs::remove_dir_all(dir.images()).expect("the images are ours");
    }
}

#[test]
fn scenario_runs_in_the_simulated_world() {
    let dir = Dir::new("sim");
    let output = dir.run(&["mirror-passive", "--on", "sim", "--seed", "3"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("clean so far"));
    assert!(!dir.images().exists());
}

#[test]
fn violation_in_the_simulated_world_comes_with_its_seed_file() {
    let dir = Dir::new("sim-violation");
    let mutant = ["--mutant", "mirror-converge-check-outside-drain", "--json"];
    let seeds = (0..200).map(|seed| seed.to_string());
    let found = seeds.into_iter().find_map(|seed| {
        let arguments = ["mirror-passive", "--on", "sim", "--seed", &seed];
        let output = dir.run(&[&arguments[..], &mutant].concat());
        (output.status.code() == Some(1)).then_some(output.stdout)
    });
    let said: Value = serde_json::from_slice(&found.expect("a seed finds it")).expect("an object");
    assert_eq!(said["verdict"], "violated");
    assert!(Path::new(said["seed_file"].as_str().expect("a path")).exists());
}

#[test]
fn existing_image_is_refused_and_kept() {
    let dir = Dir::new("existing");
    fs::create_dir(dir.images()).expect("the test's own directory");
    fs::write(dir.images().join("src.img"), "mine").expect("the test's own file");
    let output = dir.run(&["mirror-passive", "--on", "files"]);
    assert_refused(&output, &["src.img", "remove it", "--dir"]);
    assert_eq!(dir.read("src.img"), b"mine");
    assert!(!dir.images().join("dst.img").exists());
}

#[test]
fn directory_that_cannot_be_made_is_refused() {
    let dir = Dir::new("no-directory");
    let file = dir.0.join("file");
    fs::write(&file, "").expect("the test's own file");
    for images in [file.clone(), file.join("below")] {
        let output = run(&images, &dir.0, &["mirror-passive", "--on", "files"]);
        assert_refused(&output, &[&images.display().to_string(), "directory"]);
    }
    assert!(file.is_file());
}

#[test]
fn setup_that_fails_leaves_no_images() {
    let dir = Dir::new("setup-fails");
    let script = dir.0.join("script.json");
    let text = r#"{ "scenario": "wrong", "version": 1, "about": "a name is wrong", "disks": { "a": { "size": "4k" } },
        "setup": [
          { "execute": "blockdev-add", "arguments": { "driver": "file", "node-name": "n", "filename": "b" } },
          { "device": { "id": "d", "node": "n" } } ],
        "actors": { "guest": [ { "read": { "device": "d", "offset": 0, "length": 512 } } ] } }"#;
    fs::write(&script, text).expect("the test's own file");
    let script = script.display().to_string();
    for ground in ["files", "sim"] {
        let output = dir.run(&[&script, "--on", ground]);
        assert_refused(&output, &["setup: ", "there is no disk 'b'"]);
        assert!(!dir.images().exists());
    }
}

#[test]
fn bad_input_is_refused_before_anything_is_made() {
    let dir = Dir::new("bad-input");
    let cases: &[(&[&str], &[&str])] = &[
        (&["nobody", "--on", "files"], &["no scenario 'nobody'", "mirror-passive"]),
        (&["mirror-passive", "--on", "files", "--set", "sise=1G"], &["sise", "size"]),
        (&["mirror-passive", "--on", "files", "--set", "size"], &["--set", "K=V"]),
        (&["mirror-passive", "--on", "files", "--set", "size=100"], &["multiple of 512"]),
        (&["mirror-passive", "--on", "files", "--set", "size=7E"], &["dst.img"]),
        (&["mirror-passive", "--on", "files", "--design", "replace=so"], &["replace"]),
        (&["mirror-passive", "--on", "files", "--faults", "1"], &["--faults", "--on sim"]),
        (&["mirror-passive", "--on", "files", "--families", "lost"], &["--families", "--on sim"]),
        (&["mirror-passive", "--on", "sim", "--hold", "pivot"], &["--hold", "--on files"]),
    ];
    for (arguments, parts) in cases {
        assert_refused(&dir.run(arguments), parts);
        assert!(!dir.images().exists(), "{arguments:?}");
    }
}
