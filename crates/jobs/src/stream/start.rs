//! Starting a stream: the filter goes above the node, and the chain is frozen, before anything is pulled up.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::{DirtyBitmap, SharedBitmap};
use blockyard_block::{BlockDriver, BlockError, BlockLayer, Io, NewNode, OnError, Plan, Requester};
use blockyard_graph::{
    Discard, Edge, EdgeKey, EdgePolicy, Edit, Graph, NodeAttributes, NodeKind, Parent, Permissions,
    Role, Roles,
};
use blockyard_sync::door::{self, world::Quiet};
use blockyard_units::{ByteLen, JobId, Mutant, NodeId};

use super::{Chain, Naming, Stream};
use crate::chain::{below_filters, chain, held_by, set_read_only, with_storage};
use crate::flight::{Buffer, Flight};
use crate::job::{Job, JobOptions};
use crate::registry::Jobs;
use crate::status::Status;

/// The name of the job's edge to its filter.
pub(super) const FILTER: &str = "filter";
/// The name of the filter's edge to what it filters.
pub(super) const FILE: &str = "file";
/// How the names of the job's edges to the layers begin.
const LAYER: &str = "layer";

/// Down to where layers are pulled up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Down {
    /// All of them.
    End,
    /// Those above this node, and filters between.
    Base(NodeId),
    /// This is the last; what is below it stays there, filters too.
    Bottom(NodeId),
}

/// What a stream is started with.
pub struct StreamOptions {
    /// As any job.
    pub job: JobOptions,
    /// The node that is to have the data; its parents will hold the filter.
    pub node: NodeId,
    /// Where they come from.
    pub down: Down,
    /// What is pulled up at once at most; at least one cluster is.
    pub buffer: ByteLen,
    /// What is done about requests that fail.
    pub policy: OnError,
    /// How the node, if it is an image, names its backing file afterwards.
    pub naming: Naming,
    /// The filter's node-name.
    pub filter_name: String,
    /// Makes the filter: what is read through it is copied up, as far as the given node or one above it holds it.
    pub filter: Box<dyn Fn(NodeId) -> Box<dyn BlockDriver> + Send + Sync>,
}

/// A stream that may begin.
pub struct StreamStart {
    layer: BlockLayer,
    jobs: Jobs,
    options: StreamOptions,
    id: JobId,
    /// By the last plan.
    planned: Quiet<Option<Planned>>,
}

struct Planned {
    chain: Chain,
    filter: NewNode,
    read_only: Vec<NodeId>,
}

impl StreamStart {
    /// Looks whether it may begin.
    ///
    /// # Errors
    /// If the base is none of the node's, or the job's name is taken.
    pub fn new(
        layer: &BlockLayer,
        jobs: &Jobs,
        options: StreamOptions,
    ) -> Result<Self, BlockError> {
        jobs.check_name(&options.job.name)?;
        Chain::of(&layer.graph(), options.node, &options.down)?;
        let (layer, jobs, planned) = (layer.clone(), jobs.clone(), Quiet::default());
        Ok(Self { layer, jobs, options, id: JobId(door::new_object()), planned })
    }

