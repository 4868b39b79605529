//! `block-commit`: what it is told, and the commit made ready.
//!
//! Source: QEMU's QMP reference. Differs: `base` and `top` by filename are deprecated there and refused here.

use alloc::format;
use alloc::string::String;

use blockyard_block::BackingFile;
use blockyard_graph::{Graph, NodeKind, Parent, Role};
use blockyard_jobs::{
    CommitOptions, MirrorOptions, MirrorPolicies, MirrorStart, SyncMode, check_job_id,
};
use blockyard_units::{CommitNode, CopyMode, NodeId};
use serde::Deserialize;

use crate::error::QmpError;
use crate::mirror::{
    OnErrorWord, buffer, check_filter_name, check_granularity, granularity, job_options, on_error,
};
use crate::monitor::Monitor;
use crate::nodes::{node_named, node_or_root};
use crate::visitor::Size;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlockCommit {
    job_id: Option<String>,
    device: String,
    base_node: Option<String>,
    top_node: Option<String>,
    backing_file: Option<String>,
    backing_mask_protocol: Option<bool>,
    speed: Option<u64>,
    /// Only of ours, as of a mirror.
    granularity: Option<Size>,
    /// Only of ours, as of a mirror.
    buf_size: Option<Size>,
    on_error: Option<OnErrorWord>,
    filter_node_name: Option<String>,
    auto_finalize: Option<bool>,
    auto_dismiss: Option<bool>,
}

impl BlockCommit {
    fn job_id(&self) -> &str {
        self.job_id.as_deref().unwrap_or(&self.device)
    }

    /// Checks what needs no layer.
    pub fn check(&self) -> Result<(), QmpError> {
        check_job_id(self.job_id())?;
        check_granularity(granularity(self.granularity.as_ref()))?;
        check_filter_name(self.filter_node_name.as_deref())
    }
}

fn name_of(graph: &Graph, node: NodeId) -> String {
    graph.node(node).map(|node| node.name.clone()).unwrap_or_default()
}

impl Monitor {
    pub(crate) fn commit(&self, arguments: BlockCommit) -> Result<MirrorStart, QmpError> {
        arguments.check()?;
        let graph = self.layer().graph();
        let root = node_or_root(&graph, &arguments.device)?;
        let top = match &arguments.top_node {
            Some(name) => node_named(&graph, name)?,
            None => root,
        };
        if !graph.reaches(Parent::Node(root), top) {
            let (top, root) = (name_of(&graph, top), name_of(&graph, root));
            return Err(QmpError::generic(format!("top-node: {top} is not below {root}")));
        }
        let base = match &arguments.base_node {
            Some(name) => node_named(&graph, name)?,
            None => self.deepest(&graph, top)?,
        };
        let policy = on_error(arguments.on_error);
        let copy_mode = match self.layer().design().commit {
            CommitNode::Filter => CopyMode::Passive,
            CommitNode::Bare => CopyMode::SourceBitmap,
        };
        let options = MirrorOptions {
            job: job_options!(arguments),
            source: name_of(&graph, top),
            target: name_of(&graph, base),
            sync: SyncMode::Top,
            copy_mode,
            granularity: granularity(arguments.granularity.as_ref()),
            buffer: buffer(arguments.buf_size.as_ref()),
            replaces: None,
            policies: MirrorPolicies { source: policy, target: policy },
            commit: Some(CommitOptions {
                backing_file: self.backing_file(
                    arguments.backing_file.as_deref(),
                    arguments.backing_mask_protocol.unwrap_or(false),
                    &graph,
                    base,
                ),
            }),
            filter_name: self.filter_name(arguments.filter_node_name),
        };
        Ok(MirrorStart::new(self.layer(), self.jobs(), options)?)
    }

    /// The last of the backing files below `node`.
    fn deepest(&self, graph: &Graph, node: NodeId) -> Result<NodeId, QmpError> {
        let below = |at: &NodeId| self.layer().backing_of(*at);
        core::iter::successors(below(&node), below).last().ok_or_else(|| {
            let name = name_of(graph, node);
            QmpError::generic(format!("node {name} has no backing file to commit to"))
        })
    }

    /// How an image is to name the base: as it is told to, or by its filename. With neither it keeps what it names.
    pub(crate) fn backing_file(
        &self,
        told: Option<&str>,
        masks: bool,
        graph: &Graph,
        base: NodeId,
    ) -> Option<BackingFile> {
        let mut base = base;
        while let Some(edge) = graph.child_with(base, Role::Filtered) {
            base = edge.child;
        }
        let node = graph.node(base)?;
        let file = match node.kind {
            NodeKind::Protocol => Some(base),
            _ => graph.child(Parent::Node(base), "file"),
        };
        let filename = file.and_then(|file| self.driver_options(file)?.get("filename").cloned());
        let format = match node.kind {
            NodeKind::Protocol if masks => "raw",
            _ => node.driver,
        };
        let name = told.map(String::from).or(filename)?;
        Some(BackingFile { name, format: Some(format.into()) })
    }
}
