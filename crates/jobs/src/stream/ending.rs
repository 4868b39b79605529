//! The end of a stream: the image names its new backing file, then the graph is led there.

use alloc::string::String;
use alloc::vec::Vec;

use blockyard_block::{BackingFile, BlockError, Requester};
use blockyard_graph::{EdgeKey, Edit, Graph, Parent, Role};
use blockyard_sync::{note, sometimes};
use blockyard_units::Mutant;

use super::Stream;
use super::start::{FILE, FILTER, held_layers};
use crate::chain::{below_filters, held_by};
use crate::job::Job;

impl Stream {
    /// Makes durable what was pulled up, and then what the image names.
    pub(super) async fn make_durable(&self, job: &Job) -> Result<(), BlockError> {
        // By force it is cancelled at the next look at it, if it is to try again.
        while let Err(error) = self.io.flush(FILTER).await {
            job.met(error, self.policy, false)?;
            job.check_cancelled()?;
            job.wait_to_try_again().await;
        }
        self.name_base(job).await
    }

    /// Has the image name what it is to have below it. It keeps what it names if that has no name.
    pub(super) async fn name_base(&self, job: &Job) -> Result<(), BlockError> {
        let layer = job.layer();
        let image = layer.node_by_id(self.chain.top).filter(|node| node.keeps_backing_file());
        let Some(image) = image else { return Ok(()) };
        let graph = layer.graph();
        if graph.child_with(self.chain.top, Role::Cow).is_none() {
            return Ok(());
        }
        let nothing = || BackingFile { name: String::new(), format: None };
        let file =
            self.base(&graph).map_or_else(|| Some(nothing()), |base| (self.naming)(&graph, base));
        let Some(file) = file else { return Ok(()) };
        let before = image.backing_file().unwrap_or_else(nothing);
        // If it fails it may name it.
        self.renamed.with(|renamed| *renamed = Some(before));
        layer.set_backing_file(&image, Requester::Job(job.id()), &file).await
    }

    /// It names what it did before.
    pub(super) async fn name_back(&self, job: &Job) {
        let Some(before) = self.renamed.with(Option::take) else { return };
        let Some(image) = job.layer().node_by_id(self.chain.top) else { return };
        let by = Requester::Job(job.id());
        if let Err(error) = job.layer().set_backing_file(&image, by, &before).await {
            note!("{}: node {} names the base: {error}", job.name(), image.name());
        }
    }

    /// The edits after which the top has the base below it, or nothing, and the job is gone.
    pub(super) fn cut(&self, job: &Job, graph: &Graph) -> Vec<Edit> {
        let mut edits = self.retire(job, graph);
        let Some(edge) = graph.child_with(self.chain.top, Role::Cow) else { return edits };
        let recorded = self.recorded.with(|recorded| *recorded);
        let now = self.base(graph);
        let data = now.map(|base| below_filters(graph, base));
        sometimes!(data != recorded, "a stream's base changed while its job worked");
        let early = job.layer().design().is_mutant(Mutant::StreamCompletionNotDrained);
        let base = if early { recorded } else { now };
        let EdgeKey { parent, name } = edge.key();
        let expected = Some(edge.child);
        match base {
            _ if self.below.is_none() => {}
            Some(new) => edits.push(Edit::ReplaceChild { parent, name, expected, new }),
            None => edits.push(Edit::RemoveEdge { parent, name, expected }),
        }
        edits
    }

    /// The edits that take the filter away, let go of the chain, and end the job.
    pub(super) fn retire(&self, job: &Job, graph: &Graph) -> Vec<Edit> {
        let (holder, filter) = (Parent::Job(job.id()), Parent::Node(self.filter));
        let by = held_by(job.name());
        let unfreeze = |EdgeKey { parent, name }: EdgeKey| Edit::Unfreeze { parent, name };
        let frozen = |edge: &&EdgeKey| {
            graph
                .edge(edge.parent, &edge.name)
                .is_some_and(|edge| edge.frozen.as_ref() == Some(&by))
        };
        let remove = |parent, name: &str| {
            let name = String::from(name);
            Edit::RemoveEdge { parent, name, expected: None }
        };
        let below = graph.child(filter, FILE).unwrap_or(self.chain.given);
        let above = graph.parents(self.filter).filter(|edge| edge.parent != holder);
        let mut edits: Vec<Edit> = above
            .map(|edge| Edit::ReplaceChild {
                parent: edge.parent,
                name: edge.name.clone(),
                expected: Some(self.filter),
                new: below,
            })
            .collect();
        edits.extend(self.chain.edges.iter().filter(frozen).cloned().map(unfreeze));
        edits.push(unfreeze(EdgeKey { parent: filter, name: FILE.into() }));
        edits.extend(held_layers(graph, job.id()).map(|name| remove(holder, &name)));
        edits.extend([
            remove(holder, FILTER),
            remove(filter, FILE),
            Edit::RemoveNode { id: self.filter },
            Edit::RemoveJob { id: job.id() },
        ]);
        edits
    }
}
