//! The scenario that a chain stands for.

use serde_json::{Value, json};

use super::{ChainJob, ChainPlan, ChainStep, JobKind, LayerPlan};
use crate::generate::bitmaps;
use crate::generate::render::{Parts, SECTOR, Space, attempt, execute};
use crate::generate::{Alignment, GuestStep};

pub(super) const DEVICE: &str = "disk0";
/// Of a disk that an image grows on.
const CAPACITY: u64 = 64 << 10;
/// Where a job's events name it.
type Named<'a> = (&'a str, &'a str);

impl ChainPlan {
    pub(in crate::generate) fn text(&self, name: &str) -> String {
        let mut parts = Parts::default();
        self.chain(&mut parts);
        for (operator, jobs) in self.operators.iter().enumerate() {
            let mut steps = Vec::new();
            for (index, job) in jobs.iter().enumerate() {
                Operator { plan: self, name: format!("{operator}-{index}"), job }
                    .render(&mut parts, &mut steps);
            }
            steps.push(self.read_all(DEVICE));
            parts.actors.push((format!("operator{operator}"), steps));
        }
        for (guest, steps) in self.guests.iter().enumerate() {
            let space = Space { size: self.len(), capacity: self.len() };
            let steps = steps.iter().filter_map(|step| match step {
                GuestStep::Flush => Some(json!({ "flush": { "device": DEVICE } })),
                step => space.request(DEVICE, step),
            });
            parts.actors.push((format!("guest{guest}"), steps.collect()));
        }
        let owners = [vec![DEVICE.into()], self.layers()].concat();
        let bitmaps = bitmaps::keeper(&self.bitmaps, &owners, true);
        parts.actors.extend(bitmaps.map(|steps| ("bitmaps".into(), steps)));
        self.administrator(&mut parts);
        parts.text(name, self.faults, self.crashes)
    }

    pub(super) fn len(&self) -> u64 {
        self.sectors.max(1) * SECTOR
    }

    /// Without so many sectors of the device's; with all of them where the chain is to be as long as its copies.
    fn without(&self, sectors: u64) -> u64 {
        let sectors = if self.begins_with_nothing() { 0 } else { sectors };
        self.len() - sectors % self.sectors.max(1) * SECTOR
    }

    /// The chain's nodes, from below.
    fn layers(&self) -> Vec<String> {
        (0..=self.layers.len()).map(|index| format!("l{index}")).collect()
    }

    /// These, and those that the administrator may put above them.
    fn nodes(&self) -> Vec<String> {
        let snapshots = self.admin.iter().enumerate();
        let snapshots = snapshots.filter(|(_, step)| matches!(step, ChainStep::Snapshot { .. }));
        let snapshots = snapshots.map(|(step, _)| snapshot(step));
        self.layers().into_iter().chain(snapshots).collect()
    }

    fn node(&self, index: usize) -> String {
        let mut nodes = self.nodes();
        nodes.swap_remove(index % nodes.len())
    }

    /// What is one node below that of this index, or the device's, and so many more.
    fn below(&self, top: Option<usize>, more: usize) -> String {
        let mut nodes = self.nodes();
        let top = top.map_or(self.layers.len(), |top| top % nodes.len());
        nodes.swap_remove(top.saturating_sub(1 + more % top.max(1)))
    }

    fn read_all(&self, device: &str) -> Value {
        json!({ "read": { "device": device, "offset": 0, "length": self.len() } })
    }

