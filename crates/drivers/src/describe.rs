//! What the graph is told of a node of each driver: its kind, its edges, their roles and policies.
//!
//! Source: QEMU's documented roles of its drivers' children.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::Io;
use blockyard_graph::{
    Edge, EdgePolicy, Graph, NodeAttributes, NodeKind, Parent, Permissions, Role, Roles,
};
use blockyard_units::NodeId;

use crate::{BACKING, DATA_FILE, FILE, IMAGE, Quorum, RAW, TEST};
use crate::{blklogwrites, dedup, luks};

/// A child that a driver may have.
type Child = (&'static str, &'static [Role], EdgePolicy);

const FILTERED: &[Role] = &[Role::Filtered, Role::Primary];

/// Structures among the data.
const IMAGE_FILE: &[Role] = &[Role::Data, Role::Metadata, Role::Primary];

/// Whatever others do.
const READS: EdgePolicy =
    EdgePolicy::Explicit { required: Permissions::CONSISTENT_READ, shared: Permissions::ALL };

/// All may change only together, so nobody else writes them.
const QUORUM: [Child; Quorum::CHILDREN.len()] = {
    let mut all: [Child; Quorum::CHILDREN.len()] =
        [("", &[Role::Data], EdgePolicy::Storage); Quorum::CHILDREN.len()];
    let mut index = 0;
    while index < all.len() {
        all[index].0 = Quorum::CHILDREN[index];
        index += 1;
    }
    all
};

/// Filters pass on what their parents require and share. `raw` could keep other writers off its storage, as formats
/// do; but as long as it shows all of its child's bytes where they are, it has nothing of its own that they could
/// harm, and it has to pass on unchanged writes too.
const DRIVERS: &[(&str, NodeKind, &[Child])] = &[
    ("memory", NodeKind::Protocol, &[]),
    ("null-co", NodeKind::Protocol, &[]),
    ("file", NodeKind::Protocol, &[]),
    ("raw", NodeKind::Format, &[(FILE, &[Role::Data, Role::Primary], EdgePolicy::Passthrough)]),
    // Its driver has a crate of its own.
    (
        "qcow2",
        NodeKind::Format,
        &[
            (FILE, IMAGE_FILE, EdgePolicy::Storage),
            (DATA_FILE, &[Role::Data], EdgePolicy::Storage),
            (BACKING, &[Role::Cow], EdgePolicy::Backing),
        ],
    ),
    (
        "dedup",
        NodeKind::Format,
        &[
            (dedup::METADATA, &[Role::Metadata], EdgePolicy::Storage),
            (dedup::DATA, &[Role::Data], EdgePolicy::Storage),
        ],
    ),
    (
        "luks",
        NodeKind::Format,
        &[
            (FILE, IMAGE_FILE, EdgePolicy::Storage),
            (luks::HEADER, &[Role::Metadata], EdgePolicy::Storage),
        ],
    ),
    ("overlay", NodeKind::Format, &[(BACKING, &[Role::Cow], EdgePolicy::Backing)]),
    (
        "blkverify",
        NodeKind::Filter,
        &[
            (RAW, FILTERED, EdgePolicy::Passthrough),
            // It may change only together with the other.
            (TEST, &[Role::Data], EdgePolicy::Storage),
        ],
    ),
    (
        "blklogwrites",
        NodeKind::Filter,
        &[
            (FILE, FILTERED, EdgePolicy::Passthrough),
            (blklogwrites::LOG, &[Role::Metadata], EdgePolicy::Storage),
        ],
    ),
    ("preallocate", NodeKind::Filter, &[(FILE, FILTERED, EdgePolicy::Preallocate)]),
    ("compress", NodeKind::Filter, &[(FILE, FILTERED, EdgePolicy::Passthrough)]),
    ("copy-on-read", NodeKind::Filter, &[(FILE, FILTERED, EdgePolicy::CopyOnRead)]),
    ("blkdebug", NodeKind::Filter, &[(IMAGE, FILTERED, EdgePolicy::Passthrough)]),
    // What it shows is no one child's bytes.
    ("quorum", NodeKind::Format, &QUORUM),
    // What it shows is not its child's bytes as they are.
    ("snapshot-access", NodeKind::Format, &[(FILE, &[Role::Data], READS)]),
    ("throttle", NodeKind::Filter, &[(FILE, FILTERED, EdgePolicy::Passthrough)]),
];

