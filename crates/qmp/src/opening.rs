//! Opening images, with the chains of backing files that they name.
//!
//! Source: QEMU's documented behaviour of `backing` where it is left out, of relative names and of `json:`.
//! Differs: the format of a backing file is never guessed, as what a guest wrote would decide it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::{BackingFile, NewNode, OnLost, Plan};
use blockyard_drivers::child_edges;
use blockyard_graph::{Edit, Graph, Parent};
use blockyard_units::NodeId;

use crate::blockdev::Blockdev;
use crate::error::QmpError;
use crate::json::parse_json;
use crate::monitor::Monitor;
use crate::nodes::{Definition, define};
use crate::value::{Dict, Value};
use crate::visitor::Mode;

/// The most images in one chain: more is a loop.
const LONGEST_CHAIN: usize = 10_000;

/// What takes these nodes out of a graph, with what they hold.
pub(crate) fn removal(graph: &Graph, nodes: &[NodeId]) -> Plan {
    let mut edits = Vec::new();
    for id in nodes.iter().filter(|id| graph.node(**id).is_some()) {
        let parent = Parent::Node(*id);
        edits.extend(graph.children(parent).map(|edge| Edit::RemoveEdge {
            parent,
            name: edge.name.clone(),
            expected: Some(edge.child),
        }));
        edits.push(Edit::RemoveNode { id: *id });
    }
    Plan { edits, ..Plan::default() }
}

impl Monitor {
    /// Opens nodes that are in the graph, and the backing files that they name.
    ///
    /// # Errors
    /// What is wrong with one of them; all of them are gone again.
    pub(crate) async fn open(&self, definition: Definition) -> Result<(), QmpError> {
        let mut added = Vec::new();
        let result = self.open_chain(definition, &mut added).await;
        if result.is_err() {
            added.reverse();
            let derive = |graph: &Graph| Ok(removal(graph, &added));
            self.layer().publish("remove nodes again", OnLost::StartOver, derive).await?;
            self.note_removed(&added);
        }
        result
    }

    async fn open_chain(
        &self,
        definition: Definition,
        added: &mut Vec<NodeId>,
    ) -> Result<(), QmpError> {
        let mut next = Some(definition);
        while let Some(definition) = next.take() {
            // Whoever is above goes first when they go.
            added.extend(definition.opened().map(|(new, _)| new.id()));
            for (new, names_backing) in definition.opened() {
                self.layer().open_node(new.node()).await?;
                let Some(file) = new.node().backing_file().filter(|_| names_backing) else {
                    continue;
                };
                if added.len() > LONGEST_CHAIN {
                    let name = new.node().name();
                    let said = format!("node '{name}': its chain of backing files does not end");
                    return Err(QmpError::generic(said));
                }
                next = Some(self.add_backing(new, &file).await?);
            }
        }
        Ok(())
    }

    /// Closes every node, those above first: the images are then as if nobody had them open. Nobody uses them any more.
    ///
    /// # Errors
    /// Of the first that cannot be closed; the others are.
    ///
    /// # Yields
    /// As the nodes do.
    pub async fn close_all(&self) -> Result<(), QmpError> {
        let graph = self.layer().graph();
        let mut nodes: Vec<NodeId> = graph.nodes().map(|(id, _)| id).collect();
        nodes.sort_by_key(|id| core::cmp::Reverse(graph.descendants(*id).len()));
        let mut result = Ok(());
        for id in nodes {
            let Some(node) = self.layer().node_by_id(id) else { continue };
            result = result.and(self.layer().close_node(&node).await);
        }
        Ok(result?)
    }

    /// Adds the node of the backing file that `image` names.
    async fn add_backing(
        &self,
        image: &NewNode,
        file: &BackingFile,
    ) -> Result<Definition, QmpError> {
        let name = image.node().name();
        let within = |error: QmpError| error.within(&format!("the backing file of node '{name}'"));
        let beside = self.filename_of(image.id());
        let options = backing_options(file, beside.as_deref()).map_err(within)?;
        let parsed = Blockdev::parse_filter(options, Mode::Strings);
        let definition = parsed.map_err(QmpError::from).and_then(|options| define(self, options));
        let definition = definition.map_err(within)?;
        let derive = |graph: &Graph| {
            let mut plan = definition.plan(graph, None)?;
            let edges = child_edges(image.id(), "qcow2", &[("backing", definition.top())]);
            plan.edits.extend(edges.into_iter().map(Edit::AddEdge));
            Ok(plan)
        };
        self.layer().reconfigure("add backing file", derive).await?;
        self.note_added(&definition);
        Ok(definition)
    }

    /// The filename of the file that an image is in, if it is in one.
    fn filename_of(&self, image: NodeId) -> Option<String> {
        let file = self.layer().graph().child(Parent::Node(image), "file")?;
        self.driver_options(file)?.get("filename").cloned()
    }
}

/// The options of the node that reads a backing file; `beside`: the filename of the image that names it.
fn backing_options(file: &BackingFile, beside: Option<&str>) -> Result<Dict, QmpError> {
    let BackingFile { name, format } = file;
    let mut options = match name.strip_prefix("json:") {
        Some(json) => {
            match parse_json(json).map_err(|error| QmpError::generic(format!("{error}")))? {
                Value::Dict(options) => options,
                _ => return Err(QmpError::generic("json: an object is needed")),
            }
        }
        None => {
            let format = format.as_ref().ok_or_else(|| {
                QmpError::generic(format!(
                    "its format is not said, and is not guessed: give 'backing' its options, or write the format of \
                     '{name}' into the image"
                ))
            })?;
            let mut disk = Dict::new();
            disk.insert("driver", "file");
            disk.insert("filename", beside_image(name, beside).as_str());
            let mut options = Dict::new();
            options.insert("driver", format.as_str());
            options.insert("file", Value::Dict(disk));
            options
        }
    };
    if options.get("read-only").is_none() {
        options.insert("read-only", Value::Bool(true));
    }
    Ok(options)
}

/// A relative name, as seen from the directory that `image` is in.
fn beside_image(name: &str, image: Option<&str>) -> String {
    let name = name.strip_prefix("file:").unwrap_or(name);
    match image.and_then(|image| image.rsplit_once('/')) {
        Some((directory, _)) if !name.starts_with('/') => format!("{directory}/{name}"),
        _ => name.into(),
    }
}
