//! The commands.
//!
//! Source: QEMU's QMP reference, for names, arguments, defaults and errors. Differs: commands that QEMU lacks begin
//! with `x-`; arguments that are not implemented are refused, never ignored; a child defined in place has its own
//! life: it stays when its parent is deleted.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::{Backend, BlockError, BlockLayer, OnLost, Plan};
use blockyard_graph::{Edge, EdgePolicy, Edit, Graph, Parent, Permissions, Role, Roles};
use blockyard_jobs::{
    EventSink, JobOptions, Jobs, MirrorOptions, SyncMode, check_job_id, start_mirror,
};
use blockyard_units::{ByteLen, CopyMode};
use serde::Deserialize;

use crate::accounting;
use crate::blkdebug::{Break, Stopped};
use crate::blockdev::{Blockdev, check_name};
use crate::error::{ErrorClass, QmpError};
use crate::events::EventHub;
use crate::nodes::{Files, define};
use crate::replace::ReplaceChild;
use crate::value::{Dict, Value};
use crate::visitor::{Mode, Size, visit};

/// Every command, with what it does.
pub const COMMANDS: &[(&str, &str)] = &[
    ("blockdev-add", "creates a node"),
    ("blockdev-del", "removes a node that nobody holds"),
    ("blockdev-mirror", "copies a node to another and follows the writes, until it is completed"),
    ("block-latency-histogram-set", "counts how long requests take, in intervals"),
    ("block-set-write-threshold", "has the next write behind an offset told by an event"),
    ("block_resize", "changes the length of a node"),
    (
        "block-job-cancel",
        "stops a job; one that is ready ends in sync without a pivot, unless by force",
    ),
    ("cont", "lets guests go on that were stopped"),
    ("job-cancel", "stops a job"),
    ("job-complete", "finishes a job that is ready"),
    ("job-dismiss", "forgets a concluded job"),
    ("job-finalize", "makes a pending job change the graph"),
    ("job-pause", "makes a job rest"),
    ("job-resume", "makes a job go on"),
    ("query-blockstats", "tells what was counted of requests"),
    ("query-jobs", "lists the jobs"),
    ("query-named-block-nodes", "lists the nodes"),
    ("stop", "lets guests make no more requests"),
    ("x-blkdebug-break", "makes the next request that comes to an event stop there"),
    ("x-blkdebug-resume", "lets a request go on that has stopped"),
    ("x-blkdebug-wait", "waits until a request has stopped"),
    (
        "x-block-set-copy-on-read",
        "makes reads from a node copy up what comes from its backing child",
    ),
    ("x-blockdev-replace-child", "redirects an edge, named by both of its ends"),
    ("x-debug-query-block-graph", "shows nodes, edges and permissions"),
];

/// Executes commands on a block layer. Clones are the same monitor.
#[derive(Clone)]
pub struct Monitor(Arc<Inner>);

