//! Committing: a mirror whose target is a backing file of its source, and takes the source's place.
//!
//! What is copied is what the layers above the base hold. That leaves what the top shows as it is, and changes what
//! the layers in between show, which so nobody else may read. A top that nobody writes is done when all is copied; one
//! that is written is followed until somebody completes the job. Overlays of the top that are images name their backing
//! file: they name the base when that has all, durably, and before the graph says so.
//!
//! Source: QEMU's documentation of block-commit; "Meeting notes on -blockdev, dynamic backend reconfiguration"
//! (qemu-block, December 2016) for the filter. Differs: the top may be written or not, the job is the same and follows
//! writes in any case.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::{
    BackingFile, BlockError, BlockLayer, Io, Preallocation, Requester, Truncate, Write,
};
use blockyard_graph::{Edge, EdgeKey, EdgePolicy, Edit, Graph, Parent, Permissions, Role, Roles};
use blockyard_sync::door::world::Quiet;
use blockyard_sync::{note, sometimes};
use blockyard_units::{ByteRange, JobId, Mutant, NodeId};

use super::Mirror;
use super::filter::{FILE, TARGET};
use crate::chain::{chain, with_storage};
use crate::job::Job;

/// What a commit is told beside what a mirror is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitOptions {
    /// How the overlays of the top are to name the base, if they are images that can.
    pub backing_file: Option<BackingFile>,
}

/// What a commit has to do beside what a mirror does.
pub(super) struct Commit {
    pub options: CommitOptions,
    /// Somebody writes the top: it is followed until somebody completes the job.
    pub is_active: bool,
    /// The child by which the last layer above the base reads it: down to there layers are asked what they hold.
    pub bottom: NodeId,
    /// What was read-only when the job began.
    pub read_only: Vec<NodeId>,
    /// The overlays that name the base already, with what they named before; of the job's task alone.
    pub renamed: Quiet<Vec<(NodeId, BackingFile)>>,
}

/// By which child the layers above read the base; the error tells that it is none of theirs.
pub(super) fn bottom(graph: &Graph, top: NodeId, base: NodeId) -> Result<NodeId, BlockError> {
    let edges = chain(graph, top, base).unwrap_or_default();
    let is_backing = |edge: &&EdgeKey| {
        graph.edge(edge.parent, &edge.name).is_some_and(|edge| edge.roles.contains(Role::Cow))
    };
    let last = edges.iter().rfind(is_backing);
    let below = last.and_then(|edge| graph.child(edge.parent, &edge.name));
    below.ok_or_else(|| {
        let name = |id| graph.node(id).map_or("that is gone", |node| &node.name);
        let (base, top) = (name(base), name(top));
        BlockError::Invalid(format!("base: node {base} is no backing file of {top}"))
    })
}

/// The nodes that read `top` as their backing child, filters looked through.
pub(super) fn overlays(graph: &Graph, top: NodeId) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    for edge in graph.parents(top) {
        let Parent::Node(holder) = edge.parent else { continue };
        if edge.roles.contains(Role::Cow) {
            found.insert(holder);
        } else if edge.roles.contains(Role::Filtered) {
            found.extend(overlays(graph, holder));
        }
    }
    found
}

/// The edges by which a guest, or an overlay, comes to `node`, filters left out.
pub(super) fn users(graph: &Graph, node: NodeId) -> Vec<EdgeKey> {
    let mut found = Vec::new();
    for edge in graph.parents(node) {
        match edge.parent {
            Parent::Job(_) => {}
            Parent::Node(filter) if edge.roles.contains(Role::Filtered) => {
                found.extend(users(graph, filter));
            }
            _ => found.push(edge.key()),
        }
    }
    found
}

fn with_policy(graph: &Graph, edge: &EdgeKey, policy: EdgePolicy, by: Option<&str>) -> Vec<Edit> {
    let EdgeKey { parent, name } = edge.clone();
    let Some(edge) = graph.edge(parent, &name) else { return Vec::new() };
    let edge = Edge { policy, frozen: by.map(String::from), ..edge.clone() };
    [Edit::RemoveEdge { parent, name, expected: Some(edge.child) }, Edit::AddEdge(edge)].into()
}

