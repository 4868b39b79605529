//! Backups whose source gives up what they have saved.

use blockyard_block::{Backend, Write};
use blockyard_qmp::{Dict, Subscriber};
use blockyard_units::ByteRange;

use crate::bench::{Bench, FAULTLESS, Test, check_some, first_byte};
use crate::jobs::{RUNS, listen};

/// `disk0` on `a`, saved to `b` in this mode, and `look` on `was`, which shows what it was: sevens.
async fn looked_back_at(bench: &Bench, sync: &str) -> (Backend, Backend) {
    bench.add_files(&["a", "b", "c"]).await;
    let disk0 = bench.device("disk0", "a").await;
    disk0.write(Write::data(0, vec![7; 1024].into())).await.expect("no fault is budgeted");
    let backup = format!(
        r#"{{"job-id":"b0","device":"disk0","target":"b","sync":"{sync}","granularity":512,
            "filter-node-name":"fb0","auto-finalize":false,"cbw-timeout":0}}"#
    );
    bench.done("blockdev-backup", &backup).await;
    let was = r#"{"driver":"snapshot-access","node-name":"was","file":"fb0","discard":"unmap"}"#;
    bench.done("blockdev-add", was).await;
    let look = bench.device("look", "was").await;
    (disk0, look)
}

/// Waits until a job is gone.
async fn ended(told: &Subscriber, job: &str) {
    let gone = Dict::from_iter([("id", job), ("status", "null")]);
    told.wait(vec![("JOB_STATUS_CHANGE".into(), gone)]).await;
}

#[test]
fn what_was_copied_from_a_fleecing_backup_is_neither_shown_nor_saved_any_more() {
    let test = Test::new(|bench| async move {
        let (disk0, look) = looked_back_at(&bench, "none").await;
        disk0.write(Write::data(0, vec![9; 512].into())).await.expect("no fault is budgeted");
        assert_eq!(first_byte(&look).await, 7);
        let told = listen(&bench);
        let backup = r#"{"job-id":"b1","device":"was","target":"c","sync":"full",
            "discard-source":true,"granularity":512,"cbw-timeout":0}"#;
        bench.done("blockdev-backup", backup).await;
        ended(&told, "b1").await;
        let refused = look.read(ByteRange::new(512, 512)).await.expect_err("it is given up");
        assert!(refused.to_string().contains("discarded"), "{refused}");
        disk0.write(Write::data(512, vec![9; 512].into())).await.expect("no fault is budgeted");
        bench.done("job-cancel", r#"{"id":"b0"}"#).await;
        ended(&told, "b0").await;
        let (saved, copied) = (bench.device("b0", "b").await, bench.device("c0", "c").await);
        let whole = ByteRange::new(0, 1024);
        let copied = copied.read(whole).await.expect("no fault is budgeted");
        assert!(copied.iter().all(|byte| *byte == 7));
        let saved = saved.read(ByteRange::new(512, 512)).await.expect("no fault is budgeted");
        assert!(saved.iter().all(|byte| *byte == 2), "it holds what it held: nobody would read it");
    });
    check_some("given-up", &test, FAULTLESS, RUNS, &[]);
}

#[test]
fn what_a_full_backup_has_to_save_is_not_given_up() {
    let test = Test::new(|bench| async move {
        let (disk0, look) = looked_back_at(&bench, "full").await;
        let told = listen(&bench);
        look.write(Write::discard(ByteRange::new(0, 512))).await.expect("it is left undone");
        disk0.write(Write::data(0, vec![9; 512].into())).await.expect("no fault is budgeted");
        assert_eq!(first_byte(&look).await, 7);
        bench.done("job-cancel", r#"{"id":"b0"}"#).await;
        ended(&told, "b0").await;
    });
    check_some("kept", &test, FAULTLESS, RUNS, &[]);
}

#[test]
fn a_source_that_cannot_be_written_gives_up_nothing() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["c"]).await;
        let a = r#"{"driver":"file","node-name":"a","filename":"a","read-only":true}"#;
        bench.done("blockdev-add", a).await;
        let backup =
            r#"{"job-id":"b0","device":"a","target":"c","sync":"full","discard-source":true}"#;
        bench.refused("blockdev-backup", backup, &["node a is read-only", "needs write"]).await;
    });
    check_some("refused", &test, FAULTLESS, RUNS, &[]);
}
