//! `blockdev-reopen`: all the nodes of a list get their new options, or none does.

use blockyard_sync::{door, sometimes};

use crate::bench::{
    Bench, FAULTLESS, ONE_FAULT, Test, check, check_alone, check_some, first_byte, write,
};

fn options(of: &[&str]) -> String {
    format!(r#"{{"options":[{}]}}"#, of.join(","))
}

fn file(name: &str, read_only: bool) -> String {
    format!(
        r#"{{"driver":"file","node-name":"{name}","filename":"{name}","read-only":{read_only}}}"#
    )
}

fn raw(file: &str) -> String {
    format!(r#"{{"driver":"raw","node-name":"r","file":"{file}"}}"#)
}

fn throttle(file: &str) -> String {
    format!(r#"{{"driver":"throttle","node-name":"th","file":"{file}"}}"#)
}

async fn reopen(bench: &Bench, of: &[&str]) {
    bench.done("blockdev-reopen", &options(of)).await;
}

#[test]
fn a_filter_is_put_in_and_taken_out_and_storage_is_replaced() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b"]).await;
        bench.done("blockdev-add", &raw("a")).await;
        bench.done("blockdev-add", &throttle("a")).await;
        let disk = bench.device("disk0", "r").await;
        reopen(&bench, &[&raw("th")]).await;
        assert_eq!(bench.child("r", "file").as_deref(), Some("th"));
        assert_eq!(first_byte(&disk).await, 1);
        reopen(&bench, &[&raw("a")]).await;
        assert_eq!(bench.child("r", "file").as_deref(), Some("a"));
        reopen(&bench, &[&throttle("b"), &raw("th")]).await;
        assert_eq!(bench.child("th", "file").as_deref(), Some("b"));
        assert_eq!(first_byte(&disk).await, 2);
        let before = bench.trace().await;
        reopen(&bench, &[&throttle("b"), &raw("th"), &file("a", false)]).await;
        assert_eq!(bench.trace().await, before, "nothing was to change");
    });
    check_alone("filters", &test);
}

#[test]
fn two_filters_change_places_in_one_list() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a"]).await;
        bench.done("blockdev-add", &throttle("a")).await;
        bench.done("blockdev-add", &raw("th")).await;
        bench.done("blockdev-add", r#"{"driver":"raw","node-name":"top","file":"r"}"#).await;
        let disk = bench.device("disk0", "top").await;
        let top = r#"{"driver":"raw","node-name":"top","file":"th"}"#;
        // Alone, each of the first two would make a cycle or leave one out.
        bench.refused("blockdev-reopen", &options(&[&throttle("r")]), &["cycle"]).await;
        reopen(&bench, &[&throttle("r"), &raw("a"), top]).await;
        for (parent, child) in [("top", "th"), ("th", "r"), ("r", "a")] {
            assert_eq!(bench.child(parent, "file").as_deref(), Some(child));
        }
        assert_eq!(first_byte(&disk).await, 1);
    });
    check_alone("places", &test);
}

