//! The actors: each a task that does its steps in order.

use std::sync::Arc;

use blockyard_block::{Backend, ErrorPolicies};
use blockyard_graph::{Graph, Parent, ROOT, Role};
use blockyard_qmp::{Dict, Mode, QmpError, Subscriber, Value, without_secrets};
use blockyard_sync::door;
use blockyard_sync::door::world::Quiet;
use blockyard_sync::{first_of, note, sometimes};
use blockyard_units::{ByteRange, NodeId};

use crate::bitmaps::actions_of;
use crate::checks::{child_by, disk_below};
use crate::guest;
use crate::request::Asked;
use crate::resizing::Resizing;
use crate::stage::{Device, Stage};
use crate::steps::{Expect, Step};
use crate::told::{Seen, Told};

/// Somebody who does steps.
pub(crate) struct Actor {
    stage: Arc<Stage>,
    number: u64,
    name: String,
    events: Option<Arc<Subscriber>>,
    /// Requests made so far; only the actor's own task looks at it.
    requests: Quiet<u64>,
    /// What was counted, as far as he knows.
    seen: Quiet<Seen>,
}

impl Actor {
    pub fn new(stage: Arc<Stage>, number: u64, name: &str, steps: &[Step]) -> Self {
        let events = stage.subscribe(steps);
        let (requests, seen) = (Quiet::new(0), Quiet::default());
        Self { stage, number, name: name.into(), events, requests, seen }
    }

    /// Does the steps, one after another; an unexpected reply ends the actor and is reported.
    pub async fn run(&self, steps: &[Step]) -> bool {
        for step in steps {
            if !Box::pin(self.step(step)).await {
                return false;
            }
            // An actor's steps are steps of the world too.
            door::boundary().await;
        }
        true
    }

    async fn step(&self, step: &Step) -> bool {
        match step {
            Step::Execute { command, arguments, expect } => {
                self.execute(command, arguments.clone(), *expect).await
            }
            Step::Request { device, asked } => {
                self.request(device, asked).await;
                true
            }
            Step::Flush { device } => {
                note!("flush {device}");
                guest::flush(&self.stage, device).await;
                true
            }
            Step::Device { id, node, resizes, policies, expect } => {
                self.attach((id, node), *resizes, *policies, *expect).await
            }
            Step::Wait { event, data, or_end } => {
                let events = self.events.as_ref().expect("an actor that waits has subscribed");
                let wanted = [(event.clone(), data.clone())].into_iter().chain(or_end.clone());
                let came = events.wait(wanted.collect()).await;
                note!("{}", came.name);
                came.is(event, data)
            }
            Step::WaitLoad { writes } => {
                self.wait_load(*writes).await;
                true
            }
            Step::Either { branches } => {
                let count = u32::try_from(branches.len()).expect("branches-are-few");
                let branch = self.stage.world.runtime().choose(count).await;
                self.run(&branches[branch as usize]).await
            }
            Step::Always { steps } => {
                while self.run(steps).await {}
                false
            }
            Step::CheckPath { device, when, path } => {
                let design = self.stage.design;
                let applies = when.iter().all(|(key, value)| design.get(key) == Some(value));
                // A mirror that failed leaves the path as it was.
                if applies && self.stage.checks.has_pivoted() {
                    self.check_path(device, path);
                }
                true
            }
        }
    }

