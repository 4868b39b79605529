//! `transaction`: several actions, all of them or none.
//!
//! Actions are prepared in order: each resolves its names in the graph as those before it leave it, and opens what it
//! needs. Then their edits become one list, which is judged once and published once, in one drained section over
//! everything that it redirects and the nodes of bitmaps, which are changed in it. Then the jobs begin. If anything
//! fails before, what was done to bitmaps is undone and what was prepared is dropped, the last first, and nothing has
//! changed.
//!
//! `blockdev-mirror` is an action too, and with completion-mode `grouped` the jobs of a transaction end together.
//!
//! Differs: actions see what those before them do to the graph, but for the jobs', which look for source and target
//! where they are before the transaction, and those of bitmaps, whose nodes are those before it. QEMU has no mirrors in
//! a transaction.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_block::{BlockError, Plan, Undo};
use blockyard_graph::{Edit, Graph, Refused, RefusedKind};
use blockyard_jobs::{BackupStart, Job, MirrorStart, StreamStart, run_together};
use blockyard_sync::sometimes;
use blockyard_units::Mutant;
use serde::Deserialize;

use crate::backup::BlockdevBackup;
use crate::bitmaps::BitmapCommand;
use crate::error::QmpError;
use crate::mirror::BlockdevMirror;
use crate::monitor::Monitor;
use crate::replace::ReplaceChild;
use crate::snapshot::BlockdevSnapshot;
use crate::snapshot::stack::SnapshotStack;
use crate::value::{Dict, Value};
use crate::visitor::{Mode, Nothing, visit};

/// Something that is prepared, and takes place with others or not at all.
pub(crate) trait Action: Send + Sync {
    /// The edits that it makes of a graph.
    ///
    /// # Errors
    /// If it does not fit the graph.
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError>;

    /// What it does in the drained section, before the edits are published; how that is undone.
    ///
    /// # Errors
    /// It is refused, and has done nothing.
    fn inside(&self) -> Result<Option<Undo>, BlockError> {
        Ok(None)
    }

    /// The edits are published. A job that begins is returned, to be run.
    fn commit(self: Box<Self>, _monitor: &Monitor) -> Option<Arc<Job>> {
        None
    }
}

impl Action for BackupStart {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        Self::plan(self, graph)
    }

    fn inside(&self) -> Result<Option<Undo>, BlockError> {
        Self::inside(self)
    }

    fn commit(self: Box<Self>, _monitor: &Monitor) -> Option<Arc<Job>> {
        Some(self.begin())
    }
}

impl Action for MirrorStart {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        Self::plan(self, graph)
    }

    fn commit(self: Box<Self>, _monitor: &Monitor) -> Option<Arc<Job>> {
        Some(self.begin())
    }
}

