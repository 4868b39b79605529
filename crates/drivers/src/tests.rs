//! What the graph makes of the edges.

use alloc::vec::Vec;

use blockyard_graph::{Edge, EdgePolicy, Edit, Graph, NodeKind, Parent, Permissions, Roles};
use blockyard_units::{BackendId, Id, NodeId};

use crate::{attributes, child_edges, node_kind};

#[test]
fn kinds_are_as_the_drivers_are() {
    assert_eq!(node_kind("memory"), Some(NodeKind::Protocol));
    assert_eq!(node_kind("null-co"), Some(NodeKind::Protocol));
    assert_eq!(node_kind("file"), Some(NodeKind::Protocol));
    assert_eq!(node_kind("raw"), Some(NodeKind::Format));
    assert_eq!(node_kind("luks"), Some(NodeKind::Format));
    assert_eq!(node_kind("overlay"), Some(NodeKind::Format));
    assert_eq!(node_kind("quorum"), Some(NodeKind::Format));
    assert_eq!(node_kind("blkverify"), Some(NodeKind::Filter));
    assert_eq!(node_kind("compress"), Some(NodeKind::Filter));
    assert_eq!(node_kind("copy-on-read"), Some(NodeKind::Filter));
    assert_eq!(node_kind("blkdebug"), Some(NodeKind::Filter));
    assert_eq!(node_kind("throttle"), Some(NodeKind::Filter));
    assert_eq!(node_kind("qcow3"), None);
}

/// disk0 -> throttle -> raw -> file: what the lowest edge requires and shares.
fn at_the_bottom(required: Permissions, shared: Permissions) -> (Permissions, Permissions) {
    let id = |index| Id { creator: 9, index };
    let nodes = [("throttle", NodeId(id(1))), ("raw", NodeId(id(2))), ("file", NodeId(id(3)))];
    let backend = BackendId(id(0));
    let mut edits = Vec::from([Edit::AddBackend { id: backend, name: "disk0".into() }]);
    for (driver, node) in nodes {
        edits.push(Edit::AddNode { id: node, attributes: attributes(driver, driver) });
    }
    edits.push(Edit::AddEdge(Edge {
        parent: Parent::Backend(backend),
        name: "root".into(),
        child: nodes[0].1,
        roles: Roles::NONE,
        policy: EdgePolicy::Explicit { required, shared },
        frozen: None,
    }));
    for pair in nodes.windows(2) {
        let edges = child_edges(pair[0].1, pair[0].0, &[("file", pair[1].1)]);
        edits.extend(edges.into_iter().map(Edit::AddEdge));
    }
    let graph = Graph::default().apply(&edits).expect("nobody conflicts");
    graph.permissions(Parent::Node(nodes[1].1), "file").expect("raw has a child")
}

#[test]
fn permissions_pass_through_raw_and_throttle() {
    for required in [Permissions::WRITE, Permissions::WRITE_UNCHANGED, Permissions::NONE] {
        let required = required.union(Permissions::CONSISTENT_READ);
        for shared in [Permissions::ALL, Permissions::CONSISTENT_READ] {
            assert_eq!(at_the_bottom(required, shared), (required, shared));
        }
    }
}

#[test]
#[should_panic(expected = "driver-has-child: memory.file")]
fn a_protocol_driver_has_no_children() {
    let id = |index| NodeId(Id { creator: 9, index });
    child_edges(id(0), "memory", &[("file", id(1))]);
}
