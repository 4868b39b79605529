//! The pivot, and taking the filter away without one.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::BlockError;
use blockyard_graph::{EdgeKey, Edit, Graph, NodeAttributes, Parent, ROOT};
use blockyard_sync::sometimes;
use blockyard_units::{JobId, Mutant, NodeId, Pivot, Replace};

use super::begin::{HOLD, filters_down_to};
use super::filter::{FILE, TARGET};
use super::{Mirror, commit};
use crate::job::Job;

/// The edges that a pivot moves away from `node`: those of everybody but jobs.
pub(crate) fn parents_to_redirect(graph: &Graph, node: NodeId) -> Vec<EdgeKey> {
    let parents = graph.parents(node).filter(|edge| !matches!(edge.parent, Parent::Job(_)));
    parents.map(|edge| edge.key()).collect()
}

pub(crate) fn redirect(edge: EdgeKey, expected: Option<NodeId>, new: NodeId) -> Edit {
    Edit::ReplaceChild { parent: edge.parent, name: edge.name, expected, new }
}

/// Takes a job away, its hold on source and target, and its filter out of use: away if nobody holds it any more. The
/// filter, or the job, holds the first of two nodes, and what holds the data of that is the second.
pub(crate) fn retire(
    graph: &Graph,
    job: JobId,
    filter: Option<NodeId>,
    [below, data]: [NodeId; 2],
    alone: bool,
) -> Vec<Edit> {
    let holder = filter.map_or(Parent::Job(job), Parent::Node);
    let unfreeze = |parent, name: &str| Edit::Unfreeze { parent, name: name.into() };
    let thaw = |EdgeKey { parent, name }: EdgeKey| Edit::Unfreeze { parent, name };
    let remove =
        |parent, name: &str| Edit::RemoveEdge { parent, name: name.into(), expected: None };
    let mut edits =
        Vec::from([unfreeze(holder, TARGET), remove(holder, TARGET), unfreeze(holder, FILE)]);
    edits.extend(filters_down_to(graph, below, data).into_iter().map(thaw));
    match filter {
        None => edits.push(remove(holder, FILE)),
        Some(id) if alone => edits.extend([
            remove(Parent::Job(job), HOLD),
            remove(holder, FILE),
            Edit::RemoveNode { id },
        ]),
        Some(id) => {
            edits.push(remove(Parent::Job(job), HOLD));
            edits.extend(graph.node(id).map(|attributes| {
                let attributes = NodeAttributes { retired: true, ..attributes.clone() };
                Edit::SetAttributes { id, attributes }
            }));
        }
    }
    edits.push(Edit::RemoveJob { id: job });
    edits
}

impl Mirror {
    /// The node that stands for the source where the guest's requests come from.
    pub(super) fn top(&self) -> NodeId {
        self.filter.as_ref().map_or(self.given, |filter| filter.id())
    }

    /// The parents of what the guest's requests come by.
    pub(super) fn parents_now(&self, graph: &Graph) -> Vec<EdgeKey> {
        match self.is_bare_commit() {
            true => commit::users(graph, self.given),
            false => parents_to_redirect(graph, self.top()),
        }
    }

    /// Nothing holds a place for filters over the source.
    fn is_bare_commit(&self) -> bool {
        self.commit.is_some() && self.filter.is_none()
    }

    /// The edits after which the target is where the source was.
    pub(super) fn pivot(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        let design = job.layer().design();
        let recorded = self.recorded.with(|recorded| recorded.clone());
        let now = self.parents_now(graph);
        sometimes!(now != recorded, "the filter got another parent while its job finished");
        let mut parents = match design.replace {
            Replace::Naive => recorded,
            // Comparing and repeating comes to the same as taking what is there.
            Replace::Compare | Replace::Transaction | Replace::Parents => now.clone(),
        };
        if design.is_mutant(Mutant::PivotKeepsFilterParent) {
            parents.retain(|edge| edge.name != ROOT);
        }
        let below = self.below(graph)?;
        let replaced = match (self.replaces, design.pivot) {
            (Some(node), _) => node,
            (None, Pivot::FilterParent) => below,
            (None, Pivot::ReplaceNode) => self.source,
        };
        let mut edits = if self.is_bare_commit() {
            let led = |edge: &EdgeKey| {
                redirect(edge.clone(), graph.child(edge.parent, &edge.name), self.target)
            };
            parents.iter().map(led).collect()
        } else if replaced == below {
            self.redirect_all(&parents, self.top(), self.target)
        } else {
            // The filters over it hang on.
            let over = parents_to_redirect(graph, replaced);
            let mut edits = self.redirect_all(&over, replaced, self.target);
            edits.extend(self.redirect_all(&parents, self.top(), below));
            edits
        };
        let alone = now.iter().all(|edge| parents.contains(edge));
        edits.extend(self.retire(graph, job.id(), alone));
        Ok(edits)
    }

    fn redirect_all(&self, parents: &[EdgeKey], from: NodeId, to: NodeId) -> Vec<Edit> {
        parents.iter().map(|edge| redirect(edge.clone(), Some(from), to)).collect()
    }

    /// What the filter filters; without one, the node that was given.
    fn below(&self, graph: &Graph) -> Result<NodeId, BlockError> {
        let Some(filter) = &self.filter else { return Ok(self.given) };
        let gone = || BlockError::NotFound(String::from("the mirror's filter has lost its child"));
        graph.child(Parent::Node(filter.id()), FILE).ok_or_else(gone)
    }

    /// Takes the filter out of use, and away if nobody holds it any more; and the job.
    fn retire(&self, graph: &Graph, job: JobId, alone: bool) -> Vec<Edit> {
        let mut edits = match &self.commit {
            Some(_) => commit::end(graph, job, self.source, self.target),
            None => Vec::new(),
        };
        let below = self.below(graph).unwrap_or(self.given);
        let filter = self.filter.as_ref().map(|filter| filter.id());
        edits.extend(retire(graph, job, filter, [below, self.source], alone));
        edits
    }

    /// The edits after which the filter is gone and the source where it was.
    pub(super) fn without_pivot(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        let below = self.below(graph)?;
        let mut edits = match &self.filter {
            None => Vec::new(),
            Some(filter) => {
                let parents = parents_to_redirect(graph, filter.id());
                self.redirect_all(&parents, filter.id(), below)
            }
        };
        edits.extend(self.retire(graph, job.id(), true));
        Ok(edits)
    }
}
