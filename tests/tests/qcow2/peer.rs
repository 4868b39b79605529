//! `qemu-img`, as anybody can call it.

use std::path::Path;
use std::process::{Command, Output};

/// Whether it is there; says so if not.
pub fn is_there() -> bool {
    let found = Command::new("qemu-img").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: qemu-img is not installed, and this test compares with it");
    }
    found
}

/// Calls it; what it prints.
pub fn qemu_img(arguments: &[&str]) -> Output {
    Command::new("qemu-img").args(arguments).output().expect("qemu-img is there")
}

/// It finds neither errors nor leaks.
pub fn checks_clean(image: &Path, what: &str) {
    let output = qemu_img(&["check", "-f", "qcow2", &image.to_string_lossy()]);
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, error) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{what}: {out}{error}");
}
