//! Images whose tables are bent so that a write would land on a structure: it is not made, the image is marked corrupt,
//! and not a byte else is changed.

use blockyard_block::ReadFlags;
use blockyard_qcow2::{
    Caches, CreateOptions, Files, Image, ImageError, ImageFile, NewSnapshot, OverlapChecks,
    Structure, Zeroes, create,
};
use blockyard_qmp::Dict;
use blockyard_runtime::IoBuffer;
use blockyard_units::ByteRange;
use serde_json::{Value, json};

use super::check::folder;
use super::disk::{Disk, run};
use super::hostile::Bent;
use super::nodes::Nodes;
use super::peer;

const CLUSTER: u64 = 4096;
const OWN: u64 = 1 << 63;
/// The guest cluster whose data are bent.
const BENT: u64 = 5 * CLUSTER;
/// The last byte of the incompatible features, and the corrupt bit in it.
const FEATURES: usize = 79;

fn opened(disk: &Disk, checks: OverlapChecks) -> Image {
    let file = ImageFile::Disk(disk);
    run(Image::open_with("image", file, Caches::default(), false, checks)).expect("it opens")
}

fn fill(byte: u8, len: u64) -> IoBuffer {
    vec![byte; usize::try_from(len).expect("images are small")].into()
}

/// An image with a snapshot and a directory of no bitmaps, and data that have been written since.
fn image(version: u32) -> Bent {
    let disk = Disk::default();
    let files = Files::of_disk(&disk);
    let options = CreateOptions { cluster_size: CLUSTER, version, ..CreateOptions::new(4 << 20) };
    run(create(&files, &options)).expect("the options go together");
    let image = opened(&disk, OverlapChecks::ALL);
    run(image.write(&files, 0, fill(1, 16 * CLUSTER))).expect("there is room");
    let new = NewSnapshot { name: "one".into(), ..NewSnapshot::default() };
    run(image.create_snapshot(&files, new)).expect("there is room");
    run(image.write(&files, 0, fill(2, 16 * CLUSTER))).expect("there is room");
    run(image.write(&files, 3 << 20, fill(3, CLUSTER))).expect("there is room");
    run(image.close(&files)).expect("there is room");
    Bent(disk.bytes())
}

/// Where one of each is.
fn place(image: &Bent, structure: Structure) -> u64 {
    let first = |table: u64| image.get(table, 8) & !OWN;
    match structure {
        Structure::MainHeader => 0,
        Structure::ActiveL1 => image.l1(),
        Structure::ActiveL2 => image.get(image.l1() + 8, 8) & !OWN,
        Structure::RefcountTable => image.get(48, 8),
        Structure::RefcountBlock => first(image.get(48, 8)),
        Structure::SnapshotTable => image.get(64, 8),
        Structure::InactiveL1 => first(image.get(64, 8)),
        Structure::InactiveL2 => first(first(image.get(64, 8))),
        Structure::BitmapDirectory => image.get(112 + 8 + 16, 8),
    }
}

/// With a bitmap that is in use: its directory and its table, which refers to nothing, are behind the end.
fn with_directory(image: &mut Bent) {
    let at = image.0.len() as u64;
    image.0.resize(image.0.len() + 8192, 0);
    image.put(at, at + CLUSTER, 8);
    image.put(at + 8, 1, 4);
    // In use, a dirty tracking bitmap, of 64 KiB, with a name of one byte.
    image.put(at + 12, 1, 4);
    image.put(at + 16, 0x0110_0001, 4);
    image.put(at + 24, u64::from(b'b'), 1);
    image.put(88, 1, 8);
    image.put(112, 0x2385_2875, 4);
    image.put(116, 24, 4);
    image.put(120, 1, 4);
    image.put(128, 32, 8);
    image.put(136, at, 8);
}

/// Has guest cluster [`BENT`] be where a structure is.
fn bend(mut image: Bent, structure: Structure) -> Bent {
    if structure == Structure::BitmapDirectory {
        with_directory(&mut image);
    }
    let entry = image.l2() + BENT / CLUSTER * 8;
    let host = place(&image, structure);
    image.put(entry, host | OWN, 8);
    image
}

fn read(image: &Image, files: &Files<'_>, offset: u64) -> Vec<u8> {
    let range = ByteRange::new(offset, CLUSTER);
    run(image.read(files, range, ReadFlags::default())).expect("reading goes on").to_vec()
}

