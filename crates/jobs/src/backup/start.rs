//! Starting a backup: its filter, or its hook, is there before a guest's next write.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::{BlockError, BlockLayer, Io, NewNode, Node, Plan, Requester, Undo};
use blockyard_graph::{Graph, Permissions, Role};
use blockyard_sync::door::{self, world::Quiet};
use blockyard_units::{BackupChunks, BackupWay, ByteLen, JobId, Mutant, NodeId};

use super::Backup;
use super::chunks::Chunks;
use super::filter::{BackupFilter, BackupHook};
use super::saver::{OnCbwError, Saver};
use crate::chain::{below_filters, held_by};
use crate::job::{Job, JobOptions};
use crate::mirror::{Beginning, Filter, MirrorPolicies, SyncMode, check_granules};
use crate::registry::Jobs;
use crate::status::Status;

/// What becomes of a bitmap when the backup has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitmapMode {
    /// If all was saved it has what was written since the backup's beginning, and else what it would have.
    OnSuccess,
    /// It has what it would have without the backup.
    Never,
    /// What was saved is not in it any more, whether all was or not.
    Always,
}

/// A bitmap of the source that the backup has to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitmapUse {
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub mode: BitmapMode,
}

/// What a backup is started with.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// As any job.
    pub job: JobOptions,
    /// The node to save.
    pub source: String,
    /// The node to save it to, of the same length; nobody else may write to it.
    pub target: String,
    /// What is saved; of an incremental one what its bitmap says.
    pub sync: SyncMode,
    /// The bitmap that it has to do with.
    pub bitmap: Option<BitmapUse>,
    /// Bytes of a chunk, a power of two; they are more where the target allocates more at once.
    pub granularity: ByteLen,
    /// How many workers there are.
    pub workers: u64,
    /// Bytes that are copied at once at most, where nobody waits; at least one chunk is.
    pub most: ByteLen,
    /// The source gives up what the target has.
    pub discard_source: bool,
    /// The target is to compress what it gets.
    pub compress: bool,
    /// What is done about requests that fail.
    pub policies: MirrorPolicies,
    /// What becomes of guests' writes whose old data cannot be saved.
    pub on_cbw_error: OnCbwError,
    /// Seconds for which a guest's write waits at most for workers; 0 is without limit.
    pub cbw_timeout: u32,
    /// The filter's node-name.
    pub filter_name: String,
}

/// A backup that may begin: its filter is made and not in the graph yet.
pub struct BackupStart {
    layer: BlockLayer,
    jobs: Jobs,
    options: BackupOptions,
    id: JobId,
    filter: Option<NewNode>,
    saver: Arc<Saver>,
    source: NodeId,
    target: NodeId,
    len: ByteLen,
}

const NS_PER_SECOND: u64 = 1_000_000_000;

fn len(layer: &BlockLayer, node: &Node) -> ByteLen {
    node.len(&Io::of_node(layer, node, Requester::Node(node.id())))
}

/// Bytes that are allocated at once by what holds the data of a node, below filters and raw formats.
fn cluster_size(layer: &BlockLayer, node: NodeId) -> ByteLen {
    let graph = layer.graph();
    let below = |at: &NodeId| {
        let role = if graph.node(*at)?.driver == "raw" { Role::Primary } else { Role::Filtered };
        graph.child_with(*at, role).map(|edge| edge.child)
    };
    let all = core::iter::successors(Some(node), below).filter_map(|id| layer.node_by_id(id));
    all.map(|node| node.cluster_size()).max().unwrap_or(ByteLen(1))
}

/// Both are of one length, which is told.
fn check_lengths(layer: &BlockLayer, source: &Node, target: &Node) -> Result<ByteLen, BlockError> {
    let (name, target_name) = (source.name(), target.name());
    if source.id() == target.id() {
        return Err(BlockError::Invalid(format!("node {name} cannot be backed up to itself")));
    }
    let (source_len, target_len) = (len(layer, source), len(layer, target));
    if source_len != target_len {
        return Err(BlockError::Invalid(format!(
            "target {target_name} ({target_len} bytes) is not as long as source {name} ({source_len} bytes)"
        )));
    }
    Ok(source_len)
}

impl BackupStart {
    /// Makes the filter.
    ///
    /// # Errors
    /// If there is no such node or bitmap, source and target are of different lengths, or the job's name is taken.
    pub fn new(
        layer: &BlockLayer,
        jobs: &Jobs,
        options: BackupOptions,
    ) -> Result<Self, BlockError> {
        jobs.check_name(&options.job.name)?;
        let (source, target) = (layer.node(&options.source)?, layer.node(&options.target)?);
        let len = check_lengths(layer, &source, &target)?;
        let design = layer.design();
        if options.discard_source && design.backup == BackupWay::Notifier {
            let why = "discard-source: a backup without a filter cannot keep writes from what it discards";
            return Err(BlockError::Invalid(why.into()));
        }
        // What a cluster of the target lacks would hide what is below.
        let ignores = design.is_mutant(Mutant::BackupPartialTargetCluster);
        let alone = layer.backing_of(target.id()).is_none() && !ignores;
        let cluster = cluster_size(layer, target.id());
        let cluster = if alone || options.compress { cluster } else { ByteLen(1) };
        let granularity = options.granularity.max(cluster);
        check_granules(len, granularity)?;
        let todo = DirtyBitmap::new(len, granularity)
            .map_err(|error| BlockError::Invalid(format!("granularity: {error}")))?;
        let limit_ns = match u64::from(options.cbw_timeout) * NS_PER_SECOND {
            ns if design.is_mutant(Mutant::CbwTimeoutWraps) => ns & u64::from(u32::MAX),
            ns => ns,
        };
        let coalesces = design.backup_chunks == BackupChunks::Coalesced;
        let single = !coalesces || design.backup == BackupWay::Notifier;
        let saver = Arc::new(Saver {
            chunks: Chunks::new(
                todo,
                // What is discarded last must not be what a guest has written meanwhile.
                options.sync == SyncMode::None || options.discard_source,
                design,
            ),
            way: design.backup,
            most: if single { granularity } else { options.most.max(granularity) },
            compress: options.compress,
            discards: options.discard_source,
            is_temporary: options.sync == SyncMode::None,
            is_whole: matches!(options.sync, SyncMode::Full | SyncMode::None),
            on_cbw_error: options.on_cbw_error,
            limit_ns,
            node: options.filter_name.clone(),
        });
        let filter = (design.backup != BackupWay::Notifier).then(|| {
            let driver = BackupFilter(saver.clone());
            layer.new_node(&options.filter_name, Box::new(driver))
        });
        Ok(Self {
            layer: layer.clone(),
            jobs: jobs.clone(),
            id: JobId(door::new_object()),
            filter,
            saver,
            source: source.id(),
            target: target.id(),
            len,
            options,
        })
    }

