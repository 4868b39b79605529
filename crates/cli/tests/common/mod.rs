//! Running the command as a person would.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What a run of the command left.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A folder for one test, empty at its beginning.
pub fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    // It may not be there yet.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}

/// Runs `blockyard` with these arguments in `folder`.
pub fn blockyard(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blockyard"));
    let output = command.args(arguments).current_dir(folder).output().expect("the command starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is text");
    Ran {
        status: output.status.code().expect("no signal"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// The same, with `--json`.
#[allow(dead_code, reason = "not every test file asks for JSON")]
pub fn blockyard_json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let ran = blockyard(folder, &[arguments, &["--json"]].concat());
    let value = serde_json::from_str(&ran.stdout);
    (ran.status, value.unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr)))
}

/// Exhausts a scenario under designs; nothing is broken, and every mark reached.
#[allow(dead_code, reason = "not every test file exhausts one")]
pub fn check_exhausted(scenario: &str, change: &[&str]) {
    let folder = folder(&format!("exhaust-{scenario}-{}", change.join("").replace('=', "-")));
    let (status, result) =
        blockyard_json(&folder, &[&["explore", scenario, "--exhaust"], change].concat());
    assert_eq!(status, 0, "{scenario} {change:?}: {result}");
    assert_eq!(result["exhausted"], true, "{result}");
    assert_eq!(result["marks_missed"], Value::Array(Vec::new()), "{result}");
}
