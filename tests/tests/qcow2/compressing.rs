//! The filter that has an image compress what is written.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::check::folder;
use super::nodes::{Nodes, converted, file, writes, written};
use super::peer;

#[test]
fn whole_clusters_are_compressed_and_qemu_reads_them() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("compressing");
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let (image, raw) = (path("image.qcow2"), path("raw"));
    let name = image.to_string_lossy().into_owned();
    for (more, clusters) in [("", 1), ("cluster_size=4k", 20), ("extended_l2=on", 1)] {
        let options = if more.is_empty() { "cluster_size=64k" } else { more };
        peer::call("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, &name, "1M"]);
        let expected = written(vec![0; 1 << 20]);
        let nodes = Nodes::new();
        let below = json!({ "driver": "qcow2", "node-name": "image", "file": file(&image) });
        let node = json!({ "driver": "compress", "node-name": "top", "file": below });
        nodes.done("blockdev-add", &node);
        assert!(nodes.use_top(&writes()) == expected, "{options}: what it reads");
        assert!(converted(&["-f", "qcow2", &name], &raw) == expected, "{options}: what QEMU reads");
        peer::checks_clean(&image, options);
        let checked = peer::call("qemu-img", &["check", "--output=json", &name]).stdout;
        let checked: Json = serde_json::from_slice(&checked).expect("it is JSON");
        assert_eq!(checked["compressed-clusters"], clusters, "{options}: {checked}");
    }
}

#[test]
fn what_cannot_compress_is_refused() {
    let folder = folder("compressing-refused");
    let disk = folder.join("disk");
    std::fs::write(&disk, vec![0; 4096]).expect("it can be written");
    let nodes = Nodes::new();
    let node = json!({ "driver": "compress", "node-name": "top", "file": file(&disk) });
    let said = nodes.execute("blockdev-add", &node).expect_err("a file compresses nothing");
    assert!(said.starts_with("node 'top': its child cannot compress; a qcow2 image can"), "{said}");
    nodes.done("blockdev-add", &json!({ "driver": "null-co", "node-name": "top", "size": 512 }));
    nodes.close();
}