#[test]
fn a_file_is_reopened_for_writing_and_back() {
    let test = Test::new(|bench| async move {
        bench.done("blockdev-add", &file("a", true)).await;
        bench.add_files(&["b"]).await;
        assert!(bench.trace().await.contains(r#"["a read-only", "b"]"#));
        reopen(&bench, &[&file("a", false)]).await;
        assert!(bench.trace().await.contains(r#"["a", "b"]"#), "the old opening is closed");
        let disk = bench.device("disk0", "a").await;
        disk.write(write(7)).await.expect("it is open for writing");
        let back = options(&[&file("a", true)]);
        let said = ["node a is read-only", "backend disk0 needs write", "disk0.root"];
        bench.refused("blockdev-reopen", &back, &said).await;
        disk.write(write(8)).await.expect("it is still open for writing");
        reopen(&bench, &[&file("b", true)]).await;
        assert!(bench.trace().await.contains(r#"["a", "b read-only"]"#));
    });
    check_alone("writing", &test);
}

#[test]
fn a_file_that_cannot_be_written_leaves_the_whole_list_undone() {
    for place in 0..3 {
        let test = Test::new(move |bench| async move {
            for name in ["a", "b", "c"] {
                bench.done("blockdev-add", &file(name, true)).await;
            }
            bench.add_files(&["d"]).await;
            bench.done("blockdev-add", &raw("d")).await;
            bench.done("blockdev-add", &throttle("d")).await;
            let fails = ["a", "b", "c"][place];
            bench.files.read_only.with(|names| names.push(fails.into()));
            let [a, b, c] = ["a", "b", "c"].map(|name| file(name, false));
            let list = options(&[&raw("th"), &a, &b, &c]);
            let said = format!("node {fails}: '{fails}' cannot be opened for writing");
            bench.refused("blockdev-reopen", &list, &[&said]).await;
            bench.files.read_only.with(Vec::clear);
            bench.done("blockdev-reopen", &list).await;
            assert!(bench.trace().await.contains(r#"["a", "b", "c", "d"]"#));
        });
        check_alone(&format!("{place} fails"), &test);
    }
}

#[test]
fn what_cannot_change_is_refused_by_name() {
    let cases: &[(&str, &[&str])] = &[
        (r#"{"driver":"file","node-name":"a","filename":"b"}"#, &["filename", "'a'", "'b'"]),
        (r#"{"driver":"raw","node-name":"a","file":"b"}"#, &["driver", "'file'", "'raw'"]),
        (r#"{"driver":"memory","node-name":"m","size":8192}"#, &["size", "'4096'", "'8192'"]),
        (
            r#"{"driver":"file","node-name":"a","filename":"a","locking":"off"}"#,
            &["locking", "'auto'", "'off'"],
        ),
        (r#"{"driver":"raw","node-name":"r"}"#, &["file: missing"]),
        (r#"{"driver":"raw","node-name":"r","file":"nowhere"}"#, &["no node 'nowhere'"]),
        (
            r#"{"driver":"raw","node-name":"r","file":{"driver":"null-co","size":512}}"#,
            &["file: the name of a node"],
        ),
        (r#"{"driver":"file","filename":"a"}"#, &["node-name: missing"]),
        (r#"{"driver":"file","node-name":"nowhere","filename":"a"}"#, &["no node 'nowhere'"]),
        (r#"{"driver":"raw","node-name":"o","file":"a"}"#, &["'o' was not made by a command"]),
        (r#"{"driver":"file","node-name":"a","filename":"a","no":1}"#, &["no"]),
        (r#"{"driver":"raw","node-name":"r","file":"r"}"#, &["cycle"]),
        (
            r#"{"driver":"raw","node-name":"r","file":"a","read-only":true}"#,
            &["node r is read-only", "backend disk0 needs write"],
        ),
    ];
    for (fails, said) in cases {
        let test = Test::new(move |bench| async move {
            bench.add_files(&["a", "b"]).await;
            let memory = r#"{"driver":"memory","node-name":"m","size":4096}"#;
            bench.done("blockdev-add", memory).await;
            bench.done("blockdev-add", &raw("a")).await;
            bench.done("blockdev-add", &throttle("a")).await;
            bench.device("disk0", "r").await;
            bench.add_overlay("o").await;
            // Beside one that could be done, before and after it.
            let good = raw("th");
            for list in [[good.as_str(), fails], [fails, &good]] {
                if !fails.contains(r#""r""#) {
                    bench.refused("blockdev-reopen", &options(&list), said).await;
                }
            }
            bench.refused("blockdev-reopen", &options(&[fails]), said).await;
            let twice = options(&[&good, &good]);
            bench.refused("blockdev-reopen", &twice, &["options.1", "in the list already"]).await;
        });
        check_alone(fails, &test);
    }
}

#[test]
fn an_edge_that_a_job_froze_is_refused_with_the_job_named() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b", "c"]).await;
        bench.done("blockdev-add", &throttle("a")).await;
        bench.device("disk0", "th").await;
        let mirror = r#"{"job-id":"m0","device":"th","target":"b","sync":"full"}"#;
        bench.done("blockdev-mirror", mirror).await;
        let reply = bench.execute("blockdev-reopen", &options(&[&throttle("c")])).await;
        let error = reply.expect_err("the job holds it");
        assert!(error.desc.contains("job m0 holds edge th.file frozen"), "{error}");
        bench.done("job-cancel", r#"{"id":"m0"}"#).await;
    });
    check("frozen", &test, FAULTLESS, &[]);
}

/// A request that waits for its turn goes on, and the later ones are held to the new rate.
#[test]
fn limits_of_a_throttle_change_under_requests() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a"]).await;
        let limited = |iops: u64| {
            let limits = format!(r#""limits":{{"iops-total":{iops}}}"#);
            format!(r#"{{"driver":"throttle","node-name":"th","file":"a",{limits}}}"#)
        };
        bench.done("blockdev-add", &limited(1)).await;
        let disk = bench.device("disk0", "th").await;
        let second = || async {
            let began_ns = bench.runtime.now_ns();
            for _ in 0..2 {
                disk.write(write(7)).await.expect("no fault is budgeted");
            }
            bench.runtime.now_ns() - began_ns > 500_000_000
        };
        assert!(second().await, "the second request waits nearly a second");
        let (guest, waiting) = (disk.clone(), write(8));
        bench.task("guest", async move {
            guest.write(waiting).await.expect("no fault is budgeted");
        });
        door::boundary().await;
        reopen(&bench, &[&limited(0)]).await;
        assert!(!second().await, "nothing waits");
        reopen(&bench, &[&limited(1)]).await;
        assert!(second().await, "the second request waits again");
    });
    check_some("limits", &test, FAULTLESS, 200, &["a throttled request goes on before its time"]);
}

/// A guest writes while a filter goes in below its format and its file is reopened.
#[test]
fn a_guest_that_writes_meanwhile_notices_nothing() {
    for budgets in [FAULTLESS, ONE_FAULT] {
        let test = Test::new(move |bench| async move {
            bench.add_files(&["a"]).await;
            bench.done("blockdev-add", &file("b", true)).await;
            bench.done("blockdev-add", &raw("a")).await;
            bench.done("blockdev-add", &throttle("a")).await;
            let disk = bench.device("disk0", "r").await;
            let task = bench.clone();
            bench.task("admin", async move {
                reopen(&task, &[&raw("th"), &file("b", false)]).await;
                reopen(&task, &[&raw("a"), &file("b", true)]).await;
            });
            let written = disk.write(write(7)).await;
            sometimes!(written.is_err(), "a write failed");
            assert!(written.is_ok() || budgets == ONE_FAULT);
            if budgets == FAULTLESS {
                assert_eq!(first_byte(&disk).await, 7);
            }
        });
        let marks: &[&str] = match budgets {
            ONE_FAULT => &["a write failed"],
            _ => &["guest request parked by a drained section"],
        };
        check("writes", &test, budgets, marks);
    }
}

/// A guest reads through an overlay while the backing node's file is reopened.
#[test]
fn an_opening_is_closed_only_when_nobody_uses_it() {
    let test = Test::new(|bench| async move {
        bench.done("blockdev-add", &file("a", true)).await;
        bench.add_overlay("o").await;
        bench.done("blockdev-snapshot", r#"{"node":"a","overlay":"o"}"#).await;
        let disk = bench.device("disk0", "o").await;
        let task = bench.clone();
        bench.task("admin", async move {
            reopen(&task, &[&file("a", false)]).await;
            reopen(&task, &[&file("a", true)]).await;
        });
        for _ in 0..2 {
            assert_eq!(first_byte(&disk).await, 1);
        }
    });
    check("opening", &test, FAULTLESS, &["guest request parked by a drained section"]);
}
