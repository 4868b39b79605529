//! The value itself: sorted tables behind one reference, and look-ups that allocate nothing.
//!
//! Parts are shared between a value and those derived from it, so deriving copies references, not
//! names. Tables are sorted vectors: `nodes`, `backends`, `jobs` by id, `edges` by holder and child
//! name (`parts-are-sorted`).

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_units::{BackendId, JobId, NodeId};

use crate::draft::Draft;
use crate::edit::Edit;
use crate::parts::{Edge, NodeAttributes, Parent, Role};
use crate::permissions::{Cumulative, Permissions};
use crate::refused::Refused;

/// A block graph. Immutable; a clone is a reference; the default is empty. Two are equal if they
/// have the same parts under the same ids and the same ids are used up.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Graph(pub(crate) Arc<Tables>);

/// What a graph consists of.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    pub nodes: Vec<(NodeId, Arc<NodeAttributes>)>,
    pub backends: Vec<(BackendId, Arc<str>)>,
    pub jobs: Vec<(JobId, Arc<str>)>,
    pub edges: Vec<Held>,
    /// Every node id that this value or one it derives from has had.
    pub used: Arc<BTreeSet<NodeId>>,
    /// Parents before children. Made by judging.
    pub order: Vec<NodeId>,
}

/// An edge with the permissions that judging found for it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub edge: Arc<Edge>,
    pub permissions: Cumulative,
}

impl Graph {
    /// The graph that `edits` make of this one: applied raw, in order, then judged once, on the
    /// final value.
    ///
    /// What an edit expects of an edge is compared when its turn comes, with what the edits before
    /// it left.
    ///
    /// # Errors
    /// [`Refused`] with the first broken rule; its kind says which. This graph is a value: it stays
    /// as it was.
    pub fn apply(&self, edits: &[Edit]) -> Result<Self, Refused> {
        let mut draft = Draft::new(&self.0);
        for edit in edits {
            draft.apply(edit)?;
        }
        let graph = Self(Arc::new(draft.judge(edits)?));
        if cfg!(debug_assertions) {
            graph.check_invariants();
        }
        Ok(graph)
    }

    /// What `edits` make of this graph, judged in its shape alone: to derive the next edits of one
    /// list from. Its permissions mean nothing, and it is never published.
    ///
    /// # Errors
    /// [`Refused`], if an edit cannot be done, an edge would dangle, or a cycle would form.
    pub fn sketch(&self, edits: &[Edit]) -> Result<Self, Refused> {
        let mut draft = Draft::new(&self.0);
        edits.iter().try_for_each(|edit| draft.apply(edit))?;
        Ok(Self(Arc::new(draft.sketch()?)))
    }

    /// The attributes of a node, if it is there.
    pub fn node(&self, id: NodeId) -> Option<&NodeAttributes> {
        self.0.node(id)
    }

    /// The node of that node-name, if there is one.
    pub fn node_by_name(&self, name: &str) -> Option<NodeId> {
        self.0.nodes.iter().find(|(_, node)| node.name == name).map(|(id, _)| *id)
    }