/// The job's edge to a layer between top and base, the first of them being 0.
fn layer_between(index: usize) -> String {
    format!("layer{index}")
}

/// The layers between top and base, filters included.
fn between(edges: &[EdgeKey]) -> impl Iterator<Item = NodeId> {
    edges.iter().skip(1).filter_map(|edge| match edge.parent {
        Parent::Node(node) => Some(node),
        _ => None,
    })
}

/// What is read-only and has to be written: the base, and the overlays that are to name it.
pub(super) fn to_be_written(
    layer: &BlockLayer,
    graph: &Graph,
    given: NodeId,
    base: NodeId,
) -> Vec<NodeId> {
    let names = |id: &NodeId| layer.node_by_id(*id).is_some_and(|node| node.keeps_backing_file());
    let overlays = overlays(graph, given).into_iter().filter(names);
    let written: BTreeSet<NodeId> =
        overlays.chain([base]).flat_map(|node| with_storage(graph, node)).collect();
    let is_read_only = |id: &NodeId| graph.node(*id).is_some_and(|node| node.read_only);
    written.into_iter().filter(is_read_only).collect()
}

/// Whether somebody changes what the node shows.
pub(super) fn is_written(graph: &Graph, node: NodeId) -> bool {
    let changes = Permissions::WRITE.union(Permissions::RESIZE);
    graph.parents(node).any(|edge| requires(graph, edge, changes))
}

fn requires(graph: &Graph, edge: &Edge, any: Permissions) -> bool {
    let permissions = graph.permissions(edge.parent, &edge.name);
    permissions.is_some_and(|(required, _)| !required.intersection(any).is_empty())
}

/// Who reads or writes the base or a layer in between, and not through the top, would see it change.
pub(super) fn refuse_other_users(
    graph: &Graph,
    top: NodeId,
    base: NodeId,
) -> Result<(), BlockError> {
    let edges = chain(graph, top, base).unwrap_or_default();
    let uses = Permissions::CONSISTENT_READ.union(Permissions::WRITE);
    for node in between(&edges).chain([base]) {
        let others = graph.parents(node).filter(|edge| !edges.contains(&edge.key()));
        if let Some(edge) = others.into_iter().find(|edge| requires(graph, edge, uses)) {
            let name = graph.node(node).map_or("that is gone", |node| &node.name);
            let holder = graph.parent_name(edge.parent).unwrap_or_default();
            return Err(BlockError::Invalid(format!(
                "refused: {holder} uses node {name} on edge {holder}.{}, and would see it change",
                edge.name
            )));
        }
    }
    Ok(())
}

/// The edits with which a commit begins, beside those of a mirror: the chain is the job's.
pub(super) fn begin(graph: &Graph, job: JobId, by: &str, top: NodeId, base: NodeId) -> Vec<Edit> {
    let edges = chain(graph, top, base).unwrap_or_default();
    let mut edits = Vec::new();
    for (index, edge) in edges.iter().enumerate() {
        match index {
            0 => edits.extend(with_policy(graph, edge, EdgePolicy::Committed, Some(by))),
            _ => edits.push(Edit::Freeze {
                parent: edge.parent,
                name: edge.name.clone(),
                holder: by.into(),
            }),
        }
    }
    // Who writes one without letting others write it would see them change, and is refused for that.
    let policy = EdgePolicy::Explicit {
        required: Permissions::NONE,
        shared: Permissions::ALL.difference(Permissions::RESIZE),
    };
    edits.extend(between(&edges).enumerate().map(|(index, child)| {
        Edit::AddEdge(Edge {
            parent: Parent::Job(job),
            name: layer_between(index),
            child,
            roles: Roles::NONE,
            policy,
            frozen: None,
        })
    }));
    edits
}

