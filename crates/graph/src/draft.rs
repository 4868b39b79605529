//! The raw application of an edit list: what an edit says is done, whether or not a graph may look
//! like that.
//!
//! Only what cannot be done at all is refused here: adding what is there, changing what is not, and
//! an edge that is not as its edit expects. Everything else waits for the judgement of the final
//! value.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_units::{BackendId, NodeId};

use crate::edit::Edit;
use crate::graph::{Held, Tables};
use crate::parts::{Edge, NodeAttributes, Parent, ROOT};
use crate::permissions::Cumulative;
use crate::refused::{Refused, RefusedKind};

/// A graph under way from one value to the next.
pub(crate) struct Draft<'a> {
    pub before: &'a Tables,
    pub after: Tables,
}

impl<'a> Draft<'a> {
    pub fn new(before: &'a Tables) -> Self {
        // Judging makes a new order; there is no use in copying the old one.
        let after = Tables {
            nodes: before.nodes.clone(),
            backends: before.backends.clone(),
            jobs: before.jobs.clone(),
            edges: before.edges.clone(),
            used: before.used.clone(),
            order: Vec::new(),
        };
        Self { before, after }
    }

    /// Does what `edit` says.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), Refused> {
        match edit {
            Edit::AddNode { id, attributes } => self.add_node(*id, attributes),
            Edit::RemoveNode { id } => self.remove_node(*id),
            Edit::SetAttributes { id, attributes } => self.set_attributes(*id, attributes),
            Edit::AddBackend { id, name } => {
                self.refuse_known(Parent::Backend(*id))?;
                insert(&mut self.after.backends, *id, Arc::from(name.as_str()));
                Ok(())
            }
            Edit::RemoveBackend { id } => {
                self.refuse_unknown(Parent::Backend(*id))?;
                self.after.backends.retain(|(known, _)| known != id);
                Ok(())
            }
            Edit::AddJob { id, name } => {
                self.refuse_known(Parent::Job(*id))?;
                insert(&mut self.after.jobs, *id, Arc::from(name.as_str()));
                Ok(())
            }
            Edit::RemoveJob { id } => {
                self.refuse_unknown(Parent::Job(*id))?;
                self.after.jobs.retain(|(known, _)| known != id);
                Ok(())
            }
            Edit::AddEdge(edge) => self.add_edge(edge),
            Edit::RemoveEdge { parent, name, expected } => {
                self.remove_edge(*parent, name, *expected)
            }
            Edit::ReplaceChild { parent, name, expected, new } => {
                let index = self.expected_edge(*parent, name, *expected)?;
                self.set_edge(index, |edge| Edge { child: *new, ..edge.clone() });
                Ok(())
            }
            Edit::ExpectRoot { backend, expected } => self.expect_root(*backend, *expected),
            Edit::Freeze { parent, name, holder } => self.freeze(*parent, name, holder),
            Edit::Unfreeze { parent, name } => self.unfreeze(*parent, name),
        }
    }

    fn add_node(&mut self, id: NodeId, attributes: &NodeAttributes) -> Result<(), Refused> {
        if self.after.used.contains(&id) {
            return Err(Refused::new(
                RefusedKind::Duplicate,
                format!(
                    "node id {:?} was used before, it cannot be node {}",
                    id.0, attributes.name
                ),
            ));
        }
        Arc::make_mut(&mut self.after.used).insert(id);
        insert(&mut self.after.nodes, id, Arc::new(attributes.clone()));
        Ok(())
    }

    fn remove_node(&mut self, id: NodeId) -> Result<(), Refused> {
        let index = self.node_index(id)?;
        self.after.nodes.remove(index);
        Ok(())
    }

    fn set_attributes(&mut self, id: NodeId, attributes: &NodeAttributes) -> Result<(), Refused> {
        let index = self.node_index(id)?;
        self.after.nodes[index].1 = Arc::new(attributes.clone());
        Ok(())
    }

    fn add_edge(&mut self, edge: &Edge) -> Result<(), Refused> {
        match self.after.edge_index(edge.parent, &edge.name) {
            Ok(index) => Err(Refused::new(
                RefusedKind::Duplicate,
                format!(
                    "edge {} is there already and leads to {}",
                    self.edge_name(edge.parent, &edge.name),
                    self.node_name(self.after.edges[index].edge.child)
                ),
            )),
            Err(index) => {
                let held = Held { edge: Arc::new(edge.clone()), permissions: Cumulative::NOBODY };
                self.after.edges.insert(index, held);
                Ok(())
            }
        }
    }

    fn remove_edge(
        &mut self,
        parent: Parent,
        name: &str,
        expected: Option<NodeId>,
    ) -> Result<(), Refused> {
        let index = self.expected_edge(parent, name, expected)?;
        self.after.edges.remove(index);
        Ok(())
    }

    fn expect_root(&self, backend: BackendId, expected: Option<NodeId>) -> Result<(), Refused> {
        let parent = Parent::Backend(backend);
        self.refuse_unknown(parent)?;
        let actual = self.after.held(parent, ROOT).map(|held| held.edge.child);
        if actual == expected { Ok(()) } else { Err(self.mismatch(parent, ROOT, actual, expected)) }
    }

    fn freeze(&mut self, parent: Parent, name: &str, holder: &str) -> Result<(), Refused> {
        let index = self.edge_index(parent, name)?;
        if let Some(holder) = &self.after.edges[index].edge.frozen {
            return Err(Refused::new(
                RefusedKind::Frozen,
                format!("{holder} froze edge {} already", self.edge_name(parent, name)),
            ));
        }
        self.set_edge(index, |edge| Edge { frozen: Some(String::from(holder)), ..edge.clone() });
        Ok(())
    }

    fn unfreeze(&mut self, parent: Parent, name: &str) -> Result<(), Refused> {
        let index = self.edge_index(parent, name)?;
        if self.after.edges[index].edge.frozen.is_none() {
            return Err(Refused::new(
                RefusedKind::Mismatch,
                format!("nobody froze edge {}", self.edge_name(parent, name)),
            ));
        }
        self.set_edge(index, |edge| Edge { frozen: None, ..edge.clone() });
        Ok(())
    }

    fn set_edge(&mut self, index: usize, change: impl FnOnce(&Edge) -> Edge) {
        let edge = Arc::new(change(&self.after.edges[index].edge));
        self.after.edges[index].edge = edge;
    }

    fn node_index(&self, id: NodeId) -> Result<usize, Refused> {
        self.after.node_index(id).ok_or_else(|| self.not_found(Parent::Node(id)))
    }

    fn edge_index(&self, parent: Parent, name: &str) -> Result<usize, Refused> {
        self.after.edge_index(parent, name).map_err(|_| {
            Refused::new(
                RefusedKind::NotFound,
                format!("edge {} is not there", self.edge_name(parent, name)),
            )
        })
    }

    fn expected_edge(
        &self,
        parent: Parent,
        name: &str,
        expected: Option<NodeId>,
    ) -> Result<usize, Refused> {
        let index = self.edge_index(parent, name)?;
        let actual = self.after.edges[index].edge.child;
        if expected.is_none_or(|expected| expected == actual) {
            Ok(index)
        } else {
            Err(self.mismatch(parent, name, Some(actual), expected))
        }
    }

    fn refuse_known(&self, parent: Parent) -> Result<(), Refused> {
        match self.after.parent_name(parent) {
            None => Ok(()),
            Some(_) => Err(Refused::new(
                RefusedKind::Duplicate,
                format!("{} is there already", self.holder(parent)),
            )),
        }
    }

    fn refuse_unknown(&self, parent: Parent) -> Result<(), Refused> {
        self.after.parent_name(parent).map(|_| ()).ok_or_else(|| self.not_found(parent))
    }
}

fn insert<K: Ord + Copy, V>(table: &mut Vec<(K, V)>, id: K, value: V) {
    let index = table.partition_point(|(known, _)| *known < id);
    table.insert(index, (id, value));
}
