//! Filters over files, beside QEMU's: what lies on the disk afterwards.

use std::fs;
use std::path::Path;

use blockyard_block::Write;
use blockyard_qmp::{Mode, parse_json};
use blockyard_units::ByteRange;
use serde_json::{Value as Json, json};

use super::check::folder;
use super::nodes::{Nodes, file};
use super::peer;

/// An entry of a log of dm-log-writes: the first sector, flags, and its data.
type Logged = (u64, u64, Vec<u8>);

/// What a log says, without its flushes, which each side makes when it likes.
fn logged(log: &Path) -> Vec<Logged> {
    let bytes = fs::read(log).expect("it is there");
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    assert_eq!((number(0), number(8), number(24)), (0x006A_7366_7773_6872, 1, 512));
    let mut at = 512;
    let mut entries = Vec::new();
    for _ in 0..number(16) {
        let (first, flags) = (number(at), number(at + 16));
        let len = if flags & 4 == 0 { number(at + 8) as usize * 512 } else { 0 };
        at += 512;
        entries.push((first, flags, bytes[at..at + len].to_vec()));
        at += len;
    }
    assert_eq!(at, bytes.len(), "nothing follows");
    entries.retain(|(_, flags, _)| flags & 1 == 0);
    entries
}

#[test]
fn a_log_of_writes_says_what_qemu_s_says() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("logged");
    let path = |name: &str| folder.join(name);
    for name in ["ours", "theirs"] {
        fs::write(path(name), vec![7; 64 << 10]).expect("it is writable");
        fs::write(path(&format!("{name}-log")), []).expect("it is writable");
    }
    let (theirs, log) = (path("theirs"), path("theirs-log"));
    let options = format!(
        "driver=blklogwrites,file.driver=file,file.discard=unmap,file.filename={},\
         log.driver=file,log.filename={}",
        theirs.to_string_lossy(),
        log.to_string_lossy()
    );
    let commands =
        ["write -P 1 0 4k", "write -P 2 6k 1k", "write -z 4k 2k", "discard 8k 4k", "flush"];
    let commands: Vec<&str> = commands.iter().flat_map(|command| ["-c", *command]).collect();
    peer::call("qemu-io", &[&commands[..], &["--image-opts", &options]].concat());
    let nodes = Nodes::new();
    let mut ours = file(&path("ours"));
    ours["discard"] = "unmap".into();
    let log = file(&path("ours-log"));
    let top = json!({ "driver": "blklogwrites", "node-name": "top", "discard": "unmap",
                      "file": ours, "log": log });
    nodes.done("blockdev-add", &top);
    nodes.waited(async {
        let disk = nodes.monitor.attach_device("disk", "top", false).await;
        let disk = disk.map_err(|error| error.desc).expect("it is attached");
        let range = |kib: u64, len: u64| ByteRange::new(kib << 10, len << 10);
        for write in [
            Write::data(0, vec![1; 4 << 10].into()),
            Write::data(6 << 10, vec![2; 1 << 10].into()),
            Write::zeroes(range(4, 2)),
            Write::discard(range(8, 4)),
        ] {
            disk.write(write).await.expect("files take it");
        }
        disk.flush().await.expect("files take it");
    });
    nodes.close();
    let [ours, theirs] = ["ours-log", "theirs-log"].map(|name| logged(&path(name)));
    assert!(ours == theirs, "{:?} {:?}", brief(&ours), brief(&theirs));
}

fn brief(entries: &[Logged]) -> Vec<(u64, u64, usize)> {
    entries.iter().map(|(first, flags, data)| (*first, *flags, data.len())).collect()
}

/// Executes a command whose numbers are words.
fn strings(nodes: &Nodes, command: &str, arguments: &Json) {
    let arguments = parse_json(&arguments.to_string()).expect("it is JSON");
    let arguments = arguments.into_dict().expect("arguments are members");
    let done = nodes.waited(nodes.monitor.execute(command, arguments, Mode::Strings));
    assert!(done.is_ok(), "{command}: {:?}", done.err());
}

#[test]
fn what_was_allocated_ahead_is_cut_as_qemu_cuts_it() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("preallocated");
    let [ours, theirs] = ["ours", "theirs"].map(|name| folder.join(name));
    for image in [&ours, &theirs] {
        let image = image.to_string_lossy();
        peer::call("qemu-img", &["create", "-q", "-f", "qcow2", &image, "10M"]);
    }
    let options = format!(
        "driver=qcow2,file.driver=preallocate,file.prealloc-size=1M,file.prealloc-align=64k,\
         file.file.driver=file,file.file.filename={}",
        theirs.to_string_lossy()
    );
    let commands = ["-c", "write -P 5 0 64k", "-c", "write -P 5 1M 128k"];
    peer::call("qemu-io", &[&commands[..], &["--image-opts", &options]].concat());
    let nodes = Nodes::new();
    let preallocate = |size: &str| {
        json!({ "driver": "preallocate", "node-name": "pre", "file": "below",
                "prealloc-size": size, "prealloc-align": "64k" })
    };
    let mut below = file(&ours);
    below["node-name"] = "below".into();
    strings(&nodes, "blockdev-add", &below);
    strings(&nodes, "blockdev-add", &preallocate("1M"));
    strings(
        &nodes,
        "blockdev-add",
        &json!({ "driver": "qcow2", "node-name": "top", "file": "pre" }),
    );
    let len = || fs::metadata(&ours).expect("it is there").len();
    let before = len();
    nodes.write_top("disk", 0, vec![5; 64 << 10]);
    let ahead = len();
    assert!(ahead >= before + (1 << 20) && ahead.is_multiple_of(64 << 10), "{before} {ahead}");
    let reopened = json!({ "options": [preallocate("2M")] });
    strings(&nodes, "blockdev-reopen", &reopened);
    nodes.write_top("second", 1 << 20, vec![5; 128 << 10]);
    nodes.close();
    assert_eq!(len(), fs::metadata(&theirs).expect("it is there").len());
    peer::checks_clean(&ours, "what was allocated ahead");
    let (ours, theirs) = (ours.to_string_lossy(), theirs.to_string_lossy());
    peer::call("qemu-img", &["compare", &ours, &theirs]);
}
