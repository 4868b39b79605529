//! Devices without a node, with another, and several on one; and images that are handed over.

use blockyard_block::{BlockError, Owner};
use blockyard_sync::{door, sometimes};
use blockyard_units::ByteRange;

use crate::bench::{FAULTLESS, Test, check, check_alone, check_by_door, first_byte, write};

const REMOVE: &str = r#"{"id":"disk0"}"#;

fn insert(node: &str) -> String {
    format!(r#"{{"id":"disk0","node-name":"{node}"}}"#)
}

fn no_medium<T: std::fmt::Debug>(reply: Result<T, BlockError>) {
    assert_eq!(reply.map(drop), Err(BlockError::NoMedium("disk0".into())));
}

#[test]
fn a_medium_is_taken_away_and_another_put_in() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b"]).await;
        let disk = bench.device("disk0", "a").await;
        let said = ["'disk0' has a medium already: a"];
        bench.refused("blockdev-insert-medium", &insert("b"), &said).await;
        bench.done("blockdev-remove-medium", REMOVE).await;
        assert_eq!(bench.child("disk0", "root"), None);
        let range = ByteRange::new(0, 512);
        no_medium(disk.read(range).await);
        no_medium(disk.write(write(7)).await);
        no_medium(disk.flush().await);
        no_medium(disk.block_status(range).await);
        no_medium(disk.len());
        // There is none: nothing is to be done.
        bench.done("blockdev-remove-medium", REMOVE).await;
        bench.done("blockdev-del", r#"{"node-name":"a"}"#).await;
        bench.refused("blockdev-insert-medium", &insert("a"), &["no node 'a'"]).await;
        bench.done("blockdev-insert-medium", &insert("b")).await;
        assert_eq!(first_byte(&disk).await, 2);
        let mirror = r#"{"device":"disk0","target":"b","sync":"full"}"#;
        bench.refused("blockdev-mirror", mirror, &["to itself"]).await;
        let unknown = r#"{"id":"disk9"}"#;
        bench.refused("blockdev-remove-medium", unknown, &["no device 'disk9'"]).await;
    });
    check_alone("media", &test);
}

#[test]
fn a_medium_that_may_not_be_written_is_refused() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a"]).await;
        let read_only = r#"{"driver":"file","node-name":"b","filename":"b","read-only":true}"#;
        bench.done("blockdev-add", read_only).await;
        bench.device("disk0", "a").await;
        bench.done("blockdev-remove-medium", REMOVE).await;
        let said = ["node b is read-only", "backend disk0 needs write"];
        bench.refused("blockdev-insert-medium", &insert("b"), &said).await;
    });
    check_alone("read-only", &test);
}

#[test]
fn two_devices_share_a_node_and_one_stays_when_the_other_goes() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b"]).await;
        let first = bench.device("disk0", "b").await;
        let second = bench.device("disk1", "a").await;
        bench.done("blockdev-remove-medium", REMOVE).await;
        bench.done("blockdev-insert-medium", &insert("a")).await;
        second.write(write(7)).await.expect("no fault is budgeted");
        assert_eq!(first_byte(&first).await, 7);
        bench.done("blockdev-remove-medium", REMOVE).await;
        no_medium(first.flush().await);
        assert_eq!(first_byte(&second).await, 7);
    });
    check_alone("two devices", &test);
}

#[test]
fn a_request_on_an_empty_device_fails_in_a_drained_section_too() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a"]).await;
        let disk = bench.device("disk0", "a").await;
        bench.done("blockdev-remove-medium", REMOVE).await;
        let node = bench.monitor.layer().node("a").expect("it is there").id();
        let task = disk.clone();
        bench.task("guest", async move { no_medium(task.write(write(7)).await) });
        let section = bench.monitor.layer().drain(Owner::command(), &[node]).await;
        no_medium(disk.read(ByteRange::new(0, 512)).await);
        section.end();
    });
    check("drained", &test, FAULTLESS, &[]);
}

