//! Images that are made with the same options by us and by `qemu-img create`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::check::folder;
use super::nodes::{Nodes, SECRET, add_secret, file};
use super::peer;

/// What `qemu-img` says of an image, as JSON; of its contents, not of the files that they are in.
fn said(arguments: &[&str]) -> Value {
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

/// It says the same of two images, and finds nothing wrong.
fn are_the_same(ours: &Path, theirs: &Path, what: &str) {
    let [ours, theirs] = [ours, theirs].map(|path| path.to_string_lossy().into_owned());
    for command in ["info", "map", "check"] {
        let of = |path: &str| {
            let options = "driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename=";
            let opened = format!("{options}{path}");
            let secret = [command, "--object", SECRET, "--output=json", "--image-opts", &opened];
            let plain = [command, "-f", "qcow2", "--output=json", path];
            said(if what.contains("luks") { &secret } else { &plain })
        };
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

/// Runs a `blockdev-create` to its end: what it says then.
fn create(nodes: &Nodes, options: &Value) -> Result<(), String> {
    nodes.execute("blockdev-create", &json!({ "job-id": "job", "options": options }))?;
    concluded(nodes)
}

/// Waits for the end of the only job, `job`, and dismisses it: what it says then.
pub fn concluded(nodes: &Nodes) -> Result<(), String> {
    all_concluded(nodes, &["job"])
}

/// The same of all jobs, which have these names.
pub fn all_concluded(nodes: &Nodes, names: &[&str]) -> Result<(), String> {
    let concluded = loop {
        let jobs = nodes.execute("query-jobs", &json!({})).expect("jobs can be listed");
        let text = format!("{jobs:?}");
        if text.matches("concluded").count() == names.len() {
            break text;
        }
        std::thread::yield_now();
    };
    names.iter().for_each(|name| nodes.done("job-dismiss", &json!({ "id": name })));
    if concluded.contains("\"error\"") { Err(concluded) } else { Ok(()) }
}

/// Makes an image by commands: its file, a node with that, and the image in it.
pub fn make(image: &Path, data: Option<&Path>, options: &Value) -> Result<(), String> {
    let nodes = Nodes::new();
    // Who makes an image does not stand still with the guests.
    nodes.done("stop", &json!({}));
    add_secret(&nodes, "correct horse");
    let mut wanted = json!({ "driver": "qcow2", "file": "file", "size": 10 << 20 });
    let members = wanted.as_object_mut().expect("it has members");
    members.extend(options.as_object().expect("options are members").clone());
    for (name, path) in [("file", Some(image)), ("data-file", data)] {
        let Some(path) = path else { continue };
        create(&nodes, &json!({ "driver": "file", "filename": path, "size": 512 }))?;
        let mut node = file(path);
        node["node-name"] = name.into();
        nodes.done("blockdev-add", &node);
    }
    if data.is_some() {
        members.insert("data-file".into(), "data-file".into());
    }
    create(&nodes, &wanted)
}

#[test]
fn an_image_is_what_qemu_makes_of_the_same_options() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("created");
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let [base, data, theirs, ours] = ["base.raw", "data", "theirs.qcow2", "ours.qcow2"].map(path);
    std::fs::write(&base, vec![1; 100 << 10]).expect("there is room");
    let based = json!({ "backing-file": base, "backing-fmt": "raw" });
    let cases = [
        ("", json!({})),
        ("compat=0.10", json!({ "version": "v2" })),
        ("cluster_size=2M", json!({ "cluster-size": 2 << 20 })),
        (
            "refcount_bits=1,lazy_refcounts=on",
            json!({ "refcount-bits": 1, "lazy-refcounts": true }),
        ),
        ("compression_type=zstd", json!({ "compression-type": "zstd", "version": "v3" })),
        ("extended_l2=on", json!({ "extended-l2": true })),
        ("BASE", based.clone()),
        ("DATA", json!({})),
        ("DATA,data_file_raw=on", json!({ "data-file-raw": true })),
        ("DATA,preallocation=full", json!({ "preallocation": "full" })),
        ("preallocation=metadata", json!({ "preallocation": "metadata" })),
        ("preallocation=falloc", json!({ "preallocation": "falloc" })),
        ("preallocation=full", json!({ "preallocation": "full" })),
        (
            "preallocation=metadata,cluster_size=4k,refcount_bits=64",
            json!({ "preallocation": "metadata", "cluster-size": 4096, "refcount-bits": 64 }),
        ),
        (
            "preallocation=metadata,extended_l2=on",
            json!({ "preallocation": "metadata", "extended-l2": true }),
        ),
        (
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
            json!({ "encrypt": { "format": "luks", "key-secret": "s", "iter-time": 10 } }),
        ),
    ];
    for (options, wanted) in cases {
        let all = format!("size=10M,{options}")
            .replace("BASE", &format!("backing_file={},backing_fmt=raw", base.to_string_lossy()))
            .replace("DATA", &format!("data_file={}", data.to_string_lossy()));
        let made =
            ["create", "-q", "-f", "qcow2", "--object", SECRET, "-o", all.trim_end_matches(',')];
        peer::call("qemu-img", &[&made[..], &[&theirs.to_string_lossy()]].concat());
        let data = options.contains("DATA").then_some(&*data);
        make(&ours, data, &wanted).unwrap_or_else(|error| panic!("{options}: {error}"));
        are_the_same(&ours, &theirs, options);
    }
    let refused = [
        (json!({ "version": "v2", "refcount-bits": 1 }), "need version 3"),
        (json!({ "size": 1000 }), "a multiple of 512 bytes"),
        (json!({ "file": "none" }), "there is no node 'none'"),
        (json!({ "data-file-raw": true }), "data-file-raw needs a data-file"),
        (json!({ "data-file": "file" }), "refused: "),
    ];
    for (wanted, said) in refused {
        let error = make(&ours, None, &wanted).expect_err("it cannot be made");
        assert!(error.contains(said), "not '{said}': {error}");
    }
    std::fs::remove_dir_all(folder).expect("it is there");
}

#[test]
fn what_is_refused_leaves_the_file_that_was_there() {
    let folder = folder("create-refused");
    let path = folder.join("file");
    std::fs::write(&path, [7; 1000]).expect("the directory is writable");
    let wanted =
        json!({ "driver": "file", "filename": path, "size": 512, "preallocation": "metadata" });
    let said = create(&Nodes::new(), &wanted).expect_err("it has no structures");
    assert!(said.contains("a file has no structures"), "{said}");
    assert_eq!(std::fs::read(&path).expect("it is there"), [7; 1000]);
}
