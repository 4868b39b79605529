//! Checks and repairs against `qemu-img`: images that it makes, and images that were damaged.

use std::path::{Path, PathBuf};

use blockyard_qcow2::{Check, CheckOptions, ImageFile, Repair, check, repair};
use serde_json::Value;

use super::disk::{Disk, run};
use super::peer;

/// A folder for one test.
pub fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    // It may not be there yet.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the target folder is writable");
    folder
}

/// Calls `qemu-img`, which shall succeed.
fn qemu_img(arguments: &[&str]) {
    let output = peer::qemu_img(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "qemu-img {arguments:?}: {said}");
}

/// Has `qemu-io` do this to an image.
fn qemu_io(image: &str, commands: &[&str]) {
    let mut command = std::process::Command::new("qemu-io");
    command.args(["-f", "qcow2"]);
    commands.iter().for_each(|text| {
        command.args(["-c", text]);
    });
    let output = command.arg(image).output().expect("qemu-io is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What `qemu-img check` says.
fn checked_by_peer(image: &Path) -> Value {
    let output = peer::qemu_img(&["check", "--output=json", &image.to_string_lossy()]);
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    })
}

fn checked(disk: &Disk, memory: u64) -> Check {
    let options = CheckOptions { memory, ..CheckOptions::default() };
    run(check(ImageFile::Disk(disk), options, &mut |_| true)).expect("it can be checked")
}

fn repaired(disk: &Disk, what: Repair) -> Check {
    let options = CheckOptions::default();
    run(repair(ImageFile::Disk(disk), what, options, &mut |_| true)).expect("it can be repaired")
}

/// Both say the same of an image.
fn compare(image: &Path) {
    let theirs = checked_by_peer(image);
    let disk = Disk::new(std::fs::read(image).expect("it is there"));
    let before = disk.bytes();
    // At once, and in as many windows as there are refcount blocks.
    for memory in [64 << 20, 0] {
        let ours = checked(&disk, memory);
        let number = |key: &str| theirs[key].as_u64().unwrap_or(0);
        let name = image.display();
        assert_eq!(ours.findings, [], "{name}");
        assert!(ours.is_clean(), "{name}: {ours:?}");
        assert_eq!((number("corruptions"), number("leaks")), (0, 0), "{name}: {theirs}");
        let pairs = [
            ("check-errors", ours.check_errors),
            ("total-clusters", ours.total_clusters),
            ("allocated-clusters", ours.allocated_clusters),
            ("fragmented-clusters", ours.fragmented_clusters),
            ("compressed-clusters", ours.compressed_clusters),
            ("image-end-offset", ours.image_end_offset),
        ];
        for (key, ours) in pairs {
            assert_eq!(ours, number(key), "{name}: {key} with {memory}: {theirs}");
        }
    }
    assert!(disk.bytes() == before, "a check writes nothing");
    assert!(repaired(&disk, Repair::All).is_clean());
    assert!(disk.bytes() == before, "a repair of what is right writes nothing");
}

#[test]
fn images_of_qemu_check_as_they_do_there() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("qcow2-check");
    let mut sorts: Vec<String> = Vec::new();
    for cluster in ["512", "4k", "64k", "2M"] {
        sorts.push(format!("compat=0.10,cluster_size={cluster}"));
        for bits in [1, 2, 4, 8, 16, 32, 64] {
            sorts.push(format!("cluster_size={cluster},refcount_bits={bits}"));
        }
    }
    for more in ["16k,extended_l2=on", "64k,extended_l2=on", "64k,compression_type=zstd"] {
        sorts.push(format!("cluster_size={more}"));
    }
    for preallocation in ["metadata", "falloc", "full"] {
        sorts.push(format!("cluster_size=64k,preallocation={preallocation}"));
        sorts.push(format!("cluster_size=4k,preallocation={preallocation}"));
    }
    for (number, sort) in sorts.iter().enumerate() {
        let image = folder.join(format!("{number}.qcow2"));
        let name = image.to_string_lossy();
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", sort, &name, "8M"]);
        compare(&image);
        let commands =
            ["write -P 1 0 100k", "write -P 2 3M 1M", "write -P 3 1M 64k", "discard 3M 64k"];
        qemu_io(&name, &commands);
        if !sort.contains("0.10") {
            qemu_io(&name, &["write -z 4M 1M", "write -z -u 3500k 100k", "write -P 5 4200k 5k"]);
        }
        compare(&image);
        if !sort.contains("refcount_bits=1") || sort.contains("refcount_bits=16") {
            qemu_img(&["snapshot", "-c", "one", &name]);
            qemu_io(&name, &["write -P 7 64k 256k", "write -P 6 7M 300k"]);
            qemu_img(&["snapshot", "-c", "a longer name", &name]);
            qemu_io(&name, &["discard 0 256k"]);
            compare(&image);
        }
        if !sort.contains("0.10") {
            qemu_img(&["bitmap", "--add", &name, "first"]);
            qemu_img(&["bitmap", "--add", "-g", "512", &name, "second"]);
            qemu_io(&name, &["write -P 8 5M 20k"]);
            compare(&image);
        }
        let compressed = folder.join(format!("{number}-compressed.qcow2"));
        let to = compressed.to_string_lossy();
        let options = sort.split(",preallocation").next().unwrap_or_default();
        qemu_img(&["convert", "-q", "-c", "-O", "qcow2", "-o", options, &name, &to]);
        qemu_io(&to, &["write -P 9 100k 3k"]);
        compare(&compressed);
        std::fs::remove_file(&image).expect("it is there");
        std::fs::remove_file(&compressed).expect("it is there");
    }
}