/// A guest writes while its medium goes and another comes, and somebody drains what comes.
#[test]
fn each_request_goes_to_one_medium_or_to_none() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b"]).await;
        let disk = bench.device("disk0", "a").await;
        let task = bench.clone();
        bench.task("admin", async move {
            task.done("blockdev-remove-medium", REMOVE).await;
            let busy = task.monitor.layer().in_flight();
            assert!(!busy.iter().any(|(name, _)| name == "a"), "quiet when it goes: {busy:?}");
            door::boundary().await;
            task.done("blockdev-insert-medium", &insert("b")).await;
        });
        let (layer, node) = (bench.monitor.layer().clone(), bench.graph().node_by_name("b"));
        bench.task("other", async move {
            let section = layer.drain(Owner::command(), &[node.expect("it is there")]).await;
            let busy = layer.in_flight();
            assert!(!busy.iter().any(|(name, _)| name == "b"), "drained-means-quiet: {busy:?}");
            section.end();
        });
        for value in [7, 8] {
            match disk.write(write(value)).await {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error, BlockError::NoMedium("disk0".into()));
                    sometimes!(true, "a request found no medium");
                }
            }
        }
        let found = disk.read(ByteRange::new(0, 512)).await;
        sometimes!(found.is_ok_and(|bytes| bytes[0] == 2), "the new medium is as it was");
    });
    let marks = [
        "a request found no medium",
        "the new medium is as it was",
        "guest request parked by a drained section",
    ];
    check("change", &test, FAULTLESS, &marks);
}

#[test]
fn a_medium_that_a_job_holds_stays() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b"]).await;
        bench.device("disk0", "a").await;
        let mirror = r#"{"job-id":"m0","device":"a","target":"b","sync":"full",
            "filter-node-name":"mf"}"#;
        bench.done("blockdev-mirror", mirror).await;
        let reply = bench.execute("blockdev-remove-medium", REMOVE).await;
        let error = reply.expect_err("the job holds it");
        assert!(error.desc.contains("job m0 holds node mf on edge m0.filter"), "{error}");
        bench.done("job-cancel", r#"{"id":"m0"}"#).await;
    });
    check("held", &test, FAULTLESS, &[]);
}

#[test]
fn images_are_handed_over_and_taken_back() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b"]).await;
        for name in ["r", "s"] {
            let options = format!(r#"{{"driver":"raw","node-name":"{name}","file":"a"}}"#);
            bench.done("blockdev-add", &options).await;
        }
        let active = |bench: &crate::bench::Bench| {
            let graph = bench.graph();
            let names = graph.nodes().filter(|(_, node)| node.active);
            names.map(|(_, node)| node.name.clone()).collect::<Vec<_>>().join(" ")
        };
        let set =
            |node: &str, active: bool| format!(r#"{{"node-name":"{node}","active":{active}}}"#);
        let said = ["node a has an active parent node r"];
        bench.refused("blockdev-set-active", &set("a", false), &said).await;
        bench.done("blockdev-set-active", &set("r", false)).await;
        assert_eq!(active(&bench), "a b s", "s still holds a");
        bench.done("blockdev-set-active", &set("s", false)).await;
        assert_eq!(active(&bench), "b");
        bench.done("blockdev-set-active", &set("s", false)).await;
        bench.done("blockdev-set-active", &set("r", true)).await;
        assert_eq!(active(&bench), "a b r");
        bench.done("blockdev-set-active", r#"{"active":false}"#).await;
        assert_eq!(active(&bench), "");
        bench.done("blockdev-set-active", r#"{"active":true}"#).await;
        assert_eq!(active(&bench), "a b r s");
        bench.device("disk0", "b").await;
        let said = ["node b is inactive", "backend disk0 needs write on edge disk0.root"];
        bench.refused("blockdev-set-active", r#"{"active":false}"#, &said).await;
        bench.refused("blockdev-set-active", &set("b", false), &said).await;
        bench.refused("blockdev-set-active", &set("c", false), &["no node 'c'"]).await;
        bench.refused("blockdev-set-active", "{}", &["active"]).await;
        bench.done("blockdev-remove-medium", REMOVE).await;
        bench.done("blockdev-set-active", &set("b", false)).await;
        bench.refused("blockdev-insert-medium", &insert("b"), &["node b is inactive"]).await;
    });
    check_alone("handed over", &test);
}

/// Between looking for its node and asking it a request is in nobody's way: what it is given meanwhile is not drained.
#[test]
fn a_request_under_way_on_an_empty_device_never_enters_what_is_drained() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b"]).await;
        let disk = bench.device("disk0", "a").await;
        bench.done("blockdev-remove-medium", REMOVE).await;
        bench.task("guest", async move {
            let read = disk.read(ByteRange::new(0, 512)).await;
            sometimes!(read.is_err(), "it found no medium");
            sometimes!(read.is_ok(), "it found the new medium");
        });
        let (layer, node) = (bench.monitor.layer().clone(), bench.graph().node_by_name("b"));
        bench.task("other", async move {
            let section = layer.drain(Owner::command(), &[node.expect("it is there")]).await;
            door::boundary().await;
            section.end();
        });
        bench.done("blockdev-insert-medium", &insert("b")).await;
    });
    check_by_door("by door", &test, 20_000, &["it found no medium", "it found the new medium"]);
}