    /// The edits that put the filter above the node, and make the chain the job's.
    ///
    /// # Errors
    /// If the job's name is taken by now, or the chain another one.
    pub fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let (options, id) = (&self.options, self.id);
        self.jobs.check_name(&options.job.name)?;
        let chain = Chain::of(graph, options.node, &options.down)?;
        let driver = (options.filter)(chain.bottom);
        let filter = self.layer.new_node(&options.filter_name, driver);
        let mut attributes =
            NodeAttributes::new(options.filter_name.as_str(), NodeKind::Filter, "copy-on-read");
        // Whether discards are ignored is for the node to say.
        attributes.options.discard = Discard::Unmap;
        let by = held_by(&options.job.name);
        let mut edits = Vec::from([
            Edit::AddJob { id, name: options.job.name.clone() },
            Edit::AddNode { id: filter.id(), attributes },
        ]);
        edits.extend(graph.redirections(chain.given, filter.id()));
        edits.extend(chain.filter(id, filter.id(), &by).map(Edit::AddEdge));
        if !self.layer.design().is_mutant(Mutant::StreamFreezesChainTooLate) {
            edits.extend(chain.holds(graph, id).map(Edit::AddEdge));
            edits.extend(chain.freezes(&by));
        }
        let read_only = chain.read_only(graph);
        edits.extend(set_read_only(graph, &read_only, false));
        let nodes = Vec::from([filter.clone()]);
        self.planned.with(|planned| *planned = Some(Planned { chain, filter, read_only }));
        Ok(Plan { edits, nodes, ..Plan::default() })
    }

    /// The job, once the graph is as planned. It runs when it is [run](crate::run_together).
    ///
    /// # Panics
    /// `begins-as-planned`: if there was no plan.
    pub fn begin(self) -> Arc<Job> {
        let (layer, id, options) = (self.layer, self.id, self.options);
        let planned = self.planned.with(Option::take);
        let Planned { chain, filter, read_only } = planned.expect("begins-as-planned");
        let io = Io::of_job(&layer, id, &options.job.name);
        let top = layer.node_by_id(chain.top);
        let by = Requester::Job(id);
        let (len, cluster) = top.map_or((ByteLen(0), ByteLen(1)), |top| {
            (top.len(&Io::of_node(&layer, &top, by)), top.cluster_size())
        });
        let granularity = granularity(len, cluster);
        let dirty = DirtyBitmap::new(len, granularity).expect("granularity-is-one");
        let graph = layer.graph();
        let backing = graph.child_with(chain.top, Role::Cow).map(|edge| edge.child);
        let stream = Stream {
            below: backing.filter(|_| chain.bottom != chain.top),
            chain,
            io,
            filter: filter.id(),
            dirty: Arc::new(SharedBitmap::new(dirty)),
            flight: Arc::new(Flight::default()),
            buffer: Buffer::new(options.buffer, granularity, len),
            policy: options.policy,
            naming: options.naming,
            read_only,
            cursor: Quiet::default(),
            renamed: Quiet::default(),
            recorded: Quiet::default(),
        };
        let job = Job::new(id, options.job, layer.clone(), self.jobs.clone(), Box::new(stream));
        self.jobs.insert(job.clone());
        layer.register_job(id);
        job.enter(Status::Created);
        job
    }
}

/// Bits of the longest bitmap that a stream makes.
const GRANULES_MAX: u64 = 1 << 32;

/// What is pulled up at least: a cluster.
fn granularity(len: ByteLen, cluster: ByteLen) -> ByteLen {
    let least = (len.0 / GRANULES_MAX).next_power_of_two();
    ByteLen(cluster.0.max(512).max(least))
}

impl Chain {
    fn of(graph: &Graph, given: NodeId, down: &Down) -> Result<Self, BlockError> {
        let top = below_filters(graph, given);
        let (bottom, last) = match down {
            Down::End => lowest(graph, top),
            Down::Bottom(bottom) => (*bottom, *bottom),
            Down::Base(base) => above(graph, given, *base)?,
        };
        let edges = chain(graph, given, last).ok_or_else(|| not_below(graph, last, given))?;
        Ok(Self { given, top, bottom, last, edges })
    }

