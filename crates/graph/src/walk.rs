//! Walks over a graph, and what differs between two of them.
//!
//! A walk down follows edges, which are sorted by who holds them; a walk up sweeps the topological
//! order backwards. Neither follows a path twice, whatever the shape.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use blockyard_units::NodeId;

use crate::edit::Edit;
use crate::graph::{Graph, Held, Tables};
use crate::parts::{Edge, EdgeKey, NodeAttributes, Parent};

type Attributes<'a> = &'a Arc<NodeAttributes>;

impl Graph {
    /// Whether following edges down from `from` arrives at `to`. A node arrives at itself.
    pub fn reaches(&self, from: Parent, to: NodeId) -> bool {
        if from == Parent::Node(to) {
            return self.node(to).is_some();
        }
        self.0.below(vec![from]).contains(&to)
    }

    /// Every node that `node` reaches, itself included, parents before children. Empty if it is not
    /// there.
    pub fn descendants(&self, node: NodeId) -> Vec<NodeId> {
        self.descendants_of_any(&[node])
    }

    /// The same of several nodes, in one walk.
    pub fn descendants_of_any(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let mut found = self.0.below(nodes.iter().copied().map(Parent::Node).collect());
        if let ([node], true) = (nodes, found.is_empty()) {
            return self.node(*node).map(|_| *node).into_iter().collect();
        }
        found.extend(nodes);
        self.0.order.iter().filter(|id| found.contains(id)).copied().collect()
    }

    /// Every node that reaches `node`, itself included, parents before children. Empty if it is not
    /// there.
    pub fn ancestors(&self, node: NodeId) -> Vec<NodeId> {
        self.ancestors_of_any(&[node])
    }

    /// The same of several nodes, in one walk.
    pub fn ancestors_of_any(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let tables = &*self.0;
        let (mut above, mut found) = (BTreeSet::new(), Vec::new());
        for id in tables.order.iter().rev() {
            let mut children = tables.held_by(Parent::Node(*id)).map(|held| held.edge.child);
            if nodes.contains(id) || children.any(|child| above.contains(&child)) {
                above.insert(*id);
                found.push(*id);
            }
        }
        found.reverse();
        found
    }

    /// Every node, parents before children.
    pub fn topological(&self) -> Vec<NodeId> {
        self.0.order.clone()
    }

    /// The edges that were added, removed or redirected between this graph and `after`, by holder
    /// and child name.
    pub fn changed_edges(&self, after: &Self) -> Vec<EdgeKey> {
        let child = |held: Option<&Held>| held.map(|held| held.edge.child);
        let changed = |(key, before, after)| (child(before) != child(after)).then_some(key);
        self.edges_beside(after).filter_map(changed).map(Edge::key).collect()
    }

    /// The edges of `after` that this graph has not, or with other permissions, by holder and child
    /// name.
    pub fn edges_permitted_otherwise<'a>(
        &'a self,
        after: &'a Self,
    ) -> impl Iterator<Item = &'a Edge> {
        let permissions = |held: Option<&Held>| held.map(|held| held.permissions);
        self.edges_beside(after).filter_map(move |(edge, before, after)| {
            (after.is_some() && permissions(before) != permissions(after)).then_some(edge)
        })
    }

    /// Each edge with what it is here and in `after`, by holder and child name: both tables are sorted so.
    fn edges_beside<'a>(
        &'a self,
        after: &'a Self,
    ) -> impl Iterator<Item = (&'a Edge, Option<&'a Held>, Option<&'a Held>)> {
        let (mut old, mut new) = (self.0.edges.iter().peekable(), after.0.edges.iter().peekable());
        core::iter::from_fn(move || {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => {
                    let (old, new) = (&old.edge, &new.edge);
                    old.parent.cmp(&new.parent).then_with(|| old.name.cmp(&new.name))
                }
            };
            let before = old.next_if(|_| order != Ordering::Greater);
            let after = new.next_if(|_| order != Ordering::Less);
            before.or(after).map(|held| (&*held.edge, before, after))
        })
    }

    /// The nodes of this graph that `after` has too, with other attributes; or auto-read-only, and
    /// modified by their parents in one of the two and not in the other. By id.
    pub fn changed_nodes<'a>(&'a self, after: &'a Self) -> impl Iterator<Item = NodeId> {
        let opens = |id: &NodeId, node: &NodeAttributes| {
            node.options.auto_read_only && self.is_modified(*id) != after.is_modified(*id)
        };
        self.beside(after).filter_map(move |(id, before, after)| {
            after.is_some_and(|after| after != before || opens(&id, after)).then_some(id)
        })
    }

    /// The nodes of this graph that `after` has no more, by id.
    pub fn gone_nodes<'a>(&'a self, after: &'a Self) -> impl Iterator<Item = NodeId> {
        self.beside(after).filter(|(.., after)| after.is_none()).map(|(id, ..)| id)
    }

    /// Each node as it is here and in `after`. Both tables are sorted, so one look at each of their rows is enough; and
    /// what two values share is known to be equal without a look inside.
    fn beside<'a>(
        &'a self,
        after: &'a Self,
    ) -> impl Iterator<Item = (NodeId, Attributes<'a>, Option<Attributes<'a>>)> {
        let mut later = after.0.nodes.iter().peekable();
        self.0.nodes.iter().map(move |(id, node)| {
            while later.next_if(|(other, _)| other < id).is_some() {}
            (*id, node, later.next_if(|(other, _)| other == id).map(|(_, node)| node))
        })
    }

    /// Edits that redirect each edge to `from` so that it leads to `to`, but for the edges that
    /// `to` itself needs to reach `from`: redirecting those would make a cycle; and for those of
    /// jobs, which stay at the nodes they work with. Each expects its edge as it is now.
    pub fn redirections(&self, from: NodeId, to: NodeId) -> Vec<Edit> {
        let below = self.descendants(to);
        let stays = |parent| match parent {
            Parent::Node(id) => id == to || below.contains(&id),
            Parent::Job(_) => true,
            Parent::Backend(_) => false,
        };
        let redirect = |edge: &Edge| Edit::ReplaceChild {
            parent: edge.parent,
            name: edge.name.clone(),
            expected: Some(from),
            new: to,
        };
        self.parents(from).filter(|edge| !stays(edge.parent)).map(redirect).collect()
    }
}

impl Tables {
    /// Every node that following edges down from `next` comes to.
    fn below(&self, mut next: Vec<Parent>) -> BTreeSet<NodeId> {
        let mut found = BTreeSet::new();
        while let Some(parent) = next.pop() {
            for held in self.held_by(parent) {
                if found.insert(held.edge.child) {
                    next.push(Parent::Node(held.edge.child));
                }
            }
        }
        found
    }
}