    /// The images, each above the one before, with what is in them.
    fn chain(&self, parts: &mut Parts) {
        let mut len = self.without(self.short);
        // Where a commit finds no room it would be told to go on for ever.
        let mut base = json!({ "size": len, "capacity": self.len() });
        if !self.begins_with_nothing() {
            base["fill"] = json!("unique");
        }
        parts.disk("l0", Alignment::Byte, base);
        let top = self.stack(parts);
        parts.setup.push(json!({ "device": { "id": DEVICE, "node": top } }));
        parts.setup.extend(self.blank());
        let nodes = self.layers();
        for (index, layer) in self.layers.iter().enumerate() {
            let (below, name) = (&nodes[index], &nodes[index + 1]);
            let wanted = match index + 1 == self.layers.len() {
                true => self.len(),
                false => self.without(layer.short),
            };
            let image =
                Image { name, len: wanted.max(len), large: layer.large, below: Some(below) };
            let add = execute("blockdev-add", image.make(parts, json!(null)));
            parts.setup.push(add);
            let over = json!({ "node": below, "overlay": name });
            parts.setup.push(execute("blockdev-snapshot", over));
            if wanted < len {
                let size = json!({ "device": DEVICE, "size": wanted });
                parts.setup.push(execute("block_resize", size));
            }
            len = wanted;
            parts.setup.extend(layer.contents(len));
        }
        self.compress(parts);
        parts.setup.push(json!({ "flush": { "device": DEVICE } }));
    }

    fn administrator(&self, parts: &mut Parts) {
        let mut steps = Vec::new();
        for (index, step) in self.admin.iter().enumerate() {
            match *step {
                ChainStep::Snapshot { large, below: true } => {
                    steps.extend(self.snapshot_below(parts, &snapshot(index), large));
                }
                ChainStep::Snapshot { large, below: false } => {
                    let name = snapshot(index);
                    // What it is put above is not known; so it names nothing.
                    let image = Image { name: &name, len: self.len(), large, below: None };
                    steps.push(attempt("blockdev-add", image.make(parts, json!(null))));
                    let over = json!({ "node": DEVICE, "overlay": name });
                    steps.push(attempt("blockdev-snapshot", over));
                }
                ChainStep::Reopen(node) => {
                    let node = match self.node(node) {
                        base if base == "l0" => base,
                        image => format!("{image}-file"),
                    };
                    let file = node.strip_suffix("-file").unwrap_or(&node);
                    let options =
                        json!([{ "driver": "file", "node-name": node, "filename": file }]);
                    steps.push(attempt("blockdev-reopen", json!({ "options": options })));
                }
                ChainStep::Delete(node) => {
                    let node = json!({ "node-name": self.node(node) });
                    steps.push(attempt("blockdev-del", node));
                }
                ChainStep::RemoveCopy(quorum) => steps.extend(self.remove_copy(quorum)),
                ChainStep::Query => steps.extend(queries()),
                ChainStep::StandStill => {
                    steps.push(json!({ "execute": "stop" }));
                    // Time for guests that do not stand still.
                    steps.extend(queries());
                    steps.push(json!({ "execute": "cont" }));
                }
                ChainStep::CopyOnRead { over, on } => {
                    let arguments = json!({ "node-name": self.node(over), "enable": on });
                    steps.push(attempt("x-block-set-copy-on-read", arguments));
                }
            }
        }
        if !steps.is_empty() {
            parts.actors.push(("admin".into(), steps));
        }
    }
}

fn snapshot(step: usize) -> String {
    format!("s{step}")
}

/// Whoever is refused does nothing more.
fn or_end(mut step: Value) -> Value {
    step["expect"] = json!("or-end");
    step
}

fn queries() -> [Value; 3] {
    ["query-jobs", "query-block", "query-blockstats"].map(|query| json!({ "execute": query }))
}

impl LayerPlan {
    /// The requests that write what is in it.
    fn contents(self, len: u64) -> impl Iterator<Item = Value> {
        let sectors = move |bits: u8| {
            let has = move |sector: &u64| bits >> sector & 1 == 1;
            (0..8u64).filter(has).filter(move |sector| sector * SECTOR < len)
        };
        let request = |kind: &str, sector: u64| {
            let place = json!({ "device": DEVICE, "offset": sector * SECTOR, "length": SECTOR });
            json!({ kind: place })
        };
        let written = sectors(self.written).map(move |sector| request("write", sector));
        let gone = sectors(self.written & self.discarded);
        written.chain(gone.map(move |sector| request("discard", sector)))
    }
}

