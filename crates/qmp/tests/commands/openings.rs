//! What a `file` node's disk is open for: what its options, its parents and its owner have it be.

use blockyard_sync::sometimes;

use crate::bench::{Bench, FAULTLESS, Test, check, check_alone, first_byte, write};

fn auto(name: &str) -> String {
    format!(r#"{{"driver":"file","node-name":"{name}","filename":"{name}","auto-read-only":true}}"#)
}

async fn is_open(bench: &Bench, labels: &str) {
    let trace = bench.trace().await;
    assert!(trace.ends_with(labels), "not {labels}: {trace}");
}

#[test]
fn an_auto_read_only_disk_is_open_for_writing_while_somebody_needs_that() {
    let test = Test::new(|bench| async move {
        bench.done("blockdev-add", &auto("a")).await;
        bench.done("blockdev-add", r#"{"driver":"raw","node-name":"r","file":"a"}"#).await;
        is_open(&bench, r#"["a read-only"]"#).await;
        let disk = bench.device("disk0", "r").await;
        is_open(&bench, r#"["a"]"#).await;
        disk.write(write(7)).await.expect("it is open for writing");
        bench.done("blockdev-remove-medium", r#"{"id":"disk0"}"#).await;
        is_open(&bench, r#"["a read-only"]"#).await;
        bench.done("blockdev-insert-medium", r#"{"id":"disk0","node-name":"a"}"#).await;
        is_open(&bench, r#"["a"]"#).await;
        assert_eq!(first_byte(&disk).await, 7);
    });
    check_alone("auto", &test);
}

#[test]
fn an_auto_read_only_disk_that_cannot_be_written_refuses_whoever_needs_that() {
    let test = Test::new(|bench| async move {
        bench.files.read_only.with(|names| names.push("a".into()));
        bench.done("blockdev-add", &auto("a")).await;
        bench.add_files(&["b"]).await;
        let disk = bench.device("disk0", "b").await;
        bench.done("blockdev-remove-medium", r#"{"id":"disk0"}"#).await;
        let insert = r#"{"id":"disk0","node-name":"a"}"#;
        let said = ["node a: 'a' cannot be opened for writing"];
        bench.refused("blockdev-insert-medium", insert, &said).await;
        bench.files.read_only.with(Vec::clear);
        bench.done("blockdev-insert-medium", insert).await;
        disk.write(write(7)).await.expect("it is open for writing");
    });
    check_alone("not writable", &test);
}

#[test]
fn reopening_changes_whether_a_disk_is_auto_read_only_and_what_becomes_of_zeroes() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a"]).await;
        is_open(&bench, r#"["a"]"#).await;
        let reopen = |more: &str| {
            format!(r#"{{"options":[{{"driver":"file","node-name":"a","filename":"a"{more}}}]}}"#)
        };
        bench.done("blockdev-reopen", &reopen(r#","auto-read-only":true"#)).await;
        is_open(&bench, r#"["a read-only"]"#).await;
        let detects = r#","detect-zeroes":"unmap","discard":"unmap""#;
        bench.done("blockdev-reopen", &reopen(detects)).await;
        is_open(&bench, r#"["a"]"#).await;
        let trace = bench.trace().await;
        assert!(trace.contains(r#"("detect_zeroes", Str("unmap"))"#), "{trace}");
        let unmaps = reopen(r#","detect-zeroes":"unmap""#);
        let said = ["options.0.detect-zeroes", "'unmap' is possible only with discard"];
        bench.refused("blockdev-reopen", &unmaps, &said).await;
        let shared = reopen(r#","force-share":true,"read-only":true"#);
        let said = ["force-share: node 'a' cannot change it from 'off' to 'on'"];
        bench.refused("blockdev-reopen", &shared, &said).await;
    });
    check_alone("reopened", &test);
}

/// A writer comes while the disk is handed over: one of the two is refused, and the other has it as he needs it.
#[test]
fn a_disk_is_not_handed_over_under_a_writer() {
    let test = Test::new(|bench| async move {
        bench.done("blockdev-add", &auto("a")).await;
        bench.done("blockdev-add", r#"{"driver":"raw","node-name":"r","file":"a"}"#).await;
        let task = bench.clone();
        bench.task("inactive", async move {
            let hand_over = r#"{"node-name":"r","active":false}"#;
            let done = task.execute("blockdev-set-active", hand_over).await;
            sometimes!(done.is_err(), "the writer was there first");
            sometimes!(done.is_ok(), "nobody wrote");
        });
        let task = bench.clone();
        bench.task("writer", async move {
            // In no drained section: both changes are prepared side by side.
            if let Ok(disk) = task.monitor.attach_device("disk0", "r", false).await {
                disk.write(write(7)).await.expect("it is open for writing");
                assert_eq!(first_byte(&disk).await, 7);
            }
        });
    });
    let marks = ["the writer was there first", "nobody wrote"];
    check("handed over", &test, FAULTLESS, &marks);
}

#[test]
fn an_inactive_disk_is_given_up_and_taken_back() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a"]).await;
        let set = |active: bool| format!(r#"{{"node-name":"a","active":{active}}}"#);
        bench.done("blockdev-set-active", &set(false)).await;
        is_open(&bench, r#"["a inactive"]"#).await;
        bench.files.read_only.with(|names| names.push("a".into()));
        let said = ["node a: 'a' cannot be opened for writing"];
        bench.refused("blockdev-set-active", &set(true), &said).await;
        bench.files.read_only.with(Vec::clear);
        bench.done("blockdev-set-active", &set(true)).await;
        is_open(&bench, r#"["a"]"#).await;
    });
    check_alone("inactive", &test);
}
