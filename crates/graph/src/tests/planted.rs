//! Values that are no graphs, planted past the judgement: each invariant's check notices.

use alloc::sync::Arc;

use super::*;
use crate::graph::Tables;
use crate::permissions::Cumulative;

/// A sound graph with one thing wrong.
fn check_planted(wrong: impl FnOnce(&mut Tables)) {
    let sound = disk()
        .apply(&[
            add_job(0, "m0"),
            add_backend(1, "disk1"),
            add_job(1, "m1"),
            add_edge(node(0), "file", 1, EdgePolicy::Storage),
        ])
        .unwrap();
    sound.check_invariants();
    let mut tables = Tables::clone(&sound.0);
    wrong(&mut tables);
    Graph(Arc::new(tables)).check_invariants();
}

fn held(parent: Parent, child: u32, permissions: Cumulative) -> crate::graph::Held {
    let Cumulative { required, shared } = permissions;
    let Edit::AddEdge(edge) = add_edge(parent, "planted", child, explicit(required, shared)) else {
        unreachable!("add_edge makes an edge")
    };
    crate::graph::Held { edge: Arc::new(edge), permissions }
}

const EXCLUSIVE: Cumulative = Cumulative { required: WRITE, shared: Permissions::NONE };

#[test]
#[should_panic(expected = "edge-permissions-agree")]
fn two_exclusive_writers_are_noticed() {
    check_planted(|tables| tables.edges.push(held(job(0), 1, EXCLUSIVE)));
}

#[test]
#[should_panic(expected = "edge-permissions-follow-policy")]
fn permissions_that_no_policy_gives_are_noticed() {
    check_planted(|tables| tables.edges[0].permissions = Cumulative::NOBODY);
}

#[test]
#[should_panic(expected = "read-only-nodes-are-not-written")]
fn written_read_only_node_is_noticed() {
    check_planted(|tables| {
        let read_only = NodeAttributes { read_only: true, ..attributes("dst") };
        tables.nodes[1].1 = Arc::new(read_only);
    });
}

#[test]
#[should_panic(expected = "graph-is-acyclic")]
fn ring_is_noticed() {
    check_planted(|tables| tables.edges.insert(1, held(node(1), 0, Cumulative::NOBODY)));
}

#[test]
#[should_panic(expected = "no-edge-dangles")]
fn dangling_child_is_noticed() {
    check_planted(|tables| tables.edges.push(held(job(0), 7, Cumulative::NOBODY)));
}

#[test]
#[should_panic(expected = "no-edge-dangles")]
fn dangling_parent_is_noticed() {
    check_planted(|tables| tables.edges.push(held(job(7), 1, Cumulative::NOBODY)));
}

#[test]
#[should_panic(expected = "node-names-are-unique")]
fn namesakes_among_nodes_are_noticed() {
    check_planted(|tables| tables.nodes[1].1 = Arc::new(attributes("src")));
}

#[test]
#[should_panic(expected = "backend-names-are-unique")]
fn namesakes_among_backends_are_noticed() {
    check_planted(|tables| tables.backends[1].1 = "disk0".into());
}

#[test]
#[should_panic(expected = "job-names-are-unique")]
fn namesakes_among_jobs_are_noticed() {
    check_planted(|tables| tables.jobs[1].1 = "m0".into());
}

#[test]
#[should_panic(expected = "node-ids-are-never-reused")]
fn forgotten_id_is_noticed() {
    check_planted(|tables| tables.used = Arc::default());
}

#[test]
#[should_panic(expected = "parents-precede-children")]
fn wrong_order_is_noticed() {
    check_planted(|tables| tables.order.reverse());
}

#[test]
#[should_panic(expected = "parts-are-sorted")]
fn unsorted_edges_are_noticed() {
    check_planted(|tables| tables.edges.reverse());
}