    /// The nodes that the job is about, from above, the last included.
    fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let holders = self.edges.iter().filter_map(|edge| match edge.parent {
            Parent::Node(node) => Some(node),
            _ => None,
        });
        holders.chain([self.last])
    }

    /// The job holds the filter, and that what it filters.
    fn filter(&self, job: JobId, filter: NodeId, by: &str) -> [Edge; 2] {
        let filtered = Edge {
            parent: Parent::Node(filter),
            name: FILE.into(),
            child: self.given,
            roles: Roles::of(&[Role::Filtered, Role::Primary]),
            policy: EdgePolicy::CopyOnRead,
            frozen: Some(by.into()),
        };
        [hold(job, FILTER.into(), filter, UNCHANGED, FIXED), filtered]
    }

    /// The job holds the layers: nobody writes those below the top, nor changes the length of any.
    fn holds(&self, graph: &Graph, job: JobId) -> impl Iterator<Item = Edge> {
        let top = graph.ancestors(self.top);
        self.nodes().enumerate().map(move |(index, node)| {
            let shared = if top.contains(&node) { FIXED } else { UNCHANGED };
            hold(job, format!("{LAYER}{index}"), node, Permissions::NONE, shared)
        })
    }

    /// The edits that make the chain the job's.
    pub(super) fn freezes(&self, by: &str) -> impl Iterator<Item = Edit> {
        self.edges.iter().cloned().map(move |EdgeKey { parent, name }| Edit::Freeze {
            parent,
            name,
            holder: by.into(),
        })
    }

    /// What has to be written and is read-only.
    fn read_only(&self, graph: &Graph) -> Vec<NodeId> {
        let filters = graph.ancestors(self.top);
        let over = self.nodes().filter(|node| filters.contains(node) && *node != self.top);
        let written = over.chain(with_storage(graph, self.top));
        let is_read_only = |id: &NodeId| graph.node(*id).is_some_and(|node| node.read_only);
        written.filter(is_read_only).collect()
    }
}

/// All but to change the length.
const FIXED: Permissions = Permissions::ALL.difference(Permissions::RESIZE);
/// To read, and to write what is there already.
const UNCHANGED: Permissions = Permissions::CONSISTENT_READ.union(Permissions::WRITE_UNCHANGED);

/// An edge of the job's.
fn hold(
    job: JobId,
    name: String,
    child: NodeId,
    required: Permissions,
    shared: Permissions,
) -> Edge {
    Edge {
        parent: Parent::Job(job),
        name,
        child,
        roles: Roles::NONE,
        policy: EdgePolicy::Explicit { required, shared },
        frozen: None,
    }
}

/// The last layer above `base`, and the last of the filters between: those of other jobs stay.
fn above(graph: &Graph, given: NodeId, base: NodeId) -> Result<(NodeId, NodeId), BlockError> {
    let edges = chain(graph, given, base).unwrap_or_default();
    let edges = edges.iter().filter_map(|edge| graph.edge(edge.parent, &edge.name));
    let edges: Vec<&Edge> = edges.collect();
    let overlay = edges.iter().rposition(|edge| edge.roles.contains(Role::Cow));
    let overlay = overlay.ok_or_else(|| not_below(graph, base, given))?;
    let own = edges[overlay + 1..].iter().take_while(|edge| edge.frozen.is_none()).count();
    let holder = |index: usize| match edges[index].parent {
        Parent::Node(node) => node,
        _ => given,
    };
    Ok((holder(overlay), holder(overlay + own)))
}

/// The last layer below `top`, and the last of the filters below that.
fn lowest(graph: &Graph, top: NodeId) -> (NodeId, NodeId) {
    let (mut bottom, mut at) = (top, top);
    loop {
        if let Some(edge) = graph.child_with(at, Role::Cow) {
            (at, bottom) = (edge.child, edge.child);
        } else if let Some(edge) = graph.child_with(at, Role::Filtered) {
            if bottom == at {
                bottom = edge.child;
            }
            at = edge.child;
        } else {
            return (bottom, at);
        }
    }
}

fn not_below(graph: &Graph, base: NodeId, node: NodeId) -> BlockError {
    let name = |id| graph.node(id).map_or("that is gone", |node| &node.name);
    let (base, node) = (name(base), name(node));
    BlockError::Invalid(format!("node {base} is no backing file of {node}"))
}

/// The names of the job's edges to layers.
pub(super) fn held_layers(graph: &Graph, job: JobId) -> impl Iterator<Item = String> {
    let held = graph.children(Parent::Job(job)).map(|edge| edge.name.clone());
    held.filter(|name| name.starts_with(LAYER))
}
