//! The scenario that a plan stands for.
//!
//! Where a wait could be for ever it is left out. An event is waited for once, as whoever waits drops what came before;
//! and an actor may end with another's job only where one device has mirrors, since those events name no job.

use std::fmt::Write;

use serde_json::{Value, json};

use super::changes::cluster;
use super::{
    AdminStep, Alignment, DebugRule, DevicePlan, End, Filter, GuestStep, How, Medium, MirrorPlan,
    Pause, Plan, StreamPlan,
};
use crate::request::{CANCEL_AFTER, FUA, NO_FALLBACK, Request, SERIALISING, UNMAP};

pub(super) const CHUNK: u64 = 4096;
pub(super) const SECTOR: u64 = 512;

impl Plan {
    pub(super) fn text(&self, name: &str) -> String {
        let mirrored = self.devices.iter().filter(|device| !device.mirrors.is_empty()).count();
        let alone = mirrored < 2;
        let faults = if alone { self.faults } else { 0 };
        let mut parts = Parts::default();
        for (number, device) in self.devices.iter().enumerate() {
            let only = self.devices.len() == 1;
            Device { number, plan: device, alone, only, faults }.render(&mut parts);
        }
        parts.text(name, faults, self.crashes)
    }
}

#[derive(Default)]
pub(super) struct Parts {
    pub disks: Vec<(String, Value)>,
    pub setup: Vec<Value>,
    pub actors: Vec<(String, Vec<Value>)>,
}

impl Parts {
    /// A disk of the world, and its node.
    pub fn disk(&mut self, name: &str, alignment: Alignment, mut disk: Value) {
        if alignment != Alignment::Byte {
            disk["alignment"] = json!(alignment.bytes());
        }
        self.disks.push((name.into(), disk));
        let arguments = json!({ "driver": "file", "node-name": name, "filename": name,
                                "discard": "unmap" });
        self.setup.push(json!({ "execute": "blockdev-add", "arguments": arguments }));
    }

    pub fn text(&self, name: &str, faults: u32, crashes: u32) -> String {
        let mut text = String::new();
        let list = |steps: &[Value], indent: &str| {
            let steps: Vec<_> = steps.iter().map(|step| format!("\n{indent}  {step}")).collect();
            format!("[{}\n{indent}]", steps.join(","))
        };
        let disks = self.disks.iter().map(|(name, disk)| format!("\n    {}: {disk}", json!(name)));
        let actors = self.actors.iter();
        let actors =
            actors.map(|(name, steps)| format!("\n    {}: {}", json!(name), list(steps, "    ")));
        // A String takes everything.
        let _ = write!(
            text,
            "{{\n  \"scenario\": {},\n  \"version\": 1,\n  \"about\": \"generated\",\n  \
             \"designs\": [\"replace\", \"pivot\", \"mirror\", \"commit\", \"backup\"],\n  \"disks\": {{{}\n  }},\n  \
             \"setup\": {},\n  \"actors\": {{{}\n  }},\n  \
             \"budgets\": {{\"faults\": {faults}, \"crashes\": {crashes}}}\n}}\n",
            json!(name),
            disks.collect::<Vec<_>>().join(","),
            list(&self.setup, "  "),
            actors.collect::<Vec<_>>().join(","),
        );
        text
    }
}

pub(super) fn execute(command: &str, arguments: Value) -> Value {
    json!({ "execute": command, "arguments": arguments })
}

/// A command that may be refused.
pub(super) fn attempt(command: &str, arguments: Value) -> Value {
    json!({ "execute": command, "arguments": arguments, "expect": "any" })
}

impl Alignment {
    fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Sector => SECTOR,
            Self::Page => 4096,
            Self::Most => 65536,
        }
    }
}

const EIO: u32 = 5;
const ENOSPC: u32 = 28;

/// What a rule of blkdebug may be about.
const EVENTS: &[&str] = &[
    "read_aio",
    "write_aio",
    "flush_to_disk",
    "flush_to_os",
    "pwritev",
    "pwritev_zero",
    "pwritev_rmw_head",
    "pwritev_rmw_tail",
];

/// The point of the path of this index, modulo all.
pub(super) fn event(index: usize) -> &'static str {
    EVENTS[index % EVENTS.len()]
}

