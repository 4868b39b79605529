//! Jobs that end together: completion-mode `grouped`.

use std::sync::Arc;

use blockyard_qmp::{Dict, Subscriber, Value};
use blockyard_sync::sometimes;

use crate::bench::{Bench, FAULTLESS, ONE_FAULT, Test, check_some, first_byte, write};

/// Runs that are drawn of each test.
const RUNS: u64 = 200;

/// A transaction of two mirrors to `c` and `d`; `more` of the second's options.
fn two_mirrors(sources: [&str; 2], more: &str) -> String {
    let mirror = |index: usize, target, more: &str| {
        let source = sources[index];
        format!(
            r#"{{"type":"blockdev-mirror","data":{{"job-id":"m{index}","device":"{source}",
                "target":"{target}","sync":"full","filter-node-name":"mf{index}"{more}}}}}"#
        )
    };
    let [first, second] = [mirror(0, "c", ""), mirror(1, "d", more)];
    let properties = r#""properties":{"completion-mode":"grouped"}"#;
    format!(r#"{{"actions":[{first},{second}],{properties}}}"#)
}

/// What is told of each of the two jobs.
struct Told([Arc<Subscriber>; 2]);

impl Told {
    fn of(bench: &Bench) -> Self {
        Self([(), ()].map(|()| bench.monitor.events().subscribe(vec!["JOB_STATUS_CHANGE".into()])))
    }

    /// Waits until the job was in this state.
    async fn until(&self, job: usize, status: &str) {
        let of = [("id", format!("m{job}")), ("status", status.into())];
        let matching =
            of.iter().map(|(key, value)| (String::from(*key), Value::from(value.as_str())));
        let matching: Dict = matching.collect();
        self.0[job].wait(vec![("JOB_STATUS_CHANGE".into(), matching)]).await;
    }

    async fn until_over(&self) {
        self.until(0, "null").await;
        self.until(1, "null").await;
    }
}

/// Two devices on two disks, and what is told of the jobs that mirror them.
async fn begin(bench: &Bench, more: &str) -> Told {
    bench.add_files(&["a", "b", "c", "d"]).await;
    bench.device("disk0", "a").await;
    bench.device("disk1", "b").await;
    let told = Told::of(bench);
    bench.done("transaction", &two_mirrors(["a", "b"], more)).await;
    told
}

async fn job(bench: &Bench, verb: &str, job: usize) {
    bench.done(verb, &format!(r#"{{"id":"m{job}"}}"#)).await;
}

fn roots(bench: &Bench) -> [String; 2] {
    ["disk0", "disk1"].map(|device| bench.child(device, "root").expect("it has a root"))
}

#[test]
fn grouped_jobs_pivot_in_one_publication() {
    let test = Test::new(|bench| async move {
        let told = begin(&bench, "").await;
        told.until(0, "ready").await;
        job(&bench, "job-complete", 0).await;
        told.until(0, "waiting").await;
        told.until(1, "ready").await;
        assert_eq!(roots(&bench), ["mf0", "mf1"], "one waits for the other");
        job(&bench, "job-complete", 1).await;
        told.until_over().await;
        assert_eq!(roots(&bench), ["c", "d"]);
    });
    let marks = ["jobs of one transaction ended together"];
    check_some("grouped", &test, FAULTLESS, RUNS, &marks);
}

/// Also one that waits for the other already.
#[test]
fn grouped_jobs_are_all_cancelled_with_the_one_that_is() {
    for waits in [false, true] {
        let test = Test::new(move |bench| async move {
            let told = begin(&bench, "").await;
            if waits {
                told.until(0, "ready").await;
                job(&bench, "job-complete", 0).await;
                told.until(0, "waiting").await;
            }
            job(&bench, "job-cancel", usize::from(!waits)).await;
            told.until_over().await;
            assert_eq!(roots(&bench), ["a", "b"]);
        });
        check_some(&format!("cancelled, waits: {waits}"), &test, FAULTLESS, RUNS, &[]);
    }
}

/// Whichever of them is told to; the second does not finalize by itself.
#[test]
fn one_job_that_is_finalized_finalizes_its_group() {
    for finalized in [0, 1] {
        let test = Test::new(move |bench| async move {
            let told = begin(&bench, r#","auto-finalize":false"#).await;
            for index in [0, 1] {
                told.until(index, "ready").await;
                job(&bench, "job-complete", index).await;
            }
            told.until(0, "pending").await;
            told.until(1, "pending").await;
            assert_eq!(roots(&bench), ["mf0", "mf1"]);
            job(&bench, "job-finalize", finalized).await;
            told.until_over().await;
            assert_eq!(roots(&bench), ["c", "d"]);
        });
        check_some(&format!("finalized: {finalized}"), &test, FAULTLESS, RUNS, &[]);
    }
}

/// Jobs whose drained sections have nodes in common: one mirrors the backing node of what the other mirrors.
#[test]
fn grouped_jobs_end_in_one_section_over_what_they_have_in_common() {
    let test = Test::new(|bench| async move {
        bench.add_files(&["a", "b", "c", "d"]).await;
        bench.done("blockdev-add", r#"{"driver":"overlay","node-name":"o","backing":"a"}"#).await;
        let disk = bench.device("disk0", "o").await;
        let told = Told::of(&bench);
        bench.done("transaction", &two_mirrors(["a", "o"], "")).await;
        let guest = disk.clone();
        bench.task("guest", async move {
            guest.write(write(7)).await.expect("no fault is budgeted");
        });
        for index in [0, 1] {
            told.until(index, "ready").await;
            job(&bench, "job-complete", index).await;
        }
        told.until_over().await;
        assert_eq!(bench.child("disk0", "root").as_deref(), Some("d"));
        assert_eq!(bench.child("o", "backing").as_deref(), Some("c"));
        disk.write(write(7)).await.expect("no fault is budgeted");
        assert_eq!(first_byte(&disk).await, 7);
    });
    let marks = ["jobs of one transaction ended together"];
    check_some("in common", &test, FAULTLESS, RUNS, &marks);
}

/// An error of any disk: both mirrors end without a pivot, or both with one.
#[test]
fn a_grouped_job_that_fails_takes_the_other_with_it() {
    let test = Test::new(|bench| async move {
        let told = begin(&bench, "").await;
        let names = ["BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"];
        for index in [0, 1] {
            let ready = bench.monitor.events().subscribe(names.map(String::from).to_vec());
            let name = format!("completes m{index}");
            let task = bench.clone();
            bench.task(&name, async move {
                let job = format!("m{index}");
                let matching =
                    Dict::from_iter([(String::from("device"), Value::from(job.as_str()))]);
                let ends = names[1..].iter().map(|name| (String::from(*name), Dict::new()));
                let wanted = [(names[0].into(), matching)].into_iter().chain(ends);
                ready.wait(wanted.collect()).await;
                // It may have failed since.
                let _ = task.execute("job-complete", &format!(r#"{{"id":"{job}"}}"#)).await;
            });
        }
        told.until_over().await;
        let roots = roots(&bench);
        let neither = roots == ["a", "b"];
        sometimes!(neither, "both failed");
        sometimes!(!neither, "both ended well");
        assert!(neither || roots == ["c", "d"], "{roots:?}");
    });
    check_some("failing", &test, ONE_FAULT, 4 * RUNS, &["both failed", "both ended well"]);
}
