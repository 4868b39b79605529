//! `block-stream`: what it is told, and the stream made ready.
//!
//! Source: QEMU's QMP reference. Differs: `base`, a base by its filename, is refused; a node is named instead.
//! `buf-size` is ours.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use blockyard_block::BlockDriver;
use blockyard_drivers::CopyOnRead;
use blockyard_graph::{Graph, NodeKind};
use blockyard_jobs::{Down, StreamOptions, StreamStart, check_job_id};
use blockyard_units::NodeId;
use serde::Deserialize;

use crate::error::QmpError;
use crate::mirror::{OnErrorWord, buffer, check_filter_name, job_options, on_error};
use crate::monitor::Monitor;
use crate::nodes::{node_named, node_or_root};
use crate::visitor::Size;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlockStream {
    job_id: Option<String>,
    device: String,
    base: Option<String>,
    base_node: Option<String>,
    bottom: Option<String>,
    backing_file: Option<String>,
    backing_mask_protocol: Option<bool>,
    speed: Option<u64>,
    /// Only of ours, as of a mirror.
    buf_size: Option<Size>,
    on_error: Option<OnErrorWord>,
    filter_node_name: Option<String>,
    auto_finalize: Option<bool>,
    auto_dismiss: Option<bool>,
}

impl BlockStream {
    fn job_id(&self) -> &str {
        self.job_id.as_deref().unwrap_or(&self.device)
    }

    /// Checks what needs no layer.
    pub fn check(&self) -> Result<(), QmpError> {
        let refused = |why| Err(QmpError::generic(why));
        check_job_id(self.job_id())?;
        if self.base.is_some() {
            return refused("base: a base is named by its node: use base-node");
        }
        if self.base_node.is_some() && self.bottom.is_some() {
            return refused("bottom: say either what is the last to be streamed or the base-node");
        }
        let has_base = self.base_node.is_some() || self.bottom.is_some();
        if self.backing_file.is_some() && !has_base {
            return refused(
                "backing-file: nothing is left to be named: the whole chain is streamed",
            );
        }
        if self.backing_mask_protocol.is_some() && self.backing_file.is_none() {
            return refused("backing-mask-protocol: it is of use with backing-file only");
        }
        check_filter_name(self.filter_node_name.as_deref())
    }

    fn down(&self, graph: &Graph) -> Result<Down, QmpError> {
        if let Some(name) = &self.base_node {
            return Ok(Down::Base(node_named(graph, name)?));
        }
        let Some(name) = &self.bottom else { return Ok(Down::End) };
        let bottom = node_named(graph, name)?;
        if graph.node(bottom).is_some_and(|node| node.kind == NodeKind::Filter) {
            let why = format!("bottom: {name} is a filter: name a node that is none");
            return Err(QmpError::generic(why));
        }
        Ok(Down::Bottom(bottom))
    }
}

impl Monitor {
    pub(crate) fn stream(&self, arguments: BlockStream) -> Result<StreamStart, QmpError> {
        arguments.check()?;
        let graph = self.layer().graph();
        let node = node_or_root(&graph, &arguments.device)?;
        let (monitor, told) = (self.clone(), arguments.backing_file.clone());
        let masks = arguments.backing_mask_protocol.unwrap_or(false);
        let policy = on_error(arguments.on_error);
        let options = StreamOptions {
            job: job_options!(arguments),
            node,
            down: arguments.down(&graph)?,
            buffer: buffer(arguments.buf_size.as_ref()),
            policy,
            naming: Arc::new(move |graph: &Graph, base| {
                monitor.backing_file(told.as_deref(), masks, graph, base)
            }),
            filter: Box::new(|bottom: NodeId| -> Box<dyn BlockDriver> {
                Box::new(CopyOnRead::new(Some(bottom)))
            }),
            filter_name: self.filter_name(arguments.filter_node_name),
        };
        Ok(StreamStart::new(self.layer(), self.jobs(), options)?)
    }
}
