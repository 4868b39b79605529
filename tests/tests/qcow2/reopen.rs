//! Nodes that become read-only and writable again while they are open, on real files.

use std::path::Path;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::StoredBitmap;
use blockyard_units::{ByteLen, ByteRange};
use serde_json::{Value as Json, json};

use super::bitmaps::are_there;
use super::check::folder;
use super::nodes::{Nodes, file};
use super::peer;

fn qcow2(read_only: bool, file: Json) -> Json {
    json!({ "driver": "qcow2", "node-name": "top", "file": file, "read-only": read_only })
}

fn reopen(nodes: &Nodes, read_only: bool, file: &Json) -> Result<(), String> {
    let mut file = file.clone();
    file["read-only"] = read_only.into();
    let options = [qcow2(read_only, "file".into()), file];
    nodes.execute("blockdev-reopen", &json!({ "options": options })).map(drop)
}

/// Whether both nodes are read-only; they are the same.
fn are_read_only(nodes: &Nodes) -> bool {
    let said = nodes.execute("query-named-block-nodes", &json!({})).expect("nodes can be listed");
    let said: Json = serde_json::from_str(&said.to_string()).expect("it is JSON");
    let nodes: Vec<_> = said.as_array().expect("a list").iter().map(|node| &node["ro"]).collect();
    assert!(nodes.iter().all(|node| *node == nodes[0]), "{said}");
    *nodes[0] == true
}

#[test]
fn what_becomes_read_only_is_written_out_and_what_becomes_writable_is_written_on() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("reopen");
    let (image, raw) = (folder.join("image.qcow2"), folder.join("expected"));
    let (name, expected) = (image.to_string_lossy(), raw.to_string_lossy());
    // What was allocated is in the refcounts only once it is closed, or is read-only.
    for lazy in ["off", "on"] {
        let options = format!("cluster_size=4k,lazy_refcounts={lazy}");
        peer::call("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &options, &name, "1M"]);
        peer::call("qemu-img", &["create", "-q", "-f", "raw", &expected, "1M"]);
        let nodes = Nodes::new();
        let mut below = file(&image);
        below["node-name"] = "file".into();
        nodes.done("blockdev-add", &below);
        nodes.done("blockdev-add", &qcow2(false, "file".into()));
        let bitmap = json!({ "node": "top", "name": "b" });
        nodes.done(
            "block-dirty-bitmap-add",
            &json!({ "node": "top", "name": "b", "granularity": 4096, "persistent": true }),
        );
        let bits = DirtyBitmap::new(ByteLen(1 << 20), ByteLen(4096));
        let bits = bits.expect("it is a granularity");
        let mut stored = StoredBitmap { name: "b".into(), bits, inconsistent: false };
        for round in 0..3 {
            let pattern = round + 1;
            let offset = round * 300_000;
            let data = vec![u8::try_from(pattern).expect("it is small"); 150_000];
            nodes.write_top(&format!("disk{round}"), offset, data);
            let refused = reopen(&nodes, true, &below).expect_err("a device writes to it");
            assert!(refused.contains("needs write"), "{refused}");
            assert!(!are_read_only(&nodes));
            nodes.done("blockdev-remove-medium", &json!({ "id": format!("disk{round}") }));
            reopen(&nodes, true, &below).expect("nobody writes to it");
            assert!(are_read_only(&nodes));
            stored.bits.record(ByteRange::new(offset, 150_000));
            are_there(&image, std::slice::from_ref(&stored), "read-only");
            let refused = nodes.execute("block-dirty-bitmap-clear", &bitmap);
            assert!(refused.expect_err("it is read-only").contains("is read-only"));
            let write = format!("write -P {pattern} {offset} 150000");
            peer::call("qemu-io", &["-f", "raw", "-c", &write, &expected]);
            peer::opens_clean(&["-U", "-f", "qcow2", &name], "read-only");
            peer::call(
                "qemu-img",
                &["compare", "-U", "-f", "qcow2", "-F", "raw", &name, &expected],
            );
            reopen(&nodes, false, &below).expect("it can be written");
            assert!(!are_read_only(&nodes));
            if round == 1 {
                nodes.done("block-dirty-bitmap-clear", &bitmap);
                stored.bits.clear();
            }
        }
        nodes.close();
        peer::opens_clean(&["-f", "qcow2", &name], "closed");
        are_there(&image, &[stored], "closed");
    }
}

/// Makes an image that was not closed properly, so that it has to be repaired before it is written; and node `file`
/// with it, read-only, whose first write fails. Returns the options of that.
fn unclean(nodes: &Nodes, image: &Path) -> Json {
    let name = image.to_string_lossy();
    let options = "lazy_refcounts=on";
    peer::call("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &name, "1M"]);
    let crash = ["-f", "qcow2", "-c", "write -P 7 0 64k", "-c", "abort", &name];
    let crashed = std::process::Command::new("qemu-io").args(crash).output();
    assert!(!crashed.expect("it is there").status.success());
    let mut disk = file(image);
    (disk["node-name"], disk["auto-read-only"]) = ("disk".into(), true.into());
    nodes.done("blockdev-add", &disk);
    let below = json!({ "driver": "blkdebug", "node-name": "file", "image": "disk", "read-only": true,
        "inject-error": [{ "event": "none", "iotype": "write", "once": true }] });
    nodes.done("blockdev-add", &below);
    below
}

#[test]
fn what_cannot_become_writable_stays_read_only_as_it_was() {
    if !peer::is_there() {
        return;
    }
    let nodes = Nodes::new();
    let image = folder("reopen-fails").join("image.qcow2");
    let below = unclean(&nodes, &image);
    nodes.done("blockdev-add", &qcow2(true, "file".into()));
    let before = nodes.execute("x-debug-query-block-graph", &json!({}));
    let failed = reopen(&nodes, false, &below).expect_err("a write fails");
    assert!(failed.contains("input/output error"), "{failed}");
    let after = nodes.execute("x-debug-query-block-graph", &json!({}));
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "the graph is as it was");
    reopen(&nodes, false, &below).expect("no write fails any more");
    nodes.write_top("disk0", 100_000, vec![9; 50_000]);
    nodes.close();
    let name = image.to_string_lossy();
    peer::opens_clean(&["-f", "qcow2", &name], "closed");
    let read = ["-f", "qcow2", "-c", "read -P 7 0 64k", "-c", "read -P 9 100000 50000", &name];
    let said = peer::call("qemu-io", &read);
    assert!(!String::from_utf8_lossy(&said.stdout).contains("failed"), "{said:?}");
}

#[test]
fn a_commit_whose_base_cannot_become_writable_leaves_nothing_behind() {
    if !peer::is_there() {
        return;
    }
    let nodes = Nodes::new();
    unclean(&nodes, &folder("commit-fails").join("base.qcow2"));
    let mut base = qcow2(true, "file".into());
    base["node-name"] = "base".into();
    nodes.done("blockdev-add", &base);
    let top = json!({ "driver": "overlay", "node-name": "top", "backing": "base" });
    nodes.done("blockdev-add", &top);
    nodes.write_top("disk0", 100_000, vec![9; 50_000]);
    let before = nodes.execute("x-debug-query-block-graph", &json!({}));
    let commit = json!({ "job-id": "c0", "device": "top", "filter-node-name": "cf" });
    let failed = nodes.execute("block-commit", &commit).expect_err("a write fails");
    assert!(failed.contains("input/output error"), "{failed}");
    let after = nodes.execute("x-debug-query-block-graph", &json!({}));
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "the graph is as it was");
    nodes.done("block-commit", &commit);
}
