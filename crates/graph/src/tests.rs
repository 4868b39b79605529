//! Examples: what a graph accepts and refuses, and in which words.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use blockyard_units::{BackendId, Id, JobId, NodeId};

use crate::{
    Edge, EdgePolicy, Edit, Graph, NodeAttributes, NodeKind, Parent, Permissions, Refused,
    RefusedKind, Role, Roles,
};

mod permissions;
mod planted;
mod refusals;
mod reshaping;

const READ: Permissions = Permissions::CONSISTENT_READ;
const WRITE: Permissions = Permissions::WRITE;
const READ_WRITE: Permissions = READ.union(WRITE);
const ALL_BUT_WRITE: Permissions = Permissions::ALL.difference(WRITE);

fn id(index: u32) -> Id {
    Id { creator: 0, index }
}

fn n(index: u32) -> NodeId {
    NodeId(id(index))
}

fn node(index: u32) -> Parent {
    Parent::Node(n(index))
}

fn backend(index: u32) -> Parent {
    Parent::Backend(BackendId(id(index)))
}

fn job(index: u32) -> Parent {
    Parent::Job(JobId(id(index)))
}

fn attributes(name: &str) -> NodeAttributes {
    NodeAttributes::new(name, NodeKind::Format, "test")
}

fn add_node(index: u32, name: &str) -> Edit {
    Edit::AddNode { id: n(index), attributes: attributes(name) }
}

fn add_backend(index: u32, name: &str) -> Edit {
    Edit::AddBackend { id: BackendId(id(index)), name: name.into() }
}

fn add_job(index: u32, name: &str) -> Edit {
    Edit::AddJob { id: JobId(id(index)), name: name.into() }
}

fn add_edge(parent: Parent, name: &str, child: u32, policy: EdgePolicy) -> Edit {
    let roles = match policy {
        EdgePolicy::Explicit { .. } => Roles::NONE,
        EdgePolicy::Passthrough
        | EdgePolicy::Exclusive
        | EdgePolicy::CopyOnRead
        | EdgePolicy::Preallocate => Role::Filtered.into(),
        EdgePolicy::Storage => Roles::of(&[Role::Data, Role::Primary]),
        EdgePolicy::Backing | EdgePolicy::Committed => Role::Cow.into(),
    };
    Edit::AddEdge(Edge { parent, name: name.into(), child: n(child), roles, policy, frozen: None })
}

fn explicit(required: Permissions, shared: Permissions) -> EdgePolicy {
    EdgePolicy::Explicit { required, shared }
}

/// As a guest device holds its disk: the only one that writes.
fn guest() -> EdgePolicy {
    explicit(READ_WRITE, ALL_BUT_WRITE)
}

fn replace(parent: Parent, name: &str, expected: u32, new: u32) -> Edit {
    Edit::ReplaceChild { parent, name: name.into(), expected: Some(n(expected)), new: n(new) }
}

fn remove_edge(parent: Parent, name: &str) -> Edit {
    Edit::RemoveEdge { parent, name: name.into(), expected: None }
}

fn remove_node(index: u32) -> Edit {
    Edit::RemoveNode { id: n(index) }
}

fn graph(edits: &[Edit]) -> Graph {
    Graph::default().apply(edits).expect("the example is a graph")
}

/// `edits` are refused in these words, with this kind, and the graph stays as it was.
fn check_refused(graph: &Graph, edits: &[Edit], kind: RefusedKind, words: &str) {
    let before = (graph.clone(), graph.describe());
    let refused: Refused = graph.apply(edits).expect_err("the list breaks a rule");
    assert_eq!((refused.kind, refused.to_string().as_str()), (kind, words));
    assert_eq!(*graph, before.0);
    assert_eq!(graph.describe(), before.1);
}

/// A guest's disk0 (backend 0) on src (node 0), above dst (node 1) which nobody holds.
fn disk() -> Graph {
    graph(&[
        add_node(0, "src"),
        add_node(1, "dst"),
        add_backend(0, "disk0"),
        add_edge(backend(0), "root", 0, guest()),
    ])
}

