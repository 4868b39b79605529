//! Starting a mirror: the filter goes above the source before anything is copied.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::{DirtyBitmap, SharedBitmap};
use blockyard_block::{BlockError, BlockLayer, Io, NewNode, Node, OnError, Plan, Requester};
use blockyard_graph::{Graph, Parent, Permissions};
use blockyard_sync::Shared;
use blockyard_sync::door::{self, world::Quiet};
use blockyard_units::{ByteLen, CopyMode, JobId, Mutant, NodeId};

use super::begin::{Beginning, Filter, filters_down_to};
use super::commit::{self, Commit, CommitOptions};
use super::copy::Copier;
use super::filter::MirrorFilter;
use super::first::{check_first, mark_by_bitmap};
use super::{Mirror, Tracking};
use crate::chain::{below_filters, held_by, set_read_only};
use crate::flight::{Buffer, Flight};
use crate::job::{Job, JobOptions};
use crate::registry::Jobs;
use crate::status::Status;

/// What is copied at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Everything.
    Full,
    /// What the source holds itself, and not its backing files.
    Top,
    /// Nothing: only what is written from now on.
    None,
    /// What a bitmap of the source says. The bitmap stays as it is.
    Incremental {
        /// Its name.
        bitmap: String,
    },
}

/// What a mirror does about requests that fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorPolicies {
    /// Those that read from the source.
    pub source: OnError,
    /// Those to the target.
    pub target: OnError,
}

/// What a mirror is started with.
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    /// As any job.
    pub job: JobOptions,
    /// The node to copy; its parents will hold the filter.
    pub source: String,
    /// The node to copy to; nobody else may write to it.
    pub target: String,
    /// What is copied at the start.
    pub sync: SyncMode,
    /// How guest writes are followed.
    pub copy_mode: CopyMode,
    /// Bytes; a power of two.
    pub granularity: ByteLen,
    /// What is copied at once at most; at least one chunk is.
    pub buffer: ByteLen,
    /// The node whose place the target takes: the source, or what that filters, so that filters over it stay. By
    /// default it is the design that says.
    pub replaces: Option<String>,
    /// What is done about requests that fail.
    pub policies: MirrorPolicies,
    /// The filter's node-name.
    pub filter_name: String,
    /// If the target is a backing file of the source, and to take its place as such.
    pub commit: Option<CommitOptions>,
}

/// A mirror that may begin: its filter is made and not in the graph yet.
pub struct MirrorStart {
    layer: BlockLayer,
    jobs: Jobs,
    options: MirrorOptions,
    id: JobId,
    filter: Option<NewNode>,
    tracking: Arc<Tracking>,
    source: NodeId,
    target: NodeId,
    replaces: Option<NodeId>,
    len: ByteLen,
    /// Of a commit: what is read-only until it begins, by the last plan.
    read_only: Quiet<Vec<NodeId>>,
}

