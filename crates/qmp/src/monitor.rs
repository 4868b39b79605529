//! The commands.
//!
//! Source: QEMU's QMP reference, for names, arguments, defaults and errors. Differs: commands that QEMU lacks begin
//! with `x-`; arguments that are not implemented are refused, never ignored; a child defined in place has its own
//! life: it stays when its parent is deleted.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use blockyard_block::{BlockError, BlockLayer, Node, OnLost, Owner, Plan};
use blockyard_graph::Graph;
use blockyard_jobs::{EventSink, Jobs};
use blockyard_sync::Shared;
use blockyard_units::NodeId;
use serde::Deserialize;

use crate::accounting;
use crate::active::SetActive;
use crate::amend::BlockdevAmend;
use crate::backup::BlockdevBackup;
use crate::bitmaps;
use crate::blkdebug::{Break, Stopped};
use crate::blockdev::Blockdev;
use crate::change::BlockdevChange;
use crate::commit::BlockCommit;
use crate::create::BlockdevCreate;
use crate::drive_reopen::DriveReopen;
use crate::error::{ErrorClass, QmpError};
use crate::events::EventHub;
use crate::internal_snapshot::{Delete, Take};
use crate::jobs;
use crate::medium::{InsertMedium, RemoveMedium};
use crate::mirror::BlockdevMirror;
use crate::nodes::{Definition, Files, define};
use crate::objects::{ObjectAdd, ObjectDel, Objects, QomGet, QomSet};
use crate::opening::removal;
use crate::reopen::{BlockdevReopen, DriverOptions};
use crate::replace::ReplaceChild;
use crate::snapshot::BlockdevSnapshot;
use crate::snapshot::stack::SnapshotStack;
use crate::stream::BlockStream;
use crate::transaction::Transaction;
use crate::value::{Dict, Value};
use crate::visitor::{Mode, Nothing, visit};

/// Every command, with what it does.
pub const COMMANDS: &[(&str, &str)] = &[
    (
        "block-commit",
        "moves what layers hold into a backing file of theirs, which takes their place",
    ),
    ("block-dirty-bitmap-add", "has writes to a node recorded in a new bitmap"),
    ("block-dirty-bitmap-clear", "forgets what a bitmap has recorded"),
    ("block-dirty-bitmap-disable", "has a bitmap record no more"),
    ("block-dirty-bitmap-enable", "has a bitmap record"),
    ("block-dirty-bitmap-merge", "adds what bitmaps have recorded to another"),
    ("block-dirty-bitmap-remove", "removes a bitmap"),
    ("blockdev-add", "creates a node"),
    ("blockdev-create", "makes a file, or an image in a node"),
    ("blockdev-del", "removes a node that nobody holds"),
    ("blockdev-backup", "saves a node to another as it is now, while guests go on"),
    ("blockdev-insert-medium", "gives a node to a device that has none"),
    ("blockdev-mirror", "copies a node to another and follows the writes, until it is completed"),
    ("block-latency-histogram-set", "counts how long requests take, in intervals"),
    ("block-set-write-threshold", "has the next write behind an offset told by an event"),
    (
        "block-stream",
        "pulls up what layers hold into a node above them, which then has what is below them",
    ),
    ("block_resize", "changes the length of a node"),
    ("blockdev-remove-medium", "takes a device's node away"),
    ("blockdev-reopen", "gives nodes all of their options anew"),
    ("blockdev-set-active", "hands images over to somebody else, or takes them back"),
    ("blockdev-snapshot", "puts a node above another, as its overlay"),
    ("blockdev-snapshot-delete-internal-sync", "deletes a snapshot within an image"),
    ("blockdev-snapshot-internal-sync", "keeps what a disk is now as a snapshot within its image"),
    (
        "block-job-cancel",
        "stops a block job; one that is ready ends in sync without a pivot, unless by force",
    ),
    ("block-job-change", "has a mirror follow the guest's writes in another way"),
    ("block-job-complete", "finishes a block job that is ready"),
    ("block-job-dismiss", "forgets a concluded block job"),
    ("block-job-finalize", "makes a pending block job change the graph"),
    ("block-job-pause", "makes a block job rest"),
    ("block-job-resume", "makes a block job go on"),
    ("block-job-set-speed", "has a block job work at another rate"),
    ("cont", "lets guests go on that were stopped"),
    ("job-cancel", "stops a job"),
    ("job-complete", "finishes a job that is ready"),
    ("job-dismiss", "forgets a concluded job"),
    ("job-finalize", "makes a pending job change the graph"),
    ("job-pause", "makes a job rest"),
    ("job-resume", "makes a job go on"),
    ("object-add", "keeps a secret or a group of throttles, by its id"),
    ("object-del", "forgets a secret, or a group of throttles that nobody is in"),
    ("qom-get", "tells the limits of a group of throttles"),
    ("qom-set", "changes the limits of a group of throttles"),
    ("query-block", "lists the devices"),
    ("query-block-jobs", "lists the jobs that work on nodes"),
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
    ("transaction", "does several actions, all of them or none"),
    ("x-blockdev-amend", "changes the key slots of an encrypted image"),
    ("x-blockdev-change", "gives a quorum another child, or takes one away"),
    ("x-blockdev-replace-child", "redirects an edge, named by both of its ends"),
    (
        "x-blockdev-snapshot-stack",
        "puts nodes above the first layers below filters that can have an overlay, all or none",
    ),
    ("x-debug-block-dirty-bitmap-sha256", "hashes what a bitmap has recorded"),
    ("x-debug-query-block-graph", "shows nodes, edges and permissions"),
    ("x-drive-reopen", "leads a device to its mirror's target, and sets a witness that tells so"),
];

