//! Key slots that are amended by commands while the image is in use, and opened by QEMU afterwards.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::check::folder;
use super::create::{all_concluded, concluded};
use super::nodes::{Nodes, file};
use super::peer;

fn secret(nodes: &Nodes, id: &str, data: &str) {
    nodes.done("object-add", &json!({ "qom-type": "secret", "id": id, "data": data }));
}

/// Whether QEMU opens the image with this passphrase.
fn opens(driver: &str, image: &Path, passphrase: &str) -> bool {
    let key =
        if driver == "luks" { "key-secret" } else { "encrypt.format=luks,encrypt.key-secret" };
    let options = format!("driver={driver},{key}=s,file.filename={}", image.to_string_lossy());
    let object = format!("secret,id=s,data={passphrase}");
    let read = ["--object", &object, "-c", "read -P 5 0 64k", "--image-opts", &options];
    let output = std::process::Command::new("qemu-io").args(read).output();
    let output = output.expect("it is there");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success() && said.contains("read 65536/65536") && !said.contains("failed")
}

/// The node `top`, whose secret is `key`.
fn top(driver: &str, below: Json, key: &str) -> Json {
    let mut node = json!({ "driver": driver, "node-name": "top", "file": below });
    match driver {
        "luks" => node["key-secret"] = key.into(),
        _ => node["encrypt"] = json!({ "format": "luks", "key-secret": key }),
    }
    node
}

/// An encrypted image of QEMU's that `first` opens, as the node `top` of a monitor with the secrets `a`, `b` and `c`;
/// its file by `below`.
fn begin(driver: &str, image: &Path, below: Json) -> Nodes {
    let name = image.to_string_lossy().into_owned();
    let prefix = if driver == "luks" { "" } else { "encrypt.format=luks,encrypt." };
    let iterations = if driver == "luks" { "iter-time" } else { "encrypt.iter-time" };
    let options = format!("{prefix}key-secret=s,{iterations}=10");
    let object = "secret,id=s,data=first";
    let create = ["create", "-q", "-f", driver, "--object", object, "-o", &options, &name, "1M"];
    peer::call("qemu-img", &create);
    let nodes = Nodes::new();
    for (id, data) in [("a", "first"), ("b", "second"), ("c", "third")] {
        secret(&nodes, id, data);
    }
    nodes.done("blockdev-add", &top(driver, below, "a"));
    nodes
}

/// Begins a job that changes the key slots.
fn amend(nodes: &Nodes, driver: &str, job: &str, mut slots: Json) -> Result<(), String> {
    let options = if driver == "luks" {
        slots["driver"] = "luks".into();
        slots
    } else {
        slots["format"] = "luks".into();
        json!({ "driver": "qcow2", "encrypt": slots })
    };
    let amend = json!({ "job-id": job, "node-name": "top", "options": options });
    nodes.execute("x-blockdev-amend", &amend).map(drop)
}

#[test]
fn passphrases_come_and_go_while_the_image_is_in_use() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("slots");
    for driver in ["qcow2", "luks"] {
        let image = folder.join(driver);
        let name = image.to_string_lossy().into_owned();
        let nodes = begin(driver, &image, file(&image));
        nodes.write_top("disk", 0, vec![5; 64 << 10]);
        let amend = |slots: Json| {
            amend(&nodes, driver, "job", slots)?;
            concluded(&nodes)
        };
        let refused = |slots: Json, said: &str| {
            let error = amend(slots).expect_err("it is refused");
            assert!(error.contains(said), "{driver}: not '{said}': {error}");
        };
        refused(json!({ "state": "inactive", "old-secret": "a" }), "the data are lost");
        refused(json!({ "state": "inactive" }), "give the slot");
        refused(json!({ "state": "inactive", "old-secret": "b" }), "opens none");
        refused(json!({ "state": "inactive", "keyslot": 3 }), "not in use");
        refused(json!({ "state": "active" }), "new-secret is needed");
        let again = json!({ "state": "active", "new-secret": "b", "keyslot": 0, "iter-time": 10 });
        refused(again, "slot 0 is in use");
        let other = json!({ "state": "active", "new-secret": "b", "secret": "b", "iter-time": 10 });
        refused(other, "opens none");
        let add = json!({ "state": "active", "new-secret": "b", "keyslot": 2, "iter-time": 10 });
        amend(add).expect("a slot is free");
        amend(json!({ "state": "inactive", "old-secret": "a" })).expect("another is left");
        refused(json!({ "state": "inactive", "keyslot": 2 }), "the data are lost");
        nodes.close();
        assert!(opens(driver, &image, "second"), "{driver}");
        assert!(!opens(driver, &image, "first"), "{driver}");
        if driver == "qcow2" {
            let opened = format!(
                "driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename={name}"
            );
            let object = "secret,id=s,data=second";
            peer::opens_clean(&["--object", object, "--image-opts", &opened], driver);
        }
    }
}

#[test]
fn passphrases_that_come_at_once_are_all_there() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("slots-at-once");
    for driver in ["qcow2", "luks"] {
        let image = folder.join(driver);
        let nodes = begin(driver, &image, file(&image));
        nodes.write_top("disk", 0, vec![5; 64 << 10]);
        for (job, secret) in [("one", "b"), ("two", "c")] {
            let add = json!({ "state": "active", "new-secret": secret, "iter-time": 10 });
            amend(&nodes, driver, job, add).expect("it begins");
        }
        all_concluded(&nodes, &["one", "two"]).expect("there are slots enough");
        nodes.close();
        for passphrase in ["first", "second", "third"] {
            assert!(opens(driver, &image, passphrase), "{driver}: {passphrase}");
        }
    }
}

/// A header says that a slot is in use once its key material is durable, and the command ends once the header is.
#[test]
fn a_slot_is_in_use_when_it_is_durable() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("slots-durable");
    for driver in ["qcow2", "luks"] {
        // The first write is the key material, the second the header; the flush behind it fails.
        for writes in [1, 2] {
            let image = folder.join(format!("{driver}-{writes}"));
            let counted =
                |from| json!({ "event": "pwritev", "state": from, "new_state": from + 1 });
            let below = json!({ "driver": "blkdebug", "image": file(&image),
                "set-state": [counted(1), counted(2)],
                "inject-error": [
                    { "event": "flush_to_disk", "iotype": "flush", "state": writes + 1, "once": true }] });
            let nodes = begin(driver, &image, below);
            let add = json!({ "state": "active", "new-secret": "b", "iter-time": 10 });
            amend(&nodes, driver, "job", add).expect("it begins");
            concluded(&nodes).expect_err("a flush failed");
            nodes.close();
            let nodes = Nodes::new();
            secret(&nodes, "b", "second");
            let opened = nodes.execute("blockdev-add", &top(driver, file(&image), "b"));
            assert_eq!(opened.is_ok(), writes == 2, "{driver}: {opened:?}");
        }
    }
}