    /// Every node, by id.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeAttributes)> {
        self.0.nodes.iter().map(|(id, node)| (*id, &**node))
    }

    /// Every edge, by holder and child name.
    pub fn edges(&self) -> impl Iterator<Item = &Edge> {
        self.0.edges.iter().map(|held| &*held.edge)
    }

    /// Where the edge `name` of `parent` leads, if it is there.
    pub fn child(&self, parent: Parent, name: &str) -> Option<NodeId> {
        self.0.held(parent, name).map(|held| held.edge.child)
    }

    /// The edge `name` of `parent`, if it is there.
    pub fn edge(&self, parent: Parent, name: &str) -> Option<&Edge> {
        self.0.held(parent, name).map(|held| &*held.edge)
    }

    /// Whether a parent of `node` requires a permission to modify it.
    pub fn is_modified(&self, node: NodeId) -> bool {
        let held = self.0.edges.iter().filter(|held| held.edge.child == node);
        let mut required = held.map(|held| held.permissions.required);
        required.any(|required| !required.intersection(Permissions::MODIFYING).is_empty())
    }

    /// The edges that `parent` holds, by child name.
    pub fn children(&self, parent: Parent) -> impl Iterator<Item = &Edge> {
        self.0.held_by(parent).map(|held| &*held.edge)
    }

    /// The first edge of `node` that has this role, if there is one.
    pub fn child_with(&self, node: NodeId, role: Role) -> Option<&Edge> {
        self.children(Parent::Node(node)).find(|edge| edge.roles.contains(role))
    }

    /// The edges that lead to a node, by holder and child name.
    pub fn parents(&self, node: NodeId) -> impl Iterator<Item = &Edge> {
        self.edges().filter(move |edge| edge.child == node)
    }

    /// What the edge `name` of `parent` requires and what it shares, in this order, if it is there.
    pub fn permissions(&self, parent: Parent, name: &str) -> Option<(Permissions, Permissions)> {
        let Cumulative { required, shared } = self.0.held(parent, name)?.permissions;
        Some((required, shared))
    }

    /// The backend of that name, if there is one.
    pub fn backend_by_name(&self, name: &str) -> Option<BackendId> {
        self.backends().find(|(_, known)| *known == name).map(|(id, _)| id)
    }

    /// The name of a backend, if it is there.
    pub fn backend_name(&self, id: BackendId) -> Option<&str> {
        find(&self.0.backends, id).map(|name| &**name)
    }

    /// The job of that name, if there is one.
    pub fn job_by_name(&self, name: &str) -> Option<JobId> {
        self.jobs().find(|(_, known)| *known == name).map(|(id, _)| id)
    }

    /// The name of a job, if it is there.
    pub fn job_name(&self, id: JobId) -> Option<&str> {
        find(&self.0.jobs, id).map(|name| &**name)
    }

    /// Every backend and its name, by id.
    pub fn backends(&self) -> impl Iterator<Item = (BackendId, &str)> {
        self.0.backends.iter().map(|(id, name)| (*id, &**name))
    }

    /// Every job and its name, by id.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &str)> {
        self.0.jobs.iter().map(|(id, name)| (*id, &**name))
    }

    /// The name of whoever may hold an edge, if it is there.
    pub fn parent_name(&self, parent: Parent) -> Option<&str> {
        self.0.parent_name(parent)
    }
}

impl Tables {
    pub fn node_index(&self, id: NodeId) -> Option<usize> {
        self.nodes.binary_search_by_key(&id, |(known, _)| *known).ok()
    }

    pub fn node(&self, id: NodeId) -> Option<&NodeAttributes> {
        find(&self.nodes, id).map(|node| &**node)
    }

    /// Where the edge is in the table, or where it would be.
    pub fn edge_index(&self, parent: Parent, name: &str) -> Result<usize, usize> {
        self.edges.binary_search_by(|held| {
            held.edge.parent.cmp(&parent).then_with(|| held.edge.name.as_str().cmp(name))
        })
    }

    pub fn held(&self, parent: Parent, name: &str) -> Option<&Held> {
        self.edge_index(parent, name).ok().map(|index| &self.edges[index])
    }

    pub fn held_by(&self, parent: Parent) -> impl Iterator<Item = &Held> {
        let start = self.edges.partition_point(|held| held.edge.parent < parent);
        self.edges[start..].iter().take_while(move |held| held.edge.parent == parent)
    }

    pub fn parent_name(&self, parent: Parent) -> Option<&str> {
        match parent {
            Parent::Node(id) => self.node(id).map(|node| node.name.as_str()),
            Parent::Backend(id) => find(&self.backends, id).map(|name| &**name),
            Parent::Job(id) => find(&self.jobs, id).map(|name| &**name),
        }
    }
}

/// The value of `id` in a table sorted by id.
fn find<K: Ord + Copy, V>(table: &[(K, V)], id: K) -> Option<&V> {
    let index = table.binary_search_by_key(&id, |(known, _)| *known).ok()?;
    Some(&table[index].1)
}
