//! `x-blockdev-snapshot-stack`: the same below everything that only passes a disk on: filters stay above, and so does
//! encryption; of what keeps a disk more than once, each copy gets an overlay.
//!
//! It walks down from a node to the first layers that can have an overlay. There have to be as many overlays as these;
//! they go above them in order, in one edit: all of them or none.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::{BlockError, BlockLayer, Plan};
use blockyard_drivers::shown_children;
use blockyard_graph::Graph;
use blockyard_units::NodeId;
use serde::Deserialize;

use super::Snapshot;
use crate::error::QmpError;
use crate::nodes::{node_named, node_or_root};
use crate::transaction::Action;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SnapshotStack {
    node: String,
    overlays: Vec<String>,
}

/// Snapshots below a node, that may be taken together.
pub(crate) struct StackSnapshot {
    layer: BlockLayer,
    top: NodeId,
    overlays: Vec<NodeId>,
}

impl SnapshotStack {
    pub fn resolve(&self, layer: &BlockLayer, graph: &Graph) -> Result<StackSnapshot, QmpError> {
        let top = node_or_root(graph, &self.node)?;
        let overlays = self.overlays.iter().map(|name| node_named(graph, name));
        let overlays = overlays.collect::<Result<_, _>>()?;
        Ok(StackSnapshot { layer: layer.clone(), top, overlays })
    }
}

/// The first nodes from `node` down that can have an overlay, in the order of their parents' children.
fn layers(graph: &Graph, node: NodeId) -> Vec<NodeId> {
    match shown_children(graph, node) {
        children if children.is_empty() => [node].into(),
        children => children.into_iter().flat_map(|child| layers(graph, child)).collect(),
    }
}

impl Action for StackSnapshot {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let nodes = layers(graph, self.top);
        if nodes.len() != self.overlays.len() {
            let name = |id: &NodeId| graph.node(*id).map_or("", |node| node.name.as_str());
            let names: Vec<&str> = nodes.iter().map(name).collect();
            return Err(BlockError::Invalid(format!(
                "refused: {} overlays are given, and below node {} each of these is to get one: {}",
                self.overlays.len(),
                name(&self.top),
                names.join(", ")
            )));
        }
        let mut plan = Plan::default();
        for (node, overlay) in nodes.into_iter().zip(&self.overlays) {
            let snapshot = Snapshot { layer: self.layer.clone(), node, overlay: *overlay };
            let one = snapshot.plan(graph)?;
            plan.edits.extend(one.edits);
            plan.flushed.extend(one.flushed);
            plan.moves.extend(one.moves);
        }
        Ok(plan)
    }
}