    async fn execute(&self, command: &str, arguments: Dict, expect: Expect) -> bool {
        note!("{command} {}", Value::Dict(without_secrets(command, &arguments)));
        let actions: Vec<(String, Dict)> = actions_of(command, &arguments).collect();
        let checks = &self.stage.checks;
        let drained = checks.is_drained();
        let made: Vec<&str> = self.stage.defined.alone(&arguments).collect();
        let made: Vec<&str> = made.into_iter().filter(|name| !checks.is_present(name)).collect();
        let tried = self.stage.tally.begin(false);
        let resizing = Resizing::begin(&self.stage, command, &arguments);
        let (told, layer) = (&self.stage.told, self.stage.monitor.layer());
        told.command_begins(layer, command, &arguments);
        let bitmaps = checks.bitmaps.command_begins(layer, command, &arguments);
        let backups = checks.backups.command_begins(&layer.graph(), command, &arguments);
        let reply = self.stage.monitor.execute(command, arguments.clone(), Mode::Strings).await;
        told.command_ends(layer, command, &arguments, reply.is_ok());
        if let ("query-blockstats", Ok(value)) = (command, &reply) {
            checks.judge(self.seen.with(|seen| Told::counters(seen, value)));
        }
        let snapshots =
            |kind: &str| matches!(kind, "blockdev-snapshot" | "x-blockdev-snapshot-stack");
        let snapshots = snapshots(command) || actions.iter().any(|(kind, _)| snapshots(kind));
        sometimes!(
            snapshots && drained && reply.is_ok(),
            "a snapshot was asked for while a drained section held"
        );
        checks.backups.command_ends(backups);
        if let Some(number) = bitmaps {
            checks.judge(checks.bitmaps.command_ends(number, reply.is_ok()));
        }
        if let Some(resizing) = resizing {
            resizing.end(&self.stage, reply.is_ok());
        }
        // What the setup does is nothing that was tried.
        if self.number > 0 {
            let parts = actions.iter().map(|(kind, _)| format!("{command}: {kind}"));
            let parts: Vec<String> = parts.collect();
            let names = [command].into_iter().chain(parts.iter().map(String::as_str));
            self.stage.tally.end(tried, names, reply.is_ok());
        }
        if reply.is_ok() {
            self.tell_checks(command, &arguments);
            actions.iter().for_each(|(kind, data)| self.tell_checks(kind, data));
        }
        match &reply {
            Ok(value) => note!("{command}: {value}"),
            Err(error) => {
                note!("{command}: error: {error}");
                if let Some(left) = made.iter().find(|name| checks.is_present(name)) {
                    let message = format!("{command} was refused, and has left node {left}");
                    self.stage.world.report("graph-validity", message);
                }
            }
        }
        match (reply, expect) {
            (Ok(_), Expect::Ok | Expect::Any | Expect::OrEnd)
            | (Err(_), Expect::Error | Expect::Any) => true,
            (Err(_), Expect::OrEnd) => false,
            (reply, _) => {
                self.unexpected(command, reply);
                false
            }
        }
    }

    fn unexpected(&self, command: &str, reply: Result<Value, QmpError>) {
        let name = &self.name;
        let message = match reply {
            Ok(value) => format!("{name}: {command} was to fail and returned {value}"),
            Err(error) => format!("{name}: {command} failed: {error}"),
        };
        self.stage.world.report("script", message);
    }

    /// What the models must know of a command that was executed.
    fn tell_checks(&self, command: &str, arguments: &Dict) {
        let text = |key: &str| arguments.get(key).and_then(Value::as_str);
        match command {
            "blockdev-add" => note_node(&self.stage, arguments, &|| None),
            "blockdev-create" => {
                let Some(Value::Dict(options)) = arguments.get("options") else { return };
                let is_raw = options.get("data-file-raw") == Some(&Value::Bool(true));
                if let (true, Some(Value::Str(data))) = (is_raw, options.get("data-file")) {
                    self.stage.checks.is_shown(data);
                }
            }
            "blockdev-mirror" if text("sync") == Some("full") => {
                let job = text("job-id").or(text("device")).unwrap_or_default();
                self.stage.checks.full_mirror(job);
            }
            _ => {}
        }
    }

    async fn attach(
        &self,
        (id, node): (&str, &str),
        resizes: bool,
        policies: ErrorPolicies,
        expect: Expect,
    ) -> bool {
        match self.stage.monitor.attach_device(id, node, resizes).await {
            Ok(backend) => {
                let backend = backend.with_policies(policies);
                let device = Arc::new(self.device(backend));
                self.stage.devices.with(|devices| devices.insert(id.into(), device));
                true
            }
            Err(error) if expect == Expect::OrEnd => {
                note!("device {id}: error: {error}");
                false
            }
            Err(error) => {
                self.unexpected("device", Err(error));
                false
            }
        }
    }

