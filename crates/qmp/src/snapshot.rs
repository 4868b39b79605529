//! `blockdev-snapshot`: puts a node that was added without a backing node above another, as its overlay.
//!
//! Every edge to the node leads to the overlay afterwards, but for those of jobs, which stay at the nodes that they
//! work with; and the overlay's backing edge leads to the node. What was written to the node is durable before that.
//! Where bitmaps follow the data, those that are stored with the node are the overlay's from then on.
//!
//! Differs: a node that a job holds is refused by the edge that the job holds, and the error names the job.

pub(crate) mod stack;

use alloc::format;
use alloc::string::String;

use blockyard_block::{BlockError, BlockLayer, Plan};
use blockyard_drivers::{child_edges, takes_child};
use blockyard_graph::{Edit, Graph, Parent};
use blockyard_units::NodeId;
use serde::Deserialize;

use crate::error::QmpError;
use crate::nodes::{node_named, node_or_root, refuse_held_by_job};
use crate::transaction::Action;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlockdevSnapshot {
    node: String,
    overlay: String,
}

/// A snapshot that may be taken.
pub(crate) struct Snapshot {
    layer: BlockLayer,
    node: NodeId,
    overlay: NodeId,
}

const BACKING: &str = "backing";

impl BlockdevSnapshot {
    pub fn resolve(&self, layer: &BlockLayer, graph: &Graph) -> Result<Snapshot, QmpError> {
        let node = node_or_root(graph, &self.node)?;
        Ok(Snapshot { layer: layer.clone(), node, overlay: node_named(graph, &self.overlay)? })
    }
}

impl Snapshot {
    /// The name of the overlay's driver, if the overlay may go above the node.
    fn check(&self, graph: &Graph) -> Result<&'static str, BlockError> {
        let gone = || BlockError::NotFound(String::from("the node or its overlay is gone"));
        graph.node(self.node).ok_or_else(gone)?;
        let overlay = graph.node(self.overlay).ok_or_else(gone)?;
        let name = &overlay.name;
        let refused = |why: String| Err(BlockError::Invalid(format!("refused: {why}")));
        if !takes_child(overlay.driver, BACKING) {
            let driver = overlay.driver;
            return refused(format!("node {name} takes no backing node: its driver is {driver}"));
        }
        if let Some(edge) = graph.edge(Parent::Node(self.overlay), BACKING) {
            let other = graph.node(edge.child).map_or("a node", |node| &node.name);
            return refused(format!("overlay {name} has a backing node already: {other}"));
        }
        if let Some(edge) = graph.parents(self.overlay).next() {
            let holder = graph.parent_name(edge.parent).unwrap_or_default();
            let edge = &edge.name;
            return refused(format!("overlay {name} is in use already on edge {holder}.{edge}"));
        }
        refuse_held_by_job(&self.layer, graph, self.node)?;
        Ok(overlay.driver)
    }
}

impl Action for Snapshot {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let driver = self.check(graph)?;
        let mut edits = graph.redirections(self.node, self.overlay);
        let edges = child_edges(self.overlay, driver, &[(BACKING, self.node)]);
        edits.extend(edges.into_iter().map(Edit::AddEdge));
        // A guest's next flush is the overlay's alone.
        let moves = [(self.node, self.overlay)].into();
        Ok(Plan { edits, flushed: [self.node].into(), moves, ..Plan::default() })
    }
}