struct Inner {
    layer: BlockLayer,
    jobs: Jobs,
    hub: Arc<EventHub>,
    files: Arc<dyn Files>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct NodeName {
    node_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct SetCopyOnRead {
    node_name: String,
    enable: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct JobId {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct BlockJobCancel {
    device: String,
    force: Option<bool>,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sync {
    Full,
    None,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MirrorCopyMode {
    Background,
    WriteBlocking,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct BlockdevMirror {
    job_id: Option<String>,
    device: String,
    target: String,
    sync: Sync,
    granularity: Option<Size>,
    copy_mode: Option<MirrorCopyMode>,
    filter_node_name: Option<String>,
    auto_finalize: Option<bool>,
    auto_dismiss: Option<bool>,
}

impl BlockdevMirror {
    fn job_id(&self) -> &str {
        self.job_id.as_deref().unwrap_or(&self.device)
    }

    fn granularity(&self) -> ByteLen {
        ByteLen(self.granularity.as_ref().map_or(DEFAULT_GRANULARITY, |size| size.0))
    }

    /// Checks what needs no layer.
    fn check(self) -> Result<(), QmpError> {
        check_job_id(self.job_id())?;
        DirtyBitmap::check_granularity(self.granularity())
            .map_err(|error| QmpError::generic(format!("granularity: {error}")))?;
        Ok(self.filter_node_name.as_deref().map_or(Ok(()), check_name)?)
    }
}

fn check_known(command: &str) -> Result<(), QmpError> {
    if COMMANDS.iter().any(|(name, _)| *name == command) {
        return Ok(());
    }
    let desc = format!("the command {command} has not been found");
    Err(QmpError { class: ErrorClass::CommandNotFound, desc, mismatch: false })
}

/// Checks a command and its arguments as far as that goes without a layer.
///
/// # Errors
/// As [`Monitor::execute`] has them.
pub fn check_command(command: &str, arguments: &Dict, mode: Mode) -> Result<(), QmpError> {
    check_known(command)?;
    let value = Value::Dict(arguments.clone());
    match command {
        "blockdev-add" => Ok(Blockdev::parse(arguments.clone(), mode).map(drop)?),
        "blockdev-del" => Ok(visit::<NodeName>(&value, mode).map(drop)?),
        "blockdev-mirror" => visit::<BlockdevMirror>(&value, mode)?.check(),
        "x-blkdebug-break" => visit::<Break>(&value, mode)?.check(),
        "x-blkdebug-resume" | "x-blkdebug-wait" => Ok(visit::<Stopped>(&value, mode).map(drop)?),
        "x-block-set-copy-on-read" => Ok(visit::<SetCopyOnRead>(&value, mode).map(drop)?),
        "x-blockdev-replace-child" => visit::<ReplaceChild>(&value, mode)?.check(mode),
        "block-job-cancel" => Ok(visit::<BlockJobCancel>(&value, mode).map(drop)?),
        _ if accounting::knows(command) => accounting::check(command, &value, mode),
        _ if command.starts_with("job-") => Ok(visit::<JobId>(&value, mode).map(drop)?),
        _ => Ok(visit::<Nothing>(&value, mode).map(drop)?),
    }
}

/// QEMU's default, for targets without clusters of their own.
const DEFAULT_GRANULARITY: u64 = 65536;

impl Monitor {
    /// A monitor of an empty layer. `watcher` sees every job event.
    pub fn new(layer: BlockLayer, files: Arc<dyn Files>, watcher: Arc<dyn EventSink>) -> Self {
        let hub = Arc::new(EventHub::new(watcher));
        layer.set_events(hub.clone());
        let jobs = Jobs::new(hub.clone());
        Self(Arc::new(Inner { layer, jobs, hub, files }))
    }

    /// The layer.
    pub fn layer(&self) -> &BlockLayer {
        &self.0.layer
    }

    /// The jobs.
    pub fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    /// Where events go.
    pub fn events(&self) -> &EventHub {
        &self.0.hub
    }

    pub(crate) fn files(&self) -> &dyn Files {
        &*self.0.files
    }

    /// Executes a command; its arguments are strictly typed, or strings to be converted, as `mode` says.
    ///
    /// # Errors
    /// As QMP has them; everything is then as before.
    ///
    /// # Yields
    /// Where the graph changes; others may have changed it too.
    pub async fn execute(
        &self,
        command: &str,
        arguments: Dict,
        mode: Mode,
    ) -> Result<Value, QmpError> {
        let done = |()| Value::Dict(Dict::new());
        if command == "blockdev-add" {
            return self.blockdev_add(arguments, mode).await.map(done);
        }
        let value = Value::Dict(arguments);
        if accounting::knows(command) {
            return self.account(command, &value, mode).await;
        }
        match command {
            "blockdev-del" => self.blockdev_del(visit(&value, mode)?).await.map(done),
            "blockdev-mirror" => self.blockdev_mirror(visit(&value, mode)?).await.map(done),
            "x-blkdebug-break" => self.blkdebug_break(&visit(&value, mode)?).map(done),
            "x-blkdebug-resume" => self.blkdebug_resume(&visit(&value, mode)?).map(done),
            "x-blkdebug-wait" => self.blkdebug_wait(visit(&value, mode)?).await.map(done),
            "x-block-set-copy-on-read" => {
                let SetCopyOnRead { node_name, enable } = visit(&value, mode)?;
                self.layer().node(&node_name)?.set_copy_on_read(enable);
                Ok(done(()))
            }
            "x-blockdev-replace-child" => {
                self.replace_child(visit(&value, mode)?, mode).await.map(done)
            }
            "query-jobs" => {
                visit::<Nothing>(&value, mode).map(|_| self.query_jobs()).map_err(Into::into)
            }
            "query-named-block-nodes" => {
                visit::<Nothing>(&value, mode)?;
                Ok(self.query_named_block_nodes())
            }
            "x-debug-query-block-graph" => {
                visit::<Nothing>(&value, mode)?;
                Ok(self.query_block_graph())
            }
            _ => self.job_command(command, &value, mode).map(done),
        }
    }

    fn job_command(&self, command: &str, value: &Value, mode: Mode) -> Result<(), QmpError> {
        check_known(command)?;
        if command == "block-job-cancel" {
            let BlockJobCancel { device, force } = visit(value, mode)?;
            return Ok(self.jobs().get(&device)?.cancel(force.unwrap_or(false))?);
        }
        let job = self.jobs().get(&visit::<JobId>(value, mode)?.id)?;
        Ok(match command {
            "job-cancel" => job.cancel(true),
            "job-complete" => job.complete(),
            "job-dismiss" => job.dismiss(),
            "job-finalize" => job.finalize(),
            "job-pause" => job.pause(),
            _ => job.resume(),
        }?)
    }

    async fn blockdev_add(&self, options: Dict, mode: Mode) -> Result<(), QmpError> {
        let options = Blockdev::parse(options, mode)?;
        let definition = define(self.layer(), self.files(), options, None)?;
        let derive = |graph: &Graph| definition.plan(graph);
        Ok(self.layer().publish("blockdev-add", OnLost::StartOver, derive).await?)
    }

    async fn blockdev_del(&self, arguments: NodeName) -> Result<(), QmpError> {
        let id = self.layer().node(&arguments.node_name)?.id();
        let derive = |graph: &Graph| {
            let parent = Parent::Node(id);
            let edges = graph.children(parent).map(|edge| Edit::RemoveEdge {
                parent,
                name: edge.name.clone(),
                expected: Some(edge.child),
            });
            let edits = edges.chain([Edit::RemoveNode { id }]).collect();
            Ok(Plan { edits, ..Plan::default() })
        };
        Ok(self.layer().publish("blockdev-del", OnLost::StartOver, derive).await?)
    }

    async fn blockdev_mirror(&self, arguments: BlockdevMirror) -> Result<(), QmpError> {
        let copy_mode = match arguments.copy_mode {
            Some(MirrorCopyMode::Background) => CopyMode::Passive,
            Some(MirrorCopyMode::WriteBlocking) => CopyMode::Active,
            None => self.layer().design().mirror,
        };
        let granularity = arguments.granularity();
        let options = MirrorOptions {
            job: JobOptions {
                name: arguments.job_id().into(),
                auto_finalize: arguments.auto_finalize.unwrap_or(true),
                auto_dismiss: arguments.auto_dismiss.unwrap_or(true),
            },
            source: self.node_or_root(&arguments.device)?,
            target: arguments.target,
            sync: match arguments.sync {
                Sync::Full => SyncMode::Full,
                Sync::None => SyncMode::None,
            },
            copy_mode,
            granularity,
            filter_name: match arguments.filter_node_name {
                Some(name) => {
                    check_name(&name).map_err(|error| error.within("filter-node-name"))?;
                    name
                }
                None => self.layer().generate_name(),
            },
        };
        start_mirror(self.layer(), self.jobs(), options).await?;
        Ok(())
    }

    /// A device stands for the node below it.
    pub(crate) fn node_or_root(&self, name: &str) -> Result<String, QmpError> {
        let graph = self.layer().graph();
        let Some(backend) = graph.backend_by_name(name) else { return Ok(name.into()) };
        let root = graph.child(Parent::Backend(backend), "root").and_then(|root| graph.node(root));
        let empty = || QmpError::generic(format!("device '{name}' has no medium"));
        root.map(|node| node.name.clone()).ok_or_else(empty)
    }

    /// A guest device `id` on a node.
    ///
    /// # Errors
    /// If the name is taken, or the node does not allow it.
    ///
    /// # Yields
    /// Always.
    pub async fn attach_device(&self, id: &str, node: &str) -> Result<Backend, QmpError> {
        let required = Permissions::CONSISTENT_READ.union(Permissions::WRITE);
        self.attach(id, node, required).await
    }

    /// A backend `id` on a node, that may do there what is `required`.
    pub(crate) async fn attach(
        &self,
        id: &str,
        node: &str,
        required: Permissions,
    ) -> Result<Backend, QmpError> {
        let child = self.layer().node(node)?.id();
        let backend = self.layer().add_backend(id)?;
        let edge = Edge {
            parent: Parent::Backend(backend.id()),
            name: "root".into(),
            child,
            roles: Roles::of(&[Role::Primary]),
            policy: EdgePolicy::Explicit { required, shared: Permissions::ALL },
            frozen: None,
        };
        let derive =
            |_: &Graph| Ok(Plan { edits: [Edit::AddEdge(edge.clone())].into(), ..Plan::default() });
        let attached: Result<(), BlockError> =
            self.layer().publish("attach device", OnLost::StartOver, derive).await;
        if attached.is_err() {
            self.layer().remove_backend(&backend);
        }
        attached?;
        Ok(backend)
    }

    /// Takes a backend and its root's edge away again.
    pub(crate) async fn detach(&self, backend: &Backend) -> Result<(), QmpError> {
        let parent = Parent::Backend(backend.id());
        let derive = |_: &Graph| {
            let edit = Edit::RemoveEdge { parent, name: "root".into(), expected: None };
            Ok(Plan { edits: [edit].into(), ..Plan::default() })
        };
        self.layer().publish("detach device", OnLost::StartOver, derive).await?;
        self.layer().remove_backend(backend);
        Ok(())
    }
}
