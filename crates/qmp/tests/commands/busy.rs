//! What a job holds refuses what would get in its way, and the error names the job, or its filter and the edge (S2.7).

use crate::bench::{FAULTLESS, Test, check_some};

/// Commands while job m0 mirrors `a` below disk0 to `b`, and what is said about them.
const CASES: [(&str, &str, &str); 12] = [
    ("blockdev-snapshot", r#"{"node":"a","overlay":"o"}"#, "job m0 holds edge mf.file frozen"),
    (
        "transaction",
        r#"{"actions":[{"type":"blockdev-snapshot","data":{"node":"a","overlay":"o"}}]}"#,
        "job m0 holds edge mf.file frozen",
    ),
    (
        "x-blockdev-replace-child",
        r#"{"parent":"mf","child":"file","new":"c"}"#,
        "job m0 holds edge mf.file frozen",
    ),
    (
        "x-blockdev-replace-child",
        r#"{"parent":"mf","child":"target","new":{"driver":"throttle"}}"#,
        "job m0 holds edge mf.target frozen",
    ),
    (
        "blockdev-mirror",
        r#"{"job-id":"m1","device":"a","target":"c","sync":"full"}"#,
        "job m0 holds edge mf.file frozen",
    ),
    (
        "blockdev-mirror",
        r#"{"job-id":"m1","device":"c","target":"b","sync":"full"}"#,
        "node mf holds edge mf.target without sharing write",
    ),
    ("blockdev-del", r#"{"node-name":"a"}"#, "mf.file"),
    ("blockdev-del", r#"{"node-name":"mf"}"#, "backend disk0 on edge disk0.root"),
    ("blockdev-set-active", r#"{"node-name":"b","active":false}"#, "active parent node mf"),
    ("block_resize", r#"{"node-name":"a","size":512}"#, "mf.file"),
    ("block_resize", r#"{"node-name":"b","size":512}"#, "mf.target"),
    ("blockdev-remove-medium", r#"{"id":"disk0"}"#, "job m0"),
];

#[test]
fn a_busy_source_or_target_refuses_what_conflicts_and_names_the_job() {
    for (command, arguments, said) in CASES {
        let test = Test::new(move |bench| async move {
            bench.add_files(&["a", "b", "c"]).await;
            bench.device("disk0", "a").await;
            bench.add_overlay("o").await;
            let mirror = r#"{"job-id":"m0","device":"a","target":"b","sync":"full",
                "filter-node-name":"mf"}"#;
            bench.done("blockdev-mirror", mirror).await;
            let reply = bench.execute(command, arguments).await;
            let error = reply.expect_err(command);
            assert!(error.desc.contains(said), "{command} {arguments}: {error}, not: {said}");
            bench.done("job-cancel", r#"{"id":"m0"}"#).await;
        });
        check_some(command, &test, FAULTLESS, 20, &[]);
    }
}
