//! Locks on images, as QEMU's tools see them.
#![allow(clippy::disallowed_methods)] // other programs run beside

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use blockyard_host::{CreateMode, HostErrorKind, HostFile, Locking, Opening};
use common::Directory;

/// Whether the tools are there; says so if not.
fn is_installed() -> bool {
    let found = Command::new("qemu-io").arg("--version").output();
    let missing = matches!(&found, Err(error) if error.kind() == ErrorKind::NotFound);
    if missing {
        println!("skipped: qemu-io is not installed");
    }
    !missing
}

/// Whether qemu-io, run once on `path`, could do it; and what it said.
fn qemu_io(path: &Path, options: &[&str], command: &str) -> (bool, String) {
    let mut qemu = Command::new("qemu-io");
    let output = qemu.args(options).args(["-c", command]).arg(path).output();
    let output = output.expect("qemu-io starts");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A qemu-io that has the image open, from its first answer to its end.
struct Holder(Child);

impl Holder {
    fn open(path: &Path, options: &[&str], command: &str) -> Self {
        let mut qemu = Command::new("qemu-io");
        qemu.args(options).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = qemu.spawn().expect("qemu-io starts");
        let commands = child.stdin.as_mut().expect("it is piped");
        writeln!(commands, "{command}").expect("it reads its commands");
        let answers = child.stdout.as_mut().expect("it is piped");
        let mut answer = String::new();
        BufReader::new(answers).read_line(&mut answer).expect("it answers");
        assert!(answer.contains("512/512"), "{answer}");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

const RAW: &[&str] = &["-f", "raw"];
const RAW_READ: &[&str] = &["-r", "-f", "raw"];
const QCOW2: &[&str] = &["-f", "qcow2"];
const QCOW2_READ: &[&str] = &["-r", "-f", "qcow2"];

fn kind(path: &Path, read_only: bool) -> Option<HostErrorKind> {
    HostFile::open(path, read_only).err().map(|error| error.kind())
}

#[test]
fn qemu_does_not_write_what_is_written_or_read_here() {
    if !is_installed() {
        return;
    }
    let directory = Directory::new("qemu-waits");
    let path = directory.path("disk");
    let writer = HostFile::create(&path, 1 << 20, CreateMode::New).expect("a new file");
    let (written, message) = qemu_io(&path, RAW, "write 0 512");
    assert!(!written && message.contains("\"write\" lock"), "{message}");
    let off = Opening { locking: Locking::Off, ..Opening::new(false) };
    HostFile::open_with(&path, off).expect("it does not care");
    drop(writer);
    let unlocked = HostFile::open_with(&path, off).expect("it does not care");
    assert!(qemu_io(&path, RAW, "write 0 512").0, "nor does it keep out");
    drop(unlocked);
    let reader = HostFile::open(&path, true).expect("nobody has it");
    assert!(!qemu_io(&path, RAW, "write 0 512").0, "a reader must not see changes");
    assert!(qemu_io(&path, RAW_READ, "read 0 512").0, "readers share");
    drop(reader);
    assert!(qemu_io(&path, RAW, "write 0 512").0, "everybody has gone");
}

#[test]
fn what_qemu_writes_is_read_here_only_if_it_is_shared_by_force() {
    if !is_installed() {
        return;
    }
    let directory = Directory::new("qemu-shared");
    let path = directory.path("disk");
    drop(HostFile::create(&path, 1 << 20, CreateMode::New).expect("a new file"));
    let holder = Holder::open(&path, RAW, "write 0 512");
    assert_eq!(kind(&path, true), Some(HostErrorKind::InUse));
    let shared = Opening { locking: Locking::ForceShare, ..Opening::new(true) };
    let shared = HostFile::open_with(&path, shared).expect("it lets others be");
    drop(holder);
    assert!(qemu_io(&path, RAW, "write 0 512").0, "nor does it keep a writer out");
    drop(shared);
}

#[test]
fn a_format_of_qemus_is_not_read_while_it_is_written_here() {
    if !is_installed() {
        return;
    }
    let directory = Directory::new("qemu-format");
    let path = directory.path("disk.qcow2");
    let mut create = Command::new("qemu-img");
    create.current_dir(directory.itself()).args([
        "create",
        "-q",
        "-f",
        "qcow2",
        "disk.qcow2",
        "1M",
    ]);
    assert!(create.status().expect("qemu-img starts").success());
    let writer = HostFile::open(&path, false).expect("nobody has it");
    let (read, message) = qemu_io(&path, QCOW2_READ, "read 0 512");
    assert!(!read && message.contains("shared \"write\" lock"), "{message}");
    drop(writer);
    let holder = Holder::open(&path, QCOW2_READ, "read 0 512");
    assert_eq!(kind(&path, true), None, "readers share");
    assert_eq!(kind(&path, false), Some(HostErrorKind::InUse));
    drop(holder);
    let holder = Holder::open(&path, QCOW2, "write 0 512");
    assert_eq!(kind(&path, true), Some(HostErrorKind::InUse));
    assert_eq!(kind(&path, false), Some(HostErrorKind::InUse));
    drop(holder);
    assert_eq!(kind(&path, false), None);
}

#[test]
fn what_qemu_writes_is_neither_written_nor_read_here() {
    if !is_installed() {
        return;
    }
    let directory = Directory::new("qemu-writes");
    let path = directory.path("disk");
    drop(HostFile::create(&path, 1 << 20, CreateMode::New).expect("a new file"));
    let holder = Holder::open(&path, RAW, "write 0 512");
    for read_only in [true, false] {
        let error = HostFile::open(&path, read_only).err().expect("it is written");
        let message = error.to_string();
        assert!(message.ends_with("another process is using it for writing"), "{message}");
    }
    let replaced = HostFile::create(&path, 1, CreateMode::Replace).err().expect("it is written");
    assert_eq!(replaced.kind(), HostErrorKind::InUse);
    drop(holder);
    assert_eq!(kind(&path, false), None);
}
