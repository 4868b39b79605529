//! Drained sections: nobody but the owner inside, and everybody goes on.

use std::sync::Arc;

use blockyard_block::{Backend, Owner};
use blockyard_sync::{Event, door, first_of, sometimes};
use blockyard_units::{ByteRange, NodeId};

use crate::bench::{Bench, FAULTLESS, ONE_FAULT, Test, check, read_log, write};

fn writer(bench: &Bench, name: &str, backend: &Backend, sector: u64) {
    let backend = backend.clone();
    bench.task(name, async move {
        // It may fail if a fault is budgeted.
        let _ = backend.write(write(sector, 7)).await;
    });
}

/// Holds a section for a few steps; no request may begin or end meanwhile.
async fn hold(bench: &Bench, owner: Owner, nodes: &[NodeId]) {
    let section = bench.layer.drain(owner, nodes).await;
    let log = read_log(&bench.log).len();
    let names: Vec<String> = nodes
        .iter()
        .filter_map(|id| Some(String::from(bench.layer.node_by_id(*id)?.name())))
        .collect();
    for _ in 0..2 {
        let busy = bench.layer.in_flight();
        let inside = busy.iter().any(|(node, _)| names.contains(node));
        assert!(!inside, "drained-means-quiet: {busy:?}");
        door::boundary().await;
    }
    sometimes!(read_log(&bench.log).len() > log, "another node worked on");
    section.end();
}

#[test]
fn two_writers_and_two_sections_never_meet_and_all_end() {
    // Which nodes each section is over; a node has a writer each.
    let cases: [[&[usize]; 2]; 4] =
        [[&[0], &[0]], [&[0], &[1]], [&[0, 1], &[1]], [&[0, 1], &[1, 0]]];
    for case in cases {
        let test = Test::new(move |bench| async move {
            let (b0, n0) = bench.device("n0").await;
            let (b1, n1) = bench.device("n1").await;
            let ids = [n0, n1];
            writer(&bench, "w0", &b0, 0);
            writer(&bench, "w1", &b1, 1);
            for (index, over) in case.into_iter().enumerate() {
                let nodes: Vec<NodeId> = over.iter().map(|node| ids[*node]).collect();
                let task = bench.clone();
                bench.task(&format!("d{index}"), async move {
                    hold(&task, Owner::command(), &nodes).await;
                });
            }
        });
        check(
            &format!("{case:?}"),
            &test,
            FAULTLESS,
            &["guest request parked by a drained section"],
        );
    }
}

#[test]
fn one_writer_of_two_requests_and_two_sections_over_its_node_all_end() {
    let test = Test::new(move |bench| async move {
        let (backend, node) = bench.device("n").await;
        for index in 0..2 {
            let task = bench.clone();
            bench.task(&format!("d{index}"), async move {
                hold(&task, Owner::command(), &[node]).await;
            });
        }
        for sector in 0..2 {
            // It may fail.
            let _ = backend.write(write(sector, 7)).await;
        }
    });
    check("one writer", &test, ONE_FAULT, &["guest request parked by a drained section"]);
}

/// Nodes by index: an owner's section, and the one that it holds inside.
type Nested = (&'static [usize], &'static [usize]);

/// Owners whose sections nest, and a writer.
fn nested(owners: &'static [Nested]) -> Test {
    Test::new(move |bench| async move {
        let (_, n0) = bench.device("n0").await;
        let (b1, n1) = bench.device("n1").await;
        writer(&bench, "w", &b1, 1);
        let ids = [n0, n1];
        for (index, (outer, inner)) in owners.iter().enumerate() {
            let nodes = |over: &[usize]| over.iter().map(|node| ids[*node]).collect::<Vec<_>>();
            let (outer, inner, task) = (nodes(outer), nodes(inner), bench.clone());
            bench.task(&format!("d{index}"), async move {
                let owner = Owner::command();
                let section = task.layer.drain(owner, &outer).await;
                hold(&task, owner, &inner).await;
                section.end();
            });
        }
    })
}

#[test]
fn an_owner_may_hold_a_section_inside_its_own() {
    let cases: [&[Nested]; 5] = [
        &[(&[1], &[1]), (&[1], &[1])],
        &[(&[0, 1], &[1]), (&[1], &[1])],
        &[(&[0, 1], &[0]), (&[1, 0], &[1])],
        // The inner one reaches beyond: only one owner does so.
        &[(&[0], &[1]), (&[1], &[1])],
        &[(&[0], &[0, 1]), (&[1], &[1])],
    ];
    for owners in cases {
        check(&format!("{owners:?}"), &nested(owners), FAULTLESS, &[]);
    }
}

#[test]
fn a_section_that_is_dropped_ends_by_itself() {
    // Dropped while it holds, and dropped before it holds.
    for while_held in [true, false] {
        let test = Test::new(move |bench| async move {
            let (backend, node) = bench.device("n").await;
            writer(&bench, "w", &backend, 0);
            let stop = Arc::new(Event::default());
            let stopper = stop.clone();
            bench.task("stopper", async move { stopper.set() });
            let layer = bench.layer.clone();
            let section = async {
                let section = layer.drain(Owner::command(), &[node]).await;
                if while_held {
                    stop.wait().await;
                }
                drop(section);
            };
            if while_held {
                section.await;
            } else {
                let given_up = first_of(stop.wait(), section).await;
                sometimes!(given_up, "given up before it held");
            }
            backend.write(write(1, 8)).await.expect("no fault is budgeted");
            // Another owner comes by as well.
            hold(&bench, Owner::command(), &[node]).await;
        });
        let marks: &[&str] = if while_held { &[] } else { &["given up before it held"] };
        check(&format!("while held: {while_held}"), &test, FAULTLESS, marks);
    }
}

#[test]
fn a_parked_request_that_is_dropped_never_happens() {
    let test = Test::new(|bench| async move {
        let (backend, node) = bench.device("n").await;
        let section = bench.layer.drain(Owner::command(), &[node]).await;
        let (stop, stopped) = (Arc::new(Event::default()), Arc::new(Event::default()));
        let (stopping, told) = (stop.clone(), stopped.clone());
        bench.task("w", async move {
            let write = async {
                backend.write(write(0, 7)).await.expect("no fault is budgeted");
            };
            let dropped = first_of(stopping.wait(), write).await;
            assert!(dropped, "drained-means-quiet");
            told.set();
        });
        stop.set();
        stopped.wait().await;
        section.end();
    })
    .checked(|bench| {
        assert_eq!(read_log(&bench.log), [""; 0]);
        assert_eq!(bench.on_disk(ByteRange::new(0, 1)), [0]);
    });
    check("dropped", &test, FAULTLESS, &["guest request parked by a drained section"]);
}