    /// A device that was just attached. Those whose data are one disk's share what may be read.
    fn device(&self, backend: Backend) -> Device {
        let graph = self.stage.monitor.layer().graph();
        let disk = |backend: &Backend| {
            let root = graph.child(Parent::Backend(backend.id()), ROOT)?;
            graph.node_by_name(&disk_below(&graph, root)?)
        };
        if let Some(was) = self.stage.checks.backups.shown_by(&graph, &backend) {
            return Device::that_shows(backend, was);
        }
        let own = disk(&backend);
        let others = self.stage.devices.with(|devices| devices.clone());
        let other = others.values().find(|other| own.is_some() && disk(&other.backend) == own);
        if let Some(other) = other {
            return other.beside(backend);
        }
        let spec = own.and_then(|own| self.stage.checks.fill_below(&graph, own));
        let fill = spec.map(|disk| (ByteRange::new(0, disk.size), disk.fill_tag));
        let forgets =
            own.and_then(|own| graph.node(own)).is_some_and(|node| node.driver == "null-co");
        Device::new(backend, fill, forgets)
    }

    async fn request(&self, device: &str, asked: &Asked) {
        let number = self.requests.with(|requests| {
            *requests += 1;
            *requests
        });
        let tag = (self.number << 16) | number;
        note!("{:?} {device} {}", asked.kind, asked.range);
        guest::request(&self.stage, device, asked, tag).await;
    }

    /// Where there is a load: waits until it has completed so many more writes.
    async fn wait_load(&self, writes: u64) {
        if let Some(load) = &self.stage.load {
            let so_far = load.writes.read(|writes| *writes);
            let enough = load.writes.wait_until(move |now| *now >= so_far + writes);
            // Once guests are held, or it has made all its writes, there is no load to wait for.
            let ended = async {
                first_of(self.stage.hold.wait(), load.ended.wait()).await;
            };
            first_of(ended, enough).await;
        }
    }

    fn check_path(&self, device: &str, path: &[String]) {
        let graph = self.stage.monitor.layer().graph();
        let root = graph.child(Parent::Backend(self.stage.device(device).backend.id()), ROOT);
        let found = main_path(&graph, root);
        if found != path {
            let (found, path) = (found.join(" -> "), path.join(" -> "));
            let message = format!("{device} leads to {found}; it should lead to {path}");
            self.stage.world.report("graph-validity", message);
        }
    }
}

fn main_path(graph: &Graph, from: Option<NodeId>) -> Vec<String> {
    let mut path = Vec::new();
    let mut next = from;
    while let Some(id) = next {
        path.extend(graph.node(id).map(|node| node.name.clone()));
        next = child_by(graph, id, Role::Primary);
    }
    path
}

/// What the checks have to know of a node that was added, and of those that were defined in place below it. `place`:
/// its name, where its options give it none; only the graph knows it.
fn note_node(stage: &Stage, options: &Dict, place: &dyn Fn() -> Option<String>) {
    let text = |key| options.get(key).and_then(Value::as_str);
    let name = || text("node-name").map(String::from).or_else(place);
    // Between two steps at the door somebody may have deleted the node again.
    if let Some((filename, name)) = text("filename").and_then(|file| Some((file, name()?))) {
        stage.checks.file_added(&name, filename);
    }
    let votes = options.get("vote-threshold").and_then(Value::as_u64);
    if let Some((votes, name)) = votes.and_then(|votes| Some((votes, name()?))) {
        stage.checks.quorum_added(&name, votes);
    }
    let note_child = |edge: &str, child: &Value| {
        let Value::Dict(child) = child else { return };
        note_node(stage, child, &|| {
            let graph = stage.monitor.layer().graph();
            let child = graph.child(Parent::Node(graph.node_by_name(&name()?)?), edge)?;
            Some(graph.node(child)?.name.clone())
        });
    };
    for (key, value) in options.iter() {
        note_child(key, value);
        for (index, value) in value.as_list().unwrap_or_default().iter().enumerate() {
            note_child(&format!("{key}.{index}"), value);
        }
    }
}