impl Action for StreamStart {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        Self::plan(self, graph)
    }

    fn commit(self: Box<Self>, _monitor: &Monitor) -> Option<Arc<Job>> {
        Some(self.begin())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Transaction {
    actions: Vec<ActionOptions>,
    properties: Option<Properties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Properties {
    completion_mode: Option<CompletionMode>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CompletionMode {
    #[default]
    Individual,
    Grouped,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ActionOptions {
    #[serde(rename = "type")]
    kind: String,
    data: Option<Dict>,
}

/// What an action is told, typed.
enum Typed {
    Abort,
    Backup(BlockdevBackup),
    Bitmap(BitmapCommand),
    Mirror(BlockdevMirror),
    ReplaceChild(ReplaceChild),
    Snapshot(BlockdevSnapshot),
    SnapshotStack(SnapshotStack),
}

impl ActionOptions {
    fn typed(&self, mode: Mode) -> Result<Typed, QmpError> {
        let data = Value::Dict(self.data.clone().unwrap_or_default());
        Ok(match self.kind.as_str() {
            "abort" => {
                visit::<Nothing>(&data, mode)?;
                Typed::Abort
            }
            "blockdev-backup" => Typed::Backup(visit(&data, mode)?),
            "blockdev-mirror" => Typed::Mirror(visit(&data, mode)?),
            "blockdev-snapshot" => Typed::Snapshot(visit(&data, mode)?),
            "x-blockdev-replace-child" => {
                let arguments: ReplaceChild = visit(&data, mode)?;
                arguments.check(mode)?;
                Typed::ReplaceChild(arguments)
            }
            "x-blockdev-snapshot-stack" => Typed::SnapshotStack(visit(&data, mode)?),
            other => match BitmapCommand::parse(other, &data, mode)? {
                Some(command) => Typed::Bitmap(command),
                None => {
                    let known = "abort, block-dirty-bitmap-add, -clear, -disable, -enable, -merge and \
                                 -remove, blockdev-backup, blockdev-mirror, blockdev-snapshot, \
                                 x-blockdev-replace-child, x-blockdev-snapshot-stack";
                    return Err(QmpError::generic(format!(
                        "'{other}' is no action of a transaction; known are {known}"
                    )));
                }
            },
        })
    }
}

impl Transaction {
    /// Checks the actions as far as that goes without a layer.
    pub fn check(&self, mode: Mode) -> Result<(), QmpError> {
        self.typed(mode).map(drop)
    }

    fn typed(&self, mode: Mode) -> Result<Vec<Typed>, QmpError> {
        let typed = self.actions.iter().enumerate().map(|(index, action)| {
            action.typed(mode).map_err(|error| error.within(&format!("actions.{index}")))
        });
        typed.collect()
    }

    fn completion_mode(&self) -> CompletionMode {
        let mode = self.properties.as_ref().and_then(|properties| properties.completion_mode);
        mode.unwrap_or_default()
    }
}

impl Monitor {
    pub(crate) async fn transaction(
        &self,
        arguments: Transaction,
        mode: Mode,
    ) -> Result<(), QmpError> {
        let graph = self.layer().graph();
        let (mut prepared, mut edits) = (Vec::new(), Vec::new());
        let typed = arguments.typed(mode)?;
        let count = typed.len();
        for (index, action) in typed.into_iter().enumerate() {
            match self.prepare(action, &graph, &mut edits, mode) {
                Ok(action) => prepared.push(action),
                Err(error) => {
                    let (first, last) = (index == 0, index + 1 == count);
                    sometimes!(first && !last, "a transaction was aborted by its first action");
                    sometimes!(!first && !last, "a transaction was aborted between its actions");
                    sometimes!(!first && last, "a transaction was aborted by its last action");
                    drop_in_reverse(prepared);
                    return Err(error);
                }
            }
        }
        let mode = arguments.completion_mode();
        let apart = self.layer().design().is_mutant(Mutant::TransactionMembersNotDrained);
        let together = if apart { 1 } else { count.max(1) };
        let mut result = Ok(());
        let mut prepared = prepared.into_iter().peekable();
        while result.is_ok() && prepared.peek().is_some() {
            let some = prepared.by_ref().take(together).collect();
            result = self.all_take_place("transaction", some, mode).await;
        }
        sometimes!(result.is_err(), "a transaction was aborted when it was published");
        result
    }

    /// Makes the action ready; `edits`: those of the actions before it, and then its own too.
    fn prepare(
        &self,
        action: Typed,
        graph: &Graph,
        edits: &mut Vec<Edit>,
        mode: Mode,
    ) -> Result<Box<dyn Action>, QmpError> {
        let seen = graph.sketch(edits).map_err(BlockError::from)?;
        let action: Box<dyn Action> = match action {
            Typed::Abort => {
                return Err(QmpError::generic("transaction aborted by its action abort"));
            }
            Typed::Bitmap(command) => Box::new(command.resolve(self, &seen)?),
            Typed::Backup(arguments) => Box::new(self.backup(arguments, &seen)?),
            Typed::Mirror(arguments) => Box::new(self.mirror(arguments)?),
            Typed::ReplaceChild(arguments) => Box::new(self.replacement(&arguments, &seen, mode)?),
            Typed::Snapshot(arguments) => Box::new(arguments.resolve(self.layer(), &seen)?),
            Typed::SnapshotStack(arguments) => Box::new(arguments.resolve(self.layer(), &seen)?),
        };
        edits.extend(action.plan(&seen)?.edits);
        Ok(action)
    }

    /// An action on its own.
    pub(crate) async fn take_place(
        &self,
        what: &str,
        action: impl Action + 'static,
    ) -> Result<(), QmpError> {
        let actions: [Box<dyn Action>; 1] = [Box::new(action)];
        self.all_take_place(what, actions.into(), CompletionMode::Individual).await
    }

    /// Publishes what the actions make of the graph, and commits them; or drops them, the last first.
    async fn all_take_place(
        &self,
        what: &str,
        actions: Vec<Box<dyn Action>>,
        mode: CompletionMode,
    ) -> Result<(), QmpError> {
        let derive = |graph: &Graph| plan_all(graph, &actions);
        let inside = || {
            let mut done = Undo::default();
            for action in &actions {
                action.inside()?.into_iter().for_each(|undo| done.extend(undo));
            }
            Ok(done)
        };
        match self.layer().reconfigure_and(what, derive, inside).await {
            Ok(()) => {
                let jobs = actions.into_iter().filter_map(|action| action.commit(self));
                let mutant = Mutant::TxnMemberRunsBeforePeersExist;
                match mode {
                    CompletionMode::Grouped if !self.layer().design().is_mutant(mutant) => {
                        run_together(jobs.collect())
                    }
                    _ => jobs.for_each(|job| run_together([job].into())),
                }
                Ok(())
            }
            Err(error) => {
                drop_in_reverse(actions);
                Err(error.into())
            }
        }
    }
}

fn drop_in_reverse(actions: Vec<Box<dyn Action>>) {
    actions.into_iter().rev().for_each(drop);
}

/// The edits of all actions, each derived from what those before it leave.
fn plan_all(graph: &Graph, actions: &[Box<dyn Action>]) -> Result<Plan, BlockError> {
    let mut all = Plan::default();
    for action in actions {
        let seen = graph.sketch(&all.edits)?;
        let plan = action.plan(&seen)?;
        refuse_frozen(&seen, &plan.edits)?;
        all.edits.extend(plan.edits);
        all.nodes.extend(plan.nodes);
        all.options.extend(plan.options);
        all.drained.extend(plan.drained);
        all.flushed.extend(plan.flushed);
        all.disowned.extend(plan.disowned);
        all.moves.extend(plan.moves);
    }
    Ok(all)
}

/// An edge that an action before this one froze is as good as one that was frozen before them all.
fn refuse_frozen(seen: &Graph, edits: &[Edit]) -> Result<(), BlockError> {
    for edit in edits {
        let (Edit::ReplaceChild { parent, name, .. } | Edit::RemoveEdge { parent, name, .. }) =
            edit
        else {
            continue;
        };
        let holder = seen.edge(*parent, name).and_then(|edge| edge.frozen.as_ref());
        if let Some(holder) = holder {
            let parent = seen.parent_name(*parent).unwrap_or_default();
            let message = format!("{holder} holds edge {parent}.{name} frozen");
            return Err(Refused { kind: RefusedKind::Frozen, message }.into());
        }
    }
    Ok(())
}
