//! The parts of a graph: nodes' attributes, edges with their roles and policies, and who holds
//! them.
//!
//! Not for: how parts fit together; a part on its own is always right.

use alloc::string::String;
use core::fmt;

use blockyard_units::{BackendId, JobId, NodeId};

use crate::options::NodeOptions;
use crate::permissions::Permissions;

/// What an edge is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The child holds guest data.
    Data,
    /// The child holds the parent's own structures.
    Metadata,
    /// The parent is a filter, and this is what it filters.
    Filtered,
    /// The child is read where the parent has nothing.
    Cow,
    /// The child that stands for the parent where one must.
    Primary,
}

const ROLES: [(Role, &str); 5] = [
    (Role::Data, "data"),
    (Role::Metadata, "metadata"),
    (Role::Filtered, "filtered"),
    (Role::Cow, "cow"),
    (Role::Primary, "primary"),
];

/// A set of roles.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Roles(u8);

impl Roles {
    /// The empty set: an edge that only holds on.
    pub const NONE: Self = Self(0);

    /// With `role` in it.
    #[must_use]
    pub const fn with(self, role: Role) -> Self {
        Self(self.0 | 1 << role as u8)
    }

    /// The set of `roles`.
    pub fn of(roles: &[Role]) -> Self {
        roles.iter().fold(Self::NONE, |set, role| set.with(*role))
    }

    /// Whether `role` is in it.
    pub const fn contains(self, role: Role) -> bool {
        self.0 & 1 << role as u8 != 0
    }

    /// Whether no role is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl From<Role> for Roles {
    fn from(role: Role) -> Self {
        Self::NONE.with(role)
    }
}

impl fmt::Display for Roles {
    /// The words, with commas between; empty for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (role, word) in ROLES {
            if self.contains(role) {
                write!(f, "{separator}{word}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// The name of a backend's one edge.
pub const ROOT: &str = "root";

/// Who holds an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parent {
    /// A node, on its child.
    Node(NodeId),
    /// A backend, on its root.
    Backend(BackendId),
    /// A job, on a node it works with.
    Job(JobId),
}

/// What sort of driver a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeKind {
    /// Guest data laid out inside its storage.
    Format,
    /// Shows its main child's data as its own.
    Filter,
    /// Reaches outside the graph; without children.
    Protocol,
}

/// What the graph knows of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAttributes {
    /// The node-name, unique among the nodes of a graph.
    pub name: String,
    /// What sort of driver it has.
    pub kind: NodeKind,
    /// The driver's name.
    pub driver: &'static str,
    /// Grants nobody a permission to modify.
    pub read_only: bool,
    /// False while the image belongs to somebody else: the node modifies nothing and shares more.
    pub active: bool,
    /// A job is done with it and it only waits to be removed. Has no effect on judging.
    pub retired: bool,
    /// What every node may be told. Of these only `force_share` has an effect on judging.
    pub options: NodeOptions,
}

impl NodeAttributes {
    /// Those of a node that may be written, is active and in use, and has all options as they are by default.
    pub fn new(name: impl Into<String>, kind: NodeKind, driver: &'static str) -> Self {
        Self {
            name: name.into(),
            kind,
            driver,
            read_only: false,
            active: true,
            retired: false,
            options: NodeOptions::default(),
        }
    }
}

/// How an edge comes by the permissions it requires and shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgePolicy {
    /// As its holder says.
    Explicit {
        /// What the holder needs.
        required: Permissions,
        /// What the holder lets other edges to the child have.
        shared: Permissions,
    },
    /// A filter's main child: requires what any parent of the filter requires, shares what all of
    /// them share.
    Passthrough,
    /// As [`Passthrough`](Self::Passthrough), of a filter that must see every change: shares neither write nor
    /// resize.
    Exclusive,
    /// As [`Passthrough`](Self::Passthrough), of a filter that copies up what is read: requires write-unchanged too
    /// while the node is writable, and always shares it.
    CopyOnRead,
    /// As [`Passthrough`](Self::Passthrough), of a filter that allocates ahead: requires resize too while the node is
    /// writable, and does not share it, unless the node is inactive.
    Preallocate,
    /// A format's storage: always consistent-read; write and resize while the node is writable and
    /// a parent modifies (or, with the metadata role, whether or not). Shares what the parents
    /// share, but neither write nor resize, unless the node is inactive.
    Storage,
    /// An overlay's base: consistent-read if a parent requires it. Shares consistent-read and
    /// write-unchanged, and write and resize only if all parents share write or the node is
    /// inactive.
    Backing,
    /// As [`Backing`](Self::Backing), of an overlay that is being committed: what is written below it leaves what it
    /// shows as it is, so it shares write and resize whatever its parents share.
    Committed,
}

/// A parent's hold on a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Who holds it.
    pub parent: Parent,
    /// The child's name at its parent: `file`, `root`, `target`; unique at that parent.
    pub name: String,
    /// The node it leads to.
    pub child: NodeId,
    /// What it is for.
    pub roles: Roles,
    /// How its permissions are made.
    pub policy: EdgePolicy,
    /// Who froze it, if anybody: until then it may be neither removed nor redirected.
    pub frozen: Option<String>,
}

impl Edge {
    /// What identifies it in its graph.
    pub fn key(&self) -> EdgeKey {
        EdgeKey { parent: self.parent, name: self.name.clone() }
    }
}

/// What identifies an edge, wherever it leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeKey {
    /// Who holds it.
    pub parent: Parent,
    /// The child's name at its parent.
    pub name: String,
}