/// A qcow2 image that is to be.
pub(super) struct Image<'n> {
    pub name: &'n str,
    pub len: u64,
    pub large: bool,
    /// What it names as its backing file.
    pub below: Option<&'n str>,
}

impl Image<'_> {
    /// Its disk, and the arguments that add its node.
    pub fn make(&self, parts: &mut Parts, backing: Value) -> Value {
        let Self { name, len, large, below } = self;
        let cluster = SECTOR << u32::from(*large);
        let mut image = json!({ "size": len, "cluster-size": cluster });
        if let Some(below) = below {
            let format = if below.ends_with("l0") { "raw" } else { "qcow2" };
            image["backing-file"] = json!(below);
            image["backing-fmt"] = json!(format);
        }
        parts.disks.push((name.to_string(), json!({ "capacity": CAPACITY, "qcow2": image })));
        let file = json!({ "driver": "file", "node-name": format!("{name}-file"),
                           "filename": name, "discard": "unmap" });
        json!({ "driver": "qcow2", "node-name": name, "file": file, "backing": backing,
                "discard": "unmap" })
    }
}

/// Who runs one job.
struct Operator<'p> {
    plan: &'p ChainPlan,
    /// The job's, without its letter.
    name: String,
    job: &'p ChainJob,
}

impl Operator<'_> {
    fn render(&self, parts: &mut Parts, steps: &mut Vec<Value>) {
        let plan = self.plan;
        match self.job.kind {
            JobKind::Stream { into, down, included } => {
                let mut arguments = json!({ "device": plan.node(into) });
                if let Some(down) = down {
                    let key = if included { "bottom" } else { "base-node" };
                    arguments[key] = json!(plan.below(Some(into), down));
                }
                self.run(parts, steps, "block-stream", arguments);
            }
            JobKind::Commit { top, down } => {
                let mut arguments = json!({ "device": DEVICE });
                if let Some(top) = top {
                    arguments["top-node"] = json!(plan.node(top));
                }
                if let Some(down) = down {
                    arguments["base-node"] = json!(plan.below(top, down));
                }
                self.run(parts, steps, "block-commit", arguments);
            }
            JobKind::Mirror { below, image, active } => {
                let target = self.target(parts, image);
                let mode = if active { "write-blocking" } else { "background" };
                let source = if below { plan.node(plan.layers.len()) } else { DEVICE.into() };
                let arguments = json!({ "device": source, "target": target, "sync": "full",
                                        "copy-mode": mode });
                self.run(parts, steps, "blockdev-mirror", arguments);
            }
            JobKind::Full { image, of } => {
                let target = self.target(parts, image);
                let device = of.map_or_else(|| DEVICE.into(), |node| plan.node(node));
                let arguments = json!({ "device": device, "target": target, "sync": "full" });
                self.begin(parts, steps, "blockdev-backup", arguments);
                if of.is_some() {
                    steps.push(self.ended(&self.id()));
                } else {
                    steps.push(self.succeeded(&self.id()));
                    self.restore(steps, &target);
                }
            }
            JobKind::Fleecing { sector } => self.fleecing(parts, steps, sector),
            JobKind::Incremental { granularity } => {
                self.incremental(parts, steps, SECTOR << (granularity % 4));
            }
        }
    }

    fn id(&self) -> String {
        format!("j{}", self.name)
    }

    fn target(&self, parts: &mut Parts, image: bool) -> String {
        let (name, len) = (format!("t{}", self.name), self.plan.len());
        if image {
            let image = Image { name: &name, len, large: false, below: None };
            let add = execute("blockdev-add", image.make(parts, json!(null)));
            parts.setup.push(add);
        } else {
            parts.disk(&name, Alignment::Byte, json!({ "size": len }));
        }
        name
    }

    /// Those that every job of its kind has.
    fn arguments(&self, command: &str, (id, filter): Named<'_>, arguments: &mut Value) {
        let ChainJob { finalize, dismiss, stops, .. } = *self.job;
        arguments["job-id"] = json!(id);
        arguments["filter-node-name"] = json!(filter);
        arguments["auto-finalize"] = json!(!finalize);
        arguments["auto-dismiss"] = json!(!dismiss);
        if matches!(command, "blockdev-mirror" | "blockdev-backup") {
            arguments["granularity"] = json!(SECTOR);
        }
        if command == "blockdev-backup" {
            // Where any timer may fire at any moment, there is none. And few workers meet in fewer steps.
            arguments["cbw-timeout"] = json!(0);
            arguments["x-perf"] = json!({ "max-workers": 2 });
        }
        let errors: &[&str] = match command {
            "blockdev-mirror" | "blockdev-backup" => &["on-source-error", "on-target-error"],
            _ => &["on-error"],
        };
        for key in errors.iter().filter(|_| stops) {
            arguments[*key] = json!("stop");
        }
    }

    /// Starts it.
    fn begin(&self, parts: &mut Parts, steps: &mut Vec<Value>, command: &str, arguments: Value) {
        let (id, filter) = (self.id(), format!("f{}", self.name));
        let mut arguments = arguments;
        self.arguments(command, (&id, &filter), &mut arguments);
        steps.push(or_end(execute(command, arguments)));
        self.keep(parts, &id);
        if self.job.pauses {
            let verbs = ["job-pause", "job-resume"];
            steps.extend(verbs.map(|verb| attempt(verb, json!({ "id": id }))));
            // While it rested it may have refused that; and it need not say again that it is ready.
            steps.extend(self.when_ready(&id));
        }
        if self.job.cancels && !matches!(self.job.kind, JobKind::Mirror { .. }) {
            steps.push(attempt("job-cancel", json!({ "id": id })));
        }
    }

    /// And waits for its end.
    fn run(&self, parts: &mut Parts, steps: &mut Vec<Value>, command: &str, arguments: Value) {
        self.begin(parts, steps, command, arguments);
        steps.push(self.ended(&self.id()));
        self.dismiss(steps, &self.id());
    }

    fn dismiss(&self, steps: &mut Vec<Value>, id: &str) {
        if self.job.dismiss {
            steps.push(execute("job-dismiss", json!({ "id": id })));
        }
    }

    /// Waits for the end, whatever it is.
    fn ended(&self, id: &str) -> Value {
        let status = if self.job.dismiss { "concluded" } else { "null" };
        json!({ "wait": "JOB_STATUS_CHANGE", "data": { "id": id, "status": status } })
    }

    /// Waits for an end that is a good one.
    fn succeeded(&self, id: &str) -> Value {
        let mut step = self.ended(id);
        let fails = json!({ "event": "JOB_STATUS_CHANGE",
                            "data": { "id": id, "status": "aborting" } });
        step["or-end"] = json!([fails]);
        step
    }

    /// What a job that can be ready is told then.
    fn when_ready(&self, id: &str) -> Option<Value> {
        match self.job.kind {
            JobKind::Mirror { .. } if self.job.cancels => {
                Some(attempt("block-job-cancel", json!({ "device": id })))
            }
            JobKind::Mirror { .. } | JobKind::Commit { .. } => {
                Some(attempt("job-complete", json!({ "id": id })))
            }
            _ => None,
        }
    }

    /// Who lets the job go on, whenever it waits for somebody.
    fn keep(&self, parts: &mut Parts, id: &str) {
        let mut keep = |what: &str, status: &str, verb: Value| {
            let data = json!({ "id": id, "status": status });
            let steps = [json!({ "wait": "JOB_STATUS_CHANGE", "data": data }), verb];
            parts.actors.push((format!("{what}{id}"), vec![json!({ "always": steps })]));
        };
        let by_id = |verb| attempt(verb, json!({ "id": id }));
        if let Some(verb) = self.when_ready(id) {
            keep("ready-", "ready", verb);
        }
        if self.job.finalize {
            keep("pending-", "pending", by_id("job-finalize"));
        }
        if self.job.stops {
            keep("paused-", "paused", by_id("job-resume"));
            keep("standby-", "standby", by_id("job-resume"));
        }
    }

    /// Reads all of a backup.
    fn restore(&self, steps: &mut Vec<Value>, target: &str) {
        let device = format!("r{}", self.name);
        steps.push(json!({ "device": { "id": device, "node": target, "expect": "or-end" } }));
        steps.push(self.plan.read_all(&device));
    }

    fn fleecing(&self, parts: &mut Parts, steps: &mut Vec<Value>, sector: u64) {
        let target = self.target(parts, false);
        let arguments = json!({ "device": DEVICE, "target": target, "sync": "none" });
        self.begin(parts, steps, "blockdev-backup", arguments);
        let (id, filter) = (self.id(), format!("f{}", self.name));
        let (look, device) = (format!("a{}", self.name), format!("look{}", self.name));
        let running = json!({ "id": id, "status": "running" });
        let add = json!({ "driver": "snapshot-access", "node-name": look, "file": filter });
        let add = or_end(execute("blockdev-add", add));
        let offset = sector % self.plan.sectors.max(1) * SECTOR;
        let looker = json!([
            { "wait": "JOB_STATUS_CHANGE", "data": running },
            add,
            { "device": { "id": device, "node": look, "expect": "or-end" } },
            { "read": { "device": device, "offset": offset, "length": SECTOR } },
            self.plan.read_all(&device),
        ]);
        parts.actors.push((format!("looker{}", self.name), vec![json!({ "always": looker })]));
        steps.push(self.plan.read_all(DEVICE));
        let cancel = json!({ "device": id, "force": true });
        steps.push(attempt("block-job-cancel", cancel));
        steps.push(self.ended(&id));
        self.dismiss(steps, &id);
    }

    fn incremental(&self, parts: &mut Parts, steps: &mut Vec<Value>, granularity: u64) {
        let (base, id) = (self.target(parts, false), self.id());
        let bitmap = format!("i{}", self.name);
        let mut full = json!({ "device": DEVICE, "target": base, "sync": "full" });
        let filter = format!("f{}", self.name);
        self.arguments("blockdev-backup", (&id, &filter), &mut full);
        let add = json!({ "node": DEVICE, "name": bitmap, "granularity": granularity });
        let actions = json!([{ "type": "block-dirty-bitmap-add", "data": add },
                             { "type": "blockdev-backup", "data": full }]);
        steps.push(or_end(execute("transaction", json!({ "actions": actions }))));
        self.keep(parts, &id);
        steps.push(self.succeeded(&id));
        self.dismiss(steps, &id);
        let target = format!("{base}i");
        let (len, below) = (self.plan.len(), Some(base.as_str()));
        let image = Image { name: &target, len, large: false, below };
        steps.push(or_end(execute("blockdev-add", image.make(parts, json!(base)))));
        for again in ["a", "b"] {
            let id = format!("{id}{again}");
            let mut increment = json!({ "device": DEVICE, "target": target, "bitmap": bitmap,
                                        "sync": "incremental" });
            let filter = format!("f{}{again}", self.name);
            self.arguments("blockdev-backup", (&id, &filter), &mut increment);
            steps.push(or_end(execute("blockdev-backup", increment)));
            self.keep(parts, &id);
            steps.push(if again == "b" { self.succeeded(&id) } else { self.ended(&id) });
            self.dismiss(steps, &id);
        }
        self.restore(steps, &target);
    }
}
