//! Each rule, broken once, and the words for it.

use super::*;
use RefusedKind::{Cycle, Duplicate, Frozen, InUse, Mismatch, NotFound, Permission, ReadOnly};

#[test]
fn redirected_edge_does_not_match_what_is_expected() {
    let graph = disk();
    check_refused(
        &graph,
        &[replace(backend(0), "root", 1, 0)],
        Mismatch,
        "refused: edge disk0.root leads to src, expected dst",
    );
    let remove = Edit::RemoveEdge { parent: backend(0), name: "root".into(), expected: Some(n(1)) };
    check_refused(
        &graph,
        &[remove],
        Mismatch,
        "refused: edge disk0.root leads to src, expected dst",
    );
    let expect = |expected| Edit::ExpectRoot { backend: BackendId(id(0)), expected };
    check_refused(
        &graph,
        &[expect(None)],
        Mismatch,
        "refused: edge disk0.root leads to src, expected nothing",
    );
    assert_eq!(graph.apply(&[expect(Some(n(0)))]).unwrap(), graph);
    let rootless = graph.apply(&[remove_edge(backend(0), "root")]).unwrap();
    assert_eq!(rootless.apply(&[expect(None)]).unwrap(), rootless);
    check_refused(
        &rootless,
        &[expect(Some(n(0)))],
        Mismatch,
        "refused: edge disk0.root leads to nothing, expected src",
    );
}

#[test]
fn namesake_does_not_match_the_node_that_was_expected() {
    let graph = disk()
        .apply(&[replace(backend(0), "root", 0, 1), remove_node(0)])
        .unwrap()
        .apply(&[add_node(2, "src"), replace(backend(0), "root", 1, 2)])
        .unwrap();
    check_refused(
        &graph,
        &[replace(backend(0), "root", 0, 1)],
        Mismatch,
        "refused: edge disk0.root leads to src, expected node 0.0",
    );
    let both = [
        Edit::SetAttributes { id: n(1), attributes: attributes("src") },
        replace(backend(0), "root", 1, 2),
    ];
    check_refused(
        &graph,
        &both,
        Mismatch,
        "refused: edge disk0.root leads to src (node id 0.2), expected src (node id 0.1)",
    );
}

#[test]
fn expectation_sees_what_earlier_edits_of_the_list_left() {
    let there_and_back = [replace(backend(0), "root", 0, 1), replace(backend(0), "root", 1, 0)];
    assert_eq!(disk().apply(&there_and_back).unwrap(), disk());
    check_refused(
        &disk(),
        &[replace(backend(0), "root", 0, 1), replace(backend(0), "root", 0, 1)],
        Mismatch,
        "refused: edge disk0.root leads to dst, expected src",
    );
}

#[test]
fn edges_that_close_a_ring_are_refused() {
    let file = |from, to| add_edge(node(from), "file", to, EdgePolicy::Passthrough);
    check_refused(
        &disk(),
        &[file(0, 1), add_node(2, "mf"), file(1, 2), file(2, 0)],
        Cycle,
        "refused: the edges would form a cycle: src -> dst -> mf -> src",
    );
    check_refused(
        &disk(),
        &[file(0, 0)],
        Cycle,
        "refused: the edges would form a cycle: src -> src",
    );
}

#[test]
fn frozen_edge_is_neither_removed_nor_redirected() {
    let freeze = Edit::Freeze { parent: backend(0), name: "root".into(), holder: "job m0".into() };
    let unfreeze = Edit::Unfreeze { parent: backend(0), name: "root".into() };
    let graph = disk().apply(core::slice::from_ref(&freeze)).unwrap();
    let words = "refused: job m0 holds edge disk0.root frozen (node src)";
    let again = add_edge(backend(0), "root", 0, guest());
    check_refused(&graph, &[replace(backend(0), "root", 0, 1)], Frozen, words);
    check_refused(&graph, &[remove_edge(backend(0), "root")], Frozen, words);
    check_refused(&graph, &[remove_edge(backend(0), "root"), again], Frozen, words);
    check_refused(&graph, &[freeze], Frozen, "refused: job m0 froze edge disk0.root already");
    check_refused(
        &disk(),
        core::slice::from_ref(&unfreeze),
        Mismatch,
        "refused: nobody froze edge disk0.root",
    );
    let there_and_back = [replace(backend(0), "root", 0, 1), replace(backend(0), "root", 1, 0)];
    assert_eq!(graph.apply(&there_and_back).unwrap(), graph, "the final value counts");
    let thawed = graph.apply(&[unfreeze, replace(backend(0), "root", 0, 1)]).unwrap();
    assert_eq!(thawed.child(backend(0), "root"), Some(n(1)));
}

