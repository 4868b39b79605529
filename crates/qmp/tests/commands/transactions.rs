//! `transaction`: all or nothing, wherever it fails.

use std::sync::Arc;

use blockyard_sync::sometimes;

use crate::bench::{Bench, FAULTLESS, ONE_FAULT, Test, check, check_alone, first_byte, write};

const ABORT: &str = r#"{"type":"abort"}"#;
const INSERT: &str = r#"{"type":"x-blockdev-replace-child","data":{"parent":"disk0","child":"root",
    "expected":"a","new":{"driver":"throttle","node-name":"th"}}}"#;
const INSERT_ABOVE: &str = r#"{"type":"x-blockdev-replace-child","data":{"parent":"disk0",
    "child":"root","expected":"th","new":{"driver":"raw","file":"th"}}}"#;
const SNAPSHOT: &str = r#"{"type":"blockdev-snapshot","data":{"node":"b","overlay":"o"}}"#;
const MIRROR: &str = r#"{"type":"blockdev-mirror","data":{"job-id":"m0","device":"c","target":"d",
    "sync":"full","filter-node-name":"mf"}}"#;
const ACTIONS: [&str; 4] = [INSERT, SNAPSHOT, MIRROR, INSERT_ABOVE];

fn actions(of: &[&str]) -> String {
    format!(r#"{{"actions":[{}]}}"#, of.join(","))
}

/// Three devices on three disks, and an overlay.
async fn begin(bench: &Bench) {
    bench.add_files(&["a", "b", "c", "d"]).await;
    for (id, node) in [("disk0", "a"), ("disk1", "b"), ("disk2", "c")] {
        bench.device(id, node).await;
    }
    bench.add_overlay("o").await;
}

#[test]
fn all_actions_take_place_at_once() {
    let test = Test::new(|bench| async move {
        begin(&bench).await;
        bench.done("transaction", &actions(&ACTIONS)).await;
        let raw = bench.child("disk0", "root").expect("the root is there");
        assert_eq!(bench.child(&raw, "file").as_deref(), Some("th"));
        assert_eq!(bench.child("th", "file").as_deref(), Some("a"));
        assert_eq!(bench.child("disk1", "root").as_deref(), Some("o"));
        assert_eq!(bench.child("o", "backing").as_deref(), Some("b"));
        assert_eq!(bench.child("disk2", "root").as_deref(), Some("mf"));
        assert!(bench.monitor.jobs().get("m0").is_some());
        bench.done("job-cancel", r#"{"id":"m0"}"#).await;
    });
    check("all", &test, FAULTLESS, &[]);
}

#[test]
fn an_abort_at_each_place_leaves_no_trace() {
    for place in 0..=ACTIONS.len() {
        let test = Test::new(move |bench| async move {
            begin(&bench).await;
            let mut list = ACTIONS.to_vec();
            list.insert(place, ABORT);
            bench.refused("transaction", &actions(&list), &["aborted by its action abort"]).await;
            assert!(bench.log.with(|log| log.is_empty()), "no driver was asked");
            // What failed left nothing that would be in the way.
            bench.done("transaction", &actions(&ACTIONS)).await;
            bench.done("job-cancel", r#"{"id":"m0"}"#).await;
        });
        check_alone(&format!("abort at {place}"), &test);
    }
}

#[test]
fn each_action_that_fails_undoes_the_others() {
    // What is done before, and what the error says; the action that fails comes last, first and between.
    let cases: [(&str, &str, &str); 7] = [
        (
            r#"{"type":"x-blockdev-replace-child","data":{"parent":"disk0","child":"root",
                "expected":"b","new":{"driver":"throttle"}}}"#,
            "edge disk0.root leads to",
            "expected b",
        ),
        (
            r#"{"type":"x-blockdev-replace-child","data":{"parent":"disk9","child":"root",
                "new":"b"}}"#,
            "no device or node 'disk9'",
            "",
        ),
        (
            r#"{"type":"blockdev-snapshot","data":{"node":"b","overlay":"a"}}"#,
            "node a takes no backing node",
            "file",
        ),
        (
            r#"{"type":"blockdev-mirror","data":{"job-id":"m1","device":"a","target":"nowhere",
                "sync":"full"}}"#,
            "no node 'nowhere'",
            "",
        ),
        (
            r#"{"type":"blockdev-mirror","data":{"job-id":"m0","device":"a","target":"a",
                "sync":"full"}}"#,
            "cannot be mirrored to itself",
            "",
        ),
        (
            r#"{"type":"x-blockdev-replace-child","data":{"parent":"disk0","child":"root",
                "new":{"driver":"raw","file":{"driver":"file","filename":"nowhere"}}}}"#,
            "no disk 'nowhere'",
            "",
        ),
        (
            r#"{"type":"x-blockdev-replace-child","data":{"parent":"disk1","child":"root",
                "new":{"driver":"throttle","node-name":"d"}}}"#,
            "there is a node d already",
            "",
        ),
    ];
    for (fails, said, and) in cases {
        for place in 0..=3 {
            let test = Test::new(move |bench| async move {
                begin(&bench).await;
                let mut list = [INSERT, SNAPSHOT, MIRROR].to_vec();
                list.insert(place, fails);
                bench.refused("transaction", &actions(&list), &[said, and]).await;
            });
            check_alone(&format!("{fails} at {place}"), &test);
        }
    }
}

