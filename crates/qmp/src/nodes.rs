//! Nodes from options: opening what they define, and the edits that put it into a graph.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{BackingFile, BlockDriver, BlockError, BlockLayer, NewNode, Plan};
use blockyard_drivers::dedup::Dedup;
use blockyard_drivers::{
    Blkdebug, Blklogwrites, Blkverify, Compress, CopyOnRead, FileDriver, Luks, Memory, Null,
    Overlay, Preallocate, Quorum, Raw, SnapshotAccess, Throttle,
};
use blockyard_graph::{Edit, Graph, NodeKind, NodeOptions, Parent, ROOT};
use blockyard_qcow2::Qcow2;
use blockyard_runtime::{Access, Storage};
use blockyard_units::{Mutant, NodeId};
use serde::Deserialize;

use crate::blkdebug::DebugRules;
use crate::blockdev::{Blockdev, Cache, Child, General, Kind};
use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::reopen::DriverOptions;

/// How a world finds the disk behind a filename.
pub trait Files: Send + Sync {
    /// Opens it.
    ///
    /// # Errors
    /// Says which file, and why not.
    fn open(&self, filename: &str, opening: Opening) -> Result<Arc<dyn Storage>, String>;

    /// Makes one that is not there, without any bytes, or opens the one that is, to be written: what that holds is for
    /// the caller to cut off.
    ///
    /// # Errors
    /// Says which file, and why not; a world need not be able to.
    fn create(&self, filename: &str) -> Result<Arc<dyn Storage>, String> {
        Err(format!("{filename}: no files can be made here"))
    }
}

/// How a disk is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Writes are refused.
    pub read_only: bool,
    /// Others are kept out, where the world has others.
    pub locking: bool,
    /// Others may do everything, but they are told that somebody reads.
    pub force_share: bool,
    /// Past what the world keeps in memory.
    pub direct: bool,
    /// Flushes may do nothing.
    pub no_flush: bool,
    /// Who waits for the disk; if nobody says, the world knows best.
    pub aio: Option<Aio>,
}

/// Who waits for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aio {
    /// Threads.
    Threads,
    /// Nobody: the system tells.
    IoUring,
}

impl Aio {
    /// QEMU's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::IoUring => "io_uring",
        }
    }
}

/// That there is no such node.
pub(crate) fn no_node(name: &str) -> BlockError {
    BlockError::NotFound(format!("there is no node '{name}'"))
}

/// The node of that name.
pub(crate) fn node_named(graph: &Graph, name: &str) -> Result<NodeId, BlockError> {
    graph.node_by_name(name).ok_or_else(|| no_node(name))
}

/// The node below the device of that name.
pub(crate) fn root_of_device(graph: &Graph, name: &str) -> Result<NodeId, QmpError> {
    let missing = || BlockError::NotFound(format!("there is no device '{name}'"));
    let backend = graph.backend_by_name(name).ok_or_else(missing)?;
    let empty = || QmpError::generic(format!("device '{name}' has no medium"));
    graph.child(Parent::Backend(backend), ROOT).ok_or_else(empty)
}

/// The node of that name, or the one below the device of that name.
pub(crate) fn node_or_root(graph: &Graph, name: &str) -> Result<NodeId, QmpError> {
    match graph.backend_by_name(name) {
        Some(_) => root_of_device(graph, name),
        // What may be either is for QEMU no device that is missing.
        None => node_named(graph, name).map_err(|error| QmpError::generic(format!("{error}"))),
    }
}

