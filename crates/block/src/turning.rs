//! Nodes that become read-only, or writable: what their drivers do at these moments, in the drained section of the
//! edit that has them change.
//!
//! Who becomes read-only does so before the edit, while it may still write: all that it keeps goes to its children,
//! parents first. Who becomes writable does so after the edit, when it may write already: it makes ready for that,
//! children first. What fails on the way is undone: the edit does not take place, or is taken back.
//!
//! A node that is inactive is as good as read-only: somebody else may write what is below it meanwhile.

use alloc::vec::Vec;

use blockyard_graph::{Edge, Edit, Graph, Parent};
use blockyard_units::NodeId;

use crate::drain::Owner;
use crate::error::BlockError;
use crate::io::Io;
use crate::layer::BlockLayer;

/// The nodes that an edit makes read-only or writable.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Turns {
    /// Parents first.
    pub read_only: Vec<NodeId>,
    /// Children first.
    pub writable: Vec<NodeId>,
}

/// What a node becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Becomes {
    ReadOnly,
    Writable,
}

impl Turns {
    pub fn of(before: &Graph, after: &Graph) -> Self {
        let is = |graph: &Graph, id| graph.node(id).map(|node| !node.read_only && node.active);
        let turns = |to: bool| {
            move |id: &NodeId| is(before, *id) == Some(!to) && is(after, *id) == Some(to)
        };
        if before.changed_nodes(after).next().is_none() {
            return Self::default();
        }
        let read_only = before.topological().into_iter().filter(turns(false)).collect();
        let writable = after.topological().into_iter().rev().filter(turns(true)).collect();
        Self { read_only, writable }
    }
}

impl BlockLayer {
    /// The nodes become read-only, all of them or none.
    pub(crate) async fn become_read_only(
        &self,
        owner: Owner,
        nodes: &[NodeId],
    ) -> Result<(), BlockError> {
        self.become_all(owner, nodes, Becomes::ReadOnly).await
    }

    /// The nodes become writable, all of them or none.
    pub(crate) async fn become_writable(
        &self,
        owner: Owner,
        nodes: &[NodeId],
    ) -> Result<(), BlockError> {
        self.become_all(owner, nodes, Becomes::Writable).await
    }

    /// What was to become read-only stays writable. Who cannot be made ready for that refuses writes.
    pub(crate) async fn stay_writable(&self, owner: Owner, nodes: &[NodeId]) {
        self.undo_all(owner, nodes, Becomes::ReadOnly).await;
    }

    async fn become_all(
        &self,
        owner: Owner,
        nodes: &[NodeId],
        becomes: Becomes,
    ) -> Result<(), BlockError> {
        for (index, id) in nodes.iter().enumerate() {
            if let Err(error) = self.become_one(owner, *id, becomes).await {
                self.undo_all(owner, &nodes[..index], becomes).await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn undo_all(&self, owner: Owner, nodes: &[NodeId], became: Becomes) {
        let back = match became {
            Becomes::ReadOnly => Becomes::Writable,
            Becomes::Writable => Becomes::ReadOnly,
        };
        for id in nodes.iter().rev() {
            // The first error is the one to tell.
            let _undone = self.become_one(owner, *id, back).await;
        }
    }

    async fn become_one(
        &self,
        owner: Owner,
        id: NodeId,
        becomes: Becomes,
    ) -> Result<(), BlockError> {
        let Some(node) = self.node_by_id(id) else { return Ok(()) };
        let io = Io::of_node(self, &node, owner.into());
        match becomes {
            Becomes::ReadOnly => {
                self.store_bitmaps(&node, &io).await?;
                node.driver().becomes_read_only(&io).await?;
                node.bitmaps().stored_become_read_only();
                Ok(())
            }
            Becomes::Writable => {
                node.driver().becomes_writable(&io).await?;
                let loaded = self.load_bitmaps(&node, &io).await;
                if loaded.is_err() {
                    // It has nothing to write yet.
                    let _as_before = node.driver().becomes_read_only(&io).await;
                }
                loaded
            }
        }
    }
}

/// What makes of `now` what was `before` an edit that has led to `after`, as far as it is still as that left it. Nodes
/// stay that went with the edit, and those that it brought and somebody else holds by now.
pub(crate) fn inverse(before: &Graph, after: &Graph, now: &Graph) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (id, old) in before.nodes() {
        let is_left = after.node(id).is_some_and(|left| left != old && now.node(id) == Some(left));
        if is_left {
            edits.push(Edit::SetAttributes { id, attributes: old.clone() });
        }
    }
    let differs = |edge: &&Edge| before.edge(edge.parent, &edge.name) != Some(edge);
    let as_left = |edge: &&Edge| now.edge(edge.parent, &edge.name) == Some(edge);
    let new: Vec<&Edge> = after.edges().filter(differs).filter(as_left).collect();
    for Edge { parent, name, child, frozen, .. } in new.iter().copied() {
        if frozen.is_some() {
            edits.push(Edit::Unfreeze { parent: *parent, name: name.clone() });
        }
        edits.push(Edit::RemoveEdge {
            parent: *parent,
            name: name.clone(),
            expected: Some(*child),
        });
    }
    for old in before.edges().filter(|edge| now.parent_name(edge.parent).is_some()) {
        let left = after.edge(old.parent, &old.name);
        let is_left = left == now.edge(old.parent, &old.name);
        if left != Some(old) && is_left {
            edits.push(Edit::AddEdge(old.clone()));
        }
    }
    let held = |id| now.parents(id).any(|edge| !new.contains(&edge));
    let brought = after.nodes().map(|(id, _)| id).filter(|id| before.node(*id).is_none());
    let gone = brought.filter(|id| now.node(*id).is_some() && !held(*id));
    edits.extend(gone.map(|id| Edit::RemoveNode { id }));
    let begun = after.jobs().map(|(id, _)| id).filter(|id| before.job_name(*id).is_none());
    let holds = |id| now.children(Parent::Job(id)).any(|edge| !new.contains(&edge));
    let ended = begun.filter(|id| now.job_name(*id).is_some() && !holds(*id));
    edits.extend(ended.map(|id| Edit::RemoveJob { id }));
    edits
}
