//! Chains of layers, as jobs that begin and end look at them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::Plan;
use blockyard_graph::{EdgeKey, Edit, Graph, NodeAttributes, Parent, Role};
use blockyard_sync::note;
use blockyard_units::NodeId;

use crate::job::Job;

/// What holds the data that `node` shows: itself, or what lies below it if it is a filter.
pub(crate) fn below_filters(graph: &Graph, node: NodeId) -> NodeId {
    graph.child_with(node, Role::Filtered).map_or(node, |edge| below_filters(graph, edge.child))
}

/// What people call the job that has frozen an edge, or keeps a bitmap busy.
pub(crate) fn held_by(job: &str) -> String {
    format!("job {job}")
}

/// The edges that lead from `top` down to `base`, if it is below: to backing children, and to what filters show.
pub(crate) fn chain(graph: &Graph, top: NodeId, base: NodeId) -> Option<Vec<EdgeKey>> {
    let (mut at, mut edges) = (top, Vec::new());
    while at != base {
        let backing = graph.child_with(at, Role::Cow);
        let edge = backing.or_else(|| graph.child_with(at, Role::Filtered))?;
        edges.push(edge.key());
        at = edge.child;
    }
    Some(edges)
}

/// A node, and what it keeps its data in.
pub(crate) fn with_storage(graph: &Graph, node: NodeId) -> Vec<NodeId> {
    let mut all = Vec::from([node]);
    for edge in graph.children(Parent::Node(node)) {
        if !edge.roles.contains(Role::Cow) {
            all.extend(with_storage(graph, edge.child));
        }
    }
    all
}

/// Makes the nodes read-only, or writable.
pub(crate) fn set_read_only(graph: &Graph, nodes: &[NodeId], read_only: bool) -> Vec<Edit> {
    let set = |id: &NodeId| {
        let attributes = NodeAttributes { read_only, ..graph.node(*id)?.clone() };
        Some(Edit::SetAttributes { id: *id, attributes })
    };
    nodes.iter().filter_map(set).collect()
}

/// What was read-only before the job is so again.
pub(crate) async fn close_again(job: &Job, read_only: &[NodeId]) {
    if read_only.is_empty() {
        return;
    }
    let derive = |graph: &Graph| {
        let all = set_read_only(graph, read_only, true);
        if graph.apply(&all).is_ok() {
            return Ok(Plan { edits: all, ..Plan::default() });
        }
        // One that is written now stays writable.
        let is_free = |id: &&NodeId| !graph.is_modified(**id);
        let nodes: Vec<NodeId> = read_only.iter().filter(is_free).copied().collect();
        Ok(Plan { edits: set_read_only(graph, &nodes, true), ..Plan::default() })
    };
    if let Err(error) = job.layer().reconfigure("read-only again", derive).await {
        note!("{}: what was read-only stays writable: {error}", job.name());
    }
}
