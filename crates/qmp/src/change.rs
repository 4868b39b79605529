//! `x-blockdev-change`: gives a quorum another child, or takes one away, while guests go on.
//!
//! What a new child holds is believed to be what the others hold; reading all of the quorum with `rewrite-corrupted`
//! makes it so. It becomes the last one. Before that, and before a child goes, the quorum is flushed: what the children
//! owe together is not owed by others.
//!
//! Source: QEMU's documented x-blockdev-change.
//! Differs: a new child must be as long as the quorum.

use alloc::format;
use alloc::string::String;

use blockyard_block::{BlockError, BlockLayer, Io, Owner, Plan};
use blockyard_drivers::{Quorum, child_edges};
use blockyard_graph::{Edit, Graph, Parent};
use blockyard_units::{ByteLen, NodeId};
use serde::Deserialize;

use crate::error::QmpError;
use crate::nodes::node_named;
use crate::transaction::Action;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlockdevChange {
    parent: String,
    child: Option<String>,
    node: Option<String>,
}

/// A change that may take place.
pub(crate) struct ChildChange {
    layer: BlockLayer,
    quorum: NodeId,
    change: Change,
}

enum Change {
    Add(NodeId),
    Remove { child: String, expected: NodeId },
}

const DRIVER: &str = "quorum";

impl BlockdevChange {
    /// Checks it as far as that goes without a layer.
    pub fn check(&self) -> Result<(), QmpError> {
        match (&self.child, &self.node) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            (Some(_), Some(_)) => Err(QmpError::generic(
                "child and node cannot be given together: 'child' is taken away, 'node' is added",
            )),
            (None, None) => Err(QmpError::generic(
                "child or node is missing: 'child' is taken away, 'node' is added",
            )),
        }
    }

    pub fn resolve(&self, layer: &BlockLayer) -> Result<ChildChange, QmpError> {
        self.check()?;
        let graph = layer.graph();
        let quorum = node_named(&graph, &self.parent)?;
        let driver = graph.node(quorum).map_or("", |node| node.driver);
        if driver != DRIVER {
            let message = format!(
                "parent: node '{}' takes no other children: its driver is {driver}, not {DRIVER}",
                self.parent
            );
            return Err(QmpError::generic(message));
        }
        let change = match (&self.node, &self.child) {
            (Some(node), _) => Change::Add(node_named(&graph, node)?),
            (None, child) => {
                let child = child.clone().unwrap_or_default();
                let expected = graph.child(Parent::Node(quorum), &child);
                let missing = format!("child: node '{}' has no child '{child}'", self.parent);
                let expected = expected.ok_or_else(|| QmpError::generic(missing))?;
                Change::Remove { child, expected }
            }
        };
        Ok(ChildChange { layer: layer.clone(), quorum, change })
    }
}

impl ChildChange {
    /// Refuses a node that votes already.
    fn check_new(&self, graph: &Graph, child: NodeId) -> Result<(), BlockError> {
        let parent = Parent::Node(self.quorum);
        let edge = graph.children(parent).find(|edge| edge.child == child);
        let Some(edge) = edge else { return Ok(()) };
        let name = graph.node(child).map_or("", |node| &node.name);
        let edge = format!("{}.{}", graph.parent_name(parent).unwrap_or_default(), edge.name);
        Err(BlockError::Invalid(format!("refused: node {name} is on edge {edge} already")))
    }

    /// The name of the next child.
    fn next(&self, graph: &Graph) -> Result<&'static str, BlockError> {
        let parent = Parent::Node(self.quorum);
        let last = Quorum::CHILDREN.iter().rposition(|name| graph.child(parent, name).is_some());
        let next = last.map_or(0, |last| last + 1);
        Quorum::CHILDREN.get(next).copied().ok_or_else(|| {
            let most = Quorum::CHILDREN.len();
            let name = graph.parent_name(parent).unwrap_or_default();
            BlockError::Invalid(format!(
                "refused: there can be {most} children, and node {name} has its last one: children.{}",
                most - 1
            ))
        })
    }

    fn len(&self, id: NodeId) -> Result<ByteLen, BlockError> {
        let gone = || BlockError::NotFound(String::from("the quorum or its new child is gone"));
        let node = self.layer.node_by_id(id).ok_or_else(gone)?;
        Ok(node.len(&Io::of_node(&self.layer, &node, Owner::command().into())))
    }

    /// Refuses a node that is longer or shorter than the quorum.
    fn check_len(&self, graph: &Graph, child: NodeId) -> Result<(), BlockError> {
        let (of_all, of_child) = (self.len(self.quorum)?, self.len(child)?);
        if of_all == of_child {
            return Ok(());
        }
        let name = graph.node(child).map_or("", |node| &node.name);
        Err(BlockError::Invalid(format!(
            "refused: node {name} has {of_child} bytes, and each child must have {of_all}"
        )))
    }
}

impl Action for ChildChange {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let parent = Parent::Node(self.quorum);
        let edit = match &self.change {
            Change::Add(node) => {
                self.check_new(graph, *node)?;
                self.check_len(graph, *node)?;
                let children = [(self.next(graph)?, *node)];
                child_edges(self.quorum, DRIVER, &children).pop().map(Edit::AddEdge)
            }
            Change::Remove { child, expected } => {
                Some(Edit::RemoveEdge { parent, name: child.clone(), expected: Some(*expected) })
            }
        };
        let edits = edit.into_iter().collect();
        Ok(Plan { edits, flushed: [self.quorum].into(), ..Plan::default() })
    }
}
