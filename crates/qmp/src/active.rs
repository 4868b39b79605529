//! `blockdev-set-active`: hands images over to somebody else, and takes them back.
//!
//! A node becomes active with everything below it, and inactive with what only inactive nodes hold then. Whoever needs
//! to write to it stands in the way, and the error names him.
//!
//! Source: QEMU's documented blockdev-set-active.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use blockyard_block::{BlockError, Plan};
use blockyard_graph::{Edit, Graph, NodeAttributes, Parent};
use blockyard_units::NodeId;
use serde::Deserialize;

use crate::error::QmpError;
use crate::nodes::node_named;
use crate::transaction::Action;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct SetActive {
    node_name: Option<String>,
    active: bool,
}

/// Nodes that become active or inactive; all of them, if none is named.
pub(crate) struct Activation {
    node: Option<NodeId>,
    active: bool,
}

impl SetActive {
    pub fn resolve(&self, graph: &Graph) -> Result<Activation, QmpError> {
        let node = self.node_name.as_ref().map(|name| node_named(graph, name)).transpose()?;
        Ok(Activation { node, active: self.active })
    }
}

impl Activation {
    /// Of each node that the command is about, whether it is active afterwards.
    fn states(&self, graph: &Graph) -> Result<BTreeMap<NodeId, bool>, BlockError> {
        // Parents before children.
        let nodes = self.node.map_or_else(|| graph.topological(), |node| graph.descendants(node));
        let mut states = BTreeMap::new();
        for id in nodes {
            let is_active = |parent| match parent {
                Parent::Node(parent) => {
                    let now = graph.node(parent).is_some_and(|node| node.active);
                    states.get(&parent).copied().unwrap_or(now)
                }
                _ => false,
            };
            let active_parent = graph.parents(id).map(|edge| edge.parent).find(|p| is_active(*p));
            match active_parent {
                Some(parent) if !self.active && Some(id) == self.node => {
                    let parent = graph.parent_name(parent).unwrap_or_default();
                    let name = graph.node(id).map_or("", |node| &node.name);
                    let message =
                        format!("refused: node {name} has an active parent node {parent}");
                    return Err(BlockError::Invalid(message));
                }
                Some(_) if !self.active => {}
                _ => drop(states.insert(id, self.active)),
            }
        }
        Ok(states)
    }
}

impl Action for Activation {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let changes = self.states(graph)?.into_iter().filter_map(|(id, active)| {
            let node = graph.node(id).filter(|node| node.active != active)?;
            let attributes = NodeAttributes { active, ..node.clone() };
            Some(Edit::SetAttributes { id, attributes })
        });
        Ok(Plan { edits: changes.collect(), ..Plan::default() })
    }
}
