//! `qemu-img`, `qemu-io` and `qemu-storage-daemon`, as anybody can call them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value as Json, json};

/// Whether they are there; says so if not.
pub fn is_there() -> bool {
    let found = Command::new("qemu-img").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: qemu-img is not installed, and this test compares with it");
    }
    found
}

/// Calls `qemu-img`, which may fail.
pub fn qemu_img(arguments: &[&str]) -> Output {
    Command::new("qemu-img").args(arguments).output().expect("qemu-img is there")
}

/// Calls one of them; it must succeed.
pub fn call(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().expect("it is there");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{error}");
    output
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// It finds neither errors nor leaks.
pub fn checks_clean(image: &Path, what: &str) {
    opens_clean(&["-f", "qcow2", &text(image)], what);
}

/// The same of an image that is opened with these options.
pub fn opens_clean(options: &[&str], what: &str) {
    let output = call("qemu-img", &[&["check"], options].concat());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("No errors were found"), "{what}: {said}");
}

/// The image, opened as these options say, holds what the raw file does.
pub fn holds_the_same(image: (&Path, &str), raw: &Path, what: &str) {
    let options = |path: &Path, driver: &str| format!("{driver},file.filename={}", text(path));
    let (image, raw) = (options(image.0, image.1), options(raw, "driver=raw"));
    eprintln!("comparing {what}");
    call("qemu-img", &["compare", "--image-opts", &image, &raw]);
}

/// What a `qemu-storage-daemon` replies to commands, each of which must succeed.
pub fn daemon(commands: &[Json]) -> Vec<Json> {
    let hello = json!({ "execute": "qmp_capabilities" });
    let quit = json!({ "execute": "quit" });
    let lines = [&hello].into_iter().chain(commands).chain([&quit]);
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    let mut daemon = Command::new("qemu-storage-daemon")
        .args(["--chardev", "stdio,id=c", "--monitor", "c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it is there");
    daemon.stdin.take().expect("it is piped").write_all(text.as_bytes()).expect("it listens");
    let output = daemon.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    let lines = said.lines().map(|line| serde_json::from_str::<Json>(line).expect("it is JSON"));
    // Beside its greeting, and events.
    let replies = lines.filter(|line| line.get("QMP").is_none() && line.get("event").is_none());
    let replies: Vec<Json> = replies.skip(1).take(commands.len()).collect();
    for (command, reply) in commands.iter().zip(&replies) {
        assert!(reply.get("return").is_some(), "{command}: {reply}");
    }
    replies
}

/// Writes what a snapshot keeps to a raw file.
pub fn convert_snapshot(image: &Path, id: &str, raw: &Path) {
    let snapshot = format!("snapshot.id={id}");
    call(
        "qemu-img",
        &["convert", "-f", "qcow2", "-l", &snapshot, "-O", "raw", &text(image), &text(raw)],
    );
}
