//! Lengths that change under requests, and commands that change them: each case was a defect once.

mod common;

use common::{blockyard_json, folder};
use serde_json::{Value, json};

fn execute(command: &str, arguments: Value) -> Value {
    json!({ "execute": command, "arguments": arguments })
}

fn resize(node: &str, size: Value) -> Value {
    execute("block_resize", json!({ "node-name": node, "size": size }))
}

fn request(kind: &str, offset: u64, length: u64) -> Value {
    json!({ kind: { "device": "disk0", "offset": offset, "length": length } })
}

/// Everything that these actors may do with a file of `size` bytes, which may become longer, is right.
fn check(name: &str, (size, alignment): (u64, u32), more: &[Value], actors: Value) {
    let disk = json!({ "size": size, "capacity": 16384, "alignment": alignment, "fill": "unique" });
    let file = json!({ "driver": "file", "node-name": "disk", "filename": "disk",
                       "discard": "unmap" });
    let mut setup = vec![
        execute("blockdev-add", file),
        json!({ "device": { "id": "disk0", "node": "disk", "resizes": true } }),
    ];
    setup.extend_from_slice(more);
    let scenario = json!({ "scenario": name, "version": 1, "about": "lengths that change",
        "disks": { "disk": disk }, "setup": setup, "actors": actors });
    let folder = folder(&format!("lengths-{name}"));
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, scenario.to_string()).expect("the folder is writable");
    let path = path.to_str().expect("the path is text");
    let (status, result) = blockyard_json(&folder, &["explore", path, "--exhaust"]);
    assert_eq!(status, 0, "{name}: {result}");
}

#[test]
fn a_resize_needs_no_guest_that_goes_on() {
    let stop = |command: &str| execute(command, json!({}));
    let operator = json!([stop("stop"), resize("disk", json!(12288)), stop("cont")]);
    let guest = json!([request("read", 0, 4096)]);
    check("stopped", (8192, 1), &[], json!({ "operator": operator, "guest": guest }));
}

#[test]
fn zeroes_that_wait_for_a_shrinking_resize_keep_out_what_is_behind_them() {
    let actors = json!({
        "operator": [resize("disk", json!(512))],
        "one": [request("write-zeroes", 4096, 512)],
        "two": [request("write", 5120, 512), request("read", 5120, 512)],
    });
    check("zeroes", (8192, 1), &[], actors);
}

#[test]
fn a_discard_makes_nothing_longer() {
    let actors = json!({
        "one": [request("discard", 8192, 1024)],
        "two": [request("write", 12288, 1024), request("read", 12288, 1024)],
    });
    check("discard", (8192, 1), &[], actors);
}

#[test]
fn a_part_of_a_block_at_the_end_is_written_though_others_make_the_file_longer() {
    let actors = json!({
        "one": [request("write", 904, 240), request("read", 904, 240)],
        "two": [request("write", 4096, 512)],
    });
    check("blocks", (1024, 512), &[], actors);
}

#[test]
fn an_overlay_shows_what_it_is_put_over_whatever_its_length_was_before() {
    let overlay = json!({ "driver": "overlay", "node-name": "ov", "size": 4096 });
    let actors = json!({ "operator": [
        resize("ov", json!(8192)),
        execute("blockdev-snapshot", json!({ "node": "disk", "overlay": "ov" })),
        request("read", 4096, 4096),
    ] });
    check("overlay", (8192, 1), &[execute("blockdev-add", overlay)], actors);
}

#[test]
fn a_resize_changes_the_node_that_it_names_beside_a_snapshot() {
    let overlay = json!({ "driver": "overlay", "node-name": "ov", "size": 8192 });
    let actors = json!({
        "operator": [execute("blockdev-snapshot", json!({ "node": "disk", "overlay": "ov" }))],
        "other": [resize("disk", json!(4096))],
        "guest": [request("write", 0, 4096), request("read", 0, 4096)],
    });
    check("snapshot", (8192, 1), &[execute("blockdev-add", overlay)], actors);
}
