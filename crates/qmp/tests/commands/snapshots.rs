//! `blockdev-snapshot`: what leads to a node leads to its overlay afterwards.

use blockyard_block::Backend;

use crate::bench::{Bench, FAULTLESS, Test, check, check_alone, first_byte, write};

const SNAPSHOT: &str = r#"{"node":"a","overlay":"o"}"#;

#[test]
fn every_parent_of_the_node_leads_to_the_overlay() {
    for node in ["a", "disk0"] {
        let test = Test::new(move |bench| async move {
            bench.add_files(&["a"]).await;
            let first = bench.device("disk0", "a").await;
            let second = bench.device("disk1", "a").await;
            bench.done("blockdev-add", r#"{"driver":"raw","node-name":"r","file":"a"}"#).await;
            bench.add_overlay("o").await;
            bench.done("blockdev-snapshot", &format!(r#"{{"node":"{node}","overlay":"o"}}"#)).await;
            for (parent, edge) in [("disk0", "root"), ("disk1", "root"), ("r", "file")] {
                assert_eq!(bench.child(parent, edge).as_deref(), Some("o"), "{parent}");
            }
            assert_eq!(bench.child("o", "backing").as_deref(), Some("a"));
            assert_eq!(first_byte(&first).await, 1, "read from the backing node");
            second.write(write(9)).await.expect("no fault is budgeted");
            assert_eq!(first_byte(&first).await, 9);
            let below = bench.device("disk2", "a").await;
            assert_eq!(first_byte(&below).await, 1, "the backing node stays as it was");
            bench.refused("blockdev-del", r#"{"node-name":"a"}"#, &["node o"]).await;
        });
        check_alone(node, &test);
    }
}

#[test]
fn chains_grow_one_overlay_at_a_time() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a"]).await;
        let disk = bench.device("disk0", "a").await;
        for (name, below) in [("o", "a"), ("p", "o"), ("q", "o")] {
            bench.add_overlay(name).await;
            let arguments = format!(r#"{{"node":"{below}","overlay":"{name}"}}"#);
            bench.done("blockdev-snapshot", &arguments).await;
        }
        // q went between p and o.
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("p"));
        assert_eq!(bench.child("p", "backing").as_deref(), Some("q"));
        assert_eq!(bench.child("q", "backing").as_deref(), Some("o"));
        assert_eq!(bench.child("o", "backing").as_deref(), Some("a"));
        assert_eq!(first_byte(&disk).await, 1);
    });
    check_alone("chain", &test);
}

#[test]
fn what_cannot_be_an_overlay_is_refused() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b"]).await;
        bench.device("disk0", "a").await;
        bench.add_overlay("o").await;
        bench.add_overlay("p").await;
        let refused = async |node: &str, overlay: &str, said: &[&str]| {
            let arguments = format!(r#"{{"node":"{node}","overlay":"{overlay}"}}"#);
            bench.refused("blockdev-snapshot", &arguments, said).await;
        };
        refused("nowhere", "o", &["no node 'nowhere'"]).await;
        refused("a", "nowhere", &["no node 'nowhere'"]).await;
        refused("a", "b", &["node b takes no backing node", "file"]).await;
        refused("a", "disk0", &["no node 'disk0'"]).await;
        refused("o", "o", &["cycle"]).await;
        bench.device("disk1", "p").await;
        refused("a", "p", &["overlay p is in use already on edge disk1.root"]).await;
        bench.done("blockdev-snapshot", SNAPSHOT).await;
        refused("b", "o", &["overlay o has a backing node already: a"]).await;
        let unknown = r#"{"node":"a","overlay":"o","force":true}"#;
        bench.refused("blockdev-snapshot", unknown, &["force"]).await;
    });
    check_alone("refused", &test);
}

