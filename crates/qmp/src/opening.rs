//! Opening images, with the data files and the chains of backing files that they name.
//!
//! Source: QEMU's documented behaviour of `backing` where it is left out, of relative names and of `json:`; and what
//! QEMU 10.0 does with the name of a data file, which is not seen from the image's directory.
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
use crate::nodes::{Definition, Part, define};
use crate::value::{Dict, Value};
use crate::visitor::{Mode, VisitError};

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
    /// Opens nodes that are in the graph, and the files that they name; then others may lead edges to them.
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
        self.layer().end_opening(&added);
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
            added.extend(definition.nodes());
            for part in &definition.parts {
                let new = &part.new;
                self.layer().open_node(new.node()).await?;
                let (data_file, backing) = part.named();
                if let Some(name) = data_file {
                    let definition = self.add_data_file(part, &name).await?;
                    for part in &definition.parts {
                        added.push(part.new.id());
                        self.layer().open_node(part.new.node()).await?;
                    }
                }
                let Some(file) = backing else { continue };
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
        self.add_named(image, "backing", parsed).await.map_err(within)
    }

    /// Adds the node of the data file that `image` names.
    async fn add_data_file(&self, image: &Part, name: &str) -> Result<Definition, QmpError> {
        let node = image.new.node().name();
        let within = |error: QmpError| error.within(&format!("the data file of node '{node}'"));
        // A name and never options: whoever could write the image would have the say over what is opened how.
        let parsed = Blockdev::parse_data_file(image.general, of_file(name), Mode::Strings);
        self.add_named(&image.new, "data-file", parsed).await.map_err(within)
    }

    /// Adds the node of a file that `image` names, as its child.
    async fn add_named(
        &self,
        image: &NewNode,
        child: &str,
        options: Result<Blockdev, VisitError>,
    ) -> Result<Definition, QmpError> {
        let definition = define(self, options?)?;
        let derive = |graph: &Graph| {
            let mut plan = definition.plan(graph, None)?;
            let edges = child_edges(image.id(), "qcow2", &[(child, definition.top())]);
            plan.edits.extend(edges.into_iter().map(Edit::AddEdge));
            Ok(plan)
        };
        self.layer().begin_opening(definition.nodes());
        let done = self.layer().reconfigure("add a file that an image names", derive).await;
        if let Err(error) = done {
            self.layer().end_opening(&definition.nodes());
            return Err(error.into());
        }
        self.note_added(&definition);
        Ok(definition)
    }

    /// The filename of the file that an image is in, if it is in one.
    fn filename_of(&self, image: NodeId) -> Option<String> {
        let file = self.layer().graph().child(Parent::Node(image), "file")?;
        self.driver_options(file)?.get("filename").cloned()
    }
}

/// The options in a name that begins with `json:`.
fn of_json(name: &str) -> Result<Option<Dict>, QmpError> {
    let Some(json) = name.strip_prefix("json:") else { return Ok(None) };
    match parse_json(json).map_err(|error| QmpError::generic(format!("{error}")))? {
        Value::Dict(options) => Ok(Some(options)),
        _ => Err(QmpError::generic("json: an object is needed")),
    }
}

/// The options of a file.
fn of_file(name: &str) -> Dict {
    let mut options = Dict::new();
    options.insert("driver", "file");
    options.insert("filename", name);
    options
}

/// The options of the node that reads a backing file; `beside`: the filename of the image that names it.
fn backing_options(file: &BackingFile, beside: Option<&str>) -> Result<Dict, QmpError> {
    let BackingFile { name, format } = file;
    let mut options = match of_json(name)? {
        Some(options) => options,
        None => {
            let format = format.as_ref().ok_or_else(|| {
                QmpError::generic(format!(
                    "its format is not said, and is not guessed: give 'backing' its options, or write the format of \
                     '{name}' into the image"
                ))
            })?;
            let mut options = Dict::new();
            options.insert("driver", format.as_str());
            options.insert("file", Value::Dict(of_file(&beside_image(name, beside))));
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
