//! What the graph is told of a node of each driver: its kind, its edges, their roles and policies.
//!
//! Source: QEMU's documented roles of its drivers' children.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_graph::{Edge, EdgePolicy, NodeAttributes, NodeKind, Parent, Role, Roles};
use blockyard_units::NodeId;

use crate::{BACKING, FILE};

const KINDS: [(&str, NodeKind); 6] = [
    ("memory", NodeKind::Protocol),
    ("null-co", NodeKind::Protocol),
    ("file", NodeKind::Protocol),
    ("raw", NodeKind::Format),
    ("overlay", NodeKind::Format),
    ("throttle", NodeKind::Filter),
];

/// The kind of a node with this driver, if the driver is one of this crate's.
pub fn node_kind(driver: &str) -> Option<NodeKind> {
    KINDS.iter().find(|(name, _)| *name == driver).map(|(_, kind)| *kind)
}

/// Whether a node with this driver may hold a child of this name.
pub fn takes_child(driver: &str, child: &str) -> bool {
    match driver {
        "raw" | "throttle" => child == FILE,
        "overlay" => child == BACKING,
        _ => false,
    }
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
/// All drivers with a child `file` pass on what their parents require and share. `raw` could keep
/// other writers off its storage, as formats do; but as long as it shows all of its child's bytes
/// where they are, it has nothing of its own that they could harm, and it has to pass on unchanged
/// writes too.
///
/// # Panics
/// `driver-has-child`: if the driver has no child of such a name.
pub fn child_edges(node: NodeId, driver: &str, children: &[(&str, NodeId)]) -> Vec<Edge> {
    let edge = |(name, child): &(&str, NodeId)| {
        assert!(takes_child(driver, name), "driver-has-child: {driver}.{name}");
        let (roles, policy) = match node_kind(driver) {
            _ if *name == BACKING => (Role::Cow.into(), EdgePolicy::Backing),
            Some(NodeKind::Filter) => {
                (Roles::of(&[Role::Filtered, Role::Primary]), EdgePolicy::Passthrough)
            }
            _ => (Roles::of(&[Role::Data, Role::Primary]), EdgePolicy::Passthrough),
        };
        let (parent, name) = (Parent::Node(node), String::from(*name));
        Edge { parent, name, child: *child, roles, policy, frozen: None }
    };
    children.iter().map(edge).collect()
}
