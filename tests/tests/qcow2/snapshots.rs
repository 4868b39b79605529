//! Snapshots within an image, taken and deleted by commands while it is in use, beside the same commands of a
//! `qemu-storage-daemon`; and what `qemu-img` finds in them.

use std::path::Path;

use blockyard_block::ReadFlags;
use blockyard_peer::Daemon;
use blockyard_qcow2::{Caches, CreateOptions, Files, Image, ImageFile, NewSnapshot, create};
use blockyard_qmp::{Mode, parse_json};
use blockyard_units::ByteRange;
use serde_json::{Value as Json, json};

use super::check::folder;
use super::disk::{Disk, run};
use super::nodes::{Nodes, converted, file, writes, written};
use super::peer;

const TAKE: &str = "blockdev-snapshot-internal-sync";
const DELETE: &str = "blockdev-snapshot-delete-internal-sync";

/// What is asked for, of the image `top` in the file `file`, and of the file `plain`; most of it is refused.
fn asked() -> Vec<(&'static str, Json)> {
    let take = |device: &str, name: &str| (TAKE, json!({ "device": device, "name": name }));
    let delete = |device: &str, mut which: Json| {
        which["device"] = device.into();
        (DELETE, which)
    };
    vec![
        take("top", "a"),
        take("top", "a"),
        take("top", ""),
        take("nobody", "b"),
        take("plain", "b"),
        take("file", "b"),
        delete("top", json!({ "name": "b" })),
        delete("top", json!({ "id": "7" })),
        delete("top", json!({ "id": "7", "name": "a" })),
        delete("top", json!({})),
        delete("nobody", json!({ "name": "a" })),
        delete("plain", json!({ "name": "a" })),
        take("top", "b"),
        take("top", "c"),
        delete("top", json!({ "id": "2", "name": "b" })),
        delete("top", json!({ "id": "3" })),
    ]
}

/// The names of what is returned, with the id and the name of a snapshot; or the class of the error.
fn outline(reply: Result<Json, String>) -> Result<Vec<String>, String> {
    let reply = reply?;
    let members = reply.as_object().expect("an object is returned");
    let mut outline: Vec<_> = members.keys().cloned().collect();
    outline.sort();
    let said = ["id", "name"].map(|key| reply[key].to_string());
    outline.extend(said);
    Ok(outline)
}

fn node_list(image: &Path, plain: &Path) -> [Json; 3] {
    let named = |name: &str, path: &Path| {
        let mut node = file(path);
        node["node-name"] = name.into();
        node
    };
    let top = json!({ "driver": "qcow2", "node-name": "top", "file": "file" });
    [named("file", image), top, named("plain", plain)]
}

#[test]
fn snapshots_are_taken_and_deleted_by_commands_as_qemu_does() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("internal-snapshots");
    let [image, plain, raw] = ["image.qcow2", "plain", "expected"].map(|name| folder.join(name));
    let name = image.to_string_lossy().into_owned();
    let make = || {
        peer::call("qemu-img", &["create", "-q", "-f", "qcow2", &name, "1M"]);
        peer::call("qemu-img", &["create", "-q", "-f", "raw", &plain.to_string_lossy(), "1M"]);
        peer::call("qemu-io", &["-f", "qcow2", "-c", "write -P 5 0 300k", &name]);
    };

    make();
    let mut daemon = Daemon::start(|| false).expect("it is there");
    for node in node_list(&image, &plain) {
        daemon.done("blockdev-add", &node).expect("it is added");
    }
    let mut theirs = |(command, arguments): &(&str, Json)| {
        let reply = daemon.execute(command, arguments).expect("it replies");
        outline(reply.map_err(|error| error["class"].as_str().expect("it has one").into()))
    };
    let expected: Vec<_> = asked().iter().map(&mut theirs).collect();
    daemon.quit().expect("it ends");

    make();
    let before = converted(&["-f", "qcow2", &name], &raw);
    let nodes = Nodes::new();
    for node in node_list(&image, &plain) {
        nodes.done("blockdev-add", &node);
    }
    for ((command, arguments), expected) in asked().iter().zip(expected) {
        let given = parse_json(&arguments.to_string()).expect("it is JSON");
        let given = given.into_dict().expect("arguments are members");
        let reply = nodes.waited(nodes.monitor.execute(command, given, Mode::Strict));
        let reply = reply.map_err(|error| error.class.word().into());
        let reply =
            reply.map(|value| serde_json::from_str(&value.to_string()).expect("it is JSON"));
        assert_eq!(outline(reply), expected, "{command} {arguments}");
    }
    let after = nodes.use_top(&writes());
    assert!(after == written(before.clone()), "what it reads");
    let kept = ["-f", "qcow2", "-l", "snapshot.name=a", &name];
    assert!(converted(&kept, &raw) == before, "what QEMU reads of the snapshot");
    assert!(converted(&["-f", "qcow2", &name], &raw) == after, "what QEMU reads");
    peer::checks_clean(&image, "one snapshot");
    let listed = peer::call("qemu-img", &["info", "--output", "json", &name]);
    let listed: Json = serde_json::from_slice(&listed.stdout).expect("it is JSON");
    let snapshots = listed["snapshots"].as_array().expect("there are some");
    assert_eq!(snapshots.iter().map(|one| &one["name"]).collect::<Vec<_>>(), ["a"], "{listed}");

    // What QEMU has taken is deleted by us.
    peer::call("qemu-img", &["snapshot", "-c", "theirs", &name]);
    let nodes = Nodes::new();
    for node in node_list(&image, &plain) {
        nodes.done("blockdev-add", &node);
    }
    for name in ["a", "theirs"] {
        nodes.done(DELETE, &json!({ "device": "top", "name": name }));
    }
    nodes.close();
    peer::checks_clean(&image, "no snapshot");
    assert!(converted(&["-f", "qcow2", &name], &raw) == after, "what QEMU reads in the end");
}

/// What was written and is only in memory yet counts as well.
#[test]
fn a_snapshot_that_refcounts_have_no_room_for_is_refused_and_changes_nothing() {
    const CLUSTER: u64 = 64 << 10;
    let disk = Disk::default();
    let files = Files::of_disk(&disk);
    let options = CreateOptions { refcount_bits: 2, ..CreateOptions::new(8 * CLUSTER) };
    run(create(&files, &options)).expect("it is made");
    let image = Image::open("image", ImageFile::Disk(&disk), Caches::default(), false);
    let image = run(image).expect("it opens");
    // Three that are in one cluster are as many as it can count.
    let fill = |tag: u64| vec![tag as u8; CLUSTER as usize];
    for tag in 0..3 {
        let write = image.write_compressed(&files, tag * CLUSTER, fill(tag).into());
        run(write).expect("it writes");
    }
    let new = NewSnapshot { name: "s".into(), ..NewSnapshot::default() };
    let refused = run(image.create_snapshot(&files, new)).expect_err("there is no room");
    assert!(refused.to_string().contains("have no room for one more snapshot"), "{refused}");
    run(image.write(&files, 3 * CLUSTER, fill(3).into())).expect("it writes");
    for tag in 0..4 {
        let read = image.read(&files, ByteRange::new(tag * CLUSTER, CLUSTER), ReadFlags::default());
        assert!(*run(read).expect("it reads") == fill(tag), "{tag}");
    }
    run(image.close(&files)).expect("it closes");
    let path = folder("no-room").join("image.qcow2");
    std::fs::write(&path, disk.bytes()).expect("there is room for the image");
    if peer::is_there() {
        peer::checks_clean(&path, "a snapshot was refused");
    }
}
