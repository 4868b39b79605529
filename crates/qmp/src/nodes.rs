//! Nodes from options: opening what they define, and the edits that put it into a graph.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{BlockDriver, BlockError, BlockLayer, NewNode, Plan};
use blockyard_drivers::{FileDriver, Memory, Null, Raw, Throttle, ThrottleLimits};
use blockyard_graph::{Edit, Graph, Parent};
use blockyard_runtime::Storage;
use blockyard_units::NodeId;

use crate::blockdev::{Blockdev, Child, Kind};
use crate::error::QmpError;
use crate::reopen::Fixed;

/// How a world finds the disk behind a filename.
pub trait Files: Send + Sync {
    /// Opens it.
    ///
    /// # Errors
    /// Says which file, and why not.
    fn open(&self, filename: &str, read_only: bool) -> Result<Arc<dyn Storage>, String>;
}

/// That there is no such node.
pub(crate) fn no_node(name: &str) -> BlockError {
    BlockError::NotFound(format!("there is no node '{name}'"))
}

/// The node of that name.
pub(crate) fn node_named(graph: &Graph, name: &str) -> Result<NodeId, BlockError> {
    graph.node_by_name(name).ok_or_else(|| no_node(name))
}

/// The node of that name, or the one below the device of that name.
pub(crate) fn node_or_root(graph: &Graph, name: &str) -> Result<NodeId, QmpError> {
    let Some(backend) = graph.backend_by_name(name) else { return Ok(node_named(graph, name)?) };
    let empty = || QmpError::generic(format!("device '{name}' has no medium"));
    graph.child(Parent::Backend(backend), "root").ok_or_else(empty)
}

/// A node that a job holds keeps its place.
pub(crate) fn refuse_held_by_job(graph: &Graph, node: NodeId) -> Result<(), BlockError> {
    let held = graph.parents(node).find(|edge| matches!(edge.parent, Parent::Job(_)));
    let Some(edge) = held else { return Ok(()) };
    let (job, edge) = (graph.parent_name(edge.parent).unwrap_or_default(), &edge.name);
    let name = graph.node(node).map_or("", |node| &node.name);
    let message = format!("refused: job {job} holds node {name} on edge {job}.{edge}");
    Err(BlockError::Invalid(message))
}

/// A node as options define it, opened and not yet in the graph; children that were defined in place come first.
pub(crate) struct Definition {
    pub parts: Vec<Part>,
}

pub(crate) struct Part {
    pub new: NewNode,
    driver: &'static str,
    read_only: bool,
    child: Option<Below>,
    fixed: Fixed,
}

enum Below {
    Named(String),
    Defined(NodeId),
}

/// Opens what `options` define. `default_child` stands in where a filter's `file` is left out.
pub(crate) fn define(
    layer: &BlockLayer,
    files: &dyn Files,
    options: Blockdev,
    default_child: Option<NodeId>,
) -> Result<Definition, QmpError> {
    let mut definition = Definition { parts: Vec::new() };
    define_part(layer, files, options, default_child, &mut definition.parts)?;
    Ok(definition)
}

fn define_part(
    layer: &BlockLayer,
    files: &dyn Files,
    options: Blockdev,
    default_child: Option<NodeId>,
    parts: &mut Vec<Part>,
) -> Result<NodeId, QmpError> {
    let Blockdev { driver, name, read_only, kind } = options;
    let name = name.unwrap_or_else(|| layer.generate_name());
    let fixed = kind.fixed();
    let (made, below): (Box<dyn BlockDriver>, Option<Child>) = match kind {
        Kind::File { filename } => {
            let storage = files.open(&filename, read_only).map_err(QmpError::generic)?;
            (Box::new(FileDriver::new(name.as_str(), storage)), None)
        }
        Kind::Memory { size } => (Box::new(Memory::new(size, None)), None),
        Kind::Null { size } => (Box::new(Null::new(size)), None),
        Kind::Raw { file } => (Box::new(Raw), Some(file)),
        Kind::Throttle { file, bps_total, iops_total } => {
            (Box::new(Throttle::new(ThrottleLimits { bps_total, iops_total })), Some(file))
        }
    };
    let child = match below {
        None => None,
        Some(Child::Named(name)) => Some(Below::Named(name)),
        Some(Child::Defined(inner)) => {
            Some(Below::Defined(define_part(layer, files, *inner, None, parts)?))
        }
        Some(Child::LeftOut) => {
            let missing = || QmpError::generic("file: missing");
            Some(Below::Defined(default_child.ok_or_else(missing)?))
        }
    };
    let new = layer.new_node(&name, made);
    let id = new.id();
    parts.push(Part { new, driver, read_only, child, fixed });
    Ok(id)
}

impl Definition {
    /// The node itself.
    pub fn top(&self) -> NodeId {
        self.parts.last().expect("a-definition-has-a-node").new.id()
    }

    /// The edits that put it into `graph`, with named children as they are there.
    pub fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let mut plan = Plan::default();
        for part in &self.parts {
            let id = part.new.id();
            let name = part.new.node().name();
            let attributes = blockyard_drivers::attributes(name, part.driver, part.read_only);
            plan.edits.push(Edit::AddNode { id, attributes });
            let child = match &part.child {
                None => None,
                Some(Below::Defined(child)) => Some(*child),
                Some(Below::Named(name)) => Some(node_named(graph, name)?),
            };
            let children: Vec<(&str, NodeId)> =
                child.map(|child| ("file", child)).into_iter().collect();
            let edges = blockyard_drivers::child_edges(id, part.driver, &children);
            plan.edits.extend(edges.into_iter().map(Edit::AddEdge));
            plan.nodes.push(part.new.clone());
        }
        Ok(plan)
    }

    /// The options of each node that stay for its life.
    pub fn fixed(&self) -> impl Iterator<Item = (NodeId, Fixed)> {
        self.parts.iter().map(|part| (part.new.id(), part.fixed.clone()))
    }

    /// The edits that take it out of a graph again.
    pub fn removal(&self) -> Vec<Edit> {
        let mut edits = Vec::new();
        for part in self.parts.iter().rev() {
            let id = part.new.id();
            if part.child.is_some() {
                let parent = Parent::Node(id);
                edits.push(Edit::RemoveEdge { parent, name: "file".into(), expected: None });
            }
            edits.push(Edit::RemoveNode { id });
        }
        edits
    }
}