#[test]
fn conflict_names_both_holders_and_edges() {
    let source = explicit(READ, ALL_BUT_WRITE);
    check_refused(
        &disk(),
        &[add_job(0, "m0"), add_edge(job(0), "source", 0, source)],
        Permission,
        "refused: job m0 holds edge m0.source without sharing write, \
         backend disk0 needs it on edge disk0.root (node src)",
    );
    check_refused(
        &disk(),
        &[add_job(0, "m0"), add_edge(job(0), "target", 0, explicit(WRITE, Permissions::ALL))],
        Permission,
        "refused: backend disk0 holds edge disk0.root without sharing write, \
         job m0 needs it on edge m0.target (node src)",
    );
}

#[test]
fn read_only_and_inactive_nodes_are_not_written() {
    let set = |attributes| [Edit::SetAttributes { id: n(0), attributes }];
    check_refused(
        &disk(),
        &set(NodeAttributes { read_only: true, ..attributes("src") }),
        ReadOnly,
        "refused: node src is read-only, backend disk0 needs write on edge disk0.root",
    );
    check_refused(
        &disk(),
        &set(NodeAttributes { active: false, ..attributes("src") }),
        ReadOnly,
        "refused: node src is inactive, backend disk0 needs write on edge disk0.root",
    );
}

#[test]
fn names_and_ids_are_taken_once() {
    let graph = disk().apply(&[add_job(0, "m0")]).unwrap();
    let cases = [
        (add_node(2, "src"), "refused: there is a node src already"),
        (add_backend(1, "disk0"), "refused: there is a backend disk0 already"),
        (add_job(1, "m0"), "refused: there is a job m0 already"),
        (add_backend(0, "disk1"), "refused: backend disk0 is there already"),
        (add_job(0, "m1"), "refused: job m0 is there already"),
        (add_node(0, "new"), "refused: node id 0.0 was used before, it cannot be node new"),
        (
            Edit::SetAttributes { id: n(0), attributes: attributes("dst") },
            "refused: there is a node dst already",
        ),
        (
            add_edge(backend(0), "root", 1, guest()),
            "refused: edge disk0.root is there already and leads to src",
        ),
    ];
    for (edit, words) in cases {
        check_refused(&graph, &[edit], Duplicate, words);
    }
}

#[test]
fn node_id_is_not_reused_after_its_node_is_gone() {
    let words = "refused: node id 0.1 was used before, it cannot be node dst";
    let graph = disk().apply(&[remove_node(1)]).unwrap();
    check_refused(&graph, &[add_node(1, "dst")], Duplicate, words);
    check_refused(&disk(), &[remove_node(1), add_node(1, "dst")], Duplicate, words);
    assert!(graph.apply(&[add_node(2, "dst")]).is_ok());
}

#[test]
fn what_is_not_there_is_not_found() {
    let path = explicit(READ, Permissions::ALL);
    let cases = [
        (remove_node(7), "refused: node 0.7 is not there"),
        (
            Edit::SetAttributes { id: n(7), attributes: attributes("x") },
            "refused: node 0.7 is not there",
        ),
        (Edit::RemoveBackend { id: BackendId(id(7)) }, "refused: backend 0.7 is not there"),
        (Edit::RemoveJob { id: JobId(id(7)) }, "refused: job 0.7 is not there"),
        (remove_edge(backend(0), "file"), "refused: edge disk0.file is not there"),
        (replace(node(0), "file", 0, 1), "refused: edge src.file is not there"),
        (
            Edit::Unfreeze { parent: node(0), name: "file".into() },
            "refused: edge src.file is not there",
        ),
        (
            Edit::ExpectRoot { backend: BackendId(id(7)), expected: None },
            "refused: backend 0.7 is not there",
        ),
        (
            replace(backend(0), "root", 0, 7),
            "refused: edge disk0.root would lead to node 0.7, which is not there",
        ),
        (
            add_edge(job(7), "source", 0, path),
            "refused: edge job 0.7.source would belong to job 0.7, which is not there",
        ),
    ];
    for (edit, words) in cases {
        check_refused(&disk(), &[edit], NotFound, words);
    }
}

#[test]
fn what_is_held_or_holds_is_not_removed() {
    let graph = disk()
        .apply(&[add_job(0, "m0"), add_edge(job(0), "target", 1, explicit(READ, Permissions::ALL))])
        .unwrap()
        .apply(&[add_node(2, "mf"), add_edge(node(2), "file", 1, EdgePolicy::Passthrough)])
        .unwrap();
    let cases = [
        (remove_node(0), "refused: node src is still held by backend disk0 on edge disk0.root"),
        (remove_node(2), "refused: node mf still holds edge mf.file (node dst)"),
        (
            Edit::RemoveBackend { id: BackendId(id(0)) },
            "refused: backend disk0 still holds edge disk0.root (node src)",
        ),
        (
            Edit::RemoveJob { id: JobId(id(0)) },
            "refused: job m0 still holds edge m0.target (node dst)",
        ),
    ];
    for (edit, words) in cases {
        check_refused(&graph, &[edit], InUse, words);
    }
}
