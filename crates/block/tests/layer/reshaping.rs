//! The graph changes while it is drained: nodes come above what is drained, go, and change places. Every driver that
//! was told of a section is told of its end, and requests go on.

use std::sync::Arc;

use blockyard_block::{Backend, Drained, OnLost, Owner};
use blockyard_graph::{Edit, Parent};
use blockyard_sync::{door, sometimes};
use blockyard_units::NodeId;

use crate::bench::{
    Bench, FAULTLESS, ONE_FAULT, Prepare, Test, add, add_filter, check, read_log, redirect, write,
};

/// Every driver that was told of a section was told of its end.
fn balanced(bench: &Bench) {
    let drains = bench.drains.with(|drains| drains.clone());
    assert!(!drains.is_empty() && drains.values().all(|count| *count == 0), "{drains:?}");
}

fn remove_root(backend: &Backend) -> Edit {
    Edit::RemoveEdge { parent: Parent::Backend(backend.id()), name: "root".into(), expected: None }
}

#[test]
fn what_comes_above_a_drained_node_is_drained_too() {
    let test = Test::new(|bench| async move {
        let (backend, node) = bench.device("n").await;
        let section = bench.layer.drain(Owner::command(), &[node]).await;
        // A filter goes in above, and a backend comes on top of it.
        let filter = bench.node("f", Prepare::Agree);
        let mut edits = Vec::from(add_filter(&filter, "f", node));
        edits.push(redirect(&backend, node, filter.id()));
        bench
            .publish(&edits, std::slice::from_ref(&filter), OnLost::Fail)
            .await
            .expect("it is allowed");
        let other = bench.layer.add_backend("another").expect("the name is free");
        let root = bench.layer.graph();
        let mut edge =
            root.edge(Parent::Backend(backend.id()), "root").expect("it is there").clone();
        edge.parent = Parent::Backend(other.id());
        bench.publish(&[Edit::AddEdge(edge)], &[], OnLost::Fail).await.expect("it is allowed");
        let log = read_log(&bench.log).len();
        for (name, backend) in [("w0", backend), ("w1", other)] {
            bench.task(name, async move {
                backend.write(write(0, 7)).await.expect("no fault is budgeted");
            });
        }
        for _ in 0..2 {
            door::boundary().await;
            assert_eq!(read_log(&bench.log).len(), log, "drained-means-quiet");
        }
        section.end();
    })
    .checked(|bench| {
        balanced(bench);
        let written = read_log(&bench.log).iter().filter(|line| *line == "write f").count();
        assert_eq!(written, 2, "both went on, through the filter");
    });
    check("above", &test, FAULTLESS, &["guest request parked by a drained section"]);
}

#[test]
fn a_node_that_goes_while_it_is_drained_is_told_of_the_end() {
    let test = Test::new(|bench| async move {
        let (backend, node) = bench.device("n").await;
        let (task, other) = (bench.clone(), backend.clone());
        bench.task("remover", async move {
            let section = task.layer.drain(Owner::command(), &[node]).await;
            let edits = [remove_root(&other), Edit::RemoveNode { id: node }];
            task.publish(&edits, &[], OnLost::StartOver).await.expect("nobody holds it any more");
            assert!(task.layer.node_by_id(node).is_none());
            section.end();
        });
        let task = bench.clone();
        bench.task("drainer", async move {
            // It may be gone already, and may go while this waits.
            let section = task.layer.drain(Owner::command(), &[node]).await;
            sometimes!(task.layer.node_by_id(node).is_none(), "drained what is gone");
            section.end();
        });
        for sector in 0..2 {
            let written = backend.write(write(sector, 7)).await;
            sometimes!(written.is_err(), "a request found no root");
        }
    })
    .checked(balanced);
    let marks = [
        "drained what is gone",
        "a request found no root",
        "guest request parked by a drained section",
    ];
    check("deletion", &test, FAULTLESS, &marks);
}