/// The edits that let go of the chain.
pub(super) fn end(graph: &Graph, job: JobId, top: NodeId, base: NodeId) -> Vec<Edit> {
    let edges = chain(graph, top, base).unwrap_or_default();
    let mut edits = Vec::new();
    for (index, edge) in edges.iter().enumerate() {
        edits.push(Edit::Unfreeze { parent: edge.parent, name: edge.name.clone() });
        if index == 0 {
            edits.extend(with_policy(graph, edge, EdgePolicy::Backing, None));
        }
    }
    edits.extend(between(&edges).enumerate().map(|(index, _)| Edit::RemoveEdge {
        parent: Parent::Job(job),
        name: layer_between(index),
        expected: None,
    }));
    edits
}

impl Mirror {
    /// Has the base show zeroes where the top ends before it, or ends before the top, as that does.
    pub(super) async fn fit_base(&self, job: &Job) -> Result<(), BlockError> {
        if self.commit.is_none() {
            return Ok(());
        }
        loop {
            job.pause_point().await?;
            match self.try_to_fit_base(job).await {
                Ok(()) => return Ok(()),
                Err(error) => job.met(error, self.policies.target, false)?,
            }
            job.pace().await?;
        }
    }

    pub(super) async fn try_to_fit_base(&self, job: &Job) -> Result<(), BlockError> {
        let io = &self.copier.io;
        let (len, base_len) = (io.len(FILE)?, io.len(TARGET)?);
        if base_len < len {
            sometimes!(true, "a base became as long as what is committed to it");
            let truncate = Truncate { len, preallocation: Preallocation::Off };
            return io.write(TARGET, Write::truncate(truncate)).await;
        }
        let (graph, layer) = (job.layer().graph(), job.layer());
        let by = Requester::Job(job.id());
        let own = |id| layer.node_by_id(id).map(|node| node.len(&Io::of_node(layer, &node, by)));
        let longest = overlays(&graph, self.top()).into_iter().filter_map(own).max();
        let forgets = layer.design().is_mutant(Mutant::CommitForgetsTail);
        let seen =
            ByteRange::between(len.0, longest.unwrap_or_default().min(base_len).0.max(len.0));
        if seen.is_empty() || forgets {
            return Ok(());
        }
        sometimes!(true, "what a base has behind the end of the top was hidden");
        io.write(TARGET, Write::zeroes(seen)).await
    }

    /// Has the overlays of the top name the base. What they name is valid before and after: both show the same.
    pub(super) async fn rename(&self, job: &Job) -> Result<(), BlockError> {
        let Some(commit) = &self.commit else { return Ok(()) };
        let Some(file) = &commit.options.backing_file else { return Ok(()) };
        for id in overlays(&job.layer().graph(), self.top()) {
            let Some(node) = job.layer().node_by_id(id) else { continue };
            if !node.keeps_backing_file() {
                continue;
            }
            let graph = job.layer().graph();
            let is_written = graph.node(id).is_some_and(|node| !node.read_only && node.active);
            if !is_written {
                let name = node.name();
                let why = format!("overlay {name} cannot name the base: it is read-only");
                return Err(BlockError::Invalid(why));
            }
            let nothing = || BackingFile { name: String::new(), format: None };
            let before = node.backing_file().unwrap_or_else(nothing);
            let by = Requester::Job(job.id());
            // If it fails it may name it.
            commit.renamed.with(|renamed| renamed.push((id, before)));
            job.layer().set_backing_file(&node, by, file).await?;
        }
        Ok(())
    }

    /// They name what they did before.
    pub(super) async fn rename_back(&self, job: &Job) {
        let Some(commit) = &self.commit else { return };
        for (id, before) in commit.renamed.with(core::mem::take) {
            let Some(node) = job.layer().node_by_id(id) else { continue };
            let by = Requester::Job(job.id());
            if let Err(error) = job.layer().set_backing_file(&node, by, &before).await {
                note!("{}: node {} names the base: {error}", job.name(), node.name());
            }
        }
    }
}
