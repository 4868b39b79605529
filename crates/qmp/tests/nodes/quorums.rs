//! Quorums: what they believe, what they tell, and what they refuse.

use std::sync::Arc;

use blockyard_block::{Backend, Write};
use blockyard_qmp::{Dict, Event, Subscriber, Value, check_command};
use blockyard_runtime::IoErrorKind;
use blockyard_units::ByteRange;

use super::bench::{Bench, check, parse};
use super::{attach, ones, read};

fn first() -> ByteRange {
    ByteRange::new(0, 1024)
}

/// Device `disk0` over `node`, and whoever learns of the quorum's events.
async fn device(bench: &Bench, node: &str) -> (Backend, Arc<Subscriber>) {
    let device = attach(bench, "disk0", node).await;
    let names = ["QUORUM_REPORT_BAD", "QUORUM_FAILURE"].map(String::from);
    (device, bench.monitor.events().subscribe(names.into()))
}

/// Adds memory nodes, with `different` bytes in the first of them, then a quorum over them.
async fn add(bench: &Bench, children: &[&str], different: Option<u8>, options: &str) {
    let mut words = String::from("driver=quorum,node-name=q");
    for (index, child) in children.iter().enumerate() {
        bench.run("blockdev-add", &format!("driver=memory,node-name={child},size=4k")).await;
        words.push_str(&format!(",children.{index}={child}"));
    }
    if let Some(byte) = different {
        write_below(bench, children[0], byte).await;
    }
    bench.run("blockdev-add", &format!("{words},{options}")).await;
}

async fn write_below(bench: &Bench, node: &str, byte: u8) {
    let device = format!("below-{node}");
    let below = attach(bench, &device, node).await;
    let data = vec![byte; first().len().as_usize()];
    below.write(Write::data(0, data.into())).await.expect("memory does not fail");
    bench.run("blockdev-remove-medium", &format!("id={device}")).await;
}

fn of_child(kind: &str, node: &str) -> Dict {
    Dict::from_iter([("type", Value::from(kind)), ("node-name", Value::from(node))])
}

fn count(events: &[Event], name: &str, matching: &Dict) -> usize {
    events.iter().filter(|event| event.is(name, matching)).count()
}

/// `children` as options: memory nodes, and those that a rule of blkdebug fails.
fn children(rules: &[Option<&str>]) -> String {
    let child = |(index, rule): (usize, &Option<&str>)| {
        let memory = r#"{"driver": "memory", "size": 4096}"#;
        match rule {
            None => format!(r#"{{"driver": "raw", "node-name": "c{index}", "file": {memory}}}"#),
            Some(rule) => format!(
                r#"{{"driver": "blkdebug", "node-name": "c{index}", "image": {memory},
                     "inject-error": [{{"event": "none", {rule}}}]}}"#
            ),
        }
    };
    rules.iter().enumerate().map(child).collect::<Vec<_>>().join(", ")
}