    /// The edits that put the filter above the source.
    ///
    /// # Errors
    /// If the job's name is taken by now, or the nodes are not what they were.
    pub fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let (options, id) = (&self.options, self.id);
        // Again: while this one waited, a namesake may have left the graph and not the registry.
        self.jobs.check_name(&options.job.name)?;
        let gone = || BlockError::NotFound("source or target is gone".into());
        let node = |id| self.layer.node_by_id(id).ok_or_else(gone);
        let source = node(self.source)?;
        if check_lengths(&self.layer, &source, &*node(self.target)?)? != self.len {
            let why = format!("node {} changed its length meanwhile: try again", source.name());
            return Err(BlockError::Invalid(why));
        }
        let driver = "copy-before-write";
        let filter = |node: &NewNode| Filter { id: node.id(), name: &options.filter_name, driver };
        let edits = Beginning {
            id,
            name: &options.job.name,
            filter: self.filter.as_ref().map(filter),
            source: self.source,
            target: self.target,
            // What was saved is read where somebody looks at the source as it was.
            needed: Permissions::WRITE.union(Permissions::CONSISTENT_READ),
            writes_source: options.discard_source,
        }
        .edits(graph);
        let mut plan =
            Plan { edits, nodes: self.filter.iter().cloned().collect(), ..Plan::default() };
        // The hook is to see every write that is not over.
        plan.drained.push(below_filters(graph, self.source));
        Ok(plan)
    }

    /// Before it begins, in the drained section: what is to be saved is known from here on; the bitmap is the job's.
    ///
    /// # Errors
    /// If the bitmap is busy or gone.
    pub fn inside(&self) -> Result<Option<Undo>, BlockError> {
        let gone = || BlockError::NotFound("the source is gone".into());
        let source = self.layer.node_by_id(self.source).ok_or_else(gone)?;
        let mut undo = Undo::default();
        let mut bits = None;
        if let Some(BitmapUse { name, .. }) = &self.options.bitmap {
            let holder = held_by(&self.options.job.name);
            source.bitmaps().change(name, |bitmap| {
                bits = Some(bitmap.bits().clone());
                bitmap.split(&holder)
            })?;
            let (source, name) = (source.clone(), name.clone());
            undo.extend(Undo::new(move || {
                let reclaimed = source.bitmaps().change(&name, |bitmap| {
                    bitmap.reclaim();
                    Ok(())
                });
                debug_assert!(reclaimed.is_ok(), "a-busy-bitmap-stays: {reclaimed:?}");
            }));
        }
        self.saver.chunks.begin_with(|todo| match (&self.options.sync, &bits) {
            (SyncMode::Incremental { .. }, Some(bits)) => todo.merge_from(bits),
            _ => todo.mark_all(),
        });
        if self.filter.is_none()
            && let Some(data) =
                self.layer.node_by_id(below_filters(&self.layer.graph(), self.source))
        {
            let io = Io::of_job(&self.layer, self.id, &self.options.job.name);
            let id = self.id;
            data.add_hook(Some(id), Arc::new(BackupHook { saver: self.saver.clone(), io }));
            undo.extend(Undo::new(move || data.remove_hooks(id)));
        }
        Ok(Some(undo))
    }

    /// The job, once the graph is as planned. It runs when it is [run](crate::run_together), alone or with others.
    pub fn begin(self) -> Arc<Job> {
        let Self { layer, jobs, options, id, saver, source: given, target, .. } = self;
        let filter = self.filter.map(|filter| filter.node().clone());
        let io = match &filter {
            Some(filter) => Io::of_node(&layer, filter, Requester::Job(id)),
            None => Io::of_job(&layer, id, &options.job.name),
        };
        let backup = Backup {
            saver,
            io,
            filter,
            given,
            source: below_filters(&layer.graph(), given),
            target,
            sync: options.sync,
            bitmap: options.bitmap,
            workers: if layer.design().backup == BackupWay::Notifier { 1 } else { options.workers },
            policies: options.policies,
            is_flushed: Quiet::default(),
        };
        let job = Job::new(id, options.job, layer.clone(), jobs.clone(), Box::new(backup));
        jobs.insert(job.clone());
        layer.register_job(id);
        job.enter(Status::Created);
        job
    }
}