#[test]
fn no_write_lands_on_a_structure() {
    // What is at offset 0 is no data at all, so nothing can be bent to the header.
    for structure in Structure::ALL.into_iter().filter(|found| *found != Structure::MainHeader) {
        for version in [2, 3] {
            if version == 2 && structure == Structure::BitmapDirectory {
                continue;
            }
            let bent = bend(image(version), structure);
            let disk = Disk::new(bent.0.clone());
            let (image, files) = (opened(&disk, OverlapChecks::ALL), Files::of_disk(&disk));
            let failed = run(image.write(&files, BENT, fill(9, 512)));
            let overlap = image.take_overlap();
            let overlap = overlap.unwrap_or_else(|| panic!("{structure}, {version}: {failed:?}"));
            assert_eq!(overlap.structure, structure);
            assert_eq!(overlap.range, ByteRange::new(place(&bent, structure), 512));
            assert_eq!(failed, Err(ImageError::Overlap(overlap)));
            assert_eq!(image.take_overlap(), None, "it is told once");
            let mut marked = bent.0.clone();
            if version == 3 {
                marked[FEATURES] |= 2;
            }
            assert!(disk.bytes() == marked, "{structure}: nothing but the mark is written");
            let how = Zeroes { may_unmap: true, no_fallback: false };
            let others = [
                run(image.write(&files, 0, fill(9, 512))),
                run(image.write(&files, 2 << 20, fill(9, CLUSTER))),
                run(image.write_zeroes(&files, ByteRange::new(100, 100), how)),
            ];
            assert!(others.iter().all(|done| *done == Err(ImageError::Unwritable)), "{others:?}");
            let _in_memory = run(image.discard(&files, ByteRange::new(0, 2 * CLUSTER)));
            assert_eq!(read(&image, &files, 2 * CLUSTER), [2; 4096], "reading goes on");
            assert_eq!(run(image.close(&files)), Ok(()), "closing reports nothing");
            assert!(disk.bytes() == marked, "{structure}: and writes nothing");
        }
    }
}

#[test]
fn what_is_not_looked_at_is_overwritten() {
    let templates = [
        (OverlapChecks::NONE, 0),
        (OverlapChecks::CONSTANT, 4),
        (OverlapChecks::CACHED, 7),
        (OverlapChecks::ALL, 8),
    ];
    for (checks, found) in templates {
        let bent = Structure::ALL.into_iter().filter(|found| *found != Structure::MainHeader);
        let met = bent.filter(|structure| {
            let disk = Disk::new(bend(image(3), *structure).0);
            let (image, files) = (opened(&disk, checks), Files::of_disk(&disk));
            let done = run(image.write(&files, BENT, fill(9, 512)));
            assert_eq!(done.is_err(), checks.has(*structure), "{structure}: {done:?}");
            assert_eq!(done.is_err(), image.is_corrupt());
            done.is_err()
        });
        assert_eq!(met.count(), found);
    }
}

#[test]
fn what_is_free_by_its_count_and_a_table_all_the_same_is_not_given_out() {
    let structures = [Structure::ActiveL1, Structure::ActiveL2, Structure::RefcountBlock];
    for structure in structures {
        let mut bent = image(3);
        let at = place(&bent, structure);
        let block = place(&bent, Structure::RefcountBlock);
        bent.put(block + at / CLUSTER * 2, 0, 2);
        let disk = Disk::new(bent.0.clone());
        let (image, files) = (opened(&disk, OverlapChecks::CACHED), Files::of_disk(&disk));
        let done = run(image.write(&files, 100 * CLUSTER, fill(9, CLUSTER)));
        assert!(matches!(done, Err(ImageError::Overlap(found)) if found.structure == structure));
        bent.0[FEATURES] |= 2;
        assert!(disk.bytes() == bent.0, "{structure}: nothing but the mark is written");
    }
}

#[test]
fn a_table_that_is_another_one_is_not_written() {
    let mut bent = image(3);
    // The second L1 entry refers to the refcount block.
    let block = place(&bent, Structure::RefcountBlock);
    let l1 = bent.l1();
    bent.put(l1 + 8, block | OWN, 8);
    let disk = Disk::new(bent.0.clone());
    let (image, files) = (opened(&disk, OverlapChecks::CACHED), Files::of_disk(&disk));
    run(image.write(&files, 100 * CLUSTER, fill(9, CLUSTER))).expect("its table is one");
    let done = run(image.flush(&files));
    assert!(matches!(done, Err(ImageError::Overlap(_))), "{done:?}");
    assert!(run(image.flush(&files)).is_err(), "what was written is not durable");
    assert_eq!(disk.bytes()[FEATURES], 2);
    assert_eq!(run(image.close(&files)), Ok(()));
}

