//! Persistent bitmaps, as a `qemu-storage-daemon` has them: by the hash of their bits, and what it says of them.

use std::fs;
use std::path::{Path, PathBuf};

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::StoredBitmap;
use blockyard_crypto::Hash;
use blockyard_qcow2::{Caches, Files, Image, ImageFile};
use blockyard_units::{ByteLen, ByteRange, Design};
use serde_json::{Value as Json, json};

use super::disk::{Disk, run};
use super::nodes::{Nodes, file};
use super::peer;

/// Bytes of the disks that QEMU makes here.
const SIZE: u64 = (6 << 20) + 512;

/// Options of `qemu-img create`, and granularities.
const SORTS: &[(&str, u64)] = &[
    ("compat=1.1", 64 << 10),
    ("cluster_size=512", 512),
    ("cluster_size=4k,refcount_bits=1", 1024),
    ("cluster_size=2M", 4096),
    ("extended_l2=on,cluster_size=16k", 512),
];

/// As QEMU has it: of a bit for each granule, in words of 64.
pub fn hash(bits: &DirtyBitmap) -> String {
    let bytes: Vec<u8> = bits.words().iter().flat_map(|word| word.to_le_bytes()).collect();
    let digest = Hash::Sha256.digest(&[&bytes]);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// QEMU finds these in the image, and no others.
pub fn are_there(image: &Path, expected: &[StoredBitmap], what: &str) {
    let mut commands = vec![json!({ "execute": "blockdev-add", "arguments": {
        "driver": "qcow2", "node-name": "image", "read-only": true, "force-share": true,
        // What it is an overlay of is of no interest.
        "backing": null,
        "file": { "driver": "file", "filename": image },
    } })];
    commands.push(json!({ "execute": "query-named-block-nodes" }));
    let consistent = || expected.iter().filter(|bitmap| !bitmap.inconsistent);
    for StoredBitmap { name, .. } in consistent() {
        let arguments = json!({ "node": "image", "name": name });
        let command = "x-debug-block-dirty-bitmap-sha256";
        commands.push(json!({ "execute": command, "arguments": arguments }));
    }
    let replies = peer::daemon(&commands);
    let nodes = replies[1]["return"].as_array().expect("a list of nodes");
    let node = nodes.iter().find(|node| node["node-name"] == "image").expect("it is added");
    let mut found = node["dirty-bitmaps"].as_array().cloned().unwrap_or_default();
    found.sort_by_key(|bitmap| bitmap["name"].to_string());
    let member = |StoredBitmap { name, bits, inconsistent }: &StoredBitmap| {
        let granularity = bits.granularity().0;
        let mut bitmap = json!({
            "name": name, "recording": bits.is_enabled() && !inconsistent, "persistent": true,
            "busy": false, "granularity": granularity, "count": bits.count() * granularity,
        });
        if *inconsistent {
            bitmap["inconsistent"] = json!(true);
        }
        bitmap
    };
    let mut members: Vec<Json> = expected.iter().map(member).collect();
    members.sort_by_key(|bitmap| bitmap["name"].to_string());
    assert_eq!(found, members, "{what}");
    for (StoredBitmap { name, bits, .. }, reply) in consistent().zip(&replies[2..]) {
        assert_eq!(reply["return"]["sha256"], json!(hash(bits)), "{what}: {name}");
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).expect("the directory is writable");
    folder
}

/// An image of QEMU's with the bitmaps `on` and `off`, and something written that is in the first.
fn make(folder: &Path, options: &str, granularity: u64) -> PathBuf {
    let image = folder.join("theirs.qcow2");
    let path = image.to_string_lossy().into_owned();
    let create = ["create", "-q", "-f", "qcow2", "-o", options, &path, &SIZE.to_string()];
    peer::call("qemu-img", &create);
    let granularity = granularity.to_string();
    for (name, state) in [("on", "--enable"), ("off", "--disable")] {
        peer::call("qemu-img", &["bitmap", "--add", state, "-g", &granularity, &path, name]);
    }
    let writes = ["-c", "write -P 1 1M 300k", "-c", "write -z 3M 1M", "-c", "write 6M 512"];
    peer::call("qemu-io", &[&["-f", "qcow2"], &writes[..], &[&path]].concat());
    image
}

fn open(disk: &Disk, read_only: bool) -> Image {
    let caches = Caches { l2: 0, refcount: 0 };
    run(Image::open("image", ImageFile::Disk(disk), caches, read_only)).expect("it opens")
}

#[test]
fn bitmaps_that_qemu_made_are_loaded_and_given_back() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("their-bitmaps");
    for (options, granularity) in SORTS {
        let path = make(&folder, options, *granularity);
        let before = fs::read(&path).expect("it was written");
        let disk = Disk::new(before.clone());
        let files = Files::of_disk(&disk);
        let image = open(&disk, false);
        let mut bitmaps = run(image.load_bitmaps(&files)).expect("they are loaded");
        are_there(&path, &bitmaps, options);
        let names: Vec<_> = bitmaps.iter().map(|bitmap| &*bitmap.name).collect();
        assert_eq!(names, ["on", "off"], "{options}");
        assert!(bitmaps[0].bits.count() > 0 && bitmaps[1].bits.count() == 0, "{options}");
        run(image.store_bitmaps(&files, &bitmaps)).expect("nothing has changed");
        run(image.close(&files)).expect("it closes");
        assert!(disk.bytes() == before, "{options}: an image that is not written stays as it was");
        let written = ByteRange::new(4 << 20, 1000);
        run(image.write(&files, written.start(), vec![7; 1000].into())).expect("it writes");
        fs::write(&path, disk.bytes()).expect("there is room for the image");
        let clean = |bitmap: &StoredBitmap| {
            let mut bits = bitmap.bits.clone();
            bits.clear();
            StoredBitmap { bits, inconsistent: true, ..bitmap.clone() }
        };
        let inconsistent: Vec<_> = bitmaps.iter().map(clean).collect();
        are_there(&path, &inconsistent, options);
        bitmaps.iter_mut().for_each(|bitmap| bitmap.bits.record(written));
        run(image.store_bitmaps(&files, &bitmaps)).expect("they are stored");
        run(image.close(&files)).expect("it closes");
        fs::write(&path, disk.bytes()).expect("there is room for the image");
        peer::checks_clean(&path, options);
        are_there(&path, &bitmaps, options);
        // Whoever writes next is QEMU, which knows them.
        let name = path.to_string_lossy();
        peer::call("qemu-io", &["-f", "qcow2", "-c", "write 5M 4k", &name]);
        bitmaps.iter_mut().for_each(|bitmap| bitmap.bits.record(ByteRange::new(5 << 20, 4096)));
        are_there(&path, &bitmaps, options);
        peer::checks_clean(&path, options);
    }
    fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn what_was_not_closed_is_inconsistent_and_can_be_taken_away() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("lost-bitmaps");
    let path = make(&folder, "compat=1.1", 64 << 10);
    let disk = Disk::new(fs::read(&path).expect("it was written"));
    let files = Files::of_disk(&disk);
    let image = open(&disk, false);
    run(image.write(&files, 0, vec![7; 1000].into())).expect("it writes");
    run(image.flush(&files)).expect("it flushes");
    // Power is lost.
    let image = open(&disk, false);
    let mut bitmaps = run(image.load_bitmaps(&files)).expect("they are loaded");
    assert!(bitmaps.iter().all(|bitmap| bitmap.inconsistent && !bitmap.bits.is_enabled()));
    run(image.disown_bitmaps(&files)).expect("it writes");
    bitmaps.remove(0);
    let len = image.len();
    let bits = DirtyBitmap::new(len, ByteLen(512)).expect("it is a granularity");
    bitmaps.push(StoredBitmap { name: "new".into(), bits, inconsistent: false });
    run(image.store_bitmaps(&files, &bitmaps)).expect("they are stored");
    run(image.close(&files)).expect("it closes");
    fs::write(&path, disk.bytes()).expect("there is room for the image");
    are_there(&path, &bitmaps, "one is taken away");
    peer::checks_clean(&path, "one is taken away");
    let image = open(&disk, false);
    run(image.disown_bitmaps(&files)).expect("it writes");
    run(image.store_bitmaps(&files, &[])).expect("all of them go");
    run(image.close(&files)).expect("it closes");
    fs::write(&path, disk.bytes()).expect("there is room for the image");
    are_there(&path, &[], "none is left");
    peer::checks_clean(&path, "none is left");
    fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn commands_keep_what_a_guest_wrote_for_qemu() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("own-bitmaps");
    let path = folder.join("image.qcow2");
    let name = path.to_string_lossy().into_owned();
    peer::call("qemu-img", &["create", "-q", "-f", "qcow2", &name, &SIZE.to_string()]);
    let nodes = Nodes::new();
    let top = json!({ "driver": "qcow2", "node-name": "top", "file": file(&path) });
    nodes.done("blockdev-add", &top);
    for (name, disabled) in [("on", false), ("off", true)] {
        nodes.done("block-dirty-bitmap-add", &json!({
            "node": "top", "name": name, "granularity": 4096, "persistent": true, "disabled": disabled,
        }));
    }
    nodes.done("block-dirty-bitmap-add", &json!({ "node": "top", "name": "in memory" }));
    nodes.use_top(&[(0, vec![1; 100]), (1 << 20, vec![2; 8192])]);
    let bitmap = |name: &str, enabled| {
        let bits = DirtyBitmap::new(ByteLen(SIZE), ByteLen(4096));
        let mut bits = bits.expect("it is a granularity");
        if enabled {
            bits.record(ByteRange::new(0, 100));
            bits.record(ByteRange::new(1 << 20, 8192));
        } else {
            bits.disable();
        }
        StoredBitmap { name: name.into(), bits, inconsistent: false }
    };
    are_there(&path, &[bitmap("on", true), bitmap("off", false)], "by commands");
    peer::checks_clean(&path, "by commands");
    let nodes = Nodes::new();
    nodes.done(
        "blockdev-add",
        &json!({
            "driver": "qcow2", "node-name": "top", "read-only": true, "file": file(&path),
        }),
    );
    let add = json!({ "node": "top", "name": "new", "persistent": true });
    let refused = nodes.execute("block-dirty-bitmap-add", &add).expect_err("it is read-only");
    assert!(refused.contains("the node is read-only"), "{refused}");
    let clear = json!({ "node": "top", "name": "on" });
    let refused = nodes.execute("block-dirty-bitmap-clear", &clear).expect_err("it is read-only");
    assert!(refused.contains("is read-only"), "{refused}");
    fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn bitmaps_that_follow_the_data_are_in_the_overlay_for_qemu_and_nowhere_else() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("following");
    let path = |name: &str| folder.join(name);
    for name in ["low", "top"] {
        let image = path(name).to_string_lossy().into_owned();
        peer::call("qemu-img", &["create", "-q", "-f", "qcow2", &image, &SIZE.to_string()]);
    }
    let mut design = Design::default();
    design.set("bitmaps", "follow").expect("it is a design");
    let open = |names: &[&str]| {
        let nodes = Nodes::with(design);
        for name in names {
            let file = file(&path(name));
            let node =
                json!({ "driver": "qcow2", "node-name": name, "file": file, "backing": null });
            nodes.done("blockdev-add", &node);
        }
        nodes
    };
    let nodes = open(&["low"]);
    for (name, disabled) in [("on", false), ("off", true)] {
        nodes.done("block-dirty-bitmap-add", &json!({
            "node": "low", "name": name, "granularity": 4096, "persistent": true, "disabled": disabled,
        }));
    }
    nodes.close();
    let bitmap = |name: &str, inconsistent: bool| {
        let bits = DirtyBitmap::new(ByteLen(SIZE), ByteLen(4096));
        let mut bits = bits.expect("it is a granularity");
        if name == "on" && !inconsistent {
            bits.record(ByteRange::new(1 << 20, 8192));
        } else {
            bits.disable();
        }
        StoredBitmap { name: name.into(), bits, inconsistent }
    };
    let nodes = open(&["low", "top"]);
    nodes.done("blockdev-snapshot", &json!({ "node": "low", "overlay": "top" }));
    nodes.write_top("disk", 1 << 20, vec![2; 8192]);
    // As if power were lost now.
    for name in ["low", "top"] {
        fs::copy(path(name), path("left")).expect("it is there");
        are_there(&path("left"), &[bitmap("on", true), bitmap("off", true)], name);
    }
    nodes.close();
    are_there(&path("top"), &[bitmap("on", false), bitmap("off", false)], "in the overlay");
    are_there(&path("low"), &[], "no more below");
    peer::checks_clean(&path("top"), "the overlay");
    peer::checks_clean(&path("low"), "below");
    fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn bitmap_that_nothing_can_store_says_so_and_is_lost_with_its_node() {
    let mut design = Design::default();
    design.set("bitmaps", "follow").expect("it is a design");
    let nodes = Nodes::with(design);
    let told = nodes.monitor.events().subscribe(vec!["X_BITMAP_LOST".into()]);
    nodes.done("blockdev-add", &json!({ "driver": "memory", "node-name": "top", "size": 8192 }));
    let add = json!({ "node": "top", "name": "b", "granularity": 4096, "persistent": true });
    nodes.done("block-dirty-bitmap-add", &add);
    nodes.done("block-dirty-bitmap-add", &json!({ "node": "top", "name": "c" }));
    nodes.write_top("disk", 0, vec![1; 512]);
    let queried = nodes.execute("query-named-block-nodes", &json!({}));
    let queried = queried.expect("it is known").to_string();
    let members = r#""persistent":true,"x-unplaced":true}"#;
    assert_eq!(queried.matches(members).count(), 1, "{queried}");
    nodes.done("blockdev-remove-medium", &json!({ "id": "disk" }));
    nodes.done("blockdev-del", &json!({ "node-name": "top" }));
    let told: Vec<_> = told.take().into_iter().map(|event| event.data.to_string()).collect();
    assert_eq!(told, [r#"{"node":"top","name":"b"}"#]);
}
