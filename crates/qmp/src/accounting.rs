//! The commands about lengths, counts and guests that stand still.
//!
//! Source: QEMU's QMP reference. Differs: nodes are counted as backends are; whether a histogram gets all boundaries
//! or some kinds their own, kinds that are not named have none afterwards.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{
    Account, Backend, BlockError, Counted, Histogram, Node, Preallocation, Truncate, Write,
};
use blockyard_graph::{Graph, Parent, Permissions, ROOT};
use blockyard_units::{ByteLen, NodeId};
use serde::Deserialize;

use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::nodes::{no_node, node_named, root_of_device};
use crate::value::{Dict, Value};
use crate::visitor::{Mode, Nothing, Size, visit};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Resize {
    device: Option<String>,
    node_name: Option<String>,
    size: Size,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Threshold {
    node_name: String,
    write_threshold: Size,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Boundaries {
    id: String,
    boundaries: Option<Vec<u64>>,
    boundaries_read: Option<Vec<u64>>,
    boundaries_write: Option<Vec<u64>>,
    boundaries_flush: Option<Vec<u64>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Query {
    query_nodes: Option<bool>,
}

/// Whether this is one of the commands here.
pub(crate) fn knows(command: &str) -> bool {
    let known = [
        "block-latency-histogram-set",
        "block-set-write-threshold",
        "block_resize",
        "cont",
        "query-blockstats",
        "stop",
    ];
    known.contains(&command)
}

/// As far as that goes without a layer.
pub(crate) fn check(command: &str, value: &Value, mode: Mode) -> Result<(), QmpError> {
    match command {
        "block-latency-histogram-set" => visit::<Boundaries>(value, mode)?.histograms().map(drop),
        "block-set-write-threshold" => Ok(visit::<Threshold>(value, mode).map(drop)?),
        "block_resize" => visit::<Resize>(value, mode)?.check(),
        "query-blockstats" => Ok(visit::<Query>(value, mode).map(drop)?),
        _ => Ok(visit::<Nothing>(value, mode).map(drop)?),
    }
}

impl Resize {
    /// A device or a node, one of the two.
    fn check(&self) -> Result<(), QmpError> {
        match (&self.device, &self.node_name) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            _ => Err(QmpError::generic("block_resize: exactly one of device and node-name")),
        }
    }

    fn node(&self, graph: &Graph) -> Result<NodeId, QmpError> {
        self.check()?;
        if let Some(name) = &self.node_name {
            return Ok(node_named(graph, name)?);
        }
        root_of_device(graph, self.device.as_deref().unwrap_or_default())
    }
}

impl Boundaries {
    fn histograms(self) -> Result<Vec<(Counted, Histogram)>, QmpError> {
        let all = self.boundaries;
        let own = [
            (Counted::Read, self.boundaries_read),
            (Counted::Write, self.boundaries_write),
            (Counted::Flush, self.boundaries_flush),
        ];
        let given = own.into_iter().filter_map(|(kind, own)| Some((kind, own.or(all.clone())?)));
        let histogram = |(kind, boundaries)| {
            let histogram = Histogram::new(boundaries);
            let wrong = || QmpError::generic("boundaries: rising numbers above 0 are needed");
            Ok((kind, histogram.ok_or_else(wrong)?))
        };
        given.map(histogram).collect()
    }
}

impl Monitor {
    pub(crate) async fn account(
        &self,
        command: &str,
        value: &Value,
        mode: Mode,
    ) -> Result<Value, QmpError> {
        match command {
            "block-latency-histogram-set" => {
                let arguments: Boundaries = visit(value, mode)?;
                let node = self.root_of(&arguments.id)?;
                node.set_histograms(arguments.histograms()?);
            }
            "block-set-write-threshold" => {
                let Threshold { node_name, write_threshold } = visit(value, mode)?;
                self.layer().node(&node_name)?.set_write_threshold(write_threshold.0);
            }
            "block_resize" => self.resize(visit(value, mode)?).await?,
            "query-blockstats" => {
                let Query { query_nodes } = visit(value, mode)?;
                return Ok(self.blockstats(query_nodes.unwrap_or(false)));
            }
            _ => {
                visit::<Nothing>(value, mode)?;
                self.layer().set_running(command == "cont");
            }
        }
        Ok(Value::Dict(Dict::new()))
    }

    fn root_of(&self, name: &str) -> Result<Arc<Node>, QmpError> {
        let id = root_of_device(&self.layer().graph(), name)?;
        self.layer().node_by_id(id).ok_or_else(|| no_node(name).into())
    }

    /// Through a backend of its own, so that nobody who minds a change of length is overlooked; in a drained section
    /// of that backend's, so that nobody leads it elsewhere.
    async fn resize(&self, arguments: Resize) -> Result<(), QmpError> {
        let node = arguments.node(&self.layer().graph())?;
        let backend =
            self.layer().add_backend(&format!("{}-resize", self.layer().generate_name()))?;
        let section = self.layer().drain(backend.owner(), &[node]).await;
        let resized = self.resize_drained(&backend, node, ByteLen(arguments.size.0)).await;
        self.layer().remove_backend(&backend);
        section.end();
        Ok(resized?)
    }

    async fn resize_drained(
        &self,
        backend: &Backend,
        node: NodeId,
        len: ByteLen,
    ) -> Result<(), BlockError> {
        self.give_root(backend, node, Permissions::RESIZE, Permissions::ALL).await?;
        let truncate = Truncate { len, preallocation: Preallocation::Off };
        let resized = backend.write_drained(Write::truncate(truncate)).await;
        self.take_root(backend).await.and(resized)
    }

    fn blockstats(&self, nodes: bool) -> Value {
        let graph = self.layer().graph();
        // None of a node that is gone since.
        let of_node = |id: NodeId| -> Option<Dict> {
            let node = self.layer().node_by_id(id)?;
            let stats = node.stats();
            let mut members = Dict::new();
            for (kind, word) in [
                (Counted::Read, "rd"),
                (Counted::Write, "wr"),
                (Counted::Unmap, "unmap"),
                (Counted::Flush, "flush"),
            ] {
                let account = stats.of(kind);
                members.insert(format!("{word}_operations"), account.operations);
                if kind != Counted::Flush {
                    members.insert(format!("{word}_bytes"), account.bytes);
                }
                members.insert(format!("failed_{word}_operations"), account.failed);
                members.insert(format!("invalid_{word}_operations"), account.invalid);
                if let Some(histogram) = histogram(account) {
                    members.insert(format!("{word}_latency_histogram"), histogram);
                }
            }
            members.insert("wr_highest_offset", stats.write_highest_offset);
            let members =
                [("node-name", Value::from(node.name())), ("stats", Value::Dict(members))];
            Some(Dict::from_iter(members))
        };
        let mut all = Vec::new();
        if nodes {
            all.extend(graph.nodes().filter_map(|(id, _)| of_node(id)).map(Value::Dict));
            return Value::List(all);
        }
        for (backend, name) in graph.backends() {
            let root = graph.child(Parent::Backend(backend), ROOT);
            let mut members = root.and_then(of_node).unwrap_or_default();
            members.insert("device", name);
            all.push(Value::Dict(members));
        }
        Value::List(all)
    }
}

fn histogram(account: &Account) -> Option<Value> {
    let Histogram { boundaries, bins } = account.histogram.as_ref()?;
    let numbers = |of: &[u64]| Value::List(of.iter().map(|number| Value::from(*number)).collect());
    let members = [("boundaries", numbers(boundaries)), ("bins", numbers(bins))];
    Some(Value::Dict(Dict::from_iter(members)))
}
