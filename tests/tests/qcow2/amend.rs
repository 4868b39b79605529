//! Images that are amended by us and by `qemu-img amend`, in the same way.

use std::path::Path;

use blockyard_qcow2::{AmendOptions, Caches, Files, amend};
use blockyard_units::Design;
use serde_json::Value;

use super::check::folder;
use super::disk::{Disk, run};
use super::peer;

/// How an image is made, what is done to it, what is amended, and how that is said to us.
type Case = (&'static str, &'static [&'static str], &'static str, fn(&mut AmendOptions));

const CASES: &[Case] = &[
    ("compat=0.10", &["write -P 1 0 300k"], "compat=1.1", |o| o.version = Some(3)),
    ("compat=1.1", &["write -P 1 0 300k"], "compat=0.10", |o| o.version = Some(2)),
    (
        "cluster_size=4k,lazy_refcounts=on",
        &["write -P 1 0 300k", "write -z 8k 100k", "write -z -u 200k 20k", "discard 40k 8k"],
        "compat=0.10,lazy_refcounts=off",
        |o| (o.version, o.lazy_refcounts) = (Some(2), Some(false)),
    ),
    ("refcount_bits=16", &["write -P 1 0 1M"], "refcount_bits=64", |o| o.refcount_bits = Some(64)),
    ("cluster_size=512", &["write -P 1 0 1M"], "refcount_bits=1", |o| o.refcount_bits = Some(1)),
    (
        "cluster_size=512,refcount_bits=1",
        &["write -P 1 0 700k"],
        "refcount_bits=16,compat=0.10",
        |o| {
            (o.refcount_bits, o.version) = (Some(16), Some(2));
        },
    ),
    ("compat=1.1", &["write -P 1 0 64k"], "lazy_refcounts=on", |o| o.lazy_refcounts = Some(true)),
    ("cluster_size=512", &["write -P 1 0 64k"], "size=64M", |o| o.size = Some(64 << 20)),
    ("compat=0.10", &["write -P 1 0 64k"], "size=4M,compat=1.1,lazy_refcounts=on", |o| {
        (o.size, o.version, o.lazy_refcounts) = (Some(4 << 20), Some(3), Some(true));
    }),
    ("extended_l2=on", &["write -P 1 0 64k"], "refcount_bits=32", |o| o.refcount_bits = Some(32)),
];

fn make(image: &Path, options: &str, commands: &[&str], snapshot: bool) {
    let name = image.to_string_lossy();
    peer::call("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &name, "2M"]);
    let mut arguments = vec!["-f", "qcow2", "-d", "unmap"];
    commands.iter().for_each(|command| arguments.extend(["-c", command]));
    arguments.push(&name);
    peer::call("qemu-io", &arguments);
    if snapshot {
        peer::call("qemu-img", &["snapshot", "-c", "s", &name]);
        peer::call("qemu-io", &["-f", "qcow2", "-c", "write -P 9 100k 50k", &name]);
    }
}

/// What `qemu-img info` says of the format, and of the length.
fn info(image: &Path) -> (Value, Value) {
    let output = peer::call("qemu-img", &["info", "--output=json", &image.to_string_lossy()]);
    let mut said: Value = serde_json::from_slice(&output.stdout).expect("it says JSON");
    (said["format-specific"].take(), said["virtual-size"].take())
}

/// Amends the image in a file.
fn amend_file(image: &Path, options: &AmendOptions) -> Result<(), String> {
    let disk = Disk::new(std::fs::read(image).expect("it is there"));
    let done = run(amend(&Files::of_disk(&disk), options, Caches::default(), Design::default()));
    std::fs::write(image, disk.bytes()).expect("it can be written");
    done.map_err(|error| error.to_string())
}

#[test]
fn an_image_becomes_what_qemu_makes_of_it() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("amend");
    let path = |name: &str| folder.join(name);
    for (create, commands, change, set) in CASES {
        for snapshot in [false, true] {
            // One reference is all that such a refcount can count.
            if snapshot
                && (create.contains("bits=1") || change.contains("bits=1"))
                && !create.contains("bits=16")
            {
                continue;
            }
            let what = format!("{create} -> {change}, snapshot {snapshot}");
            let [ours, theirs] = [path("ours"), path("theirs")];
            make(&ours, create, commands, snapshot);
            std::fs::copy(&ours, &theirs).expect("it can be copied");
            let name = theirs.to_string_lossy();
            peer::call("qemu-img", &["amend", "-q", "-f", "qcow2", "-o", change, &name]);
            let mut options = AmendOptions::default();
            set(&mut options);
            amend_file(&ours, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(info(&ours), info(&theirs), "{what}");
            peer::checks_clean(&ours, &what);
            let [ours, theirs] = [&ours, &theirs].map(|path| path.to_string_lossy().into_owned());
            peer::call(
                "qemu-img",
                &["compare", "-q", "-f", "qcow2", "-F", "qcow2", &ours, &theirs],
            );
            if snapshot {
                let [raw, expected] = [path("raw"), path("expected")];
                peer::convert_snapshot(Path::new(&ours), "1", &raw);
                peer::convert_snapshot(Path::new(&theirs), "1", &expected);
                let [raw, expected] =
                    [raw, expected].map(|path| std::fs::read(path).expect("it is there"));
                assert!(raw == expected, "{what}: the snapshot");
            }
        }
    }
}

#[test]
fn names_of_files_are_changed_and_zeroes_stay_zeroes_over_a_backing_file() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("amend-names");
    let [below, other] =
        ["below", "other"].map(|name| folder.join(name).to_string_lossy().into_owned());
    let image = folder.join("image");
    for raw in [&below, &other] {
        peer::call("qemu-img", &["create", "-q", "-f", "raw", raw, "2M"]);
        peer::call("qemu-io", &["-f", "raw", "-c", "write -P 5 0 2M", raw]);
    }
    let options = format!("backing_file={below},backing_fmt=raw");
    for snapshot in [false, true] {
        let zeroes = ["write -z 64k 128k", "write -P 1 512k 64k", "write -z -u 512k 64k"];
        make(&image, &options, &zeroes, snapshot);
        let before = super::nodes::converted(
            &["-f", "qcow2", &image.to_string_lossy()],
            &folder.join("raw"),
        );
        let options = AmendOptions {
            version: Some(2),
            backing_file: Some(other.clone()),
            ..AmendOptions::default()
        };
        amend_file(&image, &options).expect("it can be amended");
        peer::checks_clean(&image, "over a backing file");
        let after = super::nodes::converted(
            &["-f", "qcow2", &image.to_string_lossy()],
            &folder.join("raw"),
        );
        assert!(before == after, "snapshot {snapshot}");
        let (format, _) = info(&image);
        assert_eq!(format["data"]["compat"], "0.10");
    }
    let refused = |options: AmendOptions, said: &str| {
        let bytes = std::fs::read(&image).expect("it is there");
        let error = amend_file(&image, &options).expect_err("it is refused");
        assert!(error.contains(said), "not '{said}': {error}");
        assert!(
            std::fs::read(&image).expect("it is there") == bytes,
            "{said}: nothing has changed"
        );
    };
    let none = AmendOptions::default;
    refused(AmendOptions { refcount_bits: Some(64), ..none() }, "refcounts of 16 bits");
    refused(AmendOptions { refcount_bits: Some(3), ..none() }, "power of two");
    refused(AmendOptions { lazy_refcounts: Some(true), ..none() }, "lazy refcounts");
    refused(AmendOptions { version: Some(4), ..none() }, "versions 2");
    refused(AmendOptions { data_file: Some("x".into()), ..none() }, "data_file");
    refused(AmendOptions { data_file_raw: Some(true), ..none() }, "data_file_raw");
    refused(AmendOptions { size: Some(4 << 20), ..none() }, "backing file");
}