/// Whether an image is marked corrupt, and then whether `qemu-img` knows it.
fn is_marked(path: &str) -> bool {
    let bytes = std::fs::read(path).expect("it is there");
    let is_marked = bytes[FEATURES] & 2 != 0;
    if is_marked {
        let output = peer::call("qemu-img", &["info", "-f", "qcow2", "--output=json", path]);
        let said: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        assert_eq!(said["format-specific"]["data"]["corrupt"], true, "{said}");
    }
    is_marked
}

#[test]
fn qemu_refuses_the_same_and_knows_our_mark() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("qcow2-overlap");
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (ours, theirs) = (at("ours.qcow2"), at("theirs.qcow2"));
    for structure in [
        Structure::ActiveL1,
        Structure::ActiveL2,
        Structure::RefcountTable,
        Structure::RefcountBlock,
        Structure::SnapshotTable,
        Structure::InactiveL1,
        Structure::InactiveL2,
    ] {
        for template in ["none", "constant", "cached", "all"] {
            let bent = bend(image(3), structure);
            std::fs::write(&ours, &bent.0).expect("there is room");
            std::fs::write(&theirs, &bent.0).expect("there is room");
            let options = format!("driver=qcow2,file.filename={theirs},overlap-check={template}");
            let write = format!("write -P 9 {BENT} 512");
            let mut command = std::process::Command::new("qemu-io");
            command.args(["--image-opts", "-c", &write, &options]);
            let _refused = command.output().expect("qemu-io is there");
            let nodes = Nodes::new();
            let node = json!({
                "driver": "qcow2", "node-name": "top", "overlap-check": template,
                "file": { "driver": "file", "filename": ours },
            });
            nodes.done("blockdev-add", &node);
            let done = nodes.try_write(BENT, vec![9; 512]);
            drop(nodes);
            let what = format!("{structure}, {template}");
            assert_eq!(is_marked(&ours), done.is_err(), "{what}: {done:?}");
            assert_eq!(is_marked(&ours), is_marked(&theirs), "{what}");
        }
    }
}

#[test]
fn whoever_manages_is_told_once() {
    let folder = folder("qcow2-corrupted");
    let path = folder.join("image.qcow2");
    let bent = bend(image(3), Structure::ActiveL1);
    std::fs::write(&path, &bent.0).expect("there is room");
    let nodes = Nodes::new();
    let events = nodes.monitor.events().subscribe(vec!["BLOCK_IMAGE_CORRUPTED".into()]);
    let node = json!({
        "driver": "qcow2", "node-name": "top",
        "overlap-check": { "template": "none", "active-l1": true },
        "file": { "driver": "file", "filename": path },
    });
    nodes.done("blockdev-add", &node);
    let failed = nodes.try_write(BENT, vec![9; 512]).expect_err("it is not made");
    assert!(failed.contains("active L1 table"), "{failed}");
    let told = nodes.waited(events.wait(vec![("BLOCK_IMAGE_CORRUPTED".into(), Dict::new())]));
    let member = |key: &str| told.data.get(key).map(ToString::to_string).unwrap_or_default();
    assert_eq!(member("node-name"), "\"top\"");
    assert_eq!(member("device"), "\"disk\"");
    assert_eq!(member("offset"), bent.l1().to_string());
    assert_eq!(member("size"), "512");
    assert_eq!(member("fatal"), "true");
}

#[test]
fn an_option_that_is_none_is_refused_by_its_key() {
    let nodes = Nodes::new();
    for (option, said) in [
        (json!("some"), "overlap-check"),
        (json!({ "template": "some" }), "overlap-check.template"),
        (json!({ "inactive-l3": true }), "overlap-check.inactive-l3"),
        (json!({ "inactive-l2": 3 }), "overlap-check.inactive-l2"),
    ] {
        let node = json!({
            "driver": "qcow2", "node-name": "top", "overlap-check": option, "file": "none",
        });
        let refused = nodes.execute("blockdev-add", &node).expect_err("it is no option");
        assert!(refused.contains(said), "{refused}");
    }
}
