//! Chains that change shape: what must be accepted because only the final value counts, and what
//! must not.

use super::*;

fn filter(index: u32, name: &str, child: u32) -> [Edit; 2] {
    [add_node(index, name), add_edge(node(index), "file", child, EdgePolicy::Passthrough)]
}

#[test]
fn filter_that_makes_two_unsharing_writers_is_refused() {
    // The filter holds src twice, so a writer above it becomes two writers on src.
    let mut edits = Vec::from(filter(2, "filter", 0));
    edits.push(add_edge(node(2), "second", 0, EdgePolicy::Passthrough));
    edits.push(replace(backend(0), "root", 0, 2));
    check_refused(
        &disk(),
        &edits,
        RefusedKind::Permission,
        "refused: node filter holds edge filter.file without sharing write, \
         node filter needs it on edge filter.second (node src)",
    );
}

#[test]
fn replacing_a_node_by_a_filter_above_it_keeps_the_targets_own_backing_link() {
    let graph = disk()
        .apply(&[
            add_edge(node(1), "backing", 0, EdgePolicy::Backing),
            add_node(2, "filter"),
            add_edge(node(2), "target", 1, explicit(READ, Permissions::ALL)),
        ])
        .unwrap();
    let edits = graph.redirections(n(0), n(2));
    assert_eq!(edits, [replace(backend(0), "root", 0, 2)]);
    let after = graph.apply(&edits).unwrap();
    assert_eq!(after.child(node(1), "backing"), Some(n(0)));
    check_refused(
        &graph,
        &[replace(node(1), "backing", 0, 2)],
        RefusedKind::Cycle,
        "refused: the edges would form a cycle: dst -> filter -> dst",
    );
}

/// top holds fl1 and fl2; both lead to base; top writes through fl1 and bars everybody else from
/// writing.
fn two_paths() -> Graph {
    let exclusive = explicit(READ_WRITE, ALL_BUT_WRITE);
    let passive = explicit(Permissions::NONE, Permissions::ALL);
    let mut edits = Vec::from([add_node(0, "base"), add_node(3, "top")]);
    edits.extend(filter(1, "fl1", 0));
    edits.extend(filter(2, "fl2", 0));
    edits.push(add_edge(node(3), "write", 1, exclusive));
    edits.push(add_edge(node(3), "watch", 2, passive));
    graph(&edits)
}

#[test]
fn permissions_of_a_node_being_removed_do_not_veto() {
    let graph = two_paths();
    let after = graph
        .apply(&[replace(node(3), "write", 1, 2), remove_edge(node(1), "file"), remove_node(1)])
        .unwrap();
    assert_eq!(after.permissions(node(2), "file"), Some((READ_WRITE, ALL_BUT_WRITE)));
}

#[test]
fn exclusive_writer_moves_between_branches_over_a_shared_base_either_way_round() {
    let mut graph = two_paths();
    for (from, to) in [(1, 2), (2, 1), (1, 2)] {
        graph = graph.apply(&[replace(node(3), "write", from, to)]).unwrap();
        assert_eq!(graph.permissions(node(to), "file"), Some((READ_WRITE, ALL_BUT_WRITE)));
        let left = graph.permissions(node(from), "file");
        assert_eq!(left.map(|(required, _)| required), Some(Permissions::NONE));
    }
}

#[test]
fn filter_with_exclusive_rights_is_put_into_a_chain() {
    let greedy = explicit(READ_WRITE, READ);
    let insert = [
        add_node(2, "greedy"),
        add_edge(node(2), "file", 0, greedy),
        replace(backend(0), "root", 0, 2),
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
        let edits = order.map(|index| insert[index].clone());
        let graph = disk().apply(&edits).unwrap();
        assert_eq!(graph.child(backend(0), "root"), Some(n(2)));
        assert_eq!(graph.child(node(2), "file"), Some(n(0)));
    }
    check_refused(
        &disk(),
        &insert[..2],
        RefusedKind::Permission,
        "refused: backend disk0 holds edge disk0.root without sharing write, \
         node greedy needs it on edge greedy.file (node src)",
    );
}

#[test]
fn names_may_be_swapped_within_one_list() {
    let graph = disk()
        .apply(&[
            Edit::SetAttributes { id: n(0), attributes: attributes("dst") },
            Edit::SetAttributes { id: n(1), attributes: attributes("src") },
        ])
        .unwrap();
    assert_eq!(graph.node_by_name("dst"), Some(n(0)));
}

#[test]
fn retired_node_is_judged_like_any_other() {
    let retired = NodeAttributes { retired: true, ..attributes("src") };
    let graph = disk().apply(&[Edit::SetAttributes { id: n(0), attributes: retired }]).unwrap();
    assert_eq!(graph.permissions(backend(0), "root"), Some((READ_WRITE, ALL_BUT_WRITE)));
}

#[test]
fn edges_of_jobs_stay_when_a_node_is_replaced() {
    let graph = disk()
        .apply(&[
            add_job(0, "m0"),
            add_edge(job(0), "filter", 0, explicit(READ, Permissions::ALL)),
            add_node(2, "overlay"),
        ])
        .unwrap();
    assert_eq!(graph.redirections(n(0), n(2)), [replace(backend(0), "root", 0, 2)]);
}

#[test]
fn sketch_is_judged_in_its_shape_alone() {
    // Two writers that do not share: no graph, but a shape.
    let second = [add_backend(1, "disk1"), add_edge(backend(1), "root", 0, guest())];
    assert_eq!(disk().apply(&second).unwrap_err().kind, RefusedKind::Permission);
    let sketch = disk().sketch(&second).unwrap();
    assert_eq!(sketch.parents(n(0)).count(), 2);
    assert!(sketch.reaches(backend(1), n(0)));
    let kind = |edits: &[Edit]| disk().sketch(edits).unwrap_err().kind;
    assert_eq!(kind(&[remove_node(0)]), RefusedKind::InUse);
    assert_eq!(kind(&[replace(backend(0), "root", 1, 0)]), RefusedKind::Mismatch);
    let cycle = [
        add_edge(node(0), "file", 1, EdgePolicy::Passthrough),
        add_edge(node(1), "file", 0, EdgePolicy::Passthrough),
    ];
    assert_eq!(kind(&cycle), RefusedKind::Cycle);
    // A graph comes of the whole list.
    let whole = [&second[..], &[remove_edge(backend(1), "root")]].concat();
    assert_eq!(disk().sketch(&whole).unwrap().topological(), disk().topological());
    assert!(disk().apply(&whole).is_ok());
}
