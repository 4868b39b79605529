//! Images under caches of every size that can be asked for.

use serde_json::{Value as Json, json};

use super::check::folder;
use super::nodes::{Nodes, converted, file, writes, written};
use super::peer;

#[test]
fn caches_of_every_size_show_and_leave_the_same() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("caches");
    let (image, raw) = (folder.join("image.qcow2"), folder.join("expected"));
    let name = image.to_string_lossy().into_owned();
    let sizes = [
        json!({ "cache-size": 0 }),
        json!({ "cache-size": 1 << 20, "l2-cache-size": 4096 }),
        json!({ "cache-size": 8192, "refcount-cache-size": 512 }),
        json!({ "l2-cache-size": 1024, "l2-cache-entry-size": 512 }),
        json!({ "l2-cache-entry-size": 4096, "refcount-cache-size": 0 }),
        json!({ "cache-size": 16384, "cache-clean-interval": 1 }),
    ];
    for create in ["cluster_size=4k", "cluster_size=4k,refcount_bits=64", "extended_l2=on"] {
        for options in &sizes {
            peer::call("qemu-img", &["create", "-q", "-f", "qcow2", "-o", create, &name, "1M"]);
            peer::call("qemu-io", &["-f", "qcow2", "-c", "write -P 5 0 300k", &name]);
            let expected = written(converted(&["-f", "qcow2", &name], &raw));
            let nodes = Nodes::new();
            let mut node = json!({ "driver": "qcow2", "node-name": "top", "file": file(&image) });
            let members = node.as_object_mut().expect("it has members");
            members.extend(options.as_object().expect("options are members").clone());
            nodes.done("blockdev-add", &node);
            assert!(nodes.use_top(&writes()) == expected, "{create} {options}");
            assert!(converted(&["-f", "qcow2", &name], &raw) == expected, "{create} {options}");
            peer::checks_clean(&image, &format!("{create} {options}"));
        }
    }
}

#[test]
fn sizes_that_do_not_go_together_are_refused_as_qemu_does() {
    if !peer::is_there() {
        return;
    }
    let folder = folder("caches-refused");
    let image = folder.join("image.qcow2");
    let name = image.to_string_lossy().into_owned();
    peer::call("qemu-img", &["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", &name, "1M"]);
    let refused = |options: Json, said: &str| {
        let mut node = json!({ "driver": "qcow2", "node-name": "top", "file": file(&image) });
        let members = node.as_object_mut().expect("it has members");
        members.extend(options.as_object().expect("options are members").clone());
        let error = Nodes::new().execute("blockdev-add", &node).expect_err("it is refused");
        assert!(error.contains(said), "not '{said}': {error}");
        let theirs = peer::qemu_img(&["info", &format!("json:{node}")]);
        assert!(!theirs.status.success(), "QEMU takes {options}");
    };
    let all = json!({ "cache-size": 3, "l2-cache-size": 1, "refcount-cache-size": 2 });
    refused(all, "give two of them");
    refused(json!({ "cache-size": 4096, "l2-cache-size": 8192 }), "l2-cache-size may not exceed");
    let refcount = json!({ "cache-size": 4096, "refcount-cache-size": 8192 });
    refused(refcount, "refcount-cache-size may not exceed");
    for size in [256, 1000, 8192] {
        refused(
            json!({ "l2-cache-entry-size": size }),
            "a power of two between 512 and the cluster",
        );
    }
}
