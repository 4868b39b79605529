//! The edges once more, as requests look for them: by key, with the child itself, what the edge holds, and the child's
//! options.
//!
//! Invariant `links-are-the-edges`: there is one for each edge of the published graph, and it says the same.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_graph::{EdgeKey, Graph, NodeOptions, Parent, Permissions};

use crate::node::Node;

/// An edge.
pub(crate) struct Link {
    /// Of its holder's and its own name; two edges may have the same.
    key: u64,
    parent: Parent,
    name: String,
    pub child: Arc<Node>,
    /// Whoever may write may write what is there already.
    pub held: Permissions,
    /// The child's. They change only in a drained section over it, so no request sees them change.
    pub options: NodeOptions,
}

/// All of them, by key.
#[derive(Default)]
pub(crate) struct Links(Vec<Link>);

impl Links {
    /// The edge `name` of `parent`; `key` is its key.
    pub fn get(&self, key: u64, parent: Parent, name: &str) -> Option<&Link> {
        let first = self.0.partition_point(|link| link.key < key);
        let same = self.0[first..].iter().take_while(|link| link.key == key);
        same.into_iter().find(|link| link.parent == parent && link.name == name)
    }

    /// The edge is now as it is in `graph`; `child` is the node that it leads to there, if it is there.
    pub fn set(&mut self, key: u64, edge: &EdgeKey, graph: &Graph, child: Option<Arc<Node>>) {
        let EdgeKey { parent, name } = edge;
        self.0.retain(|link| link.key != key || link.parent != *parent || link.name != *name);
        let Some(child) = child else { return };
        let options = graph.node(child.id()).map(|node| node.options).unwrap_or_default();
        let (mut held, _) = graph.permissions(*parent, name).unwrap_or_default();
        if held.contains(Permissions::WRITE) {
            held = held.union(Permissions::WRITE_UNCHANGED);
        }
        let place = self.0.partition_point(|link| link.key < key);
        let name = name.clone();
        self.0.insert(place, Link { key, parent: *parent, name, child, held, options });
    }
}
