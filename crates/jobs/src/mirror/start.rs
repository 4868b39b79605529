//! Starting a mirror: the filter goes above the source before anything is copied.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::{DirtyBitmap, SharedBitmap};
use blockyard_block::{BlockError, BlockLayer, Io, NewNode, Node, OnError, Plan, Requester};
use blockyard_graph::{
    Discard, Edge, EdgePolicy, Edit, Graph, NodeAttributes, NodeKind, Parent, Permissions, Role,
    Roles,
};
use blockyard_sync::door::{self, world::Quiet};
use blockyard_units::{ByteLen, CopyMode, JobId, NodeId};

use super::Mirror;
use super::filter::{FILE, MirrorFilter, TARGET};
use crate::job::{Job, JobOptions};
use crate::registry::Jobs;
use crate::status::Status;

/// The name of the job's edge to its filter.
pub(super) const HOLD: &str = "filter";

/// What is copied at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Everything.
    Full,
    /// Nothing: only what is written from now on.
    None,
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
    /// What is done about requests that fail.
    pub policies: MirrorPolicies,
    /// The filter's node-name.
    pub filter_name: String,
}

/// A mirror that may begin: its filter is made and not in the graph yet.
pub struct MirrorStart {
    layer: BlockLayer,
    jobs: Jobs,
    options: MirrorOptions,
    id: JobId,
    filter: NewNode,
    dirty: Arc<SharedBitmap>,
    source: NodeId,
    target: NodeId,
}

impl MirrorStart {
    /// Makes the filter.
    ///
    /// # Errors
    /// If there is no such node, the target is too short, or the job's name is taken.
    pub fn new(
        layer: &BlockLayer,
        jobs: &Jobs,
        options: MirrorOptions,
    ) -> Result<Self, BlockError> {
        jobs.check_name(&options.job.name)?;
        let source = layer.node(&options.source)?;
        let target = layer.node(&options.target)?;
        let len = check_lengths(layer, &source, &target)?;
        check_granules(len, options.granularity)?;
        let mut bitmap = DirtyBitmap::new(len, options.granularity)
            .map_err(|error| BlockError::Invalid(format!("granularity: {error}")))?;
        if options.sync == SyncMode::Full {
            bitmap.mark_all();
        }
        let dirty = Arc::new(SharedBitmap::new(bitmap));
        let driver = MirrorFilter { mode: options.copy_mode, dirty: dirty.clone() };
        let filter = layer.new_node(&options.filter_name, Box::new(driver));
        if options.copy_mode == CopyMode::Passive {
            filter.node().add_bitmap(dirty.clone());
        }
        Ok(Self {
            layer: layer.clone(),
            jobs: jobs.clone(),
            id: JobId(door::new_object()),
            options,
            filter,
            dirty,
            source: source.id(),
            target: target.id(),
        })
    }

    /// The edits that put the filter above the source.
    ///
    /// # Errors
    /// If the job's name is taken by now.
    pub fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let (options, id) = (&self.options, self.filter.id());
        // Again: while this one waited, a namesake may have left the graph and not the registry.
        self.jobs.check_name(&options.job.name)?;
        let mut edits = Vec::from([
            Edit::AddNode { id, attributes: attributes(options) },
            Edit::AddJob { id: self.id, name: options.job.name.clone() },
        ]);
        edits.extend(graph.redirections(self.source, id));
        let holder = format!("job {}", options.job.name);
        let freeze = |parent| Edit::Freeze { parent, name: FILE.into(), holder: holder.clone() };
        let data = below_filters(graph, self.source);
        edits.extend(filters_down_to(graph, self.source, data).into_iter().map(freeze));
        let children = [self.source, self.target];
        edits.extend(edges(self.id, &options.job.name, id, children).map(Edit::AddEdge));
        Ok(Plan { edits, nodes: Vec::from([self.filter.clone()]), ..Plan::default() })
    }

    /// The job, once the graph is as planned. It runs when it is [run](crate::run_together), alone or with others.
    pub fn begin(self) -> Arc<Job> {
        let Self { layer, jobs, options, id, filter, dirty, source, target } = self;
        let mirror = Mirror {
            filter: filter.node().clone(),
            source: below_filters(&layer.graph(), source),
            target,
            dirty,
            mode: options.copy_mode,
            policies: options.policies,
            recorded: Quiet::default(),
        };
        let job = Job::new(id, options.job, layer.clone(), jobs.clone(), Box::new(mirror));
        jobs.insert(job.clone());
        layer.register_job(id);
        job.enter(Status::Created);
        job
    }
}

/// Bits of the longest bitmap that a mirror makes.
const GRANULES_MAX: u64 = 1 << 32;

fn check_granules(len: ByteLen, granularity: ByteLen) -> Result<(), BlockError> {
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
) -> Result<ByteLen, BlockError> {
    if source.id() == target.id() {
        let name = source.name();
        return Err(BlockError::Invalid(format!("node {name} cannot be mirrored to itself")));
    }
    let requester = Requester::Job(JobId(source.id().0));
    let len = |node: &Node| node.len(&Io::of_node(layer, node, requester));
    let (source_len, target_len) = (len(source), len(target));
    if target_len < source_len {
        let (source, target) = (source.name(), target.name());
        return Err(BlockError::Invalid(format!(
            "target {target} ({target_len} bytes) is shorter than source {source} ({source_len} bytes)"
        )));
    }
    Ok(source_len)
}

/// What holds the data that `node` shows: itself, or what lies below it if it is a filter.
fn below_filters(graph: &Graph, node: NodeId) -> NodeId {
    let is_filter = graph.node(node).is_some_and(|node| node.kind == NodeKind::Filter);
    match graph.child(Parent::Node(node), FILE) {
        Some(child) if is_filter => below_filters(graph, child),
        _ => node,
    }
}

/// The filters from `node` down to, not including, `data`.
pub(super) fn filters_down_to(graph: &Graph, node: NodeId, data: NodeId) -> Vec<Parent> {
    let mut filters = Vec::new();
    let mut next = node;
    while next != data {
        let filter = Parent::Node(next);
        let Some(child) = graph.child(filter, FILE) else { break };
        filters.push(filter);
        next = child;
    }
    filters
}

fn attributes(options: &MirrorOptions) -> NodeAttributes {
    let name = options.filter_name.as_str();
    let mut attributes = NodeAttributes::new(name, NodeKind::Filter, "mirror_top");
    // Whether discards are ignored is for source and target to say.
    attributes.options.discard = Discard::Unmap;
    attributes
}

/// The filter holds source and target, frozen: they are the job's. The job holds the filter.
fn edges(job: JobId, name: &str, filter: NodeId, [source, target]: [NodeId; 2]) -> [Edge; 3] {
    let frozen = || Some(format!("job {name}"));
    let explicit = |required, shared| EdgePolicy::Explicit { required, shared };
    let read = Permissions::CONSISTENT_READ;
    let node = Parent::Node(filter);
    [
        Edge {
            parent: node,
            name: FILE.into(),
            child: source,
            roles: Roles::of(&[Role::Filtered, Role::Primary]),
            policy: EdgePolicy::Exclusive,
            frozen: frozen(),
        },
        Edge {
            parent: node,
            name: TARGET.into(),
            child: target,
            roles: Roles::of(&[Role::Data]),
            policy: explicit(Permissions::WRITE, read),
            frozen: frozen(),
        },
        Edge {
            parent: Parent::Job(job),
            name: HOLD.into(),
            child: filter,
            roles: Roles::NONE,
            policy: explicit(read, Permissions::ALL),
            frozen: None,
        },
    ]
}
