//! Sets of permissions, and how an edge's policy makes them of what the parents of its parent ask.
//!
//! Not for: deciding whether two edges agree; that is judged over a whole graph.
//!
//! Source: QEMU's documented permissions; the default permissions of its filters, formats and
//! backing links.
//! Differs: a format without metadata of its own (no metadata role) still does not share write on
//! its storage.

use core::fmt;

use crate::parts::{EdgePolicy, NodeAttributes, Role, Roles};

/// A set of permissions on a node, required or shared by an edge.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permissions(u8);

const WORDS: [(Permissions, &str); 4] = [
    (Permissions::CONSISTENT_READ, "consistent-read"),
    (Permissions::WRITE, "write"),
    (Permissions::WRITE_UNCHANGED, "write-unchanged"),
    (Permissions::RESIZE, "resize"),
];

impl Permissions {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// Reading data that makes sense as a disk at some moment.
    pub const CONSISTENT_READ: Self = Self(1);
    /// Changing what a reader sees.
    pub const WRITE: Self = Self(2);
    /// Writing what a reader sees already.
    pub const WRITE_UNCHANGED: Self = Self(4);
    /// Changing the length.
    pub const RESIZE: Self = Self(8);
    /// Every permission.
    pub const ALL: Self = Self(15);
    /// Those that a read-only or inactive node grants to nobody.
    pub const MODIFYING: Self = Self(2 | 4 | 8);

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this one and not in the other.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in this one.
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Permissions {
    /// The words, with commas between; `nothing` for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let mut separator = "";
        for (permission, word) in WORDS {
            if self.contains(permission) {
                write!(f, "{separator}{word}")?;
                separator = ", ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

/// What all edges to a node ask of it together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cumulative {
    /// What at least one requires.
    pub required: Permissions,
    /// What every one shares.
    pub shared: Permissions,
}

impl Cumulative {
    /// Of a node without parents, and of backends and jobs.
    pub const NOBODY: Self = Self { required: Permissions::NONE, shared: Permissions::ALL };

    /// With one more edge.
    pub fn and(self, edge: Self) -> Self {
        Self {
            required: self.required.union(edge.required),
            shared: self.shared.intersection(edge.shared),
        }
    }

    /// What one of the two requires and the other does not share, if anything.
    pub fn conflicts(self, other: Self) -> bool {
        !other.shared.contains(self.required) || !self.shared.contains(other.required)
    }
}

/// What an edge with `policy` and `roles` requires and shares. `node` is its parent, if that is a
/// node, `child` what it leads to, and `above` what that parent's own parents ask together.
pub(crate) fn of_edge(
    policy: &EdgePolicy,
    roles: Roles,
    node: Option<&NodeAttributes>,
    child: &NodeAttributes,
    above: Cumulative,
) -> Cumulative {
    let asked = of_policy(policy, roles, node, above);
    let shares_all = node.is_some() && child.options.force_share;
    if shares_all { Cumulative { shared: Permissions::ALL, ..asked } } else { asked }
}

fn of_policy(
    policy: &EdgePolicy,
    roles: Roles,
    node: Option<&NodeAttributes>,
    above: Cumulative,
) -> Cumulative {
    match *policy {
        EdgePolicy::Explicit { required, shared } => Cumulative { required, shared },
        EdgePolicy::Passthrough => above,
        EdgePolicy::Exclusive => {
            Cumulative { shared: above.shared.difference(WRITE_AND_RESIZE), ..above }
        }
        EdgePolicy::CopyOnRead => of_copy_on_read(node, above),
        EdgePolicy::Preallocate => of_preallocate(node, above),
        EdgePolicy::Storage => of_storage(roles, node, above),
        EdgePolicy::Backing => of_backing(node, above),
        EdgePolicy::Committed => {
            let shared = above.shared.union(WRITE_AND_RESIZE);
            of_backing(node, Cumulative { shared, ..above })
        }
    }
}

const WRITE_AND_RESIZE: Permissions = Permissions::WRITE.union(Permissions::RESIZE);

fn is_writable(node: Option<&NodeAttributes>) -> bool {
    node.is_some_and(|node| !node.read_only && node.active)
}

/// What it writes is what everybody sees already.
fn of_copy_on_read(node: Option<&NodeAttributes>, above: Cumulative) -> Cumulative {
    let unchanged = Permissions::WRITE_UNCHANGED;
    let needed = if is_writable(node) { unchanged } else { Permissions::NONE };
    Cumulative { required: above.required.union(needed), shared: above.shared.union(unchanged) }
}

/// What it allocates ahead it takes away again when nobody writes any more; so nobody else is to see a length.
fn of_preallocate(node: Option<&NodeAttributes>, above: Cumulative) -> Cumulative {
    let needed = if is_writable(node) { Permissions::RESIZE } else { Permissions::NONE };
    let shared = above.shared.difference(Permissions::RESIZE).union(of_inactive(node));
    Cumulative { required: above.required.union(needed), shared }
}

/// A format reads its own structures, so it always needs them consistent and nobody else may change
/// them. While it is writable it may touch metadata though no parent writes; plain data it changes
/// only for a parent.
fn of_storage(roles: Roles, node: Option<&NodeAttributes>, above: Cumulative) -> Cumulative {
    let writable = is_writable(node);
    let asked = !above.required.intersection(Permissions::MODIFYING).is_empty();
    let mut required = Permissions::CONSISTENT_READ;
    if writable && (asked || roles.contains(Role::Metadata)) {
        required = required.union(WRITE_AND_RESIZE);
    }
    let shared = above.shared.difference(WRITE_AND_RESIZE);
    Cumulative { required, shared: shared.union(of_inactive(node)) }
}

/// An overlay only reads its base. If its parents can live with data that change, so it can;
/// rewriting the base with what it says already never matters.
fn of_backing(node: Option<&NodeAttributes>, above: Cumulative) -> Cumulative {
    let mut shared = Permissions::CONSISTENT_READ.union(Permissions::WRITE_UNCHANGED);
    if above.shared.contains(Permissions::WRITE) {
        shared = shared.union(WRITE_AND_RESIZE);
    }
    Cumulative {
        required: above.required.intersection(Permissions::CONSISTENT_READ),
        shared: shared.union(of_inactive(node)),
    }
}

/// What an inactive node shares whatever its policy says: the image belongs to somebody else for
/// now.
fn of_inactive(node: Option<&NodeAttributes>) -> Permissions {
    if node.is_some_and(|node| !node.active) { WRITE_AND_RESIZE } else { Permissions::NONE }
}