#[test]
fn a_node_that_a_job_holds_is_refused_with_the_job_named() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b"]).await;
        bench.done("blockdev-add", r#"{"driver":"throttle","node-name":"th","file":"a"}"#).await;
        bench.device("disk0", "th").await;
        bench.add_overlay("o").await;
        let mirror = r#"{"job-id":"m0","device":"th","target":"b","sync":"full",
            "filter-node-name":"mf"}"#;
        bench.done("blockdev-mirror", mirror).await;
        for (node, said) in [
            ("th", "job m0 holds edge mf.file frozen"),
            ("a", "job m0 holds edge th.file frozen"),
            ("b", "job m0 holds edge mf.target frozen"),
            ("mf", "job m0 holds node mf on edge m0.filter"),
        ] {
            let arguments = format!(r#"{{"node":"{node}","overlay":"o"}}"#);
            let reply = bench.execute("blockdev-snapshot", &arguments).await;
            let error = reply.expect_err("the job holds it");
            assert!(error.desc.contains(said), "{error}");
        }
        bench.done("job-cancel", r#"{"id":"m0"}"#).await;
    });
    check("held", &test, FAULTLESS, &[]);
}

/// `disk0` over a throttle over a quorum of `a` and `b`, and the overlays `o` and `p`.
async fn stack(bench: &Bench) -> Backend {
    bench.add_files(&["a", "b"]).await;
    let quorum = r#"{"driver":"quorum","node-name":"q","vote-threshold":2,"children":["a","b"]}"#;
    bench.done("blockdev-add", quorum).await;
    bench.done("blockdev-add", r#"{"driver":"throttle","node-name":"t","file":"q"}"#).await;
    let disk = bench.device("disk0", "t").await;
    // The two files differ until that.
    disk.write(write(5)).await.expect("no fault is budgeted");
    bench.add_overlay("o").await;
    bench.add_overlay("p").await;
    disk
}

#[test]
fn filters_stay_above_a_snapshot_and_every_copy_gets_one() {
    let test = Test::new(|bench| async move {
        let disk = stack(&bench).await;
        let arguments = r#"{"node":"disk0","overlays":["o","p"]}"#;
        bench.done("x-blockdev-snapshot-stack", arguments).await;
        let edges = [
            ("disk0", "root", "t"),
            ("t", "file", "q"),
            ("q", "children.0", "o"),
            ("q", "children.1", "p"),
            ("o", "backing", "a"),
            ("p", "backing", "b"),
        ];
        for (parent, edge, child) in edges {
            assert_eq!(bench.child(parent, edge).as_deref(), Some(child), "{parent}");
        }
        assert_eq!(first_byte(&disk).await, 5, "read from below");
        disk.write(write(9)).await.expect("no fault is budgeted");
        assert_eq!(first_byte(&disk).await, 9);
    });
    check_alone("stack", &test);
}

#[test]
fn a_snapshot_of_all_copies_that_one_refuses_is_taken_of_none() {
    let test = Test::new(|bench| async move {
        let disk = stack(&bench).await;
        let refused = async |node: &str, overlays: &str, said: &[&str]| {
            let arguments = format!(r#"{{"node":"{node}","overlays":[{overlays}]}}"#);
            bench.refused("x-blockdev-snapshot-stack", &arguments, said).await;
        };
        let too_few = "refused: 1 overlays are given, and below node t each of these is to get one";
        refused("disk0", r#""o""#, &[too_few, "a, b"]).await;
        refused("q", r#""o","p","r""#, &["'r'"]).await;
        bench.done("blockdev-add", r#"{"driver":"raw","node-name":"r","file":"p"}"#).await;
        refused("t", r#""o","p""#, &["overlay p is in use already on edge r.file"]).await;
        refused("t", r#""o","o""#, &["o"]).await;
        for (child, node) in [("children.0", "a"), ("children.1", "b")] {
            assert_eq!(bench.child("q", child).as_deref(), Some(node));
        }
        assert_eq!(bench.child("o", "backing"), None);
        assert_eq!(first_byte(&disk).await, 5);
    });
    check_alone("stack", &test);
}
