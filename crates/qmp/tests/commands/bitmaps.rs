//! `block-dirty-bitmap-…`, alone and as actions of a transaction.

use blockyard_block::{NamedBitmap, Write};
use blockyard_qmp::Value;
use blockyard_units::ByteRange;

use crate::bench::{Bench, FAULTLESS, Test, check, write};

/// A device on a disk of 4 KiB with two bitmaps, of which `off` does not record.
async fn begin(bench: &Bench) -> blockyard_block::Backend {
    bench.add_files(&["a", "b"]).await;
    let device = bench.device("disk0", "a").await;
    let add = r#"{"node":"a","name":"on","granularity":512}"#;
    bench.done("block-dirty-bitmap-add", add).await;
    let add = r#"{"node":"a","name":"off","granularity":1024,"disabled":true}"#;
    bench.done("block-dirty-bitmap-add", add).await;
    device
}

fn dirty(bench: &Bench, name: &str) -> Vec<(u64, u64)> {
    let areas = |bitmap: &NamedBitmap| {
        let areas = bitmap.bits().areas();
        Ok(areas.map(|area| (area.start(), area.len().0)).collect())
    };
    let node = bench.monitor.layer().node("a").expect("it is there");
    node.bitmaps().look_at(name, areas).expect("it is there")
}

