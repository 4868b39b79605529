//! The path of write-like requests: hooks, marks, and who excludes whom.

use std::sync::Arc;

use blockyard_block::{BeforeWrite, BlockError, Io, Owner, Write, WriteFlags, WriteKind};
use blockyard_runtime::BoxFuture;
use blockyard_sync::{Event, door, first_of, sometimes};
use blockyard_units::{ByteRange, JobId};

use crate::bench::{Bench, FAULTLESS, Log, ONE_FAULT, Test, check, read_log, write};

struct Hook {
    log: Log,
    name: &'static str,
    fails: bool,
}

impl BeforeWrite for Hook {
    fn before<'a>(&'a self, _: &'a Io, write: &'a Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            self.log.with(|log| log.push(format!("{} {}", self.name, write.range)));
            door::boundary().await;
            let refusal = || BlockError::Invalid(String::from("not now"));
            if self.fails { Err(refusal()) } else { Ok(()) }
        })
    }
}

fn writes() -> [(&'static str, Write); 3] {
    let range = ByteRange::new(512, 512);
    [
        ("write", write(1, 7)),
        ("write-zeroes", Write::zeroes(range)),
        ("discard", Write::discard(range)),
    ]
}

fn add_hook(bench: &Bench, node: &str, name: &'static str, fails: bool) {
    let hook = Hook { log: bench.log.clone(), name, fails };
    bench.layer.node(node).expect("it is there").add_hook(None, Arc::new(hook));
}

fn add_bitmap(bench: &Bench, node: &str) {
    let job = JobId(door::new_object());
    bench.layer.node(node).expect("it is there").add_bitmap(job, bench.bitmap.clone());
}

#[test]
fn hooks_run_once_before_every_kind_of_write_and_a_failing_one_fails_it() {
    for (kind, write) in writes() {
        for fails in [None, Some(0), Some(1)] {
            let write = write.clone();
            let test = Test::new(move |bench| {
                let write = write.clone();
                async move {
                    let (backend, _) = bench.device("n").await;
                    add_bitmap(&bench, "n");
                    add_hook(&bench, "n", "first", fails == Some(0));
                    add_hook(&bench, "n", "second", fails == Some(1));
                    let result = backend.write(write.clone()).await;
                    let driver = format!("{kind} n");
                    let all = [
                        format!("first {}", write.range),
                        format!("second {}", write.range),
                        driver,
                    ];
                    let reached = fails.map_or(all.len(), |index| index + 1);
                    assert_eq!(read_log(&bench.log), all[..reached]);
                    assert_eq!(result.is_err(), fails.is_some());
                    assert_eq!(bench.bitmap.dirty_in(write.range), fails.is_none());
                }
            });
            check(&format!("{kind}, {fails:?} fails"), &test, FAULTLESS, &[]);
        }
    }
}

#[test]
fn hooks_run_after_the_waits_for_those_that_exclude_the_write() {
    for (kind, write) in writes() {
        let test = Test::new(move |bench| {
            let write = write.clone();
            async move {
                let (backend, _) = bench.device("n").await;
                add_hook(&bench, "n", "hook", false);
                let node = bench.layer.node("n").expect("it is there");
                let serialised = node.begin_serialising(ByteRange::new(0, 1024)).await;
                let range = write.range;
                bench.task("writer", async move {
                    backend.write(write).await.expect("no fault is budgeted");
                });
                for _ in 0..3 {
                    door::boundary().await;
                    sometimes!(node.in_flight() == 2, "a write waits");
                    assert_eq!(read_log(&bench.log), [""; 0], "{range}");
                }
                bench.log.with(|log| log.push("released".into()));
                node.end_serialising(serialised);
            }
        })
        .checked(move |bench| {
            let log = read_log(&bench.log);
            assert_eq!(log, ["released", "hook 512+512", &format!("{kind} n")]);
        });
        check(kind, &test, FAULTLESS, &["a write waits"]);
    }
}

#[test]
fn a_write_marks_its_range_when_it_ends_well_and_when_it_fails() {
    for (kind, write) in writes() {
        for unchanged in [false, true] {
            let write = Write { flags: WriteFlags { unchanged, ..write.flags }, ..write.clone() };
            let test = Test::new(move |bench| {
                let write = write.clone();
                async move {
                    let (backend, _) = bench.device("n").await;
                    add_bitmap(&bench, "n");
                    let range = write.range;
                    let result = backend.write(write).await;
                    sometimes!(result.is_ok(), "it succeeded");
                    sometimes!(result.is_err(), "it failed");
                    assert_eq!(bench.bitmap.dirty_in(range), !unchanged, "{result:?}");
                    assert_eq!(bench.bitmap.count(), u64::from(!unchanged));
                }
            });
            let marks = ["it succeeded", "it failed"];
            check(&format!("{kind}, unchanged: {unchanged}"), &test, ONE_FAULT, &marks);
        }
    }
}

#[test]
fn a_write_that_is_given_up_ends_in_the_background_and_marks() {
    for faults in [FAULTLESS, ONE_FAULT] {
        let test = Test::new(|bench| async move {
            let (backend, node) = bench.device("n").await;
            add_bitmap(&bench, "n");
            let stop = Arc::new(Event::default());
            let stopper = stop.clone();
            bench.task("stopper", async move { stopper.set() });
            let gave_up = first_of(stop.wait(), async {
                // Whether it fails is not the question.
                let _ = backend.write(write(1, 7)).await;
            })
            .await;
            let in_flight = bench.layer.in_flight().len();
            sometimes!(gave_up && in_flight == 1, "given up in flight");
            sometimes!(!gave_up, "not given up");
            // A drained section waits for it, too.
            bench.layer.drain(Owner::command(), &[node]).await.end();
            assert_eq!(bench.layer.in_flight(), []);
            let changed = bench.on_disk(ByteRange::new(512, 1)) == [7];
            let begun = !read_log(&bench.log).is_empty();
            sometimes!(changed, "it happened");
            let marked = bench.bitmap.dirty_in(ByteRange::new(512, 512));
            assert_eq!(marked, begun, "every-end-marks");
            assert!(!changed || marked, "every-end-marks");
        });
        check("given up", &test, faults, &["given up in flight", "not given up", "it happened"]);
    }
}

fn serialising(write: Write) -> Write {
    Write { flags: WriteFlags { serialising: true, ..write.flags }, ..write }
}

#[test]
fn serialising_writes_exclude_what_overlaps_them_and_waits_make_no_cycle() {
    let range = |sector: u64, count: u64| ByteRange::new(sector * 512, count * 512);
    // Sector, count, serialising.
    type Case = [(u64, u64, bool); 3];
    let cases: [Case; 5] = [
        [(0, 2, true), (1, 2, true), (2, 2, true)],
        [(0, 4, true), (0, 1, true), (3, 1, true)],
        [(0, 2, false), (1, 2, true), (2, 2, false)],
        [(0, 1, true), (0, 1, false), (0, 1, false)],
        [(0, 3, true), (2, 2, false), (1, 1, true)],
    ];
    for case in cases {
        let test = Test::new(move |bench| async move {
            let (backend, _) = bench.device("n").await;
            for (index, (sector, count, exclusive)) in case.into_iter().enumerate() {
                let backend = backend.clone();
                let bytes = vec![index as u8 + 1; range(sector, count).len().as_usize()];
                let write = Write::data(sector * 512, bytes.into());
                assert!(matches!(write.kind, WriteKind::Data(_)));
                let write = if exclusive { serialising(write) } else { write };
                bench.task(&format!("w{index}"), async move {
                    backend.write(write).await.expect("no fault is budgeted");
                });
            }
        });
        check(&format!("{case:?}"), &test, FAULTLESS, &[]);
    }
}
