//! Jobs: what they are called, the verbs in every state, and what is told of them.

use std::sync::Arc;

use blockyard_qmp::{Dict, ErrorClass, Event, Subscriber, Value};

use crate::bench::{Bench, FAULTLESS, LEN, Test, check_some};

/// Runs that are drawn of each test.
pub const RUNS: u64 = 100;

const EVENTS: [&str; 6] = [
    "JOB_STATUS_CHANGE",
    "BLOCK_JOB_READY",
    "BLOCK_JOB_PENDING",
    "BLOCK_JOB_COMPLETED",
    "BLOCK_JOB_CANCELLED",
    "BLOCK_JOB_ERROR",
];

/// A device on the disk `a`, `c` to be mirrored to, and everything that is told of jobs.
pub async fn begin(bench: &Bench) -> Arc<Subscriber> {
    bench.add_files(&["a", "c"]).await;
    bench.device("disk0", "a").await;
    listen(bench)
}

/// To everything that is told of jobs.
pub fn listen(bench: &Bench) -> Arc<Subscriber> {
    bench.monitor.events().subscribe(EVENTS.map(String::from).into())
}

/// A mirror `m0`, with these arguments too.
async fn mirror(bench: &Bench, more: &str) {
    let arguments = format!(
        r#"{{"job-id":"m0","device":"disk0","target":"c","sync":"full","filter-node-name":"mf"{more}}}"#
    );
    bench.done("blockdev-mirror", &arguments).await;
}

/// Waits for the next event.
pub async fn next(told: &Subscriber) -> Event {
    told.wait(EVENTS.map(|name| (name.into(), Dict::new())).into()).await
}

/// Waits for it; it is a change to this status.
pub async fn enters(told: &Subscriber, status: &str) {
    let event = next(told).await;
    let expected = Dict::from_iter([("id", "m0"), ("status", status)]);
    assert!(event.is("JOB_STATUS_CHANGE", &expected), "{event:?}, not {status}");
}

/// The same for other events about the mirror.
pub async fn tells(told: &Subscriber, name: &str, data: &[(&str, Value)]) {
    let event = next(told).await;
    let data = Dict::from_iter(data.iter().cloned().chain([("type", Value::from("mirror"))]));
    assert!(event.is(name, &data), "{event:?}, not {name} {data:?}");
}

/// All that is told of a job that does everything by itself but being completed.
async fn tells_whole_life(told: &Subscriber, bench: &Bench) {
    for status in ["created", "running", "ready"] {
        enters(told, status).await;
    }
    let whole =
        [("offset", Value::from(4096_u64)), ("len", 4096_u64.into()), ("device", "m0".into())];
    tells(told, "BLOCK_JOB_READY", &whole).await;
    bench.done("block-job-complete", r#"{"device":"m0"}"#).await;
    enters(told, "waiting").await;
    enters(told, "pending").await;
    tells(told, "BLOCK_JOB_COMPLETED", &whole).await;
    enters(told, "concluded").await;
    enters(told, "null").await;
}

pub async fn until(told: &Subscriber, status: &str) {
    let matching = Dict::from_iter([("id", "m0"), ("status", status)]);
    told.wait(vec![("JOB_STATUS_CHANGE".into(), matching)]).await;
}

fn class(result: Result<Value, blockyard_qmp::QmpError>) -> Option<ErrorClass> {
    result.err().map(|error| error.class)
}

#[test]
fn a_job_tells_its_life_in_order_and_its_name_is_free_afterwards() {
    let test = Test::new(|bench| async move {
        let told = begin(&bench).await;
        mirror(&bench, "").await;
        tells_whole_life(&told, &bench).await;
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("c"));
        let back = r#"{"job-id":"m0","device":"disk0","target":"a","sync":"full","filter-node-name":"mf"}"#;
        bench.done("blockdev-mirror", back).await;
        tells_whole_life(&told, &bench).await;
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("a"));
    });
    check_some("life", &test, FAULTLESS, RUNS, &[]);
}