/// Executes commands on a block layer. Clones are the same monitor.
#[derive(Clone)]
pub struct Monitor(Arc<Inner>);

struct Inner {
    layer: BlockLayer,
    jobs: Jobs,
    hub: Arc<EventHub>,
    files: Arc<dyn Files>,
    /// The options of their drivers, of the nodes that commands have put into the graph.
    driver_options: Shared<BTreeMap<NodeId, DriverOptions>>,
    objects: Objects,
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
        "blockdev-create" => Ok(visit::<BlockdevCreate>(&value, mode)?.check(mode)?),
        "x-blockdev-amend" => visit::<BlockdevAmend>(&value, mode)?.check(mode),
        "blockdev-del" => Ok(visit::<NodeName>(&value, mode).map(drop)?),
        "blockdev-mirror" => visit::<BlockdevMirror>(&value, mode)?.check(),
        "blockdev-backup" => visit::<BlockdevBackup>(&value, mode)?.check(),
        "block-commit" => visit::<BlockCommit>(&value, mode)?.check(),
        "block-stream" => visit::<BlockStream>(&value, mode)?.check(),
        "x-blkdebug-break" => visit::<Break>(&value, mode)?.check(),
        "x-blkdebug-resume" | "x-blkdebug-wait" => Ok(visit::<Stopped>(&value, mode).map(drop)?),
        "x-block-set-copy-on-read" => Ok(visit::<SetCopyOnRead>(&value, mode).map(drop)?),
        "blockdev-insert-medium" => Ok(visit::<InsertMedium>(&value, mode).map(drop)?),
        "blockdev-remove-medium" => Ok(visit::<RemoveMedium>(&value, mode).map(drop)?),
        "blockdev-set-active" => Ok(visit::<SetActive>(&value, mode).map(drop)?),
        "blockdev-reopen" => visit::<BlockdevReopen>(&value, mode)?.check(mode),
        "blockdev-snapshot" => Ok(visit::<BlockdevSnapshot>(&value, mode).map(drop)?),
        "blockdev-snapshot-delete-internal-sync" => visit::<Delete>(&value, mode)?.check(),
        "blockdev-snapshot-internal-sync" => visit::<Take>(&value, mode)?.check(),
        "object-add" => Ok(ObjectAdd::parse(arguments.clone(), mode).map(drop)?),
        "object-del" => Ok(visit::<ObjectDel>(&value, mode).map(drop)?),
        "qom-get" => Ok(visit::<QomGet>(&value, mode).map(drop)?),
        "qom-set" => Ok(visit::<QomSet>(&value, mode).map(drop)?),
        "transaction" => visit::<Transaction>(&value, mode)?.check(mode),
        "x-blockdev-change" => visit::<BlockdevChange>(&value, mode)?.check(),
        "x-blockdev-replace-child" => visit::<ReplaceChild>(&value, mode)?.check(mode),
        "x-blockdev-snapshot-stack" => Ok(visit::<SnapshotStack>(&value, mode).map(drop)?),
        "x-drive-reopen" => Ok(visit::<DriveReopen>(&value, mode).map(drop)?),
        _ if accounting::knows(command) => accounting::check(command, &value, mode),
        _ if bitmaps::knows(command) => bitmaps::check(command, &value, mode),
        _ if jobs::knows(command) => jobs::check(command, &value, mode),
        _ => Ok(visit::<Nothing>(&value, mode).map(drop)?),
    }
}

