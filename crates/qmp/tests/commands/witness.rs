//! `x-drive-reopen`: what its witness says, and who goes on where.

use blockyard_qmp::{Dict, Value};

use crate::bench::{Bench, FAULTLESS, Test, check_some, first_byte};
use crate::jobs::{RUNS, listen, until};

/// A mirror `m0` of `disk0`, on `a`, to `c`, which is ready.
async fn begin(bench: &Bench) {
    bench.add_files(&["a", "b", "c"]).await;
    bench.done("blockdev-add", r#"{"driver":"memory","node-name":"fine","size":512}"#).await;
    bench.device("disk0", "a").await;
    let told = listen(bench);
    let mirror = r#"{"job-id":"m0","device":"disk0","target":"c","sync":"full","auto-dismiss":false,
        "filter-node-name":"mf"}"#;
    bench.done("blockdev-mirror", mirror).await;
    until(&told, "ready").await;
}

fn reopen(witness: &str) -> String {
    format!(r#"{{"device":"disk0","target":"c","witness":"{witness}"}}"#)
}

/// The error that the job has ended with, if it has.
async fn error(bench: &Bench) -> Option<String> {
    let listed = bench.execute("query-jobs", "{}").await.expect("it is no error to ask");
    let Some(Value::Dict(job)) = listed.as_list()?.first() else { return None };
    job.get("error")?.as_str().map(String::from)
}

/// `w` is memory, whose writes fail.
async fn failing_witness(bench: &Bench) {
    let node = r#"{"driver":"blkdebug","node-name":"w","inject-error":[{"event":"none","iotype":"write"}],
        "image":{"driver":"memory","node-name":"byte","size":512}}"#;
    bench.done("blockdev-add", node).await;
}

#[test]
fn a_switch_sets_its_witness() {
    let test = Test::new(|bench| async move {
        begin(&bench).await;
        let told = listen(&bench);
        bench.done("x-drive-reopen", &reopen("fine")).await;
        until(&told, "concluded").await;
        assert_eq!((error(&bench).await, bench.child("disk0", "root")), (None, Some("c".into())));
        let witness = bench.device("witness", "fine").await;
        assert_eq!(first_byte(&witness).await, 1);
    });
    check_some("witness set", &test, FAULTLESS, RUNS, &[]);
}

#[test]
fn a_witness_that_is_set_already_stops_the_switch() {
    let test = Test::new(|bench| async move {
        begin(&bench).await;
        // All disks are filled.
        bench.device("witness", "b").await;
        bench.refused("x-drive-reopen", &reopen("b"), &["backend witness needs it"]).await;
        bench.done("blockdev-remove-medium", r#"{"id":"witness"}"#).await;
        let told = listen(&bench);
        bench.done("x-drive-reopen", &reopen("b")).await;
        until(&told, "concluded").await;
        assert!(error(&bench).await.is_some_and(|error| error.contains("is set already")));
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("a"));
    });
    check_some("witness was set", &test, FAULTLESS, RUNS, &[]);
}

#[test]
fn nobody_goes_on_where_it_is_unknown_whether_the_witness_is_set() {
    for cancelled in [false, true] {
        let test = Test::new(move |bench| async move {
            begin(&bench).await;
            failing_witness(&bench).await;
            let told = listen(&bench);
            bench.done("x-drive-reopen", &reopen("w")).await;
            if cancelled {
                // Too early or too late: then it was cancelled, and nothing tried.
                drop(bench.execute("job-cancel", r#"{"id":"m0"}"#).await);
            }
            until(&told, "concluded").await;
            let error = error(&bench).await;
            if cancelled && error.is_none() {
                assert_eq!(bench.child("disk0", "root").as_deref(), Some("a"));
                return;
            }
            assert!(error.is_some_and(|error| error.contains("the witness of job m0 may be set")));
            assert_eq!(bench.child("disk0", "root"), None, "it has no medium");
            assert!(bench.graph().node_by_name("mf").is_none(), "the filter is gone");
            let medium = r#"{"id":"disk0","node-name":"c"}"#;
            bench.done("blockdev-insert-medium", medium).await;
        });
        let marks: &[&str] =
            if cancelled { &[] } else { &["nobody knows whether a witness is set"] };
        check_some("unknown", &test, FAULTLESS, RUNS, marks);
    }
}

/// The witness of the first is set by then.
#[test]
fn a_group_of_which_one_witness_is_unknown_goes_on_nowhere() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b", "c", "d"]).await;
        bench.device("disk0", "a").await;
        bench.device("disk1", "b").await;
        failing_witness(&bench).await;
        let node = r#"{"driver":"memory","node-name":"fine","size":512}"#;
        bench.done("blockdev-add", node).await;
        let mirror = |index: usize, target: &str| {
            format!(
                r#"{{"type":"blockdev-mirror","data":{{"job-id":"m{index}","device":"disk{index}",
                    "target":"{target}","sync":"full","auto-dismiss":false}}}}"#
            )
        };
        let [first, second] = [mirror(0, "c"), mirror(1, "d")];
        let told = ["m0", "m1"].map(|job| (job, listen(&bench)));
        let grouped = r#""properties":{"completion-mode":"grouped"}"#;
        bench.done("transaction", &format!(r#"{{"actions":[{first},{second}],{grouped}}}"#)).await;
        let until = async |job: usize, status: &str| {
            let (name, told) = &told[job];
            let of = Dict::from_iter([("id", *name), ("status", status)]);
            told.wait(vec![("JOB_STATUS_CHANGE".into(), of)]).await;
        };
        for (device, target, witness) in [(0, "c", "fine"), (1, "d", "w")] {
            until(device, "ready").await;
            let arguments =
                format!(r#"{{"device":"disk{device}","target":"{target}","witness":"{witness}"}}"#);
            bench.done("x-drive-reopen", &arguments).await;
        }
        until(1, "concluded").await;
        let roots = ["disk0", "disk1"].map(|device| bench.child(device, "root"));
        assert_eq!(roots, [None, None]);
        assert!(error(&bench).await.is_some_and(|error| error.contains("the witness of job m0")));
    });
    check_some("unknown in a group", &test, FAULTLESS, RUNS, &[]);
}

#[test]
fn a_switch_that_cannot_be_is_refused() {
    let test = Test::new(|bench| async move {
        begin(&bench).await;
        let cases = [
            (r#"{"device":"disk0","target":"b","witness":"b"}"#, "is not mirrored to node b"),
            (r#"{"device":"disk9","target":"c","witness":"b"}"#, "no device 'disk9'"),
            (r#"{"device":"disk0","target":"c","witness":"x"}"#, "no node 'x'"),
            (r#"{"device":"disk0","target":"c","witness":"c"}"#, "write"),
        ];
        for (arguments, said) in cases {
            bench.refused("x-drive-reopen", arguments, &[said]).await;
        }
        bench.done("job-pause", r#"{"id":"m0"}"#).await;
        bench.done("x-drive-reopen", &reopen("fine")).await;
        bench.refused("x-drive-reopen", &reopen("fine"), &["is being completed already"]).await;
        // Not by force it would end without a switch, and the witness say that there was one.
        bench.refused("block-job-cancel", r#"{"device":"m0"}"#, &["cancel it by force"]).await;
        let told = listen(&bench);
        bench.done("job-resume", r#"{"id":"m0"}"#).await;
        until(&told, "concluded").await;
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("c"));
    });
    check_some("refused", &test, FAULTLESS, RUNS, &[]);
}
