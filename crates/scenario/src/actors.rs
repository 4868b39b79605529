//! The actors: each a task that does its steps in order.

use std::sync::Arc;

use blockyard_block::{ErrorPolicies, Write};
use blockyard_graph::{Graph, Parent};
use blockyard_models::WriteKind;
use blockyard_qmp::{Dict, Mode, QmpError, Subscriber, Value};
use blockyard_sync::door;
use blockyard_sync::door::world::Quiet;
use blockyard_sync::{first_of, note};
use blockyard_units::{ByteRange, NodeId};

use crate::checks::disk_below;
use crate::resizing::Resizing;
use crate::stage::{Device, Load, Models, Stage, guest_data};
use crate::steps::{Expect, Request, Step};
use crate::written::GuestWrite;

/// Somebody who does steps.
pub(crate) struct Actor {
    stage: Arc<Stage>,
    number: u64,
    name: String,
    events: Option<Arc<Subscriber>>,
    /// Requests made so far; only the actor's own task looks at it.
    requests: Quiet<u64>,
}

/// Tags of the load's writes are above those of actors.
const FIRST_LOAD_TAG: u64 = 0x1000_0000;

impl Actor {
    pub fn new(stage: Arc<Stage>, number: u64, name: &str, steps: &[Step]) -> Self {
        let events = stage.subscribe(steps);
        Self { stage, number, name: name.into(), events, requests: Quiet::new(0) }
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
            Step::Request { kind, device, range } => {
                self.request(*kind, device, *range).await;
                true
            }
            Step::Flush { device } => {
                note!("flush {device}");
                flush(&self.stage, device).await;
                true
            }
            Step::Device { id, node, policies } => self.attach(id, node, *policies).await,
            Step::Wait { event, data, or_end } => {
                let events = self.events.as_ref().expect("an actor that waits has subscribed");
                let came = events.wait(event, data.clone(), or_end.clone()).await;
                note!("{}", came.name);
                came.name == event
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
        note!("{command} {}", Value::Dict(arguments.clone()));
        let resizing = Resizing::begin(&self.stage, command, &arguments);
        let reply = self.stage.monitor.execute(command, arguments.clone(), Mode::Strings).await;
        if let Some(resizing) = resizing {
            resizing.end(&self.stage, reply.is_ok());
        }
        if reply.is_ok() {
            self.tell_checks(command, &arguments);
        }
        match (&reply, expect) {
            (Ok(value), _) => note!("{command}: {value}"),
            (Err(error), _) => note!("{command}: error: {error}"),
        }
        match (reply, expect) {
            (Ok(_), Expect::Ok | Expect::Any) | (Err(_), Expect::Error | Expect::Any) => true,
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
            "blockdev-add" => note_file(&self.stage, arguments),
            "blockdev-mirror" if text("sync") == Some("full") => {
                let job = text("job-id").or(text("device")).unwrap_or_default();
                self.stage.checks.full_mirror(job);
            }
            _ => {}
        }
    }

    async fn attach(&self, id: &str, node: &str, policies: ErrorPolicies) -> bool {
        match self.stage.monitor.attach_device(id, node).await {
            Ok(backend) => {
                let backend = backend.with_policies(policies);
                let graph = self.stage.monitor.layer().graph();
                let root = graph.child(Parent::Backend(backend.id()), "root");
                let disk = root.and_then(|root| self.stage.checks.fill_below(&graph, root));
                let fill = disk.map(|disk| (ByteRange::new(0, disk.size), disk.fill_tag));
                let device = Arc::new(Device::new(backend, fill));
                self.stage.devices.with(|devices| devices.insert(id.into(), device));
                true
            }
            Err(error) => {
                self.unexpected("device", Err(error));
                false
            }
        }
    }

    async fn request(&self, kind: Request, device: &str, range: ByteRange) {
        let number = self.requests.with(|requests| {
            *requests += 1;
            *requests
        });
        let tag = (self.number << 16) | number;
        note!("{kind:?} {device} {range}");
        run_request(&self.stage, device, kind, range, tag).await;
    }

    /// Where there is a load: waits until it has completed so many more writes.
    async fn wait_load(&self, writes: u64) {
        if let Some(load) = &self.stage.load {
            let so_far = load.writes.read(|writes| *writes);
            let enough = load.writes.wait_until(move |now| *now >= so_far + writes);
            // Once guests are held there is no load to wait for.
            first_of(self.stage.hold.wait(), enough).await;
        }
    }

    fn check_path(&self, device: &str, path: &[String]) {
        let graph = self.stage.monitor.layer().graph();
        let root = graph.child(Parent::Backend(self.stage.device(device).backend.id()), "root");
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
        next = graph.child(Parent::Node(id), "file");
    }
    path
}

/// The file that a node was added over. A child that is defined in place may have a name that only the graph knows.
fn note_file(stage: &Stage, options: &Dict) {
    let mut lowest = options;
    while let Some(Value::Dict(below)) = lowest.get("file") {
        lowest = below;
    }
    let text = |of: &Dict, key| of.get(key).and_then(Value::as_str).map(String::from);
    let Some(filename) = text(lowest, "filename") else { return };
    let below = |name: String| {
        let graph = stage.monitor.layer().graph();
        disk_below(&graph, graph.node_by_name(&name)?)
    };
    let disk = text(lowest, "node-name").or_else(|| text(options, "node-name").and_then(below));
    // Between two steps at the door somebody may have deleted the node again.
    if let Some(disk) = disk {
        stage.checks.file_added(&disk, &filename);
    }
}

/// Makes one guest request, unless guests are held, and tells the register; whether it succeeded.
async fn run_request(
    stage: &Stage,
    device: &str,
    kind: Request,
    range: ByteRange,
    tag: u64,
) -> bool {
    if stage.hold.is_set() {
        note!("{kind:?} {range}: held");
        return false;
    }
    let name = device;
    let device = stage.device(name);
    let number = device.invoke(range, |Models { register, durability, .. }, number| {
        let mut lasts = |tag, kind| {
            durability.begin_write(number, range, tag, kind, stage.world.step());
        };
        match kind {
            Request::Read => register.invoke_read(number, range),
            Request::Write => {
                register.invoke_write(number, range, tag);
                lasts(tag, WriteKind::Cached);
            }
            Request::Zeroes => {
                register.invoke_write_zeroes(number, range);
                lasts(0, WriteKind::Cached);
            }
            Request::Discard => {
                register.invoke_discard(number, range);
                lasts(0, WriteKind::Discard);
            }
        }
    });
    let writes = kind != Request::Read;
    if writes {
        let wanted = kind == Request::Write && tag < FIRST_LOAD_TAG && stage.checks.has_pivoted();
        stage.writes.begin(GuestWrite { device: name.into(), range, tag }, wanted);
    }
    stage.checks.writes_in_flight(i64::from(writes));
    let mut result = None;
    let request = async { result = Some(submit(&device, kind, range, tag).await) };
    let held = first_of(stage.hold.wait(), request).await;
    stage.checks.writes_in_flight(-i64::from(writes));
    let ok = matches!(result, Some(Ok(_)));
    if writes {
        stage.writes.end(tag, ok);
    }
    let verdict = device.respond(range, |Models { register, durability, .. }| match &result {
        // Held: it never began, and nobody learns of an end.
        None => Ok(()),
        Some(Ok(Some(data))) => register.respond_read(number, data),
        Some(Err(_)) if !writes => register.respond_failed(number),
        Some(outcome) => {
            durability.end(number, outcome.is_ok(), stage.world.step());
            register.respond_write(number, outcome.is_ok())
        }
    });
    stage.checks.judge(verdict);
    note!(
        "{kind:?} {range}: {}",
        if held {
            "held"
        } else if ok {
            "done"
        } else {
            "failed"
        }
    );
    ok
}

/// Makes one guest flush; one that fails promises nothing.
async fn flush(stage: &Stage, device: &str) {
    let device = stage.device(device);
    // Which writes have ended before it matters only if power may be lost.
    let from = if stage.world.may_lose_power() { 0 } else { u64::MAX };
    let number = device.invoke(ByteRange::between(from, u64::MAX), |models, number| {
        models.durability.begin_flush(number, stage.world.step());
    });
    let well = device.backend.flush().await.is_ok();
    device.note(|models| models.durability.end(number, well, stage.world.step()));
}

async fn submit(
    device: &Device,
    kind: Request,
    range: ByteRange,
    tag: u64,
) -> Result<Option<blockyard_runtime::IoBuffer>, blockyard_block::BlockError> {
    let backend = &device.backend;
    match kind {
        Request::Read => backend.read(range).await.map(Some),
        Request::Write => {
            let data = guest_data(tag, range);
            backend.write(Write::data(range.start(), data)).await.map(|()| None)
        }
        Request::Zeroes => backend.write(Write::zeroes(range)).await.map(|()| None),
        Request::Discard => backend.write(Write::discard(range)).await.map(|()| None),
    }
}

/// Writes at random places until it is stopped.
pub(crate) async fn run_load(stage: &Stage, load: &Load) {
    let Some(options) = &stage.script.load else { return };
    let runtime = stage.world.runtime();
    let device = stage.device(&options.device);
    let size = device.backend.len().map_or(0, |len| len.0);
    let places = size / options.length.0;
    if places == 0 {
        let (length, device) = (options.length.0, &options.device);
        let message = format!("load: {length} bytes do not fit {device}, which has {size}");
        stage.world.report("script", message);
        return;
    }
    let began = runtime.now_ns();
    let mut written = 0;
    while !load.stop.is_set() && !stage.hold.is_set() {
        let offset = (runtime.random_u64() % places) * options.length.0;
        let range = ByteRange::new(offset, options.length.0);
        let tag = FIRST_LOAD_TAG + written;
        written += 1;
        if run_request(stage, &options.device, Request::Write, range, tag).await {
            load.writes.add(|writes| *writes += 1);
            stage.world.load_wrote();
        }
        let due = began.saturating_add(written.saturating_mul(options.every));
        // A load that is late lets others go on all the same.
        runtime.sleep(due.saturating_sub(runtime.now_ns())).await;
    }
}
