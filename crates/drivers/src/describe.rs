//! What the graph is told of a node of each driver: its kind, its edges, their roles and policies.
//!
//! Source: QEMU's documented roles of its drivers' children.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_graph::{Edge, EdgePolicy, NodeAttributes, NodeKind, Parent, Role, Roles};
use blockyard_units::NodeId;

use crate::FILE;

const KINDS: [(&str, NodeKind); 5] = [
    ("memory", NodeKind::Protocol),
    ("null-co", NodeKind::Protocol),
    ("file", NodeKind::Protocol),
    ("raw", NodeKind::Format),
    ("throttle", NodeKind::Filter),
];

/// The kind of a node with this driver, if the driver is one of this crate's.
pub fn node_kind(driver: &str) -> Option<NodeKind> {
    KINDS.iter().find(|(name, _)| *name == driver).map(|(_, kind)| *kind)
}

/// What the graph is to know of a new node: active, not retired.
///
/// # Panics
/// `driver-is-known`: if the driver is none of this crate's.
pub fn attributes(name: &str, driver: &'static str, read_only: bool) -> NodeAttributes {
    let kind = node_kind(driver).unwrap_or_else(|| panic!("driver-is-known: {driver}"));
    NodeAttributes { name: name.into(), kind, driver, read_only, active: true, retired: false }
}

/// The edges that `node` holds on its children, given by their names at `node`.
///
/// Both drivers with a child pass on what their parents require and share. `raw` could keep other
/// writers off its storage, as formats do; but as long as it shows all of its child's bytes where
/// they are, it has nothing of its own that they could harm, and it has to pass on unchanged writes
/// too.
///
/// # Panics
/// `driver-is-known`; `driver-has-child`: if the driver has no child of such a name.
pub fn child_edges(node: NodeId, driver: &str, children: &[(&str, NodeId)]) -> Vec<Edge> {
    let roles = match node_kind(driver).unwrap_or_else(|| panic!("driver-is-known: {driver}")) {
        NodeKind::Protocol => None,
        NodeKind::Format => Some(Roles::of(&[Role::Data, Role::Primary])),
        NodeKind::Filter => Some(Roles::of(&[Role::Filtered, Role::Primary])),
    };
    let edge = |(name, child): &(&str, NodeId)| {
        let known = roles.filter(|_| *name == FILE);
        Edge {
            parent: Parent::Node(node),
            name: String::from(*name),
            child: *child,
            roles: known.unwrap_or_else(|| panic!("driver-has-child: {driver}.{name}")),
            policy: EdgePolicy::Passthrough,
            frozen: None,
        }
    };
    children.iter().map(edge).collect()
}