impl Monitor {
    /// A monitor of an empty layer. `watcher` sees every job event.
    pub fn new(layer: BlockLayer, files: Arc<dyn Files>, watcher: Arc<dyn EventSink>) -> Self {
        let hub = Arc::new(EventHub::new(watcher));
        layer.set_events(hub.clone());
        let jobs = Jobs::new(hub.clone());
        Self(Arc::new(Inner {
            layer,
            jobs,
            hub,
            files,
            driver_options: Shared::default(),
            objects: Objects::default(),
        }))
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
    pub fn events(&self) -> &Arc<EventHub> {
        &self.0.hub
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.0.objects
    }

    pub(crate) fn files(&self) -> &dyn Files {
        &*self.0.files
    }

    /// The nodes are in the graph.
    pub(crate) fn note_added(&self, definition: &Definition) {
        self.0
            .driver_options
            .write(|driver_options| driver_options.extend(definition.driver_options()));
    }

    /// Their drivers have other options now.
    pub(crate) fn note_reopened(&self, nodes: impl Iterator<Item = (NodeId, DriverOptions)>) {
        self.0.driver_options.write(|driver_options| driver_options.extend(nodes));
    }

    /// They are in it no more.
    pub(crate) fn note_removed(&self, nodes: &[NodeId]) {
        self.0
            .driver_options
            .write(|driver_options| driver_options.retain(|id, _| !nodes.contains(id)));
    }

    pub(crate) fn driver_options(&self, node: NodeId) -> Option<DriverOptions> {
        self.0.driver_options.read(|driver_options| driver_options.get(&node).cloned())
    }

    /// The name of one whose driver was made with such options.
    pub(crate) fn any_node_with(&self, such: impl Fn(&DriverOptions) -> bool) -> Option<String> {
        let found = self
            .0
            .driver_options
            .read(|nodes| nodes.iter().find(|(_, options)| such(options)).map(|(node, _)| *node))?;
        self.layer().graph().node(found).map(|node| node.name.to_string())
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
        if command == "object-add" {
            return self.object_add(ObjectAdd::parse(arguments, mode)?).map(done);
        }
        let value = Value::Dict(arguments);
        if accounting::knows(command) {
            return self.account(command, &value, mode).await;
        }
        if bitmaps::knows(command) {
            check_known(command)?;
            return self.change_bitmap(command, &value, mode).await;
        }
        match command {
            "blockdev-create" => self.blockdev_create(visit(&value, mode)?, mode).map(done),
            "x-blockdev-amend" => self.blockdev_amend(visit(&value, mode)?, mode).map(done),
            "blockdev-del" => self.blockdev_del(visit(&value, mode)?).await.map(done),
            "object-del" => self.object_del(&visit(&value, mode)?).map(done),
            "qom-get" => self.qom_get(&visit(&value, mode)?),
            "qom-set" => self.qom_set(&visit(&value, mode)?, mode).map(done),
            "x-blkdebug-break" => self.blkdebug_break(&visit(&value, mode)?).map(done),
            "x-blkdebug-resume" => self.blkdebug_resume(&visit(&value, mode)?).map(done),
            "x-blkdebug-wait" => self.blkdebug_wait(visit(&value, mode)?).await.map(done),
            "x-block-set-copy-on-read" => {
                let SetCopyOnRead { node_name, enable } = visit(&value, mode)?;
                self.layer().node(&node_name)?.set_copy_on_read(enable);
                Ok(done(()))
            }
            "block-commit" => {
                let commit = self.commit(visit(&value, mode)?)?;
                self.take_place(command, commit).await.map(done)
            }
            "blockdev-backup" => {
                let backup = self.backup(visit(&value, mode)?, &self.layer().graph())?;
                self.take_place(command, backup).await.map(done)
            }
            "block-stream" => {
                let stream = self.stream(visit(&value, mode)?)?;
                self.take_place(command, stream).await.map(done)
            }
            "blockdev-mirror" => {
                let mirror = self.mirror(visit(&value, mode)?)?;
                self.take_place(command, mirror).await.map(done)
            }
            "blockdev-reopen" => {
                let reopening = self.reopening(&visit(&value, mode)?, mode)?;
                self.take_place(command, reopening).await.map(done)
            }
            "blockdev-insert-medium" => {
                let medium = visit::<InsertMedium>(&value, mode)?.resolve(&self.layer().graph())?;
                self.take_place(command, medium).await.map(done)
            }
            "blockdev-remove-medium" => {
                let medium = visit::<RemoveMedium>(&value, mode)?.resolve(self.layer())?;
                self.take_place(command, medium).await.map(done)
            }
            "blockdev-set-active" => {
                let nodes = visit::<SetActive>(&value, mode)?.resolve(&self.layer().graph())?;
                self.take_place(command, nodes).await.map(done)
            }
            "blockdev-snapshot" => {
                let arguments: BlockdevSnapshot = visit(&value, mode)?;
                let snapshot = arguments.resolve(self.layer(), &self.layer().graph())?;
                self.take_place(command, snapshot).await.map(done)
            }
            "blockdev-snapshot-delete-internal-sync" => {
                self.delete_internal_snapshot(visit(&value, mode)?).await
            }
            "blockdev-snapshot-internal-sync" => {
                self.take_internal_snapshot(visit(&value, mode)?).await.map(done)
            }
            "transaction" => self.transaction(visit(&value, mode)?, mode).await.map(done),
            "x-blockdev-change" => {
                let change = visit::<BlockdevChange>(&value, mode)?.resolve(self.layer())?;
                self.take_place(command, change).await.map(done)
            }
            "x-blockdev-replace-child" => {
                self.replace_child(visit(&value, mode)?, mode).await.map(done)
            }
            "x-blockdev-snapshot-stack" => {
                let arguments: SnapshotStack = visit(&value, mode)?;
                let snapshot = arguments.resolve(self.layer(), &self.layer().graph())?;
                self.take_place(command, snapshot).await.map(done)
            }
            "x-drive-reopen" => self.drive_reopen(visit(&value, mode)?).await.map(done),
            "query-block" => {
                visit::<Nothing>(&value, mode)?;
                Ok(self.query_block())
            }
            "query-named-block-nodes" => {
                visit::<Nothing>(&value, mode)?;
                Ok(self.query_named_block_nodes())
            }
            "x-debug-query-block-graph" => {
                visit::<Nothing>(&value, mode)?;
                Ok(self.query_block_graph())
            }
            _ => {
                check_known(command)?;
                self.job_command(command, &value, mode).await
            }
        }
    }

    async fn blockdev_add(&self, options: Dict, mode: Mode) -> Result<(), QmpError> {
        let options = Blockdev::parse(options, mode)?;
        let definition = define(self, options)?;
        let derive = |graph: &Graph| definition.plan(graph, None);
        self.layer().begin_opening(definition.nodes());
        let published = self.layer().publish("blockdev-add", OnLost::StartOver, derive).await;
        if let Err(error) = published {
            self.layer().end_opening(&definition.nodes());
            return Err(error.into());
        }
        self.note_added(&definition);
        self.open(definition).await
    }

    async fn blockdev_del(&self, arguments: NodeName) -> Result<(), QmpError> {
        let node = self.layer().node(&arguments.node_name)?;
        let derive = |graph: &Graph| Ok(removal(graph, &[node.id()]));
        // What another command is about to change or to undo is stored only when that has ended.
        let section = self.layer().drain(Owner::command(), &[node.id()]).await;
        let removed = self.close_and_remove(&node, derive).await;
        section.end();
        removed?;
        self.note_removed(&[node.id()]);
        Ok(())
    }

    async fn close_and_remove(
        &self,
        node: &Node,
        derive: impl Fn(&Graph) -> Result<Plan, BlockError>,
    ) -> Result<(), QmpError> {
        // Whether it may go at all.
        let graph = self.layer().graph();
        graph.apply(&derive(&graph)?.edits).map_err(BlockError::from)?;
        self.layer().close_node(node).await?;
        self.layer().publish("blockdev-del", OnLost::StartOver, derive).await?;
        Ok(())
    }
}
