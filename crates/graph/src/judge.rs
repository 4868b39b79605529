//! The judgement of an edit list's final value: names, dangling and frozen edges, cycles,
//! permissions.
//!
//! Permissions flow down in topological order, so each node is judged when all that its parents ask
//! is known, over any shape: diamonds, several parents, a writer that moves from one branch to
//! another.
//!
//! What is not judged: whether a node is retired, and what kind it is.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use blockyard_units::NodeId;

use crate::draft::Draft;
use crate::edit::Edit;
use crate::graph::Tables;
use crate::parts::{Edge, Parent};
use crate::permissions::{Cumulative, Permissions, of_edge};
use crate::refused::{Refused, RefusedKind};

/// Where an edge's ends are in the table of nodes; a backend or job has no place there.
#[derive(Clone, Copy)]
struct Link {
    parent: Option<usize>,
    child: usize,
}

impl Draft<'_> {
    /// The final value with its permissions and order, if it is a graph.
    pub fn judge(mut self, edits: &[Edit]) -> Result<Tables, Refused> {
        let links = self.links()?;
        self.judge_names(edits)?;
        self.judge_frozen(edits)?;
        let order = self.order(&links)?;
        self.judge_permissions(&links, &order)?;
        Ok(self.in_order(&order))
    }

    /// The value with its order alone: nobody has asked for permissions, names or what is frozen.
    pub fn sketch(self) -> Result<Tables, Refused> {
        let order = self.order(&self.links()?)?;
        Ok(self.in_order(&order))
    }

    fn in_order(mut self, order: &[usize]) -> Tables {
        self.after.order = order.iter().map(|index| self.after.nodes[*index].0).collect();
        self.after
    }

    /// Both ends of each edge, in the order of edges; refuses edges that dangle.
    fn links(&self) -> Result<Vec<Link>, Refused> {
        let mut links = Vec::with_capacity(self.after.edges.len());
        for held in &self.after.edges {
            let edge = &held.edge;
            let Some(child) = self.after.node_index(edge.child) else {
                return Err(self.dangling_child(edge));
            };
            let parent = match edge.parent {
                Parent::Node(id) => self.after.node_index(id),
                _ => None,
            };
            if parent.is_none() && self.after.parent_name(edge.parent).is_none() {
                return Err(self.dangling_parent(edge));
            }
            links.push(Link { parent, child });
        }
        Ok(links)
    }

    fn dangling_child(&self, edge: &Edge) -> Refused {
        let name = self.edge_name(edge.parent, &edge.name);
        if self.before.node(edge.child).is_none() {
            let child = self.node_name(edge.child);
            let message = format!("edge {name} would lead to {child}, which is not there");
            return Refused::new(RefusedKind::NotFound, message);
        }
        let (node, holder) = (self.holder(Parent::Node(edge.child)), self.holder(edge.parent));
        let message = format!("{node} is still held by {holder} on edge {name}");
        Refused::new(RefusedKind::InUse, message)
    }

    fn dangling_parent(&self, edge: &Edge) -> Refused {
        let name = self.edge_name(edge.parent, &edge.name);
        let holder = self.holder(edge.parent);
        if self.before.parent_name(edge.parent).is_none() {
            let message = format!("edge {name} would belong to {holder}, which is not there");
            return Refused::new(RefusedKind::NotFound, message);
        }
        let child = self.node_name(edge.child);
        let message = format!("{holder} still holds edge {name} (node {child})");
        Refused::new(RefusedKind::InUse, message)
    }

    /// Only names that came with the list can clash; the value before it was judged.
    fn judge_names(&self, edits: &[Edit]) -> Result<(), Refused> {
        let after = &self.after;
        for edit in edits {
            let (kind, name, count) = match edit {
                Edit::AddNode { attributes, .. } | Edit::SetAttributes { attributes, .. } => {
                    let name = &attributes.name;
                    (
                        "node",
                        name,
                        after.nodes.iter().filter(|(_, node)| node.name == *name).count(),
                    )
                }
                Edit::AddBackend { name, .. } => {
                    let same = after.backends.iter().filter(|(_, known)| **known == **name);
                    ("backend", name, same.count())
                }
                Edit::AddJob { name, .. } => {
                    let same = after.jobs.iter().filter(|(_, known)| **known == **name);
                    ("job", name, same.count())
                }
                _ => continue,
            };
            if count > 1 {
                let message = format!("there is a {kind} {name} already");
                return Err(Refused::new(RefusedKind::Duplicate, message));
            }
        }
        Ok(())
    }

    /// A frozen edge is there, leads where it led and is still frozen, unless the list unfroze it.
    fn judge_frozen(&self, edits: &[Edit]) -> Result<(), Refused> {
        for held in &self.before.edges {
            let edge = &held.edge;
            let Some(holder) = &edge.frozen else { continue };
            let now = self.after.held(edge.parent, &edge.name).map(|held| &held.edge);
            if now.is_some_and(|now| now.child == edge.child && now.frozen.is_some()) {
                continue;
            }
            let unfrozen = edits.iter().any(|edit| {
                matches!(edit, Edit::Unfreeze { parent, name }
                    if *parent == edge.parent && *name == edge.name)
            });
            if !unfrozen {
                let name = self.edge_name(edge.parent, &edge.name);
                let child = self.node_name(edge.child);
                let message = format!("{holder} holds edge {name} frozen (node {child})");
                return Err(Refused::new(RefusedKind::Frozen, message));
            }
        }
        Ok(())
    }

    /// Indices of nodes, parents before children; among those that could come next, the one found
    /// first.
    fn order(&self, links: &[Link]) -> Result<Vec<usize>, Refused> {
        let count = self.after.nodes.len();
        let mut missing = vec![0_usize; count];
        for link in links.iter().filter(|link| link.parent.is_some()) {
            missing[link.child] += 1;
        }
        let mut order = Vec::with_capacity(count);
        order.extend((0..count).filter(|index| missing[*index] == 0));
        let mut next = 0;
        while let Some(&parent) = order.get(next) {
            next += 1;
            for link in self.links_below(links, parent).map(|edge| links[edge]) {
                missing[link.child] -= 1;
                if missing[link.child] == 0 {
                    order.push(link.child);
                }
            }
        }
        if order.len() == count { Ok(order) } else { Err(self.cycle(links, &missing)) }
    }

    /// Indices of the edges that the node at `parent` holds.
    fn links_below(&self, links: &[Link], parent: usize) -> core::ops::Range<usize> {
        let holder = Parent::Node(self.after.nodes[parent].0);
        let start = self.after.edges.partition_point(|held| held.edge.parent < holder);
        let count = links[start..].iter().take_while(|link| link.parent == Some(parent)).count();
        start..start + count
    }

    /// Names a cycle. Every node that still misses a parent has one that misses a parent too, so
    /// going up from any of them comes back to a node that was passed.
    fn cycle(&self, links: &[Link], missing: &[usize]) -> Refused {
        let stuck = |index: usize| missing[index] > 0;
        let mut path: Vec<usize> = Vec::new();
        let mut at = (0..missing.len()).find(|index| stuck(*index)).expect("graph-is-acyclic");
        while !path.contains(&at) {
            path.push(at);
            let up = links.iter().find(|link| link.child == at && link.parent.is_some_and(stuck));
            at = up.and_then(|link| link.parent).expect("graph-is-acyclic");
        }
        let mut names = String::from(&*self.node_name(self.after.nodes[at].0));
        for index in path.iter().rev() {
            names.push_str(" -> ");
            names.push_str(&self.node_name(self.after.nodes[*index].0));
            if *index == at {
                break;
            }
        }
        Refused::new(RefusedKind::Cycle, format!("the edges would form a cycle: {names}"))
    }

    /// Backends and jobs first, then nodes from the top: what each edge requires and shares, and
    /// whether the edges to its child agree so far.
    fn judge_permissions(&mut self, links: &[Link], order: &[usize]) -> Result<(), Refused> {
        let mut asked = vec![Cumulative::NOBODY; self.after.nodes.len()];
        for held in &mut self.after.edges {
            // An edge that has not asked yet is no party to a conflict.
            held.permissions = Cumulative::NOBODY;
        }
        for (edge, link) in links.iter().enumerate() {
            if link.parent.is_none() {
                self.ask(edge, *link, &mut asked)?;
            }
        }
        for &node in order {
            self.judge_modifying(node, asked[node].required)?;
            for edge in self.links_below(links, node) {
                self.ask(edge, links[edge], &mut asked)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, edge: usize, link: Link, asked: &mut [Cumulative]) -> Result<(), Refused> {
        let above = link.parent.map_or(Cumulative::NOBODY, |parent| asked[parent]);
        let node = link.parent.map(|parent| &*self.after.nodes[parent].1);
        let child = &*self.after.nodes[link.child].1;
        let held = &self.after.edges[edge];
        let permissions = of_edge(&held.edge.policy, held.edge.roles, node, child, above);
        if asked[link.child].conflicts(permissions) {
            return Err(self.conflict(edge, permissions));
        }
        self.after.edges[edge].permissions = permissions;
        asked[link.child] = asked[link.child].and(permissions);
        Ok(())
    }

    /// The edge at `index` would have `permissions`, and an edge that asked before it does not
    /// agree.
    fn conflict(&self, index: usize, permissions: Cumulative) -> Refused {
        let late = &self.after.edges[index].edge;
        let early = self
            .after
            .edges
            .iter()
            .find(|held| held.edge.child == late.child && held.permissions.conflicts(permissions))
            .expect("edge-permissions-agree");
        let unshared = permissions.required.difference(early.permissions.shared);
        if unshared.is_empty() {
            let unshared = early.permissions.required.difference(permissions.shared);
            self.unshared(late, &early.edge, unshared)
        } else {
            self.unshared(&early.edge, late, unshared)
        }
    }

    fn unshared(&self, holder: &Edge, needer: &Edge, unshared: Permissions) -> Refused {
        let message = format!(
            "{} holds edge {} without sharing {unshared}, {} needs it on edge {} (node {})",
            self.holder(holder.parent),
            self.edge_name(holder.parent, &holder.name),
            self.holder(needer.parent),
            self.edge_name(needer.parent, &needer.name),
            self.node_name(holder.child)
        );
        Refused::new(RefusedKind::Permission, message)
    }

    fn judge_modifying(&self, node: usize, required: Permissions) -> Result<(), Refused> {
        let (id, attributes) = &self.after.nodes[node];
        if !attributes.read_only && attributes.active {
            return Ok(());
        }
        let modifying = required.intersection(Permissions::MODIFYING);
        if modifying.is_empty() { Ok(()) } else { Err(self.read_only(*id, attributes.read_only)) }
    }

    fn read_only(&self, id: NodeId, read_only: bool) -> Refused {
        let wanted = |required: Permissions| required.intersection(Permissions::MODIFYING);
        let edges = &self.after.edges;
        let held = edges
            .iter()
            .find(|held| held.edge.child == id && !wanted(held.permissions.required).is_empty())
            .expect("read-only-nodes-are-not-written");
        let message = format!(
            "node {} is {}, {} needs {} on edge {}",
            self.node_name(id),
            if read_only { "read-only" } else { "inactive" },
            self.holder(held.edge.parent),
            wanted(held.permissions.required),
            self.edge_name(held.edge.parent, &held.edge.name)
        );
        Refused::new(RefusedKind::ReadOnly, message)
    }
}
