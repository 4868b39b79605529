//! Images that are made with the same options by us and by `qemu-img create`.

use std::path::{Path, PathBuf};

use blockyard_block::Preallocation;
use blockyard_host::{CreateMode, Host, HostFile};
use blockyard_qcow2::{Compression, CreateOptions, DataFile, Files, ImageFile, create};
use serde_json::Value;

use super::check::folder;
use super::peer;

/// What `qemu-img` says of an image, as JSON; of its contents, not of the files that they are in.
pub fn said(arguments: &[&str]) -> Value {
    let output = peer::call("qemu-img", arguments);
    let mut said: Value = serde_json::from_slice(&output.stdout).expect("it says JSON");
    if let Some(members) = said.as_object_mut() {
        let of_files = ["children", "actual-size", "filename", "full-backing-filename"];
        members.retain(|key, _| !of_files.contains(&key.as_str()));
        // Each has one of its own.
        if let Some(encrypt) = said.pointer_mut("/format-specific/data/encrypt") {
            let encrypt = encrypt.as_object_mut().expect("it has members");
            encrypt.retain(|key, _| !["uuid", "slots", "master-key-iters"].contains(&key.as_str()));
        }
    }
    said
}

/// Both say the same of two images, and find nothing wrong.
pub fn are_the_same(ours: &Path, theirs: &Path, what: &str) {
    let [ours, theirs] = [ours, theirs].map(|path| path.to_string_lossy().into_owned());
    for command in ["info", "map", "check"] {
        let of = |path: &str| said(&[command, "-f", "qcow2", "--output=json", path]);
        let (mut ours, mut theirs) = (of(&ours), of(&theirs));
        for said in [&mut ours, &mut theirs] {
            // Whose tables come first is nobody's business.
            if let Some(members) = said.as_object_mut() {
                members.retain(|key, _| {
                    !["image-end-offset", "fragmented-clusters"].contains(&key.as_str())
                });
            }
            for extent in said.as_array_mut().into_iter().flatten() {
                extent.as_object_mut().expect("it has members").remove("offset");
            }
        }
        assert_eq!(join(ours), join(theirs), "{what}: {command}");
    }
}

/// Extents that differ only in where they are become one.
fn join(said: Value) -> Value {
    let Value::Array(extents) = said else { return said };
    let mut joined: Vec<Value> = Vec::new();
    for extent in extents {
        match joined.last_mut() {
            Some(last) if alike(last, &extent) => {
                let len =
                    last["length"].as_u64().unwrap_or(0) + extent["length"].as_u64().unwrap_or(0);
                last["length"] = len.into();
            }
            _ => joined.push(extent),
        }
    }
    joined.into()
}

fn alike(a: &Value, b: &Value) -> bool {
    let keys = ["depth", "present", "zero", "data", "compressed"];
    keys.iter().all(|key| a[*key] == b[*key])
}

#[test]
fn an_image_is_what_qemu_makes_of_the_same_options() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("created");
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let base = path("base.raw");
    std::fs::write(&base, vec![1; 100 << 10]).expect("there is room");
    let data = |raw| Some(DataFile { name: path("data").to_string_lossy().into_owned(), raw });
    let theirs = format!("data_file={}", path("data").to_string_lossy());
    let raw = format!("{theirs},data_file_raw=on");
    let full = format!("{theirs},preallocation=full");
    let based = format!("backing_file={},backing_fmt=raw", base.to_string_lossy());
    let based_full = format!("{based},extended_l2=on,preallocation=metadata");
    let plain = CreateOptions::new(10 << 20);
    let backing = Some((base.to_string_lossy().into_owned(), Some("raw".into())));
    let with = |how| CreateOptions { preallocation: how, ..plain.clone() };
    let metadata = with(Preallocation::Metadata);
    let cases: Vec<(&str, CreateOptions)> = vec![
        ("size=10M", plain.clone()),
        ("compat=0.10", CreateOptions { version: 2, ..plain.clone() }),
        ("cluster_size=2M", CreateOptions { cluster_size: 2 << 20, ..plain.clone() }),
        ("refcount_bits=1", CreateOptions { refcount_bits: 1, ..plain.clone() }),
        ("lazy_refcounts=on", CreateOptions { lazy_refcounts: true, ..plain.clone() }),
        (
            "compression_type=zstd",
            CreateOptions { compression: Compression::Zstd, ..plain.clone() },
        ),
        ("extended_l2=on", CreateOptions { extended_l2: true, ..plain.clone() }),
        (&based, CreateOptions { backing: backing.clone(), ..plain.clone() }),
        (&theirs, CreateOptions { data_file: data(false), ..plain.clone() }),
        (&raw, CreateOptions { data_file: data(true), ..plain.clone() }),
        (&full, CreateOptions { data_file: data(false), ..with(Preallocation::Full) }),
        ("preallocation=metadata", metadata.clone()),
        ("preallocation=falloc", with(Preallocation::Falloc)),
        ("preallocation=full", with(Preallocation::Full)),
        (
            "preallocation=metadata,cluster_size=4k,refcount_bits=64",
            CreateOptions { cluster_size: 4 << 10, refcount_bits: 64, ..metadata.clone() },
        ),
        (
            "preallocation=metadata,extended_l2=on",
            CreateOptions { extended_l2: true, ..metadata.clone() },
        ),
        (&based_full, CreateOptions { extended_l2: true, backing, ..metadata }),
    ];
    let host = Host::new(1).expect("there are threads");
    for (options, ours) in cases {
        let all = format!("size=10M,{options}");
        let paths = [path("theirs.qcow2"), path("ours.qcow2")];
        let file = paths[0].to_string_lossy();
        peer::call("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &all, &file]);
        let image = HostFile::create(&paths[1], 0, CreateMode::Replace);
        let image = image.expect("the folder is writable");
        let data = ours.data_file.as_ref().map(|_| HostFile::open(path("data"), false));
        let data = data.transpose().expect("QEMU made it");
        let mut files = Files::of_disk(&image);
        if let Some(data) = &data {
            files.data = ImageFile::Disk(data);
        }
        host.block_on(create(&files, &ours)).expect("it is made");
        drop((image, data));
        are_the_same(&paths[1], &paths[0], options);
    }
    std::fs::remove_dir_all(folder).expect("it is there");
}