impl MirrorStart {
    /// Makes the filter.
    ///
    /// # Errors
    /// If there is no such node or bitmap, the target is too short, what is to be replaced does not show
    /// what the source does, or the job's name is taken.
    pub fn new(
        layer: &BlockLayer,
        jobs: &Jobs,
        options: MirrorOptions,
    ) -> Result<Self, BlockError> {
        jobs.check_name(&options.job.name)?;
        let source = layer.node(&options.source)?;
        let target = layer.node(&options.target)?;
        let replaces = options.replaces.as_deref().map(|name| layer.node(name)).transpose()?;
        let replaces = replaces.map(|node| node.id());
        replaces.map_or(Ok(()), |node| check_replaced(&layer.graph(), node, &source))?;
        let len = check_lengths(layer, &source, &target, options.commit.is_some())?;
        if options.commit.is_some() {
            commit::bottom(&layer.graph(), source.id(), target.id())?;
        }
        check_granules(len, options.granularity)?;
        let mut bitmap = DirtyBitmap::new(len, options.granularity)
            .map_err(|error| BlockError::Invalid(format!("granularity: {error}")))?;
        if options.sync == SyncMode::Full {
            bitmap.mark_all();
        }
        let early = layer.design().is_mutant(Mutant::MirrorBitmapTakenEarly);
        check_first(&options.sync, &source, early.then_some(&mut bitmap))?;
        let mode = options.copy_mode;
        let dirty = Arc::new(SharedBitmap::new(bitmap));
        let tracking =
            Arc::new(Tracking { mode: Shared::new(mode), dirty, flight: Flight::default() });
        let id = JobId(door::new_object());
        let filter = (mode != CopyMode::SourceBitmap).then(|| {
            let driver = MirrorFilter(tracking.clone());
            layer.new_node(&options.filter_name, Box::new(driver))
        });
        if let (Some(filter), CopyMode::Passive) = (&filter, mode) {
            filter.node().add_bitmap(id, tracking.dirty.clone());
        }
        let (layer, jobs) = (layer.clone(), jobs.clone());
        let (source, target) = (source.id(), target.id());
        let read_only = Quiet::default();
        Ok(Self {
            layer,
            jobs,
            id,
            options,
            filter,
            tracking,
            source,
            target,
            replaces,
            len,
            read_only,
        })
    }

    /// The edits that put the filter above the source.
    ///
    /// # Errors
    /// If the job's name is taken by now.
    pub fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let (options, id) = (&self.options, self.id);
        // Again: while this one waited, a namesake may have left the graph and not the registry.
        self.jobs.check_name(&options.job.name)?;
        // And the lengths may have changed, or what is below the source.
        self.check_again(graph)?;
        let commits = options.commit.is_some();
        // Nobody writes what lies below a filter of the first name.
        let ends_alone = commits && !commit::is_written(graph, self.source);
        let driver = if ends_alone { "commit_top" } else { "mirror_top" };
        let (write, grow) = (Permissions::WRITE, Permissions::RESIZE);
        let filter = |node: &NewNode| Filter { id: node.id(), name: &options.filter_name, driver };
        let mut edits = Beginning {
            id,
            name: &options.job.name,
            filter: self.filter.as_ref().map(filter),
            source: self.source,
            target: self.target,
            needed: if commits { write.union(grow) } else { write },
            writes_source: false,
        }
        .edits(graph);
        if commits {
            let (by, data) = (held_by(&options.job.name), below_filters(graph, self.source));
            commit::bottom(graph, data, self.target)?;
            commit::refuse_other_users(graph, data, self.target)?;
            edits.extend(commit::begin(graph, id, &by, data, self.target));
            let written = commit::to_be_written(&self.layer, graph, self.source, self.target);
            edits.extend(set_read_only(graph, &written, false));
            self.read_only.with(|read_only| *read_only = written);
        }
        let nodes = self.filter.iter().cloned().collect();
        Ok(Plan { edits, nodes, ..Plan::default() })
    }

    fn check_again(&self, graph: &Graph) -> Result<(), BlockError> {
        let gone = || BlockError::NotFound("source or target is gone".into());
        let node = |id| self.layer.node_by_id(id).ok_or_else(gone);
        let source = node(self.source)?;
        let commits = self.options.commit.is_some();
        let len = check_lengths(&self.layer, &source, &node(self.target)?, commits)?;
        if len != self.len {
            let why = format!("node {} changed its length meanwhile: try again", source.name());
            return Err(BlockError::Invalid(why));
        }
        self.replaces.map_or(Ok(()), |node| check_replaced(graph, node, &source))
    }

    /// The job, once the graph is as planned. It runs when it is [run](crate::run_together), alone or with others.
    pub fn begin(self) -> Arc<Job> {
        let graph = self.layer.graph();
        let data = below_filters(&graph, self.source);
        let (layer, id, source, target) = (self.layer, self.id, self.source, self.target);
        let (options, tracking) = (self.options, self.tracking);
        let filter = self.filter.map(|filter| filter.node().clone());
        let io = match &filter {
            Some(filter) => Io::of_node(&layer, filter, Requester::Job(id)),
            None => Io::of_job(&layer, id, &options.job.name),
        };
        if let (None, Some(data)) = (&filter, layer.node_by_id(data)) {
            data.add_bitmap(id, tracking.dirty.clone());
        }
        let early = layer.design().is_mutant(Mutant::MirrorBitmapTakenEarly);
        if let (false, Some(source)) = (early, layer.node_by_id(source)) {
            mark_by_bitmap(&options.sync, &source, &tracking.dirty);
        }
        let commit = options.commit.map(|options| Commit {
            options,
            is_active: commit::is_written(
                &graph,
                filter.as_ref().map_or(source, |filter| filter.id()),
            ),
            bottom: commit::bottom(&graph, data, target).unwrap_or(target),
            read_only: self.read_only.with(core::mem::take),
            renamed: Quiet::default(),
        });
        let bottom = commit.as_ref().map(|commit| commit.bottom);
        let mirror = Mirror {
            copier: Copier { tracking: tracking.clone(), io, filter: filter.clone(), bottom },
            commit,
            filter,
            source: data,
            given: source,
            target,
            replaces: self.replaces,
            tracking,
            buffer: Buffer::new(options.buffer, options.granularity, self.len),
            sync: options.sync,
            policies: options.policies,
            cursor: Quiet::default(),
            announces_again: Quiet::default(),
            recorded: Quiet::default(),
        };
        let job = Job::new(id, options.job, layer.clone(), self.jobs.clone(), Box::new(mirror));
        self.jobs.insert(job.clone());
        layer.register_job(id);
        job.enter(Status::Created);
        job
    }
}

