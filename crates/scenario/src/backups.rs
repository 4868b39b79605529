//! What backups promise: their targets, and whoever looks back at their sources, show what a device was at one moment
//! of the command that began them; those of one command at one moment.
//!
//! That moment is a publication in which a job of the command has come; if they come in several, the last of them, for
//! all. Not for: sources that no device leads to.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockyard_block::Backend;
use blockyard_graph::{Graph, Parent, ROOT, Role};
use blockyard_models::Violation;
use blockyard_qmp::{Dict, Value};
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteRange, NodeId};

use crate::bitmaps::actions_of;
use crate::checks::{Checks, child_by, mirror_ends};
use crate::stage::{AsItWas, Devices};

/// The model of one run.
pub(crate) struct Backups {
    devices: Arc<Devices>,
    state: Quiet<State>,
}

#[derive(Default)]
struct State {
    commands: u64,
    /// Under way: what each is to begin.
    asked: BTreeMap<u64, Vec<Asked>>,
    /// By job.
    begun: BTreeMap<String, Begun>,
    /// By the target's node-name, until somebody else has it.
    saved: BTreeMap<String, AsItWas>,
}

/// A backup that is to begin.
#[derive(Clone)]
struct Asked {
    job: String,
    device: String,
    target: String,
}

struct Begun {
    target: String,
    was: AsItWas,
}

impl AsItWas {
    /// Judges all that something holds which is to be that.
    pub fn holds(mut self, bytes: &[u8]) -> Result<(), Violation> {
        let whole = ByteRange::new(0, bytes.len() as u64);
        let read = self.requests + 1;
        self.register.invoke_read(read, whole);
        self.register.respond_read(read, bytes)
    }
}

impl Backups {
    pub fn new(devices: Arc<Devices>) -> Self {
        Self { devices, state: Quiet::default() }
    }

    /// The device that shows the node of this name, or has this name.
    fn device(&self, graph: &Graph, name: &str) -> Option<String> {
        if self.devices.with(|devices| devices.contains_key(name)) {
            return Some(name.into());
        }
        let node = graph.node_by_name(name)?;
        let below = |id: &NodeId| child_by(graph, *id, Role::Primary);
        let shows = |root: Option<NodeId>| std::iter::successors(root, below).any(|id| id == node);
        let mut backends = graph.backends();
        let found = backends.find(|(id, _)| shows(graph.child(Parent::Backend(*id), ROOT)));
        found.map(|(_, name)| name.into())
    }

    /// A command is asked for; its number.
    pub fn command_begins(&self, graph: &Graph, command: &str, arguments: &Dict) -> u64 {
        let single = [(String::from(command), arguments.clone())];
        let all = single.into_iter().chain(actions_of(command, arguments));
        let backups = all.filter(|(kind, _)| kind == "blockdev-backup").filter_map(|(_, data)| {
            let text = |key| data.get(key).and_then(Value::as_str).map(String::from);
            let device = self.device(graph, &text("device")?)?;
            let job = text("job-id").or_else(|| text("device"))?;
            Some(Asked { job, device, target: text("target")? })
        });
        let backups: Vec<Asked> = backups.collect();
        self.state.with(|state| {
            state.commands += 1;
            if !backups.is_empty() {
                state.asked.insert(state.commands, backups);
            }
            state.commands
        })
    }

    /// Its reply has come.
    pub fn command_ends(&self, command: u64) {
        self.state.with(|state| state.asked.remove(&command));
    }

    /// The graph has changed.
    pub fn published(&self, before: &Graph, after: &Graph) {
        let asked = self.state.with(|state| state.asked.values().cloned().collect::<Vec<_>>());
        let comes = |backup: &Asked| {
            let there = |graph: &Graph| graph.job_by_name(&backup.job).is_some();
            there(after) && !there(before)
        };
        for backups in asked.into_iter().filter(|backups| backups.iter().any(comes)) {
            for Asked { job, device, target } in backups {
                let device = self.devices.with(|devices| devices.get(&device).cloned());
                let Some(was) = device.map(|device| device.as_it_is()) else { continue };
                self.state.with(|state| {
                    state.saved.remove(&target);
                    state.begun.insert(job, Begun { target, was })
                });
            }
        }
    }

    /// A job has ended.
    pub fn job_ends(&self, job: &str, well: bool) {
        self.state.with(|state| {
            let ended = state.begun.remove(job);
            ended.filter(|_| well).map(|Begun { target, was }| state.saved.insert(target, was))
        });
    }

    /// What a new device shows, if it looks back at a backup's source, or has what was saved.
    pub fn shown_by(&self, graph: &Graph, backend: &Backend) -> Option<AsItWas> {
        let root = graph.child(Parent::Backend(backend.id()), ROOT)?;
        let node = graph.node(root)?;
        if node.driver != "snapshot-access" {
            return self.state.with(|state| state.saved.remove(&node.name));
        }
        let filter = graph.child(Parent::Node(root), "file")?;
        let is_its = |job| mirror_ends(graph, job) == Parent::Node(filter);
        let (_, job) = graph.jobs().find(|(job, _)| is_its(*job))?;
        self.state.with(|state| state.begun.get(job).map(|begun| begun.was.clone()))
    }

    /// At the end: each target holds what its source was.
    pub fn judge(&self, checks: &Checks, graph: &Graph) -> Result<(), Violation> {
        for (target, was) in self.state.with(|state| state.saved.clone()) {
            let Some(node) = graph.node_by_name(&target) else { continue };
            checks.look_below(graph, node, &|bytes| was.clone().holds(bytes))?;
        }
        Ok(())
    }
}
