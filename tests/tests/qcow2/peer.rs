//! `qemu-img`, `qemu-io` and `qemu-storage-daemon`, as anybody can call them.

use std::path::Path;
use std::process::{Command, Output};

use blockyard_peer::Daemon;
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
    let mut daemon = Daemon::start(|| false).expect("it is there");
    let mut reply = |command: &Json| {
        let name = command["execute"].as_str().expect("a command has a name");
        let none = json!({});
        let reply = daemon.done(name, command.get("arguments").unwrap_or(&none));
        json!({ "return": reply.unwrap_or_else(|error| panic!("{command}: {error}")) })
    };
    let replies = commands.iter().map(&mut reply).collect();
    daemon.quit().expect("it ends");
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