/// Whether `node` is the source, or what that shows through filters: there the target is to be. It stays there, as the
/// job freezes what is between them.
fn check_replaced(graph: &Graph, node: NodeId, source: &Node) -> Result<(), BlockError> {
    let data = below_filters(graph, source.id());
    let over = filters_down_to(graph, source.id(), data);
    if node == data || over.iter().any(|edge| edge.parent == Parent::Node(node)) {
        return Ok(());
    }
    let (name, source) =
        (graph.node(node).map_or("that is gone", |node| &node.name), source.name());
    let why =
        format!("replaces: node {name} is neither {source} nor what that shows through filters");
    Err(BlockError::Invalid(why))
}

/// Bits of the longest bitmap that a mirror makes.
const GRANULES_MAX: u64 = 1 << 32;

pub(crate) fn check_granules(len: ByteLen, granularity: ByteLen) -> Result<(), BlockError> {
    let granules = len.0 / granularity.0.max(1);
    if granules <= GRANULES_MAX {
        return Ok(());
    }
    Err(BlockError::Invalid(format!(
        "granularity: {len} bytes have {granules} granules of {granularity}; at most {GRANULES_MAX} \
         are possible"
    )))
}

fn check_lengths(
    layer: &BlockLayer,
    source: &Arc<Node>,
    target: &Arc<Node>,
    grows: bool,
) -> Result<ByteLen, BlockError> {
    if source.id() == target.id() {
        let name = source.name();
        return Err(BlockError::Invalid(format!("node {name} cannot be mirrored to itself")));
    }
    let requester = Requester::Job(JobId(source.id().0));
    let len = |node: &Node| node.len(&Io::of_node(layer, node, requester));
    let (source_len, target_len) = (len(source), len(target));
    if target_len < source_len && !grows {
        let (source, target) = (source.name(), target.name());
        return Err(BlockError::Invalid(format!(
            "target {target} ({target_len} bytes) is shorter than source {source} ({source_len} bytes)"
        )));
    }
    Ok(source_len)
}
