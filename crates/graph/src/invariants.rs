//! Whether a value is a graph, asked again from scratch and by other means than judging: each
//! invariant is a local statement about stored permissions and the stored order, checked edge by
//! edge.

use crate::graph::{Graph, Held, Tables};
use crate::parts::Parent;
use crate::permissions::{Cumulative, Permissions, of_edge};

impl Graph {
    /// Recomputes every invariant of a graph.
    ///
    /// # Panics
    /// With the name of the first that does not hold.
    pub fn check_invariants(&self) {
        let tables = &*self.0;
        tables.check_tables();
        tables.check_names();
        tables.check_order();
        for (index, held) in tables.edges.iter().enumerate() {
            tables.check_policy(held);
            for other in tables.edges[index + 1..].iter().filter(|other| same_child(held, other)) {
                assert!(
                    !held.permissions.conflicts(other.permissions),
                    "edge-permissions-agree: {:?} {:?}",
                    held.edge,
                    other.edge
                );
            }
        }
    }
}

fn same_child(a: &Held, b: &Held) -> bool {
    a.edge.child == b.edge.child
}

impl Tables {
    fn check_tables(&self) {
        assert!(self.nodes.is_sorted_by(|a, b| a.0 < b.0), "parts-are-sorted: nodes");
        assert!(self.backends.is_sorted_by(|a, b| a.0 < b.0), "parts-are-sorted: backends");
        assert!(self.jobs.is_sorted_by(|a, b| a.0 < b.0), "parts-are-sorted: jobs");
        let sorted = self.edges.is_sorted_by(|a, b| {
            (a.edge.parent, a.edge.name.as_str()) < (b.edge.parent, b.edge.name.as_str())
        });
        assert!(sorted, "parts-are-sorted: edges");
        for (id, node) in &self.nodes {
            assert!(self.used.contains(id), "node-ids-are-never-reused: {}", node.name);
        }
    }

    fn check_names(&self) {
        for (index, (_, node)) in self.nodes.iter().enumerate() {
            let clash = self.nodes[..index].iter().any(|(_, other)| other.name == node.name);
            assert!(!clash, "node-names-are-unique: {}", node.name);
        }
        for (index, (_, name)) in self.backends.iter().enumerate() {
            let clash = self.backends[..index].iter().any(|(_, other)| other == name);
            assert!(!clash, "backend-names-are-unique: {name}");
        }
        for (index, (_, name)) in self.jobs.iter().enumerate() {
            let clash = self.jobs[..index].iter().any(|(_, other)| other == name);
            assert!(!clash, "job-names-are-unique: {name}");
        }
    }

    /// An order that has each node once, parents before children, exists for acyclic graphs only.
    fn check_order(&self) {
        let position = |id| self.order.iter().position(|known| *known == id);
        assert_eq!(self.order.len(), self.nodes.len(), "parents-precede-children: length");
        for (id, node) in &self.nodes {
            assert!(position(*id).is_some(), "parents-precede-children: {}", node.name);
        }
        for edge in self.edges.iter().map(|held| &held.edge) {
            let child = position(edge.child);
            assert!(child.is_some(), "no-edge-dangles: child of {edge:?}");
            assert!(self.parent_name(edge.parent).is_some(), "no-edge-dangles: parent of {edge:?}");
            if let Parent::Node(id) = edge.parent {
                assert!(
                    position(id) < child,
                    "graph-is-acyclic, parents-precede-children: {edge:?}"
                );
            }
        }
    }

    /// In an acyclic graph, edges that are all right given the edges above them are right
    /// altogether.
    fn check_policy(&self, held: &Held) {
        let edge = &held.edge;
        let (mut above, mut node) = (Cumulative::NOBODY, None);
        if let Parent::Node(id) = edge.parent {
            let parents = self.edges.iter().filter(|upper| upper.edge.child == id);
            above = parents.fold(above, |above, upper| above.and(upper.permissions));
            node = self.node(id);
        }
        let child = self.node(edge.child).expect("no-edge-dangles");
        let expected = of_edge(&edge.policy, edge.roles, node, child, above);
        assert_eq!(held.permissions, expected, "edge-permissions-follow-policy: {edge:?}");
        let modifies = !held.permissions.required.intersection(Permissions::MODIFYING).is_empty();
        assert!(
            !modifies || (!child.read_only && child.active),
            "read-only-nodes-are-not-written: {edge:?}"
        );
    }
}