/// A node that a job holds keeps its place.
pub(crate) fn refuse_held_by_job(
    layer: &BlockLayer,
    graph: &Graph,
    node: NodeId,
) -> Result<(), BlockError> {
    if layer.design().is_mutant(Mutant::BusyNodeNotRefused) {
        return Ok(());
    }
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
    pub general: General,
    children: Vec<(&'static str, Below)>,
    driver_options: DriverOptions,
    /// The data file is the one that the image names, if it names one.
    names_data_file: bool,
    /// The backing child is the one that the image names.
    names_backing: bool,
}

impl Part {
    /// What the image names in place of children that were left out: the data file, and the backing file.
    pub fn named(&self) -> (Option<String>, Option<BackingFile>) {
        let node = self.new.node();
        let data_file = node.data_file().filter(|_| self.names_data_file);
        (data_file, node.backing_file().filter(|_| self.names_backing))
    }
}

enum Below {
    Named(String),
    Defined(NodeId),
    LeftOut,
}

impl Below {
    fn found(&self, graph: &Graph, over: Option<NodeId>) -> Result<NodeId, BlockError> {
        match self {
            Self::Defined(child) => Ok(*child),
            Self::Named(name) => node_named(graph, name),
            Self::LeftOut => Ok(over.expect("a-filter-goes-over-something")),
        }
    }
}

/// Opens what `options` define.
pub(crate) fn define(monitor: &Monitor, options: Blockdev) -> Result<Definition, QmpError> {
    let mut definition = Definition { parts: Vec::new() };
    define_part(monitor, options, &mut definition.parts)?;
    Ok(definition)
}

fn define_part(
    monitor: &Monitor,
    options: Blockdev,
    parts: &mut Vec<Part>,
) -> Result<NodeId, QmpError> {
    let layer = monitor.layer();
    let driver_options = options.driver_options();
    let Blockdev { driver, name, general, kind } = options;
    let name = name.unwrap_or_else(|| layer.generate_name());
    let mut children = Vec::new();
    let (mut names_data_file, mut names_backing) = (false, false);
    let mut below = |child, reference| {
        let below = match reference {
            Child::Named(name) => Below::Named(name),
            Child::Defined(inner) => Below::Defined(define_part(monitor, *inner, parts)?),
            Child::LeftOut => Below::LeftOut,
        };
        children.push((child, below));
        Ok::<(), QmpError>(())
    };
    let made: Box<dyn BlockDriver> = match kind {
        Kind::Blkdebug { image, rules } => {
            below("image", image)?;
            let DebugRules { limits, inject_error, set_state } = rules;
            Box::new(Blkdebug::new(name.as_str(), limits, inject_error, set_state))
        }
        Kind::Blklogwrites { file, log, options } => {
            below("file", file)?;
            below("log", log)?;
            Box::new(Blklogwrites::new(name.as_str(), options))
        }
        Kind::Blkverify { raw, test } => {
            below("raw", raw)?;
            below("test", test)?;
            Box::new(Blkverify::new(name.as_str()))
        }
        Kind::Compress { file } => {
            below("file", file)?;
            Box::new(Compress::new(name.as_str()))
        }
        Kind::CopyOnRead { file, bottom } => {
            below("file", file)?;
            let bottom = bottom.map(|bottom| find_bottom(layer, parts, &bottom)).transpose()?;
            Box::new(CopyOnRead::new(bottom))
        }
        Kind::Dedup { metadata, data } => {
            below("metadata", metadata)?;
            below("data", data)?;
            Box::new(Dedup::new(name.as_str()))
        }
        Kind::File { filename, locking, cache: Cache { direct, no_flush }, aio } => {
            let NodeOptions { auto_read_only, force_share, .. } = general.options;
            // Nobody needs more yet.
            let read_only = general.read_only || auto_read_only;
            let opening = Opening { read_only, locking, force_share, direct, no_flush, aio };
            let storage = monitor.files().open(&filename, opening).map_err(QmpError::generic)?;
            let access = if read_only { Access::Read } else { Access::Write };
            Box::new(FileDriver::new(name.as_str(), storage, access))
        }
        Kind::Luks { file, header, key_secret } => {
            below("file", file)?;
            let luks = Luks::new(name.as_str(), monitor.secret(&key_secret)?);
            if let Child::LeftOut = header {
                Box::new(luks)
            } else {
                below("header", header)?;
                Box::new(luks.with_detached_header())
            }
        }
        Kind::Memory { size } => Box::new(Memory::new(size, None)),
        Kind::Null { size } => Box::new(Null::new(size)),
        Kind::Overlay { size, cluster_size, backing } => {
            if let Some(backing) = backing.filter(|backing| !matches!(backing, Child::LeftOut)) {
                below("backing", backing)?;
            }
            Box::new(Overlay::new(size, cluster_size))
        }
        Kind::Preallocate { file, options } => {
            below("file", file)?;
            Box::new(Preallocate::new(options))
        }
        Kind::Qcow2 { file, data_file, backing, caches, checks, read_only, key_secret } => {
            below("file", file)?;
            names_data_file = matches!(data_file, Child::LeftOut);
            if !names_data_file {
                below("data-file", data_file)?;
            }
            names_backing = matches!(backing, Some(Child::LeftOut));
            if let Some(backing) = backing.filter(|backing| !matches!(backing, Child::LeftOut)) {
                below("backing", backing)?;
            }
            let secret = key_secret.map(|id| monitor.secret(&id)).transpose();
            let secret = secret.map_err(|error| error.within("encrypt"))?;
            let driver = Qcow2::new(name.as_str(), caches, read_only, secret);
            Box::new(driver.with_overlap_checks(checks))
        }
        Kind::Quorum { children, options } => {
            for (name, child) in Quorum::CHILDREN.into_iter().zip(children) {
                below(name, child)?;
            }
            Box::new(Quorum::new(name.as_str(), options))
        }
        Kind::Raw { file } => {
            below("file", file)?;
            Box::new(Raw)
        }
        Kind::SnapshotAccess { file } => {
            below("file", file)?;
            Box::new(SnapshotAccess)
        }
        Kind::Throttle { file, held } => {
            below("file", file)?;
            Box::new(Throttle::new(monitor.throttling(&held)?))
        }
    };
    let new = layer.new_node(&name, made);
    let id = new.id();
    let part =
        Part { new, driver, general, children, driver_options, names_data_file, names_backing };
    parts.push(part);
    Ok(id)
}

/// The node that `bottom` names, which a definition may bring with it.
fn find_bottom(layer: &BlockLayer, parts: &[Part], bottom: &str) -> Result<NodeId, QmpError> {
    let new = parts.iter().find(|part| part.new.node().name() == bottom);
    let (id, is_filter) = match new {
        Some(part) => {
            let kind = blockyard_drivers::node_kind(part.driver);
            (part.new.id(), kind == Some(NodeKind::Filter))
        }
        None => {
            let id = layer.node(bottom)?.id();
            let graph = layer.graph();
            (id, graph.node(id).is_some_and(|node| node.kind == NodeKind::Filter))
        }
    };
    let filter = || QmpError::generic(format!("bottom: '{bottom}' is a filter"));
    if is_filter { Err(filter()) } else { Ok(id) }
}

impl Definition {
    /// The node itself.
    pub fn top(&self) -> NodeId {
        self.parts.last().expect("a-definition-has-a-node").new.id()
    }

    /// All of its nodes.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.parts.iter().map(|part| part.new.id()).collect()
    }

    /// The edits that put it into `graph`, with named children as they are there, and `over` where a filter's `file` is
    /// left out.
    pub fn plan(&self, graph: &Graph, over: Option<NodeId>) -> Result<Plan, BlockError> {
        let mut plan = Plan::default();
        for part in &self.parts {
            let id = part.new.id();
            let name = part.new.node().name();
            let attributes = part.general.over(blockyard_drivers::attributes(name, part.driver));
            plan.edits.push(Edit::AddNode { id, attributes });
            let mut children = Vec::new();
            for (child, below) in &part.children {
                children.push((*child, below.found(graph, over)?));
            }
            let edges = blockyard_drivers::child_edges(id, part.driver, &children);
            plan.edits.extend(edges.into_iter().map(Edit::AddEdge));
            plan.nodes.push(part.new.clone());
        }
        Ok(plan)
    }

    /// The options that the driver of each node was made with.
    pub fn driver_options(&self) -> impl Iterator<Item = (NodeId, DriverOptions)> {
        self.parts.iter().map(|part| (part.new.id(), part.driver_options.clone()))
    }

    /// Refuses nodes that have to be opened before anybody uses them, where they would be used at once.
    pub fn refuse_images(self) -> Result<Self, QmpError> {
        let opened = ["blklogwrites", "dedup", "luks", "qcow2", "quorum"];
        match self.parts.iter().find(|part| opened.contains(&part.driver)) {
            Some(part) => {
                let name = part.new.node().name();
                let said = format!(
                    "node '{name}' is an image: add it first, by blockdev-add, and name it here"
                );
                Err(QmpError::generic(said))
            }
            None => Ok(self),
        }
    }

    /// The edits that take it out of a graph again.
    pub fn removal(&self) -> Vec<Edit> {
        let mut edits = Vec::new();
        for part in self.parts.iter().rev() {
            let id = part.new.id();
            for (child, _) in &part.children {
                let parent = Parent::Node(id);
                edits.push(Edit::RemoveEdge { parent, name: (*child).into(), expected: None });
            }
            edits.push(Edit::RemoveNode { id });
        }
        edits
    }
}
