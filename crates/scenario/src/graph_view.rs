//! A graph in the models' words.

use std::collections::BTreeSet;

use blockyard_graph::{Graph, Parent, Permissions, ROOT};
use blockyard_models::{EdgeView, GraphView, NodeView, ParentView};
use blockyard_units::Id;

/// The nodes that devices reach.
pub(crate) fn reached(graph: &Graph) -> BTreeSet<u64> {
    let roots = graph.backends().filter_map(|(id, _)| graph.child(Parent::Backend(id), ROOT));
    let below = roots.flat_map(|root| graph.descendants(root));
    below.map(|node| node.0.as_u64()).collect()
}

/// All of it.
pub(crate) fn view(graph: &Graph) -> GraphView {
    let number = |id: Id| id.as_u64();
    let nodes = graph.nodes().map(|(id, node)| NodeView {
        id: number(id.0),
        name: node.name.clone(),
        retired: node.retired,
        read_only: node.read_only,
    });
    let name = |parent| String::from(graph.parent_name(parent).unwrap_or_default());
    let edges = graph.edges().map(|edge| {
        let (required, shared) = graph.permissions(edge.parent, &edge.name).unwrap_or_default();
        EdgeView {
            parent: match edge.parent {
                Parent::Node(id) => ParentView::Node(number(id.0)),
                Parent::Backend(id) => ParentView::Backend(number(id.0), name(edge.parent)),
                Parent::Job(id) => ParentView::Job(number(id.0), name(edge.parent)),
            },
            name: edge.name.clone(),
            child: number(edge.child.0),
            required: bits(required),
            shared: bits(shared),
        }
    });
    GraphView { nodes: nodes.collect(), edges: edges.collect() }
}

/// The models' bit set of permissions.
fn bits(permissions: Permissions) -> u8 {
    let bit = |permission, bit| if permissions.contains(permission) { bit } else { 0 };
    bit(Permissions::CONSISTENT_READ, 1)
        | bit(Permissions::WRITE, 2)
        | bit(Permissions::WRITE_UNCHANGED, 4)
        | bit(Permissions::RESIZE, 8)
}