fn action(kind: &str, name: &str) -> String {
    let data = format!(r#"{{"node":"a","name":"{name}"}}"#);
    format!(r#"{{"type":"block-dirty-bitmap-{kind}","data":{data}}}"#)
}

fn merge(target: &str, sources: &str) -> String {
    let data = format!(r#"{{"node":"a","target":"{target}","bitmaps":{sources}}}"#);
    format!(r#"{{"type":"block-dirty-bitmap-merge","data":{data}}}"#)
}

fn actions(all: &[String]) -> String {
    format!(r#"{{"actions":[{}]}}"#, all.join(","))
}

#[test]
fn commands_do_what_they_say_and_queries_tell() {
    let test = Test::new(|bench| async move {
        let device = begin(&bench).await;
        device.write(write(7)).await.expect("no fault is budgeted");
        let last = Write::zeroes(ByteRange::new(3584, 512));
        device.write(last).await.expect("no fault is budgeted");
        assert_eq!(dirty(&bench, "on"), [(0, 512), (3584, 512)]);
        assert_eq!(dirty(&bench, "off"), []);
        let named = |name: &str| format!(r#"{{"node":"a","name":"{name}"}}"#);
        bench.done("block-dirty-bitmap-disable", &named("on")).await;
        bench.done("block-dirty-bitmap-enable", &named("off")).await;
        device.write(Write::discard(ByteRange::new(2048, 512))).await.expect("it is done");
        let merge = r#"{"node":"a","target":"off","bitmaps":["on",{"node":"a","name":"on"}]}"#;
        bench.done("block-dirty-bitmap-merge", merge).await;
        let nodes = bench.execute("query-named-block-nodes", "{}").await.expect("it is done");
        let expected = concat!(
            r#""dirty-bitmaps": [{"name": "on", "count": 1024, "granularity": 512, "#,
            r#""recording": false, "busy": false, "persistent": false}, {"name": "off", "#,
            r#""count": 2048, "granularity": 1024, "recording": true, "busy": false, "#,
            r#""persistent": false}]"#
        );
        let text = nodes.to_string();
        assert_eq!(text.replace(' ', "").matches(&expected.replace(' ', "")).count(), 1, "{text}");
        // QEMU's, of one word with the bits 0 and 7.
        let hash = bench.execute("x-debug-block-dirty-bitmap-sha256", &named("on")).await;
        let Ok(Value::Dict(hash)) = hash else { panic!("{hash:?}") };
        let expected = "d8c39643054af46129e207eabeef97a89854463ea88835f4dbc60d7fd3be1a5b";
        assert_eq!(hash.get("sha256").and_then(Value::as_str), Some(expected));
        bench.done("block-dirty-bitmap-clear", &named("on")).await;
        assert_eq!(dirty(&bench, "on"), []);
        bench.done("block-dirty-bitmap-remove", &named("on")).await;
        bench
            .refused("block-dirty-bitmap-clear", &named("on"), &["node a has no bitmap 'on'"])
            .await;
    });
    check("commands", &test, FAULTLESS, &[]);
}

#[test]
fn what_cannot_be_is_refused_and_leaves_everything_as_it_was() {
    let test = Test::new(|bench| async move {
        let device = begin(&bench).await;
        device.write(write(7)).await.expect("no fault is budgeted");
        bench.done("blockdev-add", r#"{"driver":"memory","node-name":"m","size":8192}"#).await;
        bench.done("block-dirty-bitmap-add", r#"{"node":"m","name":"long"}"#).await;
        let cases = [
            ("add", r#"{"node":"a","name":"on"}"#, "bitmap 'on' of node a is there already"),
            ("add", r#"{"node":"x","name":"on"}"#, "no node 'x'"),
            (
                "add",
                r#"{"node":"a","name":"p","persistent":true}"#,
                "bitmap 'p' of node a cannot be persistent: only qcow2 nodes store bitmaps",
            ),
            (
                "add",
                r#"{"node":"a","name":"g","granularity":768}"#,
                "granularity 768 is not a power",
            ),
            ("add", r#"{"node":"a","name":"g","squash":true}"#, "squash"),
            ("clear", r#"{"node":"a","name":"x"}"#, "node a has no bitmap 'x'"),
            ("enable", r#"{"node":"b","name":"on"}"#, "node b has no bitmap 'on'"),
            ("merge", r#"{"node":"a","target":"off","bitmaps":["on","x"]}"#, "no bitmap 'x'"),
            (
                "merge",
                r#"{"node":"a","target":"off","bitmaps":["on",{"node":"m","name":"long"}]}"#,
                "bitmap 'off' of node a is of 4096 bytes, and bitmap 'long' of node m, of 8192",
            ),
            ("merge", r#"{"node":"a","target":"off","bitmaps":[{"node":"m"}]}"#, "bitmaps.0"),
            ("rename", r#"{"node":"a","name":"on"}"#, "has not been found"),
        ];
        for (command, arguments, said) in cases {
            let command = format!("block-dirty-bitmap-{command}");
            bench.refused(&command, arguments, &[said]).await;
        }
        assert_eq!((dirty(&bench, "on"), dirty(&bench, "off")), (vec![(0, 512)], vec![]));
    });
    check("refusals", &test, FAULTLESS, &[]);
}

/// All of one transaction: each sees what those before it have done.
fn all() -> Vec<String> {
    vec![
        action("add", "new").replace(r#""new""#, r#""new","granularity":512"#),
        merge("new", r#"["on"]"#),
        merge("off", r#"["new"]"#),
        action("clear", "on"),
        action("disable", "on"),
        action("enable", "off"),
        action("remove", "new"),
    ]
}

#[test]
fn a_transaction_does_all_and_one_that_fails_anywhere_does_nothing() {
    let failing = [r#"{"type":"abort"}"#.to_owned(), action("clear", "none"), action("add", "off")];
    for failure in failing {
        for place in 0..=all().len() {
            let failure = failure.clone();
            let test = Test::new(move |bench| {
                let failure = failure.clone();
                async move {
                    let device = begin(&bench).await;
                    device.write(write(7)).await.expect("no fault is budgeted");
                    let mut list = all();
                    list.insert(place, failure);
                    bench.refused("transaction", &actions(&list), &[]).await;
                    assert_eq!(
                        (dirty(&bench, "on"), dirty(&bench, "off")),
                        (vec![(0, 512)], vec![])
                    );
                    bench.done("transaction", &actions(&all())).await;
                    assert_eq!(
                        (dirty(&bench, "on"), dirty(&bench, "off")),
                        (vec![], vec![(0, 1024)])
                    );
                    device.write(Write::zeroes(ByteRange::new(2048, 512))).await.expect("done");
                    assert_eq!((dirty(&bench, "on").len(), dirty(&bench, "off").len()), (0, 2));
                }
            });
            check(&format!("failing at {place}"), &test, FAULTLESS, &[]);
        }
    }
}

#[test]
fn bitmaps_change_with_the_graph_or_not_at_all() {
    for refuses in [false, true] {
        let test = Test::new(move |bench| async move {
            let device = begin(&bench).await;
            device.write(write(7)).await.expect("no fault is budgeted");
            bench.add_overlay("o").await;
            bench.refuses.with(|now| *now = refuses);
            let snapshot = r#"{"type":"blockdev-snapshot","data":{"node":"a","overlay":"o"}}"#;
            let list = [action("clear", "on"), snapshot.to_owned(), action("disable", "on")];
            if refuses {
                bench.refused("transaction", &actions(&list), &["the overlay refuses"]).await;
            } else {
                bench.done("transaction", &actions(&list)).await;
            }
            assert_eq!(dirty(&bench, "on").is_empty(), !refuses);
            let root = bench.child("disk0", "root");
            assert_eq!(root.as_deref(), Some(if refuses { "a" } else { "o" }));
        });
        check(&format!("refuses: {refuses}"), &test, FAULTLESS, &[]);
    }
}

fn device_bitmap(bench: &Bench, name: &str) -> Vec<(u64, u64)> {
    let layer = bench.monitor.layer();
    let device = layer.graph().backend_by_name("disk0").expect("it is there");
    let areas = |bitmap: &NamedBitmap| {
        let areas = bitmap.bits().areas();
        Ok(areas.map(|area| (area.start(), area.len().0)).collect())
    };
    layer.device_bitmaps(device).expect("it is there").look_at(name, areas).expect("it is there")
}

#[test]
fn a_device_has_bitmaps_of_its_own_and_queries_tell_them_from_those_of_its_medium() {
    let test = Test::new(|bench| async move {
        let device = begin(&bench).await;
        let add = r#"{"node":"disk0","name":"on","granularity":1024}"#;
        bench.done("block-dirty-bitmap-add", add).await;
        bench.done("block-dirty-bitmap-clear", r#"{"node":"a","name":"on"}"#).await;
        device.write(write(7)).await.expect("no fault is budgeted");
        assert_eq!(
            (dirty(&bench, "on"), device_bitmap(&bench, "on")),
            (vec![(0, 512)], vec![(0, 1024)])
        );
        let query = bench.execute("query-block", "{}").await.expect("it is done");
        let expected = concat!(
            r#"{"name":"on","count":512,"granularity":512,"recording":true,"busy":false,"#,
            r#""persistent":false},{"name":"off","count":0,"granularity":1024,"recording":false,"#,
            r#""busy":false,"persistent":false}]},"dirty-bitmaps":[{"name":"on","count":1024,"#,
            r#""granularity":1024,"recording":true,"busy":false,"persistent":false}]}]"#
        );
        let text = query.to_string().replace(' ', "");
        assert!(text.ends_with(expected) && text.starts_with(r#"[{"device":"disk0","#), "{text}");
        // What is written to its medium by others is not its guest's.
        let other = bench.device("disk1", "a").await;
        other.write(Write::zeroes(ByteRange::new(2048, 512))).await.expect("it is done");
        let remove = r#"{"id":"disk0"}"#;
        bench.done("blockdev-remove-medium", remove).await;
        assert_eq!(device_bitmap(&bench, "on"), [(0, 1024)]);
        bench.done("block-dirty-bitmap-add", r#"{"node":"disk0","name":"empty"}"#).await;
        bench.done("blockdev-insert-medium", r#"{"id":"disk0","node-name":"b"}"#).await;
        device.write(Write::zeroes(ByteRange::new(3072, 512))).await.expect("it is done");
        assert_eq!(device_bitmap(&bench, "on"), [(0, 1024), (3072, 1024)]);
        assert_eq!(device_bitmap(&bench, "empty"), [(0, 3584)]);
        let cases = [
            ("clear", r#"{"node":"disk0","name":"off"}"#, "device disk0 has no bitmap 'off'"),
            ("add", r#"{"node":"disk0","name":"on"}"#, "bitmap 'on' of device disk0 is there"),
            (
                "add",
                r#"{"node":"disk0","name":"p","persistent":true}"#,
                "bitmap 'p' of device disk0 cannot be persistent: name the node",
            ),
        ];
        for (command, arguments, said) in cases {
            bench.refused(&format!("block-dirty-bitmap-{command}"), arguments, &[said]).await;
        }
    });
    check("devices", &test, FAULTLESS, &[]);
}

#[test]
fn a_node_does_not_become_longer_than_its_bitmaps_can_be() {
    let test = Test::new(|bench| async move {
        let null = r#"{"driver":"overlay","node-name":"o","size":1048576}"#;
        bench.done("blockdev-add", null).await;
        let fine = r#"{"node":"o","name":"fine","granularity":512}"#;
        bench.done("block-dirty-bitmap-add", fine).await;
        let resize = format!(r#"{{"node-name":"o","size":{}}}"#, (1_u64 << 41) + 512);
        let said = "bitmap 'fine' of node o is to be removed first: 2199023256064 bytes have \
                    4294967297 granules of 512; at most 4294967296 are possible";
        bench.refused("block_resize", &resize, &[said]).await;
        bench.done("block-dirty-bitmap-remove", r#"{"node":"o","name":"fine"}"#).await;
        let device = r#"{"node":"disk0","name":"d","granularity":512}"#;
        let _device = bench.device("disk0", "o").await;
        bench.done("block-dirty-bitmap-add", device).await;
        bench.refused("block_resize", &resize, &["bitmap 'd' of device disk0"]).await;
        bench.done("block-dirty-bitmap-remove", r#"{"node":"disk0","name":"d"}"#).await;
        bench.done("block_resize", &resize).await;
        let said = "granularity: 2199023256064 bytes have 4294967297 granules of 512";
        bench.refused("block-dirty-bitmap-add", fine, &[said]).await;
    });
    check("too long", &test, FAULTLESS, &[]);
}
