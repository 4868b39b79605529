//! Nodes from options: the registry of drivers, and what each asks for.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{BlockDriver, BlockLayer, NewNode, Plan};
use blockyard_drivers::{FileDriver, Memory, Null, Raw, Throttle, ThrottleLimits};
use blockyard_graph::{Edit, Graph};
use blockyard_runtime::Storage;
use blockyard_units::NodeId;
use serde::Deserialize;

use crate::error::QmpError;
use crate::value::{Dict, Reference, Value};
use crate::visitor::{Mode, Size, take, visit};

/// The drivers that `blockdev-add` knows.
pub const DRIVERS: &[&str] = &["file", "memory", "null-co", "raw", "throttle"];

/// How a world finds the disk behind a filename.
pub trait Files: Send + Sync {
    /// Opens it.
    ///
    /// # Errors
    /// Says which file, and why not.
    fn open(&self, filename: &str, read_only: bool) -> Result<Arc<dyn Storage>, String>;
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FileOptions {
    filename: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SizeOptions {
    size: Size,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ChildOptions {
    file: Option<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ThrottleOptions {
    file: Option<Reference>,
    limits: Option<Limits>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Limits {
    bps_total: Option<Size>,
    iops_total: Option<u64>,
}

/// A node as options define it, opened and not yet in the graph; children that were defined in place come first.
pub(crate) struct Definition {
    pub parts: Vec<Part>,
}

pub(crate) struct Part {
    pub new: NewNode,
    driver: &'static str,
    read_only: bool,
    child: Option<Child>,
}

enum Child {
    Named(String),
    Defined(NodeId),
}

/// Opens what `options` define. `default_child` stands in where a filter's `file` is left out.
pub(crate) fn define(
    layer: &BlockLayer,
    files: &dyn Files,
    options: Dict,
    mode: Mode,
    default_child: Option<NodeId>,
) -> Result<Definition, QmpError> {
    let mut definition = Definition { parts: Vec::new() };
    define_part(layer, files, options, mode, default_child, &mut definition.parts)?;
    Ok(definition)
}

fn define_part(
    layer: &BlockLayer,
    files: &dyn Files,
    mut options: Dict,
    mode: Mode,
    default_child: Option<NodeId>,
    parts: &mut Vec<Part>,
) -> Result<NodeId, QmpError> {
    let driver = known_driver(&take::<String>(&mut options, "driver", mode)?)?;
    let name = match take::<Option<String>>(&mut options, "node-name", mode)? {
        Some(name) => check_name(name)?,
        None => layer.generate_name(),
    };
    let read_only = take::<Option<bool>>(&mut options, "read-only", mode)?.unwrap_or(false);
    let rest = Value::Dict(options);
    let mut below = None;
    let made: Box<dyn BlockDriver> = match driver {
        "file" => {
            let FileOptions { filename } = visit(&rest, mode)?;
            let storage = files.open(&filename, read_only).map_err(QmpError::generic)?;
            Box::new(FileDriver::new(name.as_str(), storage))
        }
        "memory" => Box::new(Memory::new(visit::<SizeOptions>(&rest, mode)?.size.0, None)),
        "null-co" => Box::new(Null::new(visit::<SizeOptions>(&rest, mode)?.size.0)),
        "raw" => {
            below = Some(visit::<ChildOptions>(&rest, mode)?.file);
            Box::new(Raw)
        }
        _ => {
            let ThrottleOptions { file, limits } = visit(&rest, mode)?;
            below = Some(file);
            let limits = limits.unwrap_or_default();
            Box::new(Throttle::new(ThrottleLimits {
                bps_total: limits.bps_total.map_or(0, |size| size.0),
                iops_total: limits.iops_total.unwrap_or(0),
            }))
        }
    };
    let child = match below {
        None => None,
        Some(Some(Reference::Name(name))) => Some(Child::Named(name)),
        Some(Some(Reference::Definition(inner))) => {
            Some(Child::Defined(define_part(layer, files, inner, mode, None, parts)?))
        }
        Some(None) => {
            let missing = || QmpError::generic("file: missing");
            Some(Child::Defined(default_child.ok_or_else(missing)?))
        }
    };
    let new = layer.new_node(&name, made);
    let id = new.id();
    parts.push(Part { new, driver, read_only, child });
    Ok(id)
}

fn known_driver(name: &str) -> Result<&'static str, QmpError> {
    DRIVERS.iter().copied().find(|known| *known == name).ok_or_else(|| {
        QmpError::generic(format!("unknown driver '{name}'; known are {}", DRIVERS.join(", ")))
    })
}

fn check_name(name: String) -> Result<String, QmpError> {
    let rest = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let fine = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(rest)
        && name.len() < 32;
    if fine { Ok(name) } else { Err(QmpError::generic(format!("invalid node-name '{name}'"))) }
}

impl Definition {
    /// The node itself.
    pub fn top(&self) -> NodeId {
        self.parts.last().expect("a-definition-has-a-node").new.id()
    }

    /// The edits that put it into `graph`, with named children as they are there.
    pub fn plan(&self, graph: &Graph) -> Result<Plan, blockyard_block::BlockError> {
        let mut plan = Plan::default();
        for part in &self.parts {
            let id = part.new.id();
            let name = part.new.node().name();
            let attributes = blockyard_drivers::attributes(name, part.driver, part.read_only);
            plan.edits.push(Edit::AddNode { id, attributes });
            let child = match &part.child {
                None => None,
                Some(Child::Defined(child)) => Some(*child),
                Some(Child::Named(name)) => Some(graph.node_by_name(name).ok_or_else(|| {
                    blockyard_block::BlockError::NotFound(format!("there is no node '{name}'"))
                })?),
            };
            let children: Vec<(&str, NodeId)> =
                child.map(|child| ("file", child)).into_iter().collect();
            let edges = blockyard_drivers::child_edges(id, part.driver, &children);
            plan.edits.extend(edges.into_iter().map(Edit::AddEdge));
            plan.nodes.push(part.new.clone());
        }
        Ok(plan)
    }

    /// The edits that take it out of a graph again.
    pub fn removal(&self) -> Vec<Edit> {
        let mut edits = Vec::new();
        for part in self.parts.iter().rev() {
            let id = part.new.id();
            if part.child.is_some() {
                let parent = blockyard_graph::Parent::Node(id);
                edits.push(Edit::RemoveEdge { parent, name: "file".into(), expected: None });
            }
            edits.push(Edit::RemoveNode { id });
        }
        edits
    }
}