#[test]
fn a_request_that_ends_a_nodes_use_as_it_is_drained_is_waited_for() {
    // Whoever waited for the request takes the node away as soon as it has ended.
    for budgets in [FAULTLESS, ONE_FAULT] {
        let test = Test::new(|bench| async move {
            let (backend, node) = bench.device("n").await;
            let task = bench.clone();
            bench.task("user", async move {
                // It may fail if a fault is budgeted.
                let _ = backend.write(write(0, 7)).await;
                let section = task.layer.drain(Owner::command(), &[node]).await;
                let edits = [remove_root(&backend), Edit::RemoveNode { id: node }];
                task.publish(&edits, &[], OnLost::StartOver).await.expect("nobody holds it");
                section.end();
                task.layer.remove_backend(&backend);
            });
            let section = bench.layer.drain(Owner::command(), &[node]).await;
            assert_eq!(bench.layer.in_flight(), Vec::new(), "drained-means-quiet");
            section.end();
        })
        .checked(|bench| {
            balanced(bench);
            assert_eq!(bench.layer.graph().backends().count(), 0);
        });
        check("last request", &test, budgets, &[]);
    }
}

/// Sections of one owner over `nodes`, each so many times.
async fn hold(bench: &Bench, owner: Owner, nodes: &[(NodeId, usize)]) -> Vec<Drained> {
    let mut sections = Vec::new();
    for (node, count) in nodes {
        for _ in 0..*count {
            sections.push(bench.layer.drain(owner, &[*node]).await);
        }
    }
    sections
}

#[test]
fn a_child_is_replaced_while_the_old_the_new_or_both_are_drained() {
    // How many sections hold over the parent, the old and the new child; in whichever order they end.
    let counts = [[0, 1, 0], [0, 1, 1], [1, 1, 0], [1, 1, 1], [0, 2, 1], [2, 1, 2]];
    for (counts, reversed) in
        counts.into_iter().flat_map(|counts| [(counts, false), (counts, true)])
    {
        let test = Test::new(move |bench| async move {
            let (backend, old) = bench.device("old").await;
            let parent = bench.node("parent", Prepare::Agree);
            let mut edits = Vec::from(add_filter(&parent, "parent", old));
            edits.push(redirect(&backend, old, parent.id()));
            let section = bench.layer.drain(Owner::command(), &[old]).await;
            let nodes = [parent.clone()];
            bench.publish(&edits, &nodes, OnLost::Fail).await.expect("it is allowed");
            section.end();
            let new = bench.node("new", Prepare::Agree);
            let edits = [add(&new, "new")];
            let nodes = [new.clone()];
            bench.publish(&edits, &nodes, OnLost::Fail).await.expect("it is allowed");
            let task: Arc<Bench> = bench.clone();
            bench.task("admin", async move {
                let nodes = [parent.id(), old, new.id()];
                let over: Vec<(NodeId, usize)> = nodes.into_iter().zip(counts).collect();
                let mut sections = hold(&task, Owner::command(), &over).await;
                let edit = Edit::ReplaceChild {
                    parent: Parent::Node(parent.id()),
                    name: "file".into(),
                    expected: Some(old),
                    new: new.id(),
                };
                task.publish(&[edit], &[], OnLost::StartOver).await.expect("it is allowed");
                if reversed {
                    sections.reverse();
                }
                for section in sections {
                    assert_eq!(task.layer.in_flight(), Vec::new(), "drained-means-quiet");
                    section.end();
                    door::boundary().await;
                }
            });
            for sector in 0..2 {
                backend.write(write(sector, 7)).await.expect("no fault is budgeted");
            }
        })
        .checked(|bench| {
            balanced(bench);
            let graph = bench.layer.graph();
            let parent = graph.node_by_name("parent").expect("it is there");
            assert_eq!(graph.child(Parent::Node(parent), "file"), graph.node_by_name("new"));
        });
        let marks = ["guest request parked by a drained section"];
        check(&format!("{counts:?}, reversed: {reversed}"), &test, FAULTLESS, &marks);
    }
}