/// Formats that have nothing but other bytes for the same disk, or the same bytes more than once.
const SHOWS_DATA: &[&str] = &["luks", "quorum"];

fn known(driver: &str) -> Option<(NodeKind, &'static [Child])> {
    let found = DRIVERS.iter().find(|(name, ..)| *name == driver);
    found.map(|(_, kind, children)| (*kind, *children))
}

/// The kind of a node with this driver, if the driver is one of this crate's.
pub fn node_kind(driver: &str) -> Option<NodeKind> {
    known(driver).map(|(kind, _)| kind)
}

/// Whether a node with this driver may hold a child of this name.
pub fn takes_child(driver: &str, child: &str) -> bool {
    known(driver).is_some_and(|(_, children)| children.iter().any(|(name, ..)| *name == child))
}

/// The children whose disk is what `node` shows, in order: that of a filter, or of what encrypts it, or all of those
/// that have the same. None, if the node has a disk of its own.
pub fn shown_children(graph: &Graph, node: NodeId) -> Vec<NodeId> {
    let shows = |edge: &&Edge| match graph.node(node) {
        Some(node) if SHOWS_DATA.contains(&node.driver) => edge.roles.contains(Role::Data),
        _ => edge.roles.contains(Role::Filtered),
    };
    let mut edges: Vec<&Edge> = graph.children(Parent::Node(node)).filter(shows).collect();
    // The tenth comes behind the second.
    edges.sort_by_key(|edge| (edge.name.len(), &edge.name));
    edges.into_iter().map(|edge| edge.child).collect()
}

/// What the graph is to know of a new node: writable, active, in use, with the options that are the default.
///
/// # Panics
/// `driver-is-known`: if the driver is none of this crate's.
pub fn attributes(name: &str, driver: &'static str) -> NodeAttributes {
    let kind = node_kind(driver).unwrap_or_else(|| panic!("driver-is-known: {driver}"));
    NodeAttributes::new(name, kind, driver)
}

/// The edges that `node` holds on its children, given by their names at `node`.
///
/// # Panics
/// `driver-has-child`: if the driver has no child of such a name.
pub fn child_edges(node: NodeId, driver: &str, children: &[(&str, NodeId)]) -> Vec<Edge> {
    let (_, known) = known(driver).unwrap_or_else(|| panic!("driver-is-known: {driver}"));
    let edge = |(name, child): &(&str, NodeId)| {
        let found = known.iter().find(|(known, ..)| known == name);
        let (_, roles, policy) =
            found.unwrap_or_else(|| panic!("driver-has-child: {driver}.{name}"));
        Edge {
            parent: Parent::Node(node),
            name: String::from(*name),
            child: *child,
            roles: Roles::of(roles),
            policy: *policy,
            frozen: None,
        }
    };
    children.iter().map(edge).collect()
}

/// Whether the edge to `child` may write now: as long as nobody writes through the node it may not.
pub(crate) fn may_write(io: &Io, child: &str) -> bool {
    holds(io, child, Permissions::WRITE)
}

/// The same of its length.
pub(crate) fn may_resize(io: &Io, child: &str) -> bool {
    holds(io, child, Permissions::RESIZE)
}

fn holds(io: &Io, child: &str, permission: Permissions) -> bool {
    let held = io.layer().graph().permissions(Parent::Node(io.node_id()), child);
    held.is_some_and(|(held, _)| held.contains(permission))
}