#[test]
fn a_job_is_called_as_asked_or_as_its_device_and_nothing_ill_formed() {
    let test = Test::new(|bench| async move {
        let told = begin(&bench).await;
        for id in ["", "123", "_x", "1x", "a b", "a/b"] {
            let arguments =
                format!(r#"{{"job-id":"{id}","device":"disk0","target":"c","sync":"full"}}"#);
            bench.refused("blockdev-mirror", &arguments, &["invalid job id", id]).await;
        }
        bench.done("blockdev-mirror", r#"{"device":"disk0","target":"c","sync":"full"}"#).await;
        let ready = Dict::from_iter([("device", "disk0")]);
        told.wait(vec![("BLOCK_JOB_READY".into(), ready)]).await;
        let twice = r#"{"job-id":"disk0","device":"a","target":"c","sync":"full"}"#;
        bench.refused("blockdev-mirror", twice, &["'disk0' is in use"]).await;
        bench.done("job-cancel", r#"{"id":"disk0"}"#).await;
        let over = Dict::from_iter([("id", "disk0"), ("status", "null")]);
        told.wait(vec![("JOB_STATUS_CHANGE".into(), over)]).await;
    });
    check_some("names", &test, FAULTLESS, RUNS, &[]);
}

/// Brought to each state, then cancelled by force: it ends without a pivot, and only one that is over cannot be.
#[test]
fn a_job_that_is_cancelled_by_force_ends_in_whatever_state_it_is() {
    let states = ["created", "running", "paused", "ready", "standby", "pending", "concluded"];
    for state in states {
        let test = Test::new(move |bench| async move {
            let told = begin(&bench).await;
            let more = r#","auto-finalize":false,"auto-dismiss":false"#;
            mirror(&bench, more).await;
            match state {
                "paused" => bench.done("job-pause", r#"{"id":"m0"}"#).await,
                "standby" => {
                    until(&told, "ready").await;
                    bench.done("block-job-pause", r#"{"device":"m0"}"#).await;
                }
                "pending" | "concluded" => {
                    until(&told, "ready").await;
                    bench.done("job-complete", r#"{"id":"m0"}"#).await;
                }
                _ => {}
            }
            if state == "concluded" {
                until(&told, "pending").await;
                bench.done("block-job-finalize", r#"{"id":"m0"}"#).await;
            }
            until(&told, state).await;
            let cancelled = bench.execute("job-cancel", r#"{"id":"m0"}"#).await;
            let over = state == "concluded";
            assert_eq!(cancelled.is_err(), over, "{cancelled:?}");
            if !over {
                until(&told, "aborting").await;
                tells(&told, "BLOCK_JOB_CANCELLED", &[("device", "m0".into())]).await;
                enters(&told, "concluded").await;
            }
            let root = bench.child("disk0", "root");
            assert_eq!(root.as_deref(), Some(if over { "c" } else { "a" }));
            bench.done("block-job-dismiss", r#"{"id":"m0"}"#).await;
            enters(&told, "null").await;
        });
        check_some(state, &test, FAULTLESS, RUNS, &[]);
    }
}

/// Ready or at rest since, as far as it may be told at all.
#[test]
fn a_job_that_is_ready_and_cancelled_ends_well_where_it_is() {
    let test = Test::new(|bench| async move {
        let told = begin(&bench).await;
        mirror(&bench, "").await;
        until(&told, "ready").await;
        bench.done("block-job-pause", r#"{"device":"m0"}"#).await;
        until(&told, "standby").await;
        let cancel = r#"{"device":"m0"}"#;
        bench.refused("block-job-cancel", cancel, &["m0 is paused", "by force"]).await;
        bench.refused("block-job-pause", cancel, &["already paused"]).await;
        bench.done("block-job-resume", cancel).await;
        bench.done("block-job-cancel", cancel).await;
        bench.refused("block-job-complete", cancel, &["m0"]).await;
        told.wait(vec![("BLOCK_JOB_COMPLETED".into(), Dict::from_iter([("device", "m0")]))]).await;
        until(&told, "null").await;
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("a"));
    });
    check_some("soft", &test, FAULTLESS, RUNS, &[]);
}

#[test]
fn verbs_are_refused_in_states_that_do_not_take_them() {
    let test = Test::new(|bench| async move {
        let told = begin(&bench).await;
        mirror(&bench, r#","auto-finalize":false"#).await;
        let id = r#"{"id":"m0"}"#;
        for (state, refused) in [
            ("ready", &["job-finalize", "job-dismiss"][..]),
            ("pending", &["job-pause", "job-resume", "job-complete", "job-dismiss"]),
        ] {
            until(&told, state).await;
            for verb in refused {
                let verb_alone = &verb["job-".len()..];
                let said = [&format!("in state {state}")[..], &format!("verb {verb_alone}")];
                bench.refused(verb, id, &said).await;
            }
            let next = if state == "ready" { "job-complete" } else { "job-finalize" };
            bench.done(next, id).await;
        }
        until(&told, "null").await;
        for verb in ["job-cancel", "job-complete", "job-pause", "job-dismiss"] {
            assert_eq!(class(bench.execute(verb, id).await), Some(ErrorClass::GenericError));
        }
        for verb in ["block-job-cancel", "block-job-complete", "block-job-pause"] {
            let reply = bench.execute(verb, r#"{"device":"m0"}"#).await;
            assert_eq!(class(reply), Some(ErrorClass::DeviceNotActive), "{verb}");
        }
    });
    check_some("refused verbs", &test, FAULTLESS, RUNS, &[]);
}

#[test]
fn block_jobs_are_those_that_work_on_nodes() {
    let test = Test::new(|bench| async move {
        let told = begin(&bench).await;
        let made = r#"{"job-id":"made","options":{"driver":"qcow2","file":"a","size":4096}}"#;
        // The disk is too small, or held: it fails as a job.
        bench.done("blockdev-create", made).await;
        let concluded = Dict::from_iter([("id", "made"), ("status", "concluded")]);
        told.wait(vec![("JOB_STATUS_CHANGE".into(), concluded)]).await;
        assert_eq!(bench.execute("query-block-jobs", "{}").await, Ok(Value::List(Vec::new())));
        let dismiss = bench.execute("block-job-dismiss", r#"{"id":"made"}"#).await;
        assert_eq!(class(dismiss), Some(ErrorClass::DeviceNotActive));
        bench.done("job-dismiss", r#"{"id":"made"}"#).await;
        mirror(&bench, r#","copy-mode":"write-blocking""#).await;
        told.wait(vec![("BLOCK_JOB_READY".into(), Dict::new())]).await;
        bench.done("job-pause", r#"{"id":"m0"}"#).await;
        until(&told, "standby").await;
        let expected = Dict::from_iter([
            ("type", Value::from("mirror")),
            ("device", "m0".into()),
            ("len", 4096_u64.into()),
            ("offset", 4096_u64.into()),
            ("speed", 0_u64.into()),
            ("busy", Value::Bool(false)),
            ("paused", Value::Bool(true)),
            ("io-status", "ok".into()),
            ("ready", Value::Bool(true)),
            ("status", "standby".into()),
            ("auto-finalize", Value::Bool(true)),
            ("auto-dismiss", Value::Bool(true)),
            ("actively-synced", Value::Bool(true)),
        ]);
        let listed = bench.execute("query-block-jobs", "{}").await;
        assert_eq!(listed, Ok(Value::List(vec![Value::Dict(expected)])));
        bench.done("job-cancel", r#"{"id":"m0"}"#).await;
        until(&told, "null").await;
    });
    check_some("block jobs", &test, FAULTLESS, RUNS, &[]);
}

const SECOND_NS: u64 = 1_000_000_000;

/// Chunks of 512 bytes, one a second: the first at once.
#[test]
fn a_job_keeps_its_rate() {
    let test = Test::new(|bench| async move {
        let told = begin(&bench).await;
        let began_ns = bench.runtime.now_ns();
        mirror(&bench, r#","granularity":512,"buf-size":512,"speed":512"#).await;
        told.wait(vec![("BLOCK_JOB_READY".into(), Dict::new())]).await;
        assert_eq!(bench.runtime.now_ns() - began_ns, (LEN / 512 - 1) * SECOND_NS);
        bench.done("block-job-complete", r#"{"device":"m0"}"#).await;
        let data = [("speed", Value::from(512_u64))];
        enters(&told, "waiting").await;
        enters(&told, "pending").await;
        tells(&told, "BLOCK_JOB_COMPLETED", &data).await;
    });
    check_some("rate", &test, FAULTLESS, 1, &[]);
}

/// It would sleep for minutes.
#[test]
fn a_job_that_sleeps_is_woken_by_what_it_is_told() {
    let verbs = [
        ("block-job-set-speed", r#"{"device":"m0","speed":0}"#, "ready"),
        ("block-job-pause", r#"{"device":"m0"}"#, "paused"),
        ("job-cancel", r#"{"id":"m0"}"#, "aborting"),
    ];
    for (verb, arguments, status) in verbs {
        let test = Test::new(move |bench| async move {
            let told = begin(&bench).await;
            mirror(&bench, r#","granularity":512,"buf-size":512,"speed":1"#).await;
            until(&told, "running").await;
            let negative = r#"{"device":"m0","speed":-1}"#;
            assert!(bench.execute("block-job-set-speed", negative).await.is_err());
            bench.runtime.sleep(SECOND_NS).await;
            let began_ns = bench.runtime.now_ns();
            bench.done(verb, arguments).await;
            until(&told, status).await;
            // Its timer may fire before it has been told; not a second time.
            assert!(bench.runtime.now_ns() - began_ns <= 512 * SECOND_NS);
            if status != "aborting" {
                bench.done("job-cancel", r#"{"id":"m0"}"#).await;
            }
            until(&told, "null").await;
        });
        check_some(verb, &test, FAULTLESS, RUNS, &["a job was woken early"]);
    }
}
