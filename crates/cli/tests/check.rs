//! `blockyard check` and `blockyard amend`, as a person would use them.

mod common;

use std::fs;
use std::path::Path;

use blockyard_drivers::dedup::DedupHeader;
use common::{blockyard, blockyard_json, folder};

const CLUSTER: usize = 512;

/// A disk without data: the header, the refcount table, its block, the L1 table; clusters of 512 bytes.
fn image() -> Vec<u8> {
    let mut image = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &3_u32.to_be_bytes());
    put(20, &9_u32.to_be_bytes());
    put(24, &65_536_u64.to_be_bytes());
    put(36, &2_u32.to_be_bytes());
    put(40, &(3 * CLUSTER as u64).to_be_bytes());
    put(48, &(CLUSTER as u64).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(96, &4_u32.to_be_bytes());
    put(100, &104_u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    put(2 * CLUSTER, &[0, 1, 0, 1, 0, 1, 0, 1]);
    image
}

fn put(folder: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut image = image();
    change(&mut image);
    fs::write(folder.join(name), &image).expect("the folder is writable");
    image
}

#[test]
fn a_clean_image_is_said_to_be_so_and_stays_as_it_was() {
    let folder = folder("check-clean");
    let image = put(&folder, "image", |_| ());
    for more in [&[][..], &["--repair", "leaks"], &["--repair", "all"]] {
        let ran = blockyard(&folder, &[&["check", "image"], more].concat());
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{ran:?}");
        assert!(ran.stdout.starts_with("image: no errors\n"), "{}", ran.stdout);
        assert!(fs::read(folder.join("image")).expect("it is there") == image);
    }
    let (status, json) = blockyard_json(&folder, &["check", "image"]);
    assert_eq!((status, &json["corruptions"], &json["leaks"]), (0, &0.into(), &0.into()));
    assert_eq!(json["image-end-offset"], 2048, "{json}");
    assert_eq!((&json["total-clusters"], &json["allocated-clusters"]), (&128.into(), &0.into()));
}

#[test]
fn leaks_alone_are_no_failure_and_can_be_repaired() {
    let folder = folder("check-leaks");
    let leaks = |image: &mut Vec<u8>| image[2 * CLUSTER + 8..2 * CLUSTER + 12].fill(1);
    let image = put(&folder, "image", leaks);
    let (status, json) = blockyard_json(&folder, &["check", "image"]);
    assert_eq!((status, &json["leaks"], &json["corruptions"]), (0, &2.into(), &0.into()));
    assert_eq!(json["findings"][0]["severity"], "leak", "{json}");
    assert!(fs::read(folder.join("image")).expect("it is there") == image);
    let (status, json) = blockyard_json(&folder, &["check", "image", "--repair", "leaks"]);
    assert_eq!((status, &json["leaks"], &json["leaks-fixed"]), (0, &0.into(), &2.into()));
    let (_, json) = blockyard_json(&folder, &["check", "image"]);
    assert_eq!(json["findings"], serde_json::json!([]));
}

#[test]
fn corruption_is_a_failure_until_it_is_repaired() {
    let folder = folder("check-corrupt");
    put(&folder, "image", |image| image[2 * CLUSTER..2 * CLUSTER + 4].fill(0));
    for arguments in [&["check", "image"][..], &["check", "image", "--repair", "leaks"]] {
        let ran = blockyard(&folder, arguments);
        assert_eq!(ran.status, 1, "{ran:?}");
        let said = "corruption: a refcount at 0x0 is 0x0, expected 1";
        assert!(ran.stdout.contains(said), "{}", ran.stdout);
    }
    let (status, json) = blockyard_json(&folder, &["check", "image", "--repair", "all"]);
    assert_eq!((status, &json["corruptions-fixed"]), (0, &2.into()), "{json}");
    assert_eq!(blockyard(&folder, &["check", "image"]).status, 0);
}

#[test]
fn what_is_no_image_is_refused_in_one_line_and_left_alone() {
    let folder = folder("check-misuse");
    fs::create_dir(folder.join("directory")).expect("the folder is writable");
    fs::write(folder.join("text"), "no image").expect("the folder is writable");
    fs::write(folder.join("empty"), "").expect("the folder is writable");
    put(&folder, "short", |image| image.truncate(90));
    put(&folder, "cut", |image| image.truncate(3 * CLUSTER));
    let refused = [
        ("missing", "cannot open missing"),
        ("directory", "cannot open directory"),
        ("text", "text: the file is no qcow2 image"),
        ("empty", "empty: the file is no qcow2 image"),
        ("short", "short: the image is corrupt: the file's length"),
    ];
    for (name, said) in refused {
        for more in [&[][..], &["--repair", "all"]] {
            let arguments = [&["check", name], more].concat();
            let ran = blockyard(&folder, &arguments);
            assert_eq!((ran.status, ran.stderr.lines().count()), (2, 1), "{name}: {ran:?}");
            assert!(ran.stderr.contains(said), "{name}: {}", ran.stderr);
            let (status, json) = blockyard_json(&folder, &arguments);
            assert_eq!(status, 2, "{json}");
            assert!(json["error"].as_str().is_some_and(|error| error.contains(said)), "{json}");
        }
    }
    // The L1 table is gone: that is no usage.
    assert_eq!(blockyard(&folder, &["check", "cut", "--repair", "all"]).status, 1);
    assert_eq!(blockyard(&folder, &["check", "text", "--repair", "some"]).status, 2);
}

#[test]
fn an_image_is_amended_or_stays_as_it_was() {
    let folder = folder("amend");
    let before = put(&folder, "image", |_| ());
    let refused = |options: &[&str], said: &str| {
        let ran = blockyard(&folder, &[&["amend", "image"], options].concat());
        assert_eq!(ran.status, 2, "{options:?}: {}", ran.stdout);
        assert!(ran.stderr.contains(said), "{options:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{options:?}: {}", ran.stderr);
        assert!(fs::read(folder.join("image")).expect("it is there") == before, "{options:?}");
    };
    refused(&["-o", "colour=red"], "colour");
    refused(&["-o", "compat=2.0"], "compat");
    refused(&["-o", "lazy_refcounts=maybe"], "lazy_refcounts");
    refused(&["-o", "refcount_bits=3"], "power of two");
    refused(&["-o", "compat=0.10,refcount_bits=8"], "refcounts of 16 bits");
    refused(&["-o", "data_file=x"], "data_file");
    let options = ["-o", "size=128k,backing_file=a,,b", "-o", "backing_fmt=raw,refcount_bits=64"];
    let ran = blockyard(&folder, &[&["amend", "image"], &options[..]].concat());
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "image: amended\n"), "{}", ran.stderr);
    let after = fs::read(folder.join("image")).expect("it is there");
    assert_eq!(after[24..32], (128_u64 << 10).to_be_bytes(), "its length");
    assert_eq!(after[96..100], 6_u32.to_be_bytes(), "its refcounts");
    assert!(after[..CLUSTER].windows(3).any(|text| text == b"a,b"), "its backing file");
    let (status, json) = blockyard_json(&folder, &["check", "image"]);
    assert_eq!((status, &json["corruptions"], &json["leaks"]), (0, &0.into(), &0.into()));
    let (status, json) = blockyard_json(&folder, &["amend", "image", "-o", "backing_file="]);
    assert_eq!((status, &json["filename"]), (0, &"image".into()));
}