async fn add_failing(bench: &Bench, rules: &[Option<&str>], options: &str) {
    let children = children(rules);
    let words =
        format!(r#"{{"driver": "quorum", "node-name": "q", "children": [{children}], {options}}}"#);
    bench.run("blockdev-add", &words).await;
}

#[test]
fn most_children_are_believed_and_the_other_is_told_of() {
    check(|bench| async move {
        add(&bench, &["a", "b", "c"], Some(7), "vote-threshold=2").await;
        let (device, events) = device(&bench, "q").await;
        for _ in 0..2 {
            assert_eq!(read(&device, 512, 512).await, [0; 512]);
            let told = events.take();
            assert_eq!(count(&told, "QUORUM_REPORT_BAD", &of_child("read", "a")), 1);
            let place = [("sector-num", Value::from(1_u64)), ("sectors-count", 1_u64.into())];
            assert_eq!(count(&told, "QUORUM_REPORT_BAD", &Dict::from_iter(place)), 1);
            assert!(told[0].data.get("error").is_none() && told.len() == 1);
        }
        device.write(ones(0, 1024)).await.expect("memory does not fail");
        assert_eq!(read(&device, 0, 1024).await, [1; 1024]);
        assert_eq!(events.take(), [], "all agree again");
    });
}

#[test]
fn a_read_without_enough_votes_fails() {
    check(|bench| async move {
        add(&bench, &["a", "b"], Some(7), "vote-threshold=2,blkverify=on").await;
        let (device, events) = device(&bench, "q").await;
        let failed = device.read(first()).await.expect_err("they differ");
        assert_eq!(failed.io_kind(), Some(IoErrorKind::Io));
        let place = [("sector-num", Value::from(0_u64)), ("sectors-count", 2_u64.into())];
        let all = [("reference", Value::from("disk0"))].into_iter().chain(place);
        assert_eq!(count(&events.take(), "QUORUM_FAILURE", &Dict::from_iter(all)), 1);
    });
}

#[test]
fn a_child_that_differs_is_rewritten_if_that_is_asked_for() {
    for (option, events_later) in [("on", 0), ("off", 1)] {
        check(move |bench| async move {
            let options = format!("vote-threshold=2,rewrite-corrupted={option}");
            add(&bench, &["a", "b", "c"], Some(7), &options).await;
            let (device, events) = device(&bench, "q").await;
            read(&device, 0, 1024).await;
            assert_eq!(events.take().len(), 1);
            read(&device, 0, 1024).await;
            assert_eq!(events.take().len(), events_later);
        });
    }
}

#[test]
fn fifo_believes_the_first_that_does_not_fail() {
    check(|bench| async move {
        add(&bench, &["a", "b"], Some(7), "vote-threshold=1,read-pattern=fifo").await;
        let (device, events) = device(&bench, "q").await;
        assert_eq!(read(&device, 0, 1024).await, [7; 1024]);
        assert_eq!(events.take(), []);
    });
    check(|bench| async move {
        let rules = [Some(r#""iotype": "read""#), None];
        add_failing(&bench, &rules, r#""vote-threshold": 2, "read-pattern": "fifo""#).await;
        let (device, events) = device(&bench, "q").await;
        assert_eq!(read(&device, 0, 512).await, [0; 512]);
        assert_eq!(count(&events.take(), "QUORUM_REPORT_BAD", &of_child("read", "c0")), 1);
    });
}

#[test]
fn writes_and_flushes_need_as_many_children_as_the_threshold() {
    let full = Some(r#""iotype": "write", "errno": 28"#);
    let lost = Some(r#""iotype": "flush""#);
    for bad in [1, 2] {
        check(move |bench| async move {
            let rules = [full, if bad == 2 { full } else { None }, None];
            add_failing(&bench, &rules, r#""vote-threshold": 2"#).await;
            let (device, events) = device(&bench, "q").await;
            let written = device.write(ones(0, 1024)).await;
            let kind = written.err().and_then(|error| error.io_kind());
            assert_eq!(kind, (bad == 2).then_some(IoErrorKind::NoSpace));
            let told = events.take();
            assert_eq!(count(&told, "QUORUM_REPORT_BAD", &of_child("write", "c0")), 1);
            assert_eq!(count(&told, "QUORUM_FAILURE", &Dict::new()), bad - 1);
        });
        check(move |bench| async move {
            let rules = [lost, if bad == 2 { lost } else { None }, None];
            add_failing(&bench, &rules, r#""vote-threshold": 2"#).await;
            let (device, events) = device(&bench, "q").await;
            device.write(ones(0, 512)).await.expect("only flushes fail");
            assert_eq!(device.flush().await.is_ok(), bad == 1);
            let told = events.take();
            assert_eq!(count(&told, "QUORUM_REPORT_BAD", &of_child("flush", "c0")), 1);
            assert_eq!(count(&told, "QUORUM_FAILURE", &Dict::new()), bad - 1);
        });
    }
}

#[test]
fn a_read_beside_a_write_sees_children_that_agree() {
    check(|bench| async move {
        add(&bench, &["a", "b"], None, "vote-threshold=2").await;
        let (device, events) = device(&bench, "q").await;
        let writer = device.clone();
        let write = async move { writer.write(ones(0, 1024)).await };
        let written = bench.runtime.spawn("writer", write);
        let data = read(&device, 0, 1024).await;
        assert!(data == [0; 1024] || data == [1; 1024], "before or after");
        written.join().await.expect("memory does not fail");
        device.write(Write::zeroes(first())).await.expect("memory does not fail");
        device.write(Write::discard(first())).await.expect("it may be left undone");
        assert_eq!(read(&device, 0, 1024).await, [0; 1024]);
        assert_eq!(events.take(), []);
    });
}

#[test]
fn children_are_as_long_as_each_other() {
    check(|bench| async move {
        for (name, size) in [("a", "4k"), ("b", "8k")] {
            let options = format!("driver=memory,node-name={name},size={size}");
            bench.run("blockdev-add", &options).await;
        }
        let options = "driver=quorum,node-name=q,vote-threshold=1,children.0=a,children.1=b";
        let refused = bench.execute("blockdev-add", options).await.expect_err("they are not");
        let said = "node 'q': children of 4096 and 8192 bytes; all must be as long";
        assert_eq!(refused.desc, said);
        let gone = bench.monitor.layer().node("q");
        assert!(gone.is_err(), "it is not there");
    });
}

#[test]
fn children_come_and_go() {
    check(|bench| async move {
        add(&bench, &["a", "b", "c"], Some(7), "vote-threshold=2").await;
        let (device, events) = device(&bench, "q").await;
        bench.run("x-blockdev-change", "parent=q,child=children.0").await;
        assert_eq!(read(&device, 0, 1024).await, [0; 1024]);
        assert_eq!(events.take(), [], "the one that differed is gone");
        bench.run("blockdev-add", "driver=memory,node-name=d,size=4k").await;
        write_below(&bench, "d", 9).await;
        bench.run("x-blockdev-change", "parent=q,node=d").await;
        assert_eq!(read(&device, 0, 1024).await, [0; 1024]);
        assert_eq!(count(&events.take(), "QUORUM_REPORT_BAD", &of_child("read", "d")), 1);
        device.write(ones(0, 1024)).await.expect("memory does not fail");
        bench.run("x-blockdev-change", "parent=q,child=children.1").await;
        assert_eq!(read(&device, 0, 1024).await, [1; 1024]);
        assert_eq!(events.take(), [], "a new child is written too");
    });
}

#[test]
fn changes_of_children_that_make_no_sense_are_refused() {
    check(|bench| async move {
        add(&bench, &["a", "b"], None, "vote-threshold=2").await;
        for (name, size) in [("same", "4k"), ("long", "8k")] {
            bench.run("blockdev-add", &format!("driver=memory,node-name={name},size={size}")).await;
        }
        let cases = [
            ("parent=q", "child or node is missing: 'child' is taken away, 'node' is added"),
            (
                "parent=q,child=children.0,node=same",
                "child and node cannot be given together: 'child' is taken away, 'node' is added",
            ),
            (
                "parent=q,child=children.0",
                "refused: node q needs the votes of 2 children, and would have 1",
            ),
            ("parent=q,child=children.2", "child: node 'q' has no child 'children.2'"),
            (
                "parent=q,node=long",
                "refused: node long has 8192 bytes, and each child must have 4096",
            ),
            ("parent=q,node=a", "refused: node a is on edge q.children.0 already"),
            (
                "parent=a,node=same",
                "parent: node 'a' takes no other children: its driver is memory, not quorum",
            ),
        ];
        let before = bench.monitor.layer().graph();
        for (options, said) in cases {
            let refused = bench.execute("x-blockdev-change", options).await;
            assert_eq!(refused.expect_err("it makes no sense").desc, said);
        }
        let after = bench.monitor.layer().graph();
        assert!(before.changed_edges(&after).is_empty(), "nothing has changed");
    });
}

#[test]
fn there_can_be_only_so_many_children() {
    check(|bench| async move {
        add(&bench, &["a"], None, "vote-threshold=1").await;
        for index in 1..33 {
            let child = format!("driver=memory,node-name=c{index},size=4k");
            bench.run("blockdev-add", &child).await;
            let added =
                bench.execute("x-blockdev-change", &format!("parent=q,node=c{index}")).await;
            assert_eq!(added.is_ok(), index < 32);
        }
        bench.run("x-blockdev-change", "parent=q,child=children.31").await;
        bench.run("x-blockdev-change", "parent=q,node=c32").await;
    });
}

#[test]
fn a_flush_needs_those_that_have_done_the_writes() {
    let write = Some(r#""iotype": "write", "once": true"#);
    let flush = Some(r#""iotype": "flush", "once": true"#);
    check(move |bench| async move {
        add_failing(&bench, &[write, flush, None], r#""vote-threshold": 2"#).await;
        let (device, _) = device(&bench, "q").await;
        device.write(ones(0, 512)).await.expect("two have done it");
        device.flush().await.expect_err("and of these only one has flushed");
        device.flush().await.expect("now both have");
        device.flush().await.expect("and nothing is owed");
    });
}

#[test]
fn quorums_that_make_no_sense_are_told() {
    let two = "children.0=a,children.1=b";
    let cases = [
        ("vote-threshold=1", "children"),
        ("children.0=a,children.1=b", "vote-threshold"),
        ("children.0=a,vote-threshold=0", "vote-threshold: must be between 1 and the number"),
        ("children.0=a,vote-threshold=2", "vote-threshold: must be between 1 and the number"),
        ("children.0=a,vote-threshold=1,blkverify=on", "blkverify: needs exactly two children"),
        (&format!("{two},vote-threshold=1,blkverify=on"), "blkverify: needs exactly two"),
        (
            &format!("{two},vote-threshold=2,blkverify=on,rewrite-corrupted=on"),
            "rewrite-corrupted: is not possible with blkverify",
        ),
        (
            &format!("{two},vote-threshold=2,rewrite-corrupted=on,read-pattern=fifo"),
            "read-pattern: fifo compares nothing",
        ),
        (
            &format!("{two},vote-threshold=2,blkverify=on,read-pattern=fifo"),
            "read-pattern: fifo compares nothing",
        ),
        (&format!("{two},vote-threshold=2,read-pattern=lifo"), "read-pattern"),
    ];
    for (options, message) in cases {
        let (options, mode) = parse(&format!("driver=quorum,node-name=q,{options}"));
        let refused = check_command("blockdev-add", &options, mode).expect_err("it makes no sense");
        assert!(refused.desc.contains(message), "{}", refused.desc);
    }
}