fn fails(index: usize, once: bool) -> Value {
    let errno = if (index / EVENTS.len()).is_multiple_of(2) { EIO } else { ENOSPC };
    json!({ "event": event(index), "once": once, "errno": errno })
}

impl Filter {
    /// The name of its child.
    pub(super) fn child(self) -> &'static str {
        if matches!(self, Self::Blkdebug(_)) { "image" } else { "file" }
    }

    /// Its options, without what is below it.
    pub(super) fn options(self, name: &str) -> Value {
        let mut options = match self {
            Self::Raw => json!({ "driver": "raw", "node-name": name }),
            Self::Throttle { limited: false } => json!({ "driver": "throttle", "node-name": name }),
            // So low that the second request waits.
            Self::Throttle { limited: true } => json!({ "driver": "throttle", "node-name": name,
                                                        "limits": { "iops-total": 1 } }),
            Self::CopyOnRead => json!({ "driver": "copy-on-read", "node-name": name }),
            Self::Blkdebug(rule) => {
                let mut options = json!({ "driver": "blkdebug", "node-name": name });
                let rules = match rule {
                    DebugRule::Nothing | DebugRule::Break(_) => Vec::new(),
                    DebugRule::Once(index) => vec![fails(index, true)],
                    DebugRule::Each(no_space) => {
                        let all = usize::from(no_space) * EVENTS.len();
                        [0, 0, 1, 2].map(|index| fails(all + index, true)).into()
                    }
                    DebugRule::Always(index) => vec![fails(index, false)],
                };
                if !rules.is_empty() {
                    options["inject-error"] = json!(rules);
                }
                options
            }
        };
        options["discard"] = json!("unmap");
        options
    }
}

pub(super) struct Device<'p> {
    pub number: usize,
    pub plan: &'p DevicePlan,
    /// No other device has mirrors.
    pub alone: bool,
    /// There is no other device.
    pub only: bool,
    faults: u32,
}

