//! Graph validity: each graph that is published is acyclic, dangles nowhere, names no two nodes alike, its permissions
//! agree, and a node that a job once retired is never reachable from a backend again.
//!
//! Source: QEMU's `BLK_PERM_*`: what one parent of a node requires every other parent must share; only a writable node
//! can be written.

use crate::{Property, Violation};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The permission bit of writing; the other bits only have to agree.
pub const WRITE: u8 = 0x02;
/// The permission bit of writing what is there already.
pub const WRITE_UNCHANGED: u8 = 0x04;

/// A graph as published.
#[derive(Clone, Debug, Default)]
pub struct GraphView {
    /// All nodes.
    pub nodes: Vec<NodeView>,
    /// All edges.
    pub edges: Vec<EdgeView>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Never used again for another node.
    pub id: u64,
    /// As the user sees it.
    pub name: String,
    /// Whether a job has retired it.
    pub retired: bool,
    /// Whether it refuses writes.
    pub read_only: bool,
}

/// A parent's hold on a child.
#[derive(Clone, Debug)]
pub struct EdgeView {
    /// Who holds.
    pub parent: ParentView,
    /// The child's name at its parent, as in `root`, `file`, `backing`.
    pub name: String,
    /// The node that is held.
    pub child: u64,
    /// Permission bits that the parent requires.
    pub required: u8,
    /// Permission bits that it lets other parents have.
    pub shared: u8,
}

/// The parent of an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParentView {
    /// A node, by id.
    Node(u64),
    /// A backend, by id and name.
    Backend(u64, String),
    /// A job, by id and name.
    Job(u64, String),
}

/// Sees every published graph; remembers who was retired.
#[derive(Default)]
pub struct GraphValidity {
    retired: BTreeSet<u64>,
}

impl GraphValidity {
    /// Nobody retired yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A graph was published.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn observe(&mut self, view: &GraphView) -> Result<(), Violation> {
        let retired = view.nodes.iter().filter(|node| node.retired);
        self.retired.extend(retired.map(|node| node.id));
        names_are_unique(view)?;
        nothing_dangles(view)?;
        permissions_agree(view)?;
        // Backends first: a walk stops at what an earlier one has finished, and only theirs look for retired nodes.
        let (backends, others): (Vec<_>, Vec<_>) =
            view.edges.iter().partition(|edge| matches!(edge.parent, ParentView::Backend(..)));
        let mut finished = BTreeSet::new();
        for edge in backends.into_iter().chain(others) {
            self.walk(view, edge, &mut Vec::new(), &mut finished)?;
        }
        Ok(())
    }

    /// Depth first through `edge`, reached by `path`.
    fn walk<'a>(
        &self,
        view: &'a GraphView,
        edge: &'a EdgeView,
        path: &mut Vec<&'a EdgeView>,
        finished: &mut BTreeSet<u64>,
    ) -> Result<(), Violation> {
        let cyclic = path.iter().any(|above| above.child == edge.child);
        path.push(edge);
        if cyclic {
            return broken(format!("the graph has a cycle: {}", view.show(path)));
        }
        if matches!(path[0].parent, ParentView::Backend(..)) && self.retired.contains(&edge.child) {
            let name = view.name(edge.child);
            let path = view.show(path);
            return broken(format!("the retired node {name} is reachable again: {path}"));
        }
        if finished.insert(edge.child) {
            for below in view.edges.iter().filter(|e| e.parent == ParentView::Node(edge.child)) {
                self.walk(view, below, path, finished)?;
            }
        }
        path.pop();
        Ok(())
    }
}

fn names_are_unique(view: &GraphView) -> Result<(), Violation> {
    let (mut names, mut ids) = (BTreeSet::new(), BTreeMap::new());
    for node in &view.nodes {
        if !names.insert(&node.name) {
            return broken(format!("two nodes have the name {}", node.name));
        }
        if let Some(other) = ids.insert(node.id, &node.name) {
            return broken(format!("the nodes {other} and {} have one id", node.name));
        }
    }
    Ok(())
}

fn nothing_dangles(view: &GraphView) -> Result<(), Violation> {
    for edge in &view.edges {
        let parent = if let ParentView::Node(id) = edge.parent { Some(id) } else { None };
        for id in [Some(edge.child), parent].into_iter().flatten() {
            if view.node(id).is_none() {
                return broken(format!(
                    "the edge {} -> {} dangles: there is no node #{id}",
                    view.label(edge),
                    view.name(edge.child)
                ));
            }
        }
    }
    Ok(())
}

fn permissions_agree(view: &GraphView) -> Result<(), Violation> {
    for (index, edge) in view.edges.iter().enumerate() {
        let child = || view.name(edge.child);
        let read_only = view.node(edge.child).is_some_and(|node| node.read_only);
        if read_only && edge.required & (WRITE | WRITE_UNCHANGED) != 0 {
            return broken(format!(
                "{} may write to the read-only node {}",
                view.label(edge),
                child()
            ));
        }
        for (other_index, other) in view.edges.iter().enumerate() {
            let excess = edge.required & !other.shared;
            if index != other_index && edge.child == other.child && excess != 0 {
                return broken(format!(
                    "permissions disagree on {}: {} requires {excess:#x}, which {} does not share",
                    child(),
                    view.label(edge),
                    view.label(other)
                ));
            }
        }
    }
    Ok(())
}

impl GraphView {
    fn node(&self, id: u64) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.id == id)
    }

    fn name(&self, id: u64) -> String {
        self.node(id).map_or_else(|| format!("#{id}"), |node| node.name.clone())
    }

    /// An edge as `parent.child-name`.
    fn label(&self, edge: &EdgeView) -> String {
        let parent = match &edge.parent {
            ParentView::Node(id) => self.name(*id),
            ParentView::Backend(_, name) | ParentView::Job(_, name) => name.clone(),
        };
        format!("{parent}.{}", edge.name)
    }

    /// A path as `disk0.root -> th.file -> mf`.
    fn show(&self, path: &[&EdgeView]) -> String {
        let mut words: Vec<_> = path.iter().map(|edge| self.label(edge)).collect();
        words.extend(path.last().map(|edge| self.name(edge.child)));
        words.join(" -> ")
    }
}

fn broken<T>(message: String) -> Result<T, Violation> {
    Err(Property::GraphValidity.broken(message))
}

#[cfg(test)]
mod tests;
