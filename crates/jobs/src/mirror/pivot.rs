//! The pivot, and taking the filter away without one.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::BlockError;
use blockyard_graph::{EdgeKey, Edit, Graph, Parent, ROOT};
use blockyard_sync::sometimes;
use blockyard_units::{JobId, Mutant, NodeId, Pivot, Replace};

use super::Mirror;
use super::filter::{FILE, TARGET};
use super::start::{HOLD, filters_down_to};
use crate::job::Job;

/// The edges that a pivot moves away from `node`: those of everybody but jobs.
pub(super) fn parents_to_redirect(graph: &Graph, node: NodeId) -> Vec<EdgeKey> {
    let parents = graph.parents(node).filter(|edge| !matches!(edge.parent, Parent::Job(_)));
    parents.map(|edge| edge.key()).collect()
}

fn redirect(edge: EdgeKey, expected: Option<NodeId>, new: NodeId) -> Edit {
    Edit::ReplaceChild { parent: edge.parent, name: edge.name, expected, new }
}

impl Mirror {
    /// The edits after which the target is where the source was.
    pub(super) fn pivot(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        let design = job.layer().design();
        let recorded = self.recorded.with(|recorded| recorded.clone());
        let now = parents_to_redirect(graph, self.filter.id());
        sometimes!(now != recorded, "the filter got another parent while its job finished");
        let mut parents = match design.replace {
            Replace::Naive => recorded,
            // Comparing and repeating comes to the same as taking what is there.
            Replace::Compare | Replace::Transaction | Replace::Parents => now.clone(),
        };
        if design.is_mutant(Mutant::PivotKeepsFilterParent) {
            parents.retain(|edge| edge.name != ROOT);
        }
        let mut edits = match design.pivot {
            Pivot::FilterParent => self.drop_lower_filters(&parents),
            Pivot::ReplaceNode => self.keep_lower_filters(graph, &parents)?,
        };
        let alone = now.iter().all(|edge| parents.contains(edge));
        edits.extend(self.retire(graph, job.id(), alone));
        Ok(edits)
    }

    fn drop_lower_filters(&self, parents: &[EdgeKey]) -> Vec<Edit> {
        let expected = Some(self.filter.id());
        parents.iter().map(|edge| redirect(edge.clone(), expected, self.target)).collect()
    }

    /// The filters below hang on; below them the target replaces the source.
    fn keep_lower_filters(
        &self,
        graph: &Graph,
        parents: &[EdgeKey],
    ) -> Result<Vec<Edit>, BlockError> {
        let gone = || BlockError::NotFound(String::from("the mirror's filter has lost its child"));
        let filter = Parent::Node(self.filter.id());
        let below = graph.child(filter, FILE).ok_or_else(gone)?;
        if below == self.source {
            return Ok(self.drop_lower_filters(parents));
        }
        let holds_source = parents_to_redirect(graph, self.source);
        let mut edits: Vec<Edit> = holds_source
            .into_iter()
            .map(|edge| redirect(edge, Some(self.source), self.target))
            .collect();
        let expected = Some(self.filter.id());
        edits.extend(parents.iter().map(|edge| redirect(edge.clone(), expected, below)));
        Ok(edits)
    }

    /// Takes the filter out of use, and away if nobody holds it any more.
    fn retire(&self, graph: &Graph, job: JobId, alone: bool) -> Vec<Edit> {
        let filter = Parent::Node(self.filter.id());
        let below = graph.child(filter, FILE).unwrap_or(self.source);
        let unfreeze = |parent| Edit::Unfreeze { parent, name: FILE.into() };
        let lower = filters_down_to(graph, below, self.source).into_iter().map(unfreeze);
        let remove =
            |parent, name: &str| Edit::RemoveEdge { parent, name: name.into(), expected: None };
        let mut edits = Vec::from([
            Edit::Unfreeze { parent: filter, name: TARGET.into() },
            remove(filter, TARGET),
            Edit::Unfreeze { parent: filter, name: FILE.into() },
            remove(Parent::Job(job), HOLD),
            Edit::RemoveJob { id: job },
        ]);
        edits.extend(lower);
        if alone {
            edits.push(remove(filter, FILE));
            edits.push(Edit::RemoveNode { id: self.filter.id() });
        } else if let Some(attributes) = graph.node(self.filter.id()) {
            let attributes =
                blockyard_graph::NodeAttributes { retired: true, ..attributes.clone() };
            edits.push(Edit::SetAttributes { id: self.filter.id(), attributes });
        }
        edits
    }

    /// The edits after which the filter is gone and the source where it was.
    pub(super) fn without_filter(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        let filter = Parent::Node(self.filter.id());
        let Some(below) = graph.child(filter, FILE) else {
            return Err(BlockError::NotFound(String::from("the filter is gone already")));
        };
        let parents = parents_to_redirect(graph, self.filter.id());
        let expected = Some(self.filter.id());
        let mut edits: Vec<Edit> =
            parents.into_iter().map(|edge| redirect(edge, expected, below)).collect();
        edits.extend(self.retire(graph, job.id(), true));
        Ok(edits)
    }
}
