//! What may be done to a graph, one step at a time.
//!
//! An edit names things by id and edges by holder and child name, so that it means the same on any
//! value. Not for: how edits are carried out or judged.

use alloc::string::String;

use blockyard_units::{BackendId, JobId, NodeId};

use crate::parts::{Edge, NodeAttributes, Parent};

/// One step of an edit list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Adds a node, without edges.
    AddNode {
        /// Never used before in this graph or one it derives from.
        id: NodeId,
        /// What the graph is to know of it.
        attributes: NodeAttributes,
    },
    /// Removes a node. In the final value nobody holds it and it holds nothing.
    RemoveNode {
        /// A node that is there.
        id: NodeId,
    },
    /// Replaces what the graph knows of a node.
    SetAttributes {
        /// A node that is there.
        id: NodeId,
        /// All of its attributes from now on.
        attributes: NodeAttributes,
    },
    /// Adds a backend, without a root.
    AddBackend {
        /// Not in the graph.
        id: BackendId,
        /// Unique among backends.
        name: String,
    },
    /// Removes a backend. In the final value it holds nothing.
    RemoveBackend {
        /// A backend that is there.
        id: BackendId,
    },
    /// Adds a job, without edges.
    AddJob {
        /// Not in the graph.
        id: JobId,
        /// Unique among jobs.
        name: String,
    },
    /// Removes a job. In the final value it holds nothing.
    RemoveJob {
        /// A job that is there.
        id: JobId,
    },
    /// Adds an edge; its parent and child may come later in the list.
    AddEdge(Edge),
    /// Removes an edge.
    RemoveEdge {
        /// Who holds it.
        parent: Parent,
        /// The child's name at its parent.
        name: String,
        /// Where it leads now; `None` asks nothing.
        expected: Option<NodeId>,
    },
    /// Redirects an edge; its roles, policy and freezer stay.
    ReplaceChild {
        /// Who holds it.
        parent: Parent,
        /// The child's name at its parent.
        name: String,
        /// Where it leads now; `None` asks nothing.
        expected: Option<NodeId>,
        /// Where it leads from now on.
        new: NodeId,
    },
    /// Changes nothing, but is refused unless the `root` edge of a backend leads where it should.
    ExpectRoot {
        /// A backend that is there.
        backend: BackendId,
        /// Where it leads; `None` means that there is no root.
        expected: Option<NodeId>,
    },
    /// Freezes an edge that nobody has frozen.
    Freeze {
        /// Who holds it.
        parent: Parent,
        /// The child's name at its parent.
        name: String,
        /// Who freezes it, for people.
        holder: String,
    },
    /// Unfreezes an edge that somebody has frozen. The same list may then change it.
    Unfreeze {
        /// Who holds it.
        parent: Parent,
        /// The child's name at its parent.
        name: String,
    },
}