#[test]
fn lookups_find_what_was_added_and_nothing_else() {
    let graph = disk().apply(&[add_job(0, "m0")]).unwrap();
    assert_eq!(graph.node(n(0)).unwrap().name, "src");
    assert_eq!(graph.node(n(2)), None);
    assert_eq!(graph.node_by_name("dst"), Some(n(1)));
    assert_eq!(graph.node_by_name("disk0"), None);
    assert_eq!(graph.backend_by_name("disk0"), Some(BackendId(id(0))));
    assert_eq!(graph.backend_name(BackendId(id(0))), Some("disk0"));
    assert_eq!(graph.job_by_name("m0"), Some(JobId(id(0))));
    assert_eq!(graph.job_name(JobId(id(1))), None);
    assert_eq!(graph.child(backend(0), "root"), Some(n(0)));
    assert_eq!(graph.child(backend(0), "file"), None);
    assert_eq!(graph.permissions(backend(0), "root"), Some((READ_WRITE, ALL_BUT_WRITE)));
    assert_eq!(graph.parents(n(0)).count(), 1);
    assert_eq!(graph.children(backend(0)).count(), 1);
    assert_eq!(graph.children(node(0)).count(), 0);
    assert_eq!(graph.parent_name(backend(0)), Some("disk0"));
}

#[test]
fn picture_is_stable() {
    let mut old = attributes("old");
    (old.read_only, old.active, old.retired) = (true, false, true);
    let graph = disk()
        .apply(&[
            add_node(2, "mf"),
            Edit::AddNode { id: n(3), attributes: old },
            add_edge(node(2), "file", 0, EdgePolicy::Passthrough),
            replace(backend(0), "root", 0, 2),
            Edit::Freeze { parent: node(2), name: "file".into(), holder: "job m0".into() },
        ])
        .unwrap();
    let picture = "\
mf.file -> src (filtered) [requires consistent-read, write; shares consistent-read, write-unchanged, resize] \
frozen by job m0
disk0.root -> mf [requires consistent-read, write; shares consistent-read, write-unchanged, resize]
dst: without edges
old: read-only, inactive, retired, without edges
";
    assert_eq!(graph.describe(), picture);
}

#[test]
fn walks_follow_every_branch_of_a_diamond() {
    let graph = graph(&[
        add_node(0, "bottom"),
        add_node(1, "left"),
        add_node(2, "right"),
        add_node(3, "top"),
        add_node(4, "other"),
        add_backend(0, "disk0"),
        add_edge(backend(0), "root", 3, EdgePolicy::Passthrough),
        add_edge(node(3), "a", 1, EdgePolicy::Passthrough),
        add_edge(node(3), "b", 2, EdgePolicy::Passthrough),
        add_edge(node(1), "file", 0, EdgePolicy::Passthrough),
        add_edge(node(2), "file", 0, EdgePolicy::Passthrough),
    ]);
    assert_eq!(graph.topological(), [n(3), n(4), n(1), n(2), n(0)]);
    assert_eq!(graph.descendants(n(3)), [n(3), n(1), n(2), n(0)]);
    assert_eq!(graph.descendants(n(1)), [n(1), n(0)]);
    assert_eq!(graph.ancestors(n(0)), [n(3), n(1), n(2), n(0)]);
    assert_eq!(graph.ancestors(n(2)), [n(3), n(2)]);
    assert_eq!(graph.descendants(n(9)), []);
    assert_eq!(graph.ancestors(n(9)), []);
    assert!(graph.reaches(backend(0), n(0)));
    assert!(graph.reaches(node(0), n(0)), "a node arrives at itself");
    assert!(!graph.reaches(backend(0), n(4)));
    assert!(!graph.reaches(node(1), n(2)));
    assert!(!graph.reaches(node(9), n(9)), "a node that is not there arrives nowhere");
}

#[test]
fn walks_pass_what_fits_into_one_word() {
    let mut edits: Vec<Edit> = (0..300).map(|i| add_node(i, &i.to_string())).collect();
    edits.extend((1..300).map(|i| add_edge(node(i), "file", i - 1, EdgePolicy::Passthrough)));
    let graph = graph(&edits);
    assert!(graph.reaches(node(299), n(0)));
    assert!(!graph.reaches(node(0), n(299)));
    assert_eq!(graph.descendants(n(200)).len(), 201);
    assert_eq!(graph.ancestors(n(200)).len(), 100);
}

#[test]
fn changed_edges_are_those_added_removed_and_redirected() {
    let before = disk()
        .apply(&[add_job(0, "m0"), add_edge(job(0), "target", 1, explicit(READ, Permissions::ALL))])
        .unwrap();
    let after = before
        .apply(&[
            remove_edge(job(0), "target"),
            add_edge(job(0), "source", 0, explicit(READ, Permissions::ALL)),
            replace(backend(0), "root", 0, 1),
        ])
        .unwrap();
    let names = |changed: Vec<crate::EdgeKey>| -> Vec<String> {
        changed.into_iter().map(|key| key.name).collect()
    };
    assert_eq!(names(before.changed_edges(&after)), ["root", "source", "target"]);
    assert_eq!(names(after.changed_edges(&before)), ["root", "source", "target"]);
    assert!(before.changed_edges(&before).is_empty());
}