impl Device<'_> {
    fn size(&self) -> u64 {
        self.plan.chunks.max(1) * CHUNK - self.plan.disk.short * SECTOR % CHUNK
    }

    /// The length that its disk can have.
    pub fn capacity(&self) -> u64 {
        self.size() + self.plan.disk.spare * CHUNK
    }

    pub fn is_mirrored(&self) -> bool {
        !self.plan.mirrors.is_empty()
    }

    /// The second device and its node, if there is one.
    pub fn twin(&self) -> Option<(String, String)> {
        let index = self.plan.twin.filter(|_| self.plan.mirrors.is_empty())?;
        let nodes = self.nodes();
        Some((format!("twin{}", self.number), nodes[index % nodes.len()].clone()))
    }

    pub fn id(&self) -> String {
        format!("disk{}", self.number)
    }

    fn job(&self, index: usize) -> String {
        format!("m{}-{index}", self.number)
    }

    pub fn mirror_filter(&self, index: usize) -> String {
        format!("mf{}-{index}", self.number)
    }

    /// The nodes that it begins with, from below.
    pub fn nodes(&self) -> Vec<String> {
        let number = self.number;
        let filters = (1..=self.plan.filters.len()).map(|index| format!("d{number}f{index}"));
        [format!("d{number}")].into_iter().chain(filters).collect()
    }

    fn render(&self, parts: &mut Parts) {
        let nodes = self.nodes();
        self.medium(parts, &nodes[0]);
        for (below, filter) in self.plan.filters.iter().enumerate() {
            let filter = self.harmless(*filter);
            let mut options = filter.options(&nodes[below + 1]);
            options[filter.child()] = json!(nodes[below]);
            parts.setup.push(execute("blockdev-add", options));
        }
        let mut steps = Vec::new();
        for (index, mirror) in self.plan.mirrors.iter().enumerate() {
            let target = if self.goes_back(index) || self.commits() {
                nodes[0].clone()
            } else {
                let target = format!("d{}t{index}", self.number);
                let disk = json!({ "size": self.size(), "fill": "zero" });
                parts.disk(&target, mirror.alignment, disk);
                target
            };
            self.mirror(index, *mirror, &target, &mut steps);
        }
        let node = nodes.last().expect("a-device-has-nodes");
        let mut device = self.attach(&self.id(), node);
        if self.plan.resizes && !self.is_mirrored() {
            device["resizes"] = json!(true);
        }
        parts.setup.push(json!({ "device": device }));
        let twin = self.twin();
        let attach = |(id, node): &(String, String)| json!({ "device": self.attach(id, node) });
        parts.setup.extend(twin.iter().map(attach));
        if !steps.is_empty() {
            parts.actors.push((format!("operator{}", self.number), steps));
        }
        parts.actors.extend(self.committer());
        for (index, steps) in self.plan.guests.iter().enumerate() {
            let name = format!("guest{}-{index}", self.number);
            let second = twin.as_ref().filter(|_| index % 2 == 1);
            let id = second.map_or_else(|| self.id(), |(id, _)| id.clone());
            parts.actors.push((name, self.guest(&id, steps)));
        }
        parts.actors.extend(self.keepers());
        parts.actors.extend(self.bitmap_keeper());
        if !self.plan.admin.is_empty() {
            let admin = self.admin();
            for medium in &admin.media {
                let disk = json!({ "size": self.size(), "fill": "unique",
                                   "capacity": self.capacity() });
                parts.disk(medium, self.plan.disk.alignment, disk);
            }
            parts.actors.push((format!("admin{}", self.number), admin.steps));
        }
    }

    /// The disk, and its node.
    fn medium(&self, parts: &mut Parts, node: &str) {
        let medium = self.plan.disk.medium;
        let driver = match medium {
            Medium::Overlay { chain, small } => return self.overlays(parts, node, chain, small),
            Medium::File => None,
            _ if !self.plan.mirrors.is_empty() => None,
            Medium::Memory => Some("memory"),
            Medium::Null => Some("null-co"),
        };
        let Some(driver) = driver else {
            let mut disk = json!({ "size": self.size(), "fill": "unique" });
            if self.plan.disk.spare > 0 {
                disk["capacity"] = json!(self.capacity());
            }
            parts.disk(node, self.plan.disk.alignment, disk);
            return;
        };
        let options = json!({ "driver": driver, "node-name": node, "size": self.size(),
                              "discard": "unmap" });
        parts.setup.push(execute("blockdev-add", options));
    }

    fn overlays(&self, parts: &mut Parts, node: &str, chain: usize, small: bool) {
        let mut below = format!("{node}b");
        let disk = json!({ "size": self.size(), "fill": "unique" });
        parts.disk(&below, self.plan.disk.alignment, disk);
        let lower = (0..chain % 3).map(|index| format!("{node}o{index}"));
        for name in lower.chain([node.to_string()]) {
            let options = json!({ "driver": "overlay", "node-name": name, "backing": below,
                                  "cluster-size": cluster(small), "discard": "unmap" });
            parts.setup.push(execute("blockdev-add", options));
            below = name;
        }
    }

    /// Whether its first disk's node is one of the world's, nothing that is asked of it fails by a rule, and nothing
    /// above it writes unasked.
    fn is_plain(&self) -> bool {
        let special = |filter: &Filter| matches!(filter, Filter::Blkdebug(_) | Filter::CopyOnRead);
        let admin = |step: &AdminStep| match step {
            AdminStep::Insert { filter, .. } | AdminStep::Beside { filter, .. } => special(filter),
            step => step.is_large(),
        };
        !matches!(self.plan.disk.medium, Medium::Overlay { .. })
            && !self.plan.filters.iter().any(special)
            && !self.plan.admin.iter().any(admin)
    }

    /// Whether the mirror of this index copies back to the first disk.
    fn goes_back(&self, index: usize) -> bool {
        let cancels = |step: &AdminStep| matches!(step, AdminStep::CancelMirror { .. });
        let pivots = |first: &MirrorPlan| first.full && first.end == End::Complete;
        index == 1
            && self.plan.mirrors[1].back
            && self.plan.mirrors.first().is_some_and(pivots)
            && self.faults == 0
            && self.is_plain()
            && !(self.alone && self.plan.admin.iter().any(cancels))
    }

    /// Whether its one mirror is a commit. A raw format hides what is below it, so none may be there or come: others
    /// wait for the job.
    fn commits(&self) -> bool {
        let hides = |step: &AdminStep| {
            step.is_large() || matches!(step, AdminStep::Insert { filter: Filter::Raw, .. })
        };
        !self.plan.filters.contains(&Filter::Raw)
            && !self.plan.admin.iter().any(hides)
            && matches!(self.plan.disk.medium, Medium::Overlay { .. })
            && matches!(&self.plan.mirrors[..], [mirror] if mirror.commits)
    }

    /// What it streams instead, if it does.
    pub fn streams(&self) -> Option<StreamPlan> {
        let first = self.plan.mirrors.first().filter(|_| self.commits());
        first.and_then(|mirror| mirror.streams)
    }

    /// Waits for an event; where that is safe, whoever waits ends with the job.
    fn wait(&self, event: &str, data: Value) -> Value {
        let mut step = json!({ "wait": event, "data": data });
        if self.alone {
            step["or-end"] = json!(["BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"]);
        }
        step
    }

    fn await_status(&self, index: usize, status: &str) -> Value {
        let data = json!({ "id": self.job(index), "status": status });
        json!({ "wait": "JOB_STATUS_CHANGE", "data": data })
    }

    fn await_ready(&self, index: usize) -> Value {
        self.wait("BLOCK_JOB_READY", json!({ "device": self.job(index) }))
    }

    pub fn pause(&self, index: usize) -> [Value; 2] {
        ["job-pause", "job-resume"].map(|verb| attempt(verb, json!({ "id": self.job(index) })))
    }

    pub fn cancel(&self, index: usize, force: bool) -> Value {
        attempt("block-job-cancel", json!({ "device": self.job(index), "force": force }))
    }

    fn mirror(&self, index: usize, mirror: MirrorPlan, target: &str, steps: &mut Vec<Value>) {
        let job = self.job(index);
        // Without a copy the target does not show the guest's data.
        let end = match mirror.end {
            End::Complete if !mirror.full => End::Cancel,
            end => end,
        };
        // A mirror that was cancelled may never be pending.
        let pends = end == End::Complete || end == End::Cancel && self.alone;
        // Who waits for it ends with the other job.
        let finalize = mirror.finalize && pends && !self.commits_beside();
        steps.push(self.start(index, mirror, target, finalize));
        let modes = ["write-blocking", "background"].into_iter().cycle();
        steps.extend(
            modes.skip(usize::from(mirror.active == Some(true))).take(mirror.switches).map(
                |mode| {
                    let change = json!({ "id": job, "type": "mirror", "copy-mode": mode });
                    attempt("block-job-change", change)
                },
            ),
        );
        if mirror.pause == Pause::Running {
            steps.extend(self.pause(index));
        }
        if end == End::CancelEarly || self.streams().is_some() && end != End::Complete {
            steps.push(attempt("job-cancel", json!({ "id": job })));
        } else if self.streams().is_none() {
            steps.push(self.await_ready(index));
            if mirror.pause == Pause::Ready {
                steps.extend(self.pause(index));
            }
            steps.push(match end {
                End::Complete => attempt("job-complete", json!({ "id": job })),
                _ => self.cancel(index, end == End::CancelByForce),
            });
            // What his administrator has paused is cancelled only by force.
            let pauses = |step: &AdminStep| matches!(step, AdminStep::PauseMirror);
            if end == End::Cancel && self.alone && self.plan.admin.iter().any(pauses) {
                steps.push(self.cancel(index, true));
            }
        }
        if finalize {
            steps.push(self.wait("BLOCK_JOB_PENDING", json!({ "id": job })));
            steps.push(attempt("job-finalize", json!({ "id": job })));
        }
        if mirror.dismiss {
            steps.push(self.await_status(index, "concluded"));
            steps.push(execute("job-dismiss", json!({ "id": job })));
        } else {
            steps.push(self.await_status(index, "null"));
        }
    }

    fn start(&self, index: usize, mirror: MirrorPlan, target: &str, finalize: bool) -> Value {
        let nodes = self.nodes();
        let node = mirror.source.filter(|_| index == 0).map(|node| &nodes[node % nodes.len()]);
        let chunk = SECTOR << mirror.granularity.min(7);
        let mut arguments = json!({
            "job-id": self.job(index),
            "device": node.cloned().unwrap_or_else(|| self.id()),
            "target": target,
            "sync": if mirror.full { "full" } else { "none" },
            "granularity": chunk,
            "buf-size": chunk * mirror.buffer,
            "filter-node-name": self.mirror_filter(index),
            "auto-finalize": !finalize,
            "auto-dismiss": !mirror.dismiss,
        });
        if let Some(stream) = self.streams() {
            return execute("block-stream", self.stream(stream, arguments));
        }
        if self.commits() {
            for only in ["target", "sync"] {
                arguments.as_object_mut().map(|arguments| arguments.remove(only));
            }
            arguments["base-node"] = json!(format!("{}b", nodes[0]));
            return execute("block-commit", arguments);
        }
        if let Some(active) = mirror.active {
            arguments["copy-mode"] = json!(if active { "write-blocking" } else { "background" });
        }
        let mut step = if mirror.in_transaction {
            let actions = json!([{ "type": "blockdev-mirror", "data": arguments }]);
            execute("transaction", json!({ "actions": actions }))
        } else {
            execute("blockdev-mirror", arguments)
        };
        if index > 0 && self.plan.admin.iter().any(AdminStep::is_large) {
            step["expect"] = json!("or-end");
        }
        step
    }

    /// The steps of a guest of the device `id`.
    fn guest(&self, id: &str, plan: &[GuestStep]) -> Vec<Value> {
        let mut waits = Waits::new(self);
        let mut steps = Vec::new();
        for step in plan {
            match *step {
                // The one fails for ever; of the other, made again, too much is possible for a model to follow.
                GuestStep::Request { kind: Request::Compressed | Request::Copy, .. }
                    if self.repeats_writes() => {}
                GuestStep::Request { kind, sector, sectors, how } => {
                    let how = How {
                        no_fallback: how.no_fallback && !self.repeats_writes(),
                        behind: how.behind && !self.repeats_writes(),
                        ..how
                    };
                    let space = Space { size: self.size(), capacity: self.capacity() };
                    let step = GuestStep::Request { kind, sector, sectors, how };
                    steps.extend(space.request(id, &step));
                }
                GuestStep::Flush => steps.push(json!({ "flush": { "device": id } })),
                GuestStep::AwaitRunning => steps.extend(waits.running()),
                GuestStep::AwaitReady => steps.extend(waits.ready()),
            }
        }
        steps
    }
}