#[test]
fn a_driver_that_cannot_prepare_undoes_all_actions() {
    let test = Test::new(|bench| async move {
        begin(&bench).await;
        bench.refuses.with(|refuses| *refuses = true);
        bench.refused("transaction", &actions(&ACTIONS), &["the overlay refuses"]).await;
        assert_eq!(bench.log.with(|log| log.clone()), ["prepare"]);
    });
    check_alone("a driver", &test);
}

#[test]
fn what_one_action_freezes_is_frozen_to_the_next() {
    let snapshot = r#"{"type":"blockdev-snapshot","data":{"node":"c","overlay":"o"}}"#;
    let test = Test::new(move |bench| async move {
        begin(&bench).await;
        let list = actions(&[MIRROR, snapshot]);
        bench.refused("transaction", &list, &["job m0 holds edge mf.file frozen"]).await;
        // The other way round the job finds the overlay above its source.
        bench.done("transaction", &actions(&[snapshot, MIRROR])).await;
        assert_eq!(bench.child("o", "backing").as_deref(), Some("mf"));
        bench.done("job-cancel", r#"{"id":"m0"}"#).await;
    });
    check("frozen", &test, FAULTLESS, &[]);
}

#[test]
fn what_is_not_implemented_is_refused() {
    let test = Test::new(|bench| async move {
        begin(&bench).await;
        let unknown = r#"{"type":"eject","data":{}}"#;
        bench.refused("transaction", &actions(&[INSERT, unknown]), &["actions.1", "eject"]).await;
        let more = r#"{"type":"abort","data":{"now":true}}"#;
        bench.refused("transaction", &actions(&[more]), &["actions.0", "now"]).await;
        bench.done("transaction", &actions(&[])).await;
    });
    check_alone("refused", &test);
}

/// Of what an edge leads to, an action that retries takes what the actions before it, or others, have left there.
#[test]
fn an_action_that_retries_takes_what_is_there() {
    let retry = r#"{"type":"x-blockdev-replace-child","data":{"parent":"disk0","child":"root",
        "expected":"b","on-mismatch":"retry","new":{"driver":"raw","node-name":"r"}}}"#;
    let test = Test::new(move |bench| async move {
        begin(&bench).await;
        bench.done("transaction", &actions(&[INSERT, retry])).await;
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("r"));
        assert_eq!(bench.child("r", "file").as_deref(), Some("th"));
        assert_eq!(bench.child("th", "file").as_deref(), Some("a"));
    });
    check_alone("retries", &test);
    // Somebody else redirects the edge between the first look and the publication.
    let test = Test::new(move |bench| async move {
        begin(&bench).await;
        let task = bench.clone();
        bench.task("other", async move {
            // Refused, if it comes second.
            drop(task.execute("transaction", &actions(&[INSERT])).await);
        });
        let retry = retry.replace(r#""expected":"b","#, "");
        bench.done("transaction", &actions(&[&retry])).await;
        let root = bench.child("disk0", "root").expect("the root is there");
        sometimes!(root == "r", "the filter went above the other's");
        assert!(["r", "th"].contains(&root.as_str()), "{root}");
    });
    check("raced", &test, FAULTLESS, &["the filter went above the other's"]);
}

/// A guest that writes, a transaction over its node, and another that aborts: the guest sees what it wrote.
#[test]
fn a_guest_that_writes_meanwhile_notices_nothing() {
    for (budgets, fails) in [(FAULTLESS, false), (FAULTLESS, true), (ONE_FAULT, false)] {
        let test = Test::new(move |bench| async move {
            bench.add_files(&["a"]).await;
            let disk = bench.device("disk0", "a").await;
            bench.add_overlay("o").await;
            let task = bench.clone();
            bench.task("admin", async move { change(&task, fails).await });
            let written = disk.write(write(7)).await;
            assert!(written.is_ok() || budgets == ONE_FAULT);
            sometimes!(written.is_err(), "a write failed");
            if written.is_ok() && budgets == FAULTLESS {
                assert_eq!(first_byte(&disk).await, 7);
            }
        });
        let marks: &[&str] = match budgets {
            ONE_FAULT => &["a write failed"],
            _ => &["guest request parked by a drained section"],
        };
        check(&format!("fails: {fails}"), &test, budgets, marks);
    }
}

async fn change(bench: &Arc<Bench>, fails: bool) {
    let snapshot = r#"{"type":"blockdev-snapshot","data":{"node":"a","overlay":"o"}}"#;
    if fails {
        bench.refuses.with(|refuses| *refuses = true);
    }
    let reply = bench.execute("transaction", &actions(&[INSERT, snapshot])).await;
    assert_eq!(reply.is_err(), fails, "{reply:?}");
    if fails {
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("a"));
    } else {
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("th"));
        assert_eq!(bench.child("th", "file").as_deref(), Some("o"));
        assert_eq!(bench.child("o", "backing").as_deref(), Some("a"));
    }
}
