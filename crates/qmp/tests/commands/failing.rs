//! Jobs whose requests fail: what their policies make of it.

use std::sync::Arc;

use blockyard_qmp::{Dict, Subscriber, Value};

use crate::bench::{Bench, FAULTLESS, LEN, Test, check_some};
use crate::jobs::{RUNS, enters, listen, next, tells, until};

const EIO: u32 = 5;
const ENOSPC: u32 = 28;

/// A mirror from `a` to `c` runs; its request of this kind for the third sector will fail once with `errno`.
async fn mirror(bench: &Bench, reads: bool, errno: u32, policy: &str) -> Arc<Subscriber> {
    bench.add_files(&["a", "c"]).await;
    let (disk, kind) = if reads { ("a", "read") } else { ("c", "write") };
    let filter = format!(
        r#"{{"driver":"blkdebug","node-name":"d","image":"{disk}","inject-error":[
            {{"event":"none","iotype":"{kind}","errno":{errno},"sector":2,"once":true}}]}}"#
    );
    bench.done("blockdev-add", &filter).await;
    let (source, target) = if reads { ("d", "c") } else { ("a", "d") };
    bench.device("disk0", source).await;
    let told = listen(bench);
    let side = if reads { "on-source-error" } else { "on-target-error" };
    let arguments = format!(
        r#"{{"job-id":"m0","device":"{source}","target":"{target}","sync":"full","granularity":512,
            "{side}":"{policy}","filter-node-name":"mf"}}"#
    );
    bench.done("blockdev-mirror", &arguments).await;
    enters(&told, "created").await;
    enters(&told, "running").await;
    told
}

/// The next event tells an error, and this of it.
async fn tells_error(told: &Subscriber, reads: bool, action: &str) {
    let event = next(told).await;
    let operation = if reads { "read" } else { "write" };
    let data = [("device", "m0"), ("operation", operation), ("action", action)];
    assert!(event.is("BLOCK_JOB_ERROR", &Dict::from_iter(data)), "{event:?}, not {data:?}");
}

async fn io_status(bench: &Bench) -> Option<String> {
    let listed = bench.execute("query-block-jobs", "{}").await.ok()?;
    let Some(Value::Dict(job)) = listed.as_list()?.first() else { return None };
    job.get("io-status")?.as_str().map(String::from)
}

#[test]
fn an_error_that_is_reported_fails_the_job() {
    for (reads, policy) in [(true, "report"), (false, "report"), (false, "enospc")] {
        let test = Test::new(move |bench| async move {
            let told = mirror(&bench, reads, EIO, policy).await;
            tells_error(&told, reads, "report").await;
            enters(&told, "aborting").await;
            let ended = next(&told).await;
            assert!(ended.name == "BLOCK_JOB_COMPLETED" && ended.data.contains_key("error"));
            enters(&told, "concluded").await;
        });
        check_some(policy, &test, FAULTLESS, RUNS, &[]);
    }
}

#[test]
fn a_job_that_ignores_an_error_does_it_again() {
    for reads in [true, false] {
        let test = Test::new(move |bench| async move {
            let told = mirror(&bench, reads, EIO, "ignore").await;
            tells_error(&told, reads, "ignore").await;
            enters(&told, "ready").await;
            assert_eq!(io_status(&bench).await.as_deref(), Some("ok"));
            tells(&told, "BLOCK_JOB_READY", &[("offset", LEN.into()), ("len", LEN.into())]).await;
            bench.done("job-cancel", r#"{"id":"m0"}"#).await;
            until(&told, "null").await;
        });
        check_some("ignore", &test, FAULTLESS, RUNS, &["a job ignored an error"]);
    }
}

#[test]
fn an_error_that_stays_and_is_ignored_is_met_ten_times_a_second() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "c"]).await;
        let bad = r#"{"driver":"blkdebug","node-name":"d","image":"c","inject-error":[
            {"event":"none","iotype":"write"}]}"#;
        bench.done("blockdev-add", bad).await;
        bench.device("disk0", "a").await;
        let told = listen(&bench);
        let mirror = r#"{"job-id":"m0","device":"a","target":"d","sync":"full",
            "on-target-error":"ignore"}"#;
        bench.done("blockdev-mirror", mirror).await;
        let runtime = bench.monitor.layer().runtime();
        for error in 0..6 {
            told.wait(vec![("BLOCK_JOB_ERROR".into(), Dict::new())]).await;
            assert!(runtime.now_ns() >= error * 100_000_000, "the next one came at once");
        }
        bench.done("block-job-cancel", r#"{"device":"m0","force":true}"#).await;
        until(&told, "null").await;
    });
    check_some("stays", &test, FAULTLESS, RUNS, &["a job ignored an error"]);
}

/// Resumed, or cancelled while it stands still.
#[test]
fn a_job_that_is_stopped_by_an_error_rests_until_it_is_told_otherwise() {
    let cases = [
        (true, EIO, "stop", "failed"),
        (false, EIO, "stop", "failed"),
        (false, ENOSPC, "stop", "nospace"),
        (false, ENOSPC, "enospc", "nospace"),
        (false, ENOSPC, "auto", "nospace"),
    ];
    for (reads, errno, policy, status) in cases {
        for resumed in [true, false] {
            let test = Test::new(move |bench| async move {
                let told = mirror(&bench, reads, errno, policy).await;
                tells_error(&told, reads, "stop").await;
                enters(&told, "paused").await;
                assert_eq!(io_status(&bench).await.as_deref(), Some(status));
                bench.refused("job-pause", r#"{"id":"m0"}"#, &["already paused"]).await;
                if resumed {
                    bench.done("block-job-resume", r#"{"device":"m0"}"#).await;
                    assert_eq!(io_status(&bench).await.as_deref(), Some("ok"));
                    enters(&told, "running").await;
                    enters(&told, "ready").await;
                }
                bench.done("job-cancel", r#"{"id":"m0"}"#).await;
                until(&told, "null").await;
            });
            check_some(policy, &test, FAULTLESS, RUNS, &["a job was stopped by an error"]);
        }
    }
}
