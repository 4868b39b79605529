//! Streams: what cannot begin, what is refused meanwhile, errors, rates, and what was read-only.

use crate::bench::{Bench, FAULTLESS, Test, check_some};
use crate::jobs::{RUNS, enters, listen, next, until};

/// A file `a`, the overlays `low`, `mid` and `top`, and a device above.
async fn chain(bench: &Bench) {
    bench.add_files(&["a", "b"]).await;
    for (name, backing) in [("low", "a"), ("mid", "low"), ("top", "mid")] {
        let overlay = format!(
            r#"{{"driver":"overlay","node-name":"{name}","cluster-size":512,"backing":"{backing}"}}"#
        );
        bench.done("blockdev-add", &overlay).await;
    }
    bench.device("disk0", "top").await;
}

/// Arguments beside the device's, and what is said about them.
const REFUSED: [(&str, &str); 8] = [
    (r#""base-node":"b""#, "node b is no backing file of top"),
    (r#""base-node":"top""#, "node top is no backing file of top"),
    (r#""bottom":"b""#, "node b is no backing file of top"),
    (r#""base":"a""#, "use base-node"),
    (r#""base-node":"a","bottom":"low""#, "either"),
    (r#""backing-file":"a""#, "the whole chain is streamed"),
    (r#""base-node":"a","backing-mask-protocol":true"#, "with backing-file only"),
    (r#""filter-node-name":"mid""#, "node mid already"),
];

#[test]
fn a_stream_that_cannot_begin_is_refused_and_leaves_nothing() {
    for (arguments, said) in REFUSED {
        let test = Test::new(move |bench| async move {
            chain(&bench).await;
            let stream = format!(r#"{{"device":"disk0",{arguments}}}"#);
            bench.refused("block-stream", &stream, &[said]).await;
        });
        check_some(arguments, &test, FAULTLESS, 20, &[]);
    }
}

/// Commands while job m0 has streamed `mid` into `top`, and not ended; and what is said about them.
const BUSY: [(&str, &str, &str); 8] = [
    ("blockdev-del", r#"{"node-name":"mid"}"#, "top.backing"),
    ("blockdev-del", r#"{"node-name":"top"}"#, "sf.file"),
    ("blockdev-remove-medium", r#"{"id":"disk0"}"#, "job m0"),
    ("block_resize", r#"{"node-name":"top","size":512}"#, "m0"),
    ("block_resize", r#"{"node-name":"mid","size":512}"#, "m0"),
    ("block-stream", r#"{"job-id":"s1","device":"disk0"}"#, "job m0 froze edge sf.file already"),
    (
        "block-commit",
        r#"{"job-id":"c1","device":"top","top-node":"mid","base-node":"low"}"#,
        "job m0 holds edge top.backing frozen",
    ),
    (
        "blockdev-mirror",
        r#"{"job-id":"m1","device":"disk0","target":"b","sync":"full"}"#,
        "job m0 froze edge sf.file already",
    ),
];

#[test]
fn a_chain_that_is_streamed_refuses_what_conflicts_and_the_rest_is_free() {
    for (command, arguments, said) in BUSY {
        let test = Test::new(move |bench| async move {
            chain(&bench).await;
            let told = listen(&bench);
            let stream = r#"{"job-id":"m0","device":"disk0","base-node":"low","auto-finalize":false,
                "filter-node-name":"sf"}"#;
            bench.done("block-stream", stream).await;
            until(&told, "pending").await;
            bench.refused(command, arguments, &[said]).await;
            // What is below the base is not the stream's.
            let below = r#"{"job-id":"s2","device":"low","filter-node-name":"sf2"}"#;
            bench.done("block-stream", below).await;
            bench.done("job-finalize", r#"{"id":"m0"}"#).await;
            bench.done("query-jobs", "{}").await;
        });
        check_some(command, &test, FAULTLESS, 20, &[]);
    }
}

#[test]
fn what_was_read_only_is_written_and_read_only_again() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a"]).await;
        let top = r#"{"driver":"overlay","node-name":"top","backing":"a","read-only":true}"#;
        bench.done("blockdev-add", top).await;
        let told = listen(&bench);
        let is_read_only = || {
            let graph = bench.graph();
            let top = graph.node_by_name("top").and_then(|id| graph.node(id).cloned());
            top.is_some_and(|top| top.read_only)
        };
        let stream = r#"{"job-id":"m0","device":"top","auto-finalize":false}"#;
        bench.done("block-stream", stream).await;
        assert!(!is_read_only());
        until(&told, "pending").await;
        bench.done("job-finalize", r#"{"id":"m0"}"#).await;
        until(&told, "null").await;
        assert!(is_read_only());
        assert_eq!(bench.child("top", "backing"), None);
    });
    check_some("read-only", &test, FAULTLESS, RUNS, &[]);
}

/// A read of the base fails once.
#[test]
fn an_error_is_reported_or_met_again() {
    for policy in ["report", "ignore", "stop", "enospc"] {
        let test = Test::new(move |bench| async move {
            bench.add_files(&["a"]).await;
            let bad = r#"{"driver":"blkdebug","node-name":"d","image":"a","inject-error":[
                {"event":"none","iotype":"read","once":true}]}"#;
            bench.done("blockdev-add", bad).await;
            let top = r#"{"driver":"overlay","node-name":"top","backing":"d","cluster-size":512}"#;
            bench.done("blockdev-add", top).await;
            let told = listen(&bench);
            let stream = format!(r#"{{"job-id":"m0","device":"top","on-error":"{policy}"}}"#);
            bench.done("block-stream", &stream).await;
            enters(&told, "created").await;
            enters(&told, "running").await;
            assert_eq!(next(&told).await.name, "BLOCK_JOB_ERROR");
            if policy == "stop" {
                enters(&told, "paused").await;
                bench.done("job-resume", r#"{"id":"m0"}"#).await;
                enters(&told, "running").await;
            }
            let fails = matches!(policy, "report" | "enospc");
            let end = if fails { "aborting" } else { "waiting" };
            enters(&told, end).await;
            until(&told, "null").await;
            let below = if fails { Some("d".into()) } else { None };
            assert_eq!(bench.child("top", "backing"), below);
        });
        check_some(policy, &test, FAULTLESS, RUNS, &[]);
    }
}

#[test]
fn a_rate_is_kept_and_a_cancelled_stream_leaves_the_chain() {
    let test = Test::new(|bench| async move {
        chain(&bench).await;
        let told = listen(&bench);
        let runtime = bench.monitor.layer().runtime();
        let slow = r#"{"job-id":"m0","device":"disk0","speed":1024,"buf-size":512}"#;
        bench.done("block-stream", slow).await;
        until(&told, "null").await;
        assert!(runtime.now_ns() >= 3_000_000_000, "4 KiB took {} ns", runtime.now_ns());
        let again = r#"{"job-id":"m0","device":"low","speed":1,"buf-size":512}"#;
        bench.done("block-stream", again).await;
        runtime.sleep(1_000_000_000).await;
        bench.done("job-cancel", r#"{"id":"m0"}"#).await;
        until(&told, "null").await;
        assert_eq!(bench.child("top", "backing"), None);
        assert_eq!(bench.child("low", "backing"), Some("a".into()));
    });
    check_some("rate", &test, FAULTLESS, RUNS, &["a job was woken early"]);
}