/// Where a guest's requests go.
pub(super) struct Space {
    pub size: u64,
    /// What it can grow to.
    pub capacity: u64,
}

impl Space {
    /// The request to this device, if the step is one.
    pub fn request(&self, device: &str, step: &GuestStep) -> Option<Value> {
        let GuestStep::Request { kind, sector, sectors, how } = *step else { return None };
        let skew = how.skew % SECTOR;
        let (first, end) = match how.behind {
            true => (self.size / 2, self.capacity + CHUNK),
            false => (0, self.size),
        };
        let offset = (first + sector * SECTOR + skew) % end;
        let mut request = json!({ "device": device, "offset": offset });
        let mut room = end - offset;
        if kind == Request::Copy {
            let from = (how.from * SECTOR + skew) % self.size;
            request["from"] = json!(from);
            room = room.min(self.size - from);
        }
        request["length"] = json!((sectors.max(1) * SECTOR).min(room));
        how.flags(kind, &mut request);
        Some(json!({ kind.word(): request }))
    }
}

impl How {
    fn flags(self, kind: Request, request: &mut Value) {
        let Self { fua, serialising, unmap, no_fallback, .. } = self;
        let flags =
            [(FUA, fua), (SERIALISING, serialising), (UNMAP, unmap), (NO_FALLBACK, no_fallback)];
        for (flag, _) in flags.into_iter().filter(|(flag, set)| *set && kind.takes(flag)) {
            request[flag] = json!(true);
        }
        if let Some(steps) = self.cancel_after {
            request[CANCEL_AFTER] = json!(steps);
        }
    }
}

/// What an actor has waited for so far: never for what may have come already.
pub(super) struct Waits<'d> {
    device: &'d Device<'d>,
    running: bool,
    ready: bool,
}

impl<'d> Waits<'d> {
    pub fn new(device: &'d Device<'d>) -> Self {
        Self { device, running: false, ready: false }
    }

    pub fn running(&mut self) -> Option<Value> {
        let wanted = !self.device.plan.mirrors.is_empty() && !self.running;
        self.running = true;
        wanted.then(|| self.device.await_status(0, "running"))
    }

    pub fn ready(&mut self) -> Option<Value> {
        let first = self.device.plan.mirrors.first()?;
        let streams = self.device.streams().is_some();
        let comes = self.device.alone || first.end != End::CancelEarly && !streams;
        let wanted = comes && !self.ready;
        (self.running, self.ready) = (true, true);
        wanted.then(|| self.device.await_ready(0))
    }
}
