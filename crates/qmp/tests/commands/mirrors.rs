//! What a mirror is told when it is started, and its copy mode.

use blockyard_qmp::Value;

use crate::bench::{FAULTLESS, Test, check_some};
use crate::jobs::{RUNS, begin, until};

/// Arguments beside job, device and target, and what is said about them.
const REFUSED: &[(&str, &str)] = &[
    (r#""sync":"incremental""#, "give the bitmap that knows it as 'bitmap'"),
    (r#""sync":"full","bitmap":"b""#, "of use with sync 'incremental' only"),
    (r#""sync":"incremental","bitmap":"b""#, "node a has no bitmap 'b'"),
    (r#""sync":"incremental","bitmap":"off""#, "bitmap 'off' of node a does not record"),
    (r#""sync":"some""#, "sync"),
    (r#""sync":"full","buf-size":-1"#, "buf-size"),
    (r#""sync":"full","granularity":1000"#, "granularity"),
    (r#""sync":"full","replaces":"none""#, "there is no node 'none'"),
    (r#""sync":"full","replaces":"c""#, "replaces: node c is neither th nor what that shows"),
];

#[test]
fn what_a_mirror_cannot_do_is_refused_and_nothing_is_left() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "c"]).await;
        let throttle = r#"{"driver":"throttle","node-name":"th","file":"a","limits":{}}"#;
        bench.done("blockdev-add", throttle).await;
        bench.device("disk0", "th").await;
        let off = r#"{"node":"a","name":"off","disabled":true}"#;
        bench.done("block-dirty-bitmap-add", off).await;
        let before = bench.graph();
        for (arguments, said) in REFUSED {
            let device = if arguments.contains("replaces") { "th" } else { "a" };
            let all = format!(r#"{{"job-id":"m0","device":"{device}","target":"c",{arguments}}}"#);
            bench.refused("blockdev-mirror", &all, &[said]).await;
        }
        assert_eq!(bench.graph(), before);
    });
    check_some("refused", &test, FAULTLESS, RUNS, &[]);
}

#[test]
fn the_target_takes_the_place_of_what_it_replaces_and_filters_over_that_stay() {
    for (replaces, root, below) in [("a", "th", "c"), ("th", "c", "")] {
        let test = Test::new(move |bench| async move {
            bench.add_files(&["a", "c"]).await;
            let throttle = r#"{"driver":"throttle","node-name":"th","file":"a","limits":{}}"#;
            bench.done("blockdev-add", throttle).await;
            bench.device("disk0", "th").await;
            let told = crate::jobs::listen(&bench);
            let mirror = format!(
                r#"{{"job-id":"m0","device":"th","target":"c","sync":"full","replaces":"{replaces}"}}"#
            );
            bench.done("blockdev-mirror", &mirror).await;
            until(&told, "ready").await;
            bench.done("job-complete", r#"{"id":"m0"}"#).await;
            until(&told, "null").await;
            assert_eq!(bench.child("disk0", "root").as_deref(), Some(root));
            let found = bench.child(root, "file");
            assert_eq!(found.as_deref().unwrap_or(""), below);
        });
        check_some(replaces, &test, FAULTLESS, RUNS, &[]);
    }
}

#[test]
fn a_copy_mode_is_changed_both_ways_until_the_mirror_ends() {
    let test = Test::new(|bench| async move {
        let told = begin(&bench).await;
        let change = |mode: &str| format!(r#"{{"id":"m0","type":"mirror","copy-mode":"{mode}"}}"#);
        let mirror = r#"{"job-id":"m0","device":"disk0","target":"c","sync":"full",
            "copy-mode":"background","auto-dismiss":false}"#;
        bench.done("blockdev-mirror", mirror).await;
        until(&told, "ready").await;
        for (mode, synced) in [("write-blocking", true), ("background", false)] {
            bench.done("block-job-change", &change(mode)).await;
            let Ok(Value::List(jobs)) = bench.execute("query-block-jobs", "{}").await else {
                panic!("not a list")
            };
            let Some(Value::Dict(job)) = jobs.first() else { panic!("no job") };
            assert_eq!(job.get("actively-synced"), Some(&Value::Bool(synced)));
        }
        bench.refused("block-job-change", &change("sometimes"), &["copy-mode"]).await;
        bench.done("job-complete", r#"{"id":"m0"}"#).await;
        until(&told, "concluded").await;
        bench.refused("block-job-change", &change("background"), &["concluded", "change"]).await;
        bench.done("job-dismiss", r#"{"id":"m0"}"#).await;
        bench.refused("block-job-change", &change("background"), &["no block job 'm0'"]).await;
    });
    check_some("change", &test, FAULTLESS, RUNS, &[]);
}