/// The metadata of a dedup image of two clusters, both of which have the content of the first of two data clusters.
fn dedup(folder: &Path) {
    let header = DedupHeader::new(CLUSTER as u64, 2 * CLUSTER as u64).expect("that is fine");
    let mut metadata = header.to_bytes();
    // SHA-256 of 512 times 1, as far as an entry has it.
    let digest = "6caf38d537984e261527b8caef5f990fb91415a1db917198";
    let digest: Vec<u8> = (0..48)
        .step_by(2)
        .map(|at| u8::from_str_radix(&digest[at..at + 2], 16).expect("it is hex"))
        .collect();
    for _ in 0..2 {
        metadata.extend_from_slice(&1_u64.to_be_bytes());
        metadata.extend_from_slice(&digest);
    }
    metadata.resize(2 * CLUSTER, 0);
    fs::write(folder.join("meta"), &metadata).expect("the folder is writable");
    fs::write(folder.join("data"), [[1; CLUSTER], [2; CLUSTER]].concat()).expect("it is writable");
}

fn change(folder: &Path, name: &str, at: usize, byte: u8) {
    let mut bytes = fs::read(folder.join(name)).expect("it is there");
    bytes[at] = byte;
    fs::write(folder.join(name), bytes).expect("it is writable");
}

#[test]
fn a_dedup_image_is_checked_with_its_data() {
    let folder = folder("check-dedup");
    dedup(&folder);
    let check = ["check", "meta", "--data", "data"];
    let (status, json) = blockyard_json(&folder, &check);
    assert_eq!((status, &json["corruptions"]), (0, &0.into()), "{json}");
    assert_eq!((&json["allocated-clusters"], &json["data-clusters"]), (&2.into(), &1.into()));
    assert_eq!(json["free-clusters"], 1);
    let ran = blockyard(&folder, &["check", "meta"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("give --data"), "{}", ran.stderr);
    let ran = blockyard(&folder, &[&check[..], &["--repair", "leaks"]].concat());
    assert_eq!(ran.status, 2, "there are none");
}

#[test]
fn of_a_dedup_image_only_what_ought_to_be_zero_is_repaired() {
    let folder = folder("check-dedup-wrong");
    dedup(&folder);
    let (check, repair) = (["check", "meta", "--data", "data"], ["--repair", "all"]);
    change(&folder, "meta", 2 * CLUSTER - 1, 1);
    let ran = blockyard(&folder, &check);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stdout.contains("1 places that ought to be zeroes"), "{}", ran.stdout);
    let (status, json) = blockyard_json(&folder, &[&check[..], &repair].concat());
    assert_eq!((status, &json["not-zero-fixed"]), (0, &1.into()), "{json}");
    assert_eq!(blockyard(&folder, &check).status, 0);
    change(&folder, "data", 7, 9);
    let (status, json) = blockyard_json(&folder, &[&check[..], &repair].concat());
    assert_eq!((status, &json["corruptions"]), (1, &2.into()), "both refer to it: {json}");
}
