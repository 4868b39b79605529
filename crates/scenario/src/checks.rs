//! What happens, translated for the models.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blockyard_block::{Observer, Owner, Requester};
use blockyard_graph::{Graph, Parent, ROOT, Role};
use blockyard_jobs::{EventSink, Job, JobEvent};
use blockyard_models::{
    DrainedMeansQuiet, DroppedStaysAway, GraphValidity, JobProtocol, MirrorConvergence, Property,
    Violation,
};
use blockyard_sync::door::Kind;
use blockyard_sync::door::world::Quiet;
use blockyard_sync::{Event, Shared, sometimes};
use blockyard_units::{BackendId, ByteLen, ByteRange, JobId, NodeId};

use crate::backups::Backups;
use crate::bitmaps::Bitmaps;
use crate::durable::{Led, Root, Roots};
use crate::figures::Measuring;
use crate::graph_view::{reached, view};
use crate::media::Media;
use crate::stage::Devices;
use crate::steps::DiskSpec;
use crate::world::{Moment, World};

/// The models of one run, and what the marks need.
pub(crate) struct Checks {
    world: Arc<dyn World>,
    /// Ends guest I/O.
    hold: Arc<Event>,
    devices: Arc<Devices>,
    state: Quiet<State>,
    /// Guest writes under way; a mark looks at it.
    writes: Shared<u64>,
    /// Orders requests and sections for the model of drained sections, by node: whether they overlap must not depend
    /// on how independent steps were ordered.
    quiet: Shared<()>,
    pub bitmaps: Bitmaps,
    pub backups: Backups,
    pub figures: Measuring,
}

struct State {
    graph: GraphValidity,
    dropped: DroppedStaysAway,
    drain: DrainedMeansQuiet,
    jobs: JobProtocol,
    /// The last status of each job.
    statuses: BTreeMap<String, String>,
    disks: BTreeMap<String, DiskSpec>,
    /// Which disk a protocol node shows.
    filenames: BTreeMap<String, String>,
    /// The nodes whose data images show that are made over them.
    shown: BTreeSet<String>,
    /// What people call the things that the models know by number.
    names: BTreeMap<u64, String>,
    /// The nodes of each drained section that holds.
    covered: BTreeMap<u64, Vec<u64>>,
    /// The mirror jobs that promise a full copy.
    full: BTreeSet<String>,
    filter_created: bool,
    filter_inserted: bool,
    pivoted: bool,
    /// Source and target disk of the full mirror that has pivoted.
    mirrored: Option<(String, String)>,
    /// Where each device has led to.
    roots: BTreeMap<String, Roots>,
    media: Media,
    /// Jobs at a time, and layers of a device's disk.
    most: (u64, u64),
    /// The names of the nodes that there are.
    present: BTreeSet<String>,
    /// The devices whose last switch a job made that has not ended.
    switched: BTreeMap<String, Vec<String>>,
}

impl Checks {
    pub fn new(
        world: Arc<dyn World>,
        hold: Arc<Event>,
        disks: BTreeMap<String, DiskSpec>,
        devices: Arc<Devices>,
        bitmaps: Bitmaps,
    ) -> Self {
        let state = State {
            graph: GraphValidity::new(),
            dropped: DroppedStaysAway::new(),
            drain: DrainedMeansQuiet::new(),
            jobs: JobProtocol::new(),
            statuses: BTreeMap::new(),
            disks,
            filenames: BTreeMap::new(),
            shown: BTreeSet::new(),
            names: BTreeMap::new(),
            covered: BTreeMap::new(),
            full: BTreeSet::new(),
            filter_created: false,
            filter_inserted: false,
            pivoted: false,
            mirrored: None,
            roots: BTreeMap::new(),
            media: Media::default(),
            most: (0, 0),
            present: BTreeSet::new(),
            switched: BTreeMap::new(),
        };
        let (writes, quiet, state) = (Shared::new(0), Shared::new(()), Quiet::new(state));
        let figures = Measuring::default();
        let backups = Backups::new(devices.clone());
        Self { world, hold, devices, state, writes, quiet, bitmaps, backups, figures }
    }

    /// Reports what a model found, with names in the place of the models' numbers.
    pub fn judge(&self, verdict: Result<(), Violation>) {
        if let Err(Violation { property, message }) = self.unless_excused(verdict) {
            let message = self.state.with(|state| {
                let name = |text: String, (number, name): (&u64, &String)| {
                    text.replace(&number.to_string(), name)
                };
                // The larger number first: none is then taken for a part of another.
                state.names.iter().rev().fold(message, name)
            });
            self.world.report(property.word(), message);
        }
    }

    /// Data that faults have changed behind everybody's back are no violation.
    pub fn unless_excused(&self, verdict: Result<(), Violation>) -> Result<(), Violation> {
        let about_data = [
            Property::BitmapSoundness,
            Property::GuestConsistency,
            Property::PointInTime,
            Property::MirrorConvergence,
            Property::MetadataIntegrity,
            Property::Durability,
        ];
        verdict.or_else(|violation| {
            let excused = about_data.contains(&violation.property) && self.world.damaged();
            if excused { Ok(()) } else { Err(violation) }
        })
    }

    /// A protocol node was added over this file; told in the step that published it.
    pub fn file_added(&self, node: &str, filename: &str) {
        self.state.with(|state| state.filenames.insert(node.into(), filename.into()));
    }

    /// An image shows what this node holds already.
    pub fn is_shown(&self, node: &str) {
        self.state.with(|state| state.shown.insert(node.into()));
    }

    /// This mirror job has begun, and copies everything; told in the step that began it.
    pub fn full_mirror(&self, job: &str) {
        self.state.with(|state| state.full.insert(job.into()));
    }

    /// The most jobs that there were at a time, and the most layers that a device's disk had.
    pub fn most(&self) -> (u64, u64) {
        self.state.with(|state| state.most)
    }

    /// Guest writes begin and end.
    pub fn writes_in_flight(&self, change: i64) {
        self.writes.add(|writes| *writes = writes.saturating_add_signed(change));
    }

    fn order(&self, kind: Kind, node: &str) {
        let key =
            node.bytes().fold(0, |key: u64, byte| key.wrapping_mul(257) + u64::from(byte)) >> 1;
        self.quiet.trusted([(kind, key, key + 1)], |()| ());
    }

    fn name_of(&self, node: NodeId) -> String {
        self.state.with(|state| state.names.get(&node.0.as_u64()).cloned().unwrap_or_default())
    }

    /// Whether a mirror has pivoted.
    pub fn has_pivoted(&self) -> bool {
        self.state.with(|state| state.pivoted)
    }

    /// The disks of the full mirror that has pivoted: source and target.
    pub fn mirrored(&self) -> Option<(String, String)> {
        self.state.with(|state| state.mirrored.clone())
    }

    /// Where a device has led to; none if commands have put other data there, of which nothing is known.
    pub fn roots(&self, device: &str) -> Roots {
        self.state.with(|state| state.roots.get(device).cloned().unwrap_or_default())
    }

    /// Notes where each device leads to now. A pivot is acknowledged by its job's end.
    fn note_roots(&self, state: &mut State, what: &str, before: &Graph, graph: &Graph) {
        let gone = |name: &str| ends_job(what) && graph.job_by_name(name).is_none();
        // Several may end in one publication: a device's is the one whose filter it was above.
        let pivots = |device| {
            let above = |job| match before.child(mirror_ends(before, job), "file") {
                Some(source) => before.reaches(Parent::Backend(device), source),
                None => false,
            };
            let mut gone = before.jobs().filter(|(_, name)| gone(name));
            gone.find(|(job, _)| above(*job)).map(|(_, name)| name)
        };
        for (id, device) in graph.backends() {
            let Some(node) = graph.child(Parent::Backend(id), ROOT) else { continue };
            let Some(root) = root_below(&state.filenames, graph, node) else {
                // What is written there now is lost with the power, and may be.
                state.roots.insert(device.into(), Vec::new());
                continue;
            };
            let (led, now) = (switch_with_witness(state, graph, id), Some(self.world.step()));
            let Some(roots) = state.roots.get_mut(device) else {
                state.roots.insert(device.into(), vec![Led::to(root, now)]);
                continue;
            };
            match (&**roots, led) {
                ([], _) => {}
                // Until it has taken place the witness says so, also if it never does.
                ([.., before, Led { witness: Some(_), .. }], _) if before.root == root => {}
                ([.., last], Some(led)) if last.root == root => roots.push(led),
                ([.., last], _) if last.root == root => {}
                ([.., Led { witness: None, .. }], _) if pivots(id).is_some() => {
                    roots.push(Led::to(root, None));
                    let job = pivots(id).unwrap_or_default();
                    state.switched.entry(job.into()).or_default().push(device.into());
                }
                // A snapshot: whoever knows of it looks at the overlay from now on.
                ([.., last], _) if root.is_over(&last.root) => roots.push(Led::to(root, now)),
                _ => roots.clear(),
            }
        }
    }

    /// Whether there is a node of this name.
    pub fn is_present(&self, node: &str) -> bool {
        self.state.with(|state| state.present.contains(node))
    }

    /// Whether a drained section holds.
    pub fn is_drained(&self) -> bool {
        self.state.with(|state| !state.covered.is_empty())
    }

    /// The tag that the disk below `node`, and below all of its backing files, was filled with, and the disk's size.
    pub fn fill_below(&self, graph: &Graph, node: NodeId) -> Option<DiskSpec> {
        let is_shown = |data: &NodeId| {
            let name = graph.node(*data).map(|data| data.name.as_str());
            self.state.with(|state| name.is_some_and(|name| state.shown.contains(name)))
        };
        let data = graph.child(Parent::Node(node), "data-file").filter(is_shown);
        let name = graph.node(base_of(graph, data.unwrap_or(node)))?.name.clone();
        self.state.with(|state| {
            let filename = state.filenames.get(&name)?;
            state.disks.get(filename).cloned()
        })
    }

    /// The name of the disk that `node` leads to.
    pub fn filename_below(&self, graph: &Graph, node: NodeId) -> Option<String> {
        let name = disk_below(graph, node)?;
        self.state.with(|state| state.filenames.get(&name).cloned())
    }

    /// Shows what the disk holds that `node` leads to, if the world can.
    pub fn look_below(
        &self,
        graph: &Graph,
        node: NodeId,
        judge: &dyn Fn(&[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let disk = disk_below(graph, node).and_then(|name| {
            self.state.with(|state| {
                let filename = state.filenames.get(&name)?.clone();
                // As it is now: it may be longer or shorter than at the beginning.
                let len = ByteLen(state.disks.get(&filename)?.capacity);
                Some((filename, len))
            })
        });
        let Some((disk, len)) = disk else { return Ok(()) };
        self.world.compare((&disk, &disk), len, &|(bytes, _)| judge(bytes))
    }

    /// At the end: every job's events were whole.
    pub fn judge_end(&self) -> Result<(), Violation> {
        self.state.with(|state| state.jobs.end())
    }

    /// The jobs that have neither concluded nor gone.
    pub fn unfinished_jobs(&self) -> Vec<(String, String)> {
        self.state.with(|state| {
            let jobs = state.statuses.iter().map(|(job, status)| (job.clone(), status.clone()));
            jobs.collect()
        })
    }

    fn pivot(&self, before: &Graph, after: &Graph) {
        let disks = self.state.with(|state| {
            let inserted = state.filter_inserted;
            sometimes!(inserted, "pivot after the filter's insertion");
            sometimes!(
                state.filter_created && !inserted,
                "pivot between the filter's creation and its insertion"
            );
            sometimes!(!state.filter_created, "pivot before the filter's creation");
            state.pivoted = true;
            let disks = mirrored_disks(state, before, after);
            state.mirrored = disks.last().map(|(from, to, _)| (from.clone(), to.clone()));
            disks
        });
        for (source, target, len) in disks {
            let judge = |(source, target): crate::Contents<'_>| {
                MirrorConvergence::check(source, target, len)
            };
            self.judge(self.world.compare((&source, &target), len, &judge));
        }
    }
}

/// The name of the node at the bottom of what `node` filters or formats.
pub(crate) fn disk_below(graph: &Graph, node: NodeId) -> Option<String> {
    match child_by(graph, node, Role::Primary) {
        Some(child) => disk_below(graph, child),
        None => graph.node(node).map(|node| node.name.clone()),
    }
}

/// Where what is written to `node` is kept, if it outlives the power.
fn root_below(filenames: &BTreeMap<String, String>, graph: &Graph, node: NodeId) -> Option<Root> {
    if let Some(child) = child_by(graph, node, Role::Primary) {
        return root_below(filenames, graph, child);
    }
    let image = graph.children(Parent::Node(node)).find(|edge| edge.roles.contains(Role::Metadata));
    let Some(image) = image else {
        return filenames.get(&graph.node(node)?.name).cloned().map(Root::Disk);
    };
    if let Some(data) = graph.child(Parent::Node(node), "data") {
        let below = |child| root_below(filenames, graph, child);
        return below(image.child)?.of_dedup(below(data)?);
    }
    if graph.child(Parent::Node(node), "data-file").is_some() {
        // Two disks, and what is below them: that is not judged after a power loss.
        return None;
    }
    let disk = filenames.get(&disk_below(graph, image.child)?)?.clone();
    let backing = match child_by(graph, node, Role::Cow) {
        Some(backing) => Some(Box::new(root_below(filenames, graph, backing)?)),
        None => None,
    };
    Some(Root::Image { disk, backing })
}

/// Where a job with a witness is to lead this device.
fn switch_with_witness(state: &State, graph: &Graph, device: BackendId) -> Option<Led> {
    graph.jobs().find_map(|(job, _)| {
        let witness = graph.child(Parent::Job(job), "witness")?;
        let held = |name| graph.child(mirror_ends(graph, job), name);
        let (source, target) = (held("file")?, held("target")?);
        let root = root_below(&state.filenames, graph, target)?;
        let witness = state.filenames.get(&disk_below(graph, witness)?)?.clone();
        let is_above = graph.reaches(Parent::Backend(device), source);
        is_above.then_some(Led { root, acknowledged: None, witness: Some(witness) })
    })
}

/// The node that `node` shows: its child of this role.
pub(crate) fn child_by(graph: &Graph, node: NodeId, role: Role) -> Option<NodeId> {
    let mut children = graph.children(Parent::Node(node));
    // Where structures are among the data, a child's bytes are not the node's.
    let found = |edge: &&blockyard_graph::Edge| {
        edge.roles.contains(role) && !edge.roles.contains(Role::Metadata)
    };
    children.find(found).map(|edge| edge.child)
}

/// The node whose data is seen at `node` as long as nothing was written above it.
pub(crate) fn base_of(graph: &Graph, node: NodeId) -> NodeId {
    let below = child_by(graph, node, Role::Primary).or_else(|| child_by(graph, node, Role::Cow));
    below.map_or(node, |below| base_of(graph, below))
}

/// The most layers that a device's disk has.
fn layers(graph: &Graph) -> u64 {
    let below = |id: &NodeId| {
        child_by(graph, *id, Role::Primary).or_else(|| child_by(graph, *id, Role::Cow))
    };
    let is_over =
        |id: &NodeId| graph.children(Parent::Node(*id)).any(|edge| edge.roles.contains(Role::Cow));
    let of = |backend| {
        let root = graph.child(Parent::Backend(backend), ROOT)?;
        let path = std::iter::successors(Some(root), below);
        Some(1 + path.filter(is_over).count() as u64)
    };
    graph.backends().filter_map(|(id, _)| of(id)).max().unwrap_or(0)
}

/// Who holds source and target of a mirror: its filter, or the job itself.
pub(crate) fn mirror_ends(graph: &Graph, job: JobId) -> Parent {
    graph.child(Parent::Job(job), "filter").map_or(Parent::Job(job), Parent::Node)
}

/// Whether what is published is what a job promised.
fn ends_job(what: &str) -> bool {
    matches!(what, "pivot" | "stream")
}

/// Source and target disk of each full mirror whose job went with the pivot.
fn mirrored_disks(state: &State, graph: &Graph, after: &Graph) -> Vec<(String, String, ByteLen)> {
    let gone = |name: &str| after.job_by_name(name).is_none() && state.full.contains(name);
    let disks = |(job, _)| {
        let ends = mirror_ends(graph, job);
        let disk = |edge: &str| {
            let node = disk_below(graph, graph.child(ends, edge)?)?;
            state.filenames.get(&node).cloned()
        };
        let (source, target) = (disk("file")?, disk("target")?);
        let len = ByteLen(state.disks.get(&source)?.size);
        Some((source, target, len))
    };
    graph.jobs().filter(|(_, name)| gone(name)).filter_map(disks).collect()
}

/// Whether the way from a device to its disk has got longer, and no job has begun.
fn adds_filter(before: &Graph, after: &Graph) -> bool {
    let length = |graph: &Graph, parent| {
        let below = |node: &NodeId| graph.child(Parent::Node(*node), "file");
        std::iter::successors(graph.child(parent, ROOT), below).count()
    };
    before.jobs().count() == after.jobs().count()
        && after
            .backends()
            .any(|(id, _)| length(after, Parent::Backend(id)) > length(before, Parent::Backend(id)))
}

impl Observer for Checks {
    fn published(&self, what: &str, before: &Graph, after: &Graph) {
        if matches!(what, "replace child" | "insert filter") {
            self.state.with(|state| state.filter_inserted = true);
        }
        if matches!(what, "transaction" | "blockdev-reopen") && adds_filter(before, after) {
            self.state.with(|state| (state.filter_created, state.filter_inserted) = (true, true));
        }
        let verdict = self.state.with(|state| {
            let nodes = after.nodes().map(|(id, node)| (id.0.as_u64(), node.name.clone()));
            let backends = after.backends().map(|(id, name)| (id.0.as_u64(), name.into()));
            let jobs = after.jobs().map(|(id, name)| (id.0.as_u64(), format!("job {name}")));
            state.names.extend(nodes.chain(backends).chain(jobs));
            state.present = after.nodes().map(|(_, node)| node.name.clone()).collect();
            self.note_roots(state, what, before, after);
            let jobs = after.jobs().count() as u64;
            state.most = (state.most.0.max(jobs), state.most.1.max(layers(after)));
            state.graph.observe(&view(after))?;
            state.dropped.observe(reached(after), ends_job(what))
        });
        self.judge(verdict);
        if self.bitmaps.are_watched() {
            self.judge(self.bitmaps.published(what, before, after));
        }
        self.backups.published(before, after);
        for (device, disk) in self.state.with(|state| state.media.change(before, after)) {
            let spec = self.state.with(|state| {
                let filename = state.filenames.get(&disk)?;
                state.disks.get(filename).cloned()
            });
            let Some(disk) = spec else { continue };
            let device = self.devices.with(|devices| devices.get(&device).cloned());
            device.inspect(|device| device.has_other_medium(&disk));
        }
        sometimes!(
            what == "blockdev-reopen" && after.jobs().next().is_some(),
            "nodes were reopened while a job was at work"
        );
        if what == "pivot" {
            if self.world.holds_at_pivot() {
                self.hold.set();
            }
            self.world.reached(Moment::Pivot);
            self.pivot(before, after);
        }
    }

    fn section_begins(&self, section: u64, owner: Owner, nodes: &[NodeId]) {
        let owner = match owner {
            Owner::Job(job) => job.0.as_u64(),
            Owner::Command(command) => {
                let number = command.as_u64();
                self.state.with(|state| state.names.insert(number, "a command".into()));
                number
            }
        };
        nodes.iter().for_each(|node| self.order(Kind::Write, &self.name_of(*node)));
        let nodes: Vec<u64> = nodes.iter().map(|node| node.0.as_u64()).collect();
        self.state.with(|state| state.covered.insert(section, nodes.clone()));
        let verdict = self.state.with(|state| state.drain.begin(section, owner, &nodes));
        self.judge(verdict);
    }

    fn section_ends(&self, section: u64) {
        let nodes = self.state.with(|state| state.covered.remove(&section)).unwrap_or_default();
        for node in nodes {
            let name = self.state.with(|state| state.names.get(&node).cloned());
            self.order(Kind::Write, &name.unwrap_or_default());
        }
        self.state.with(|state| state.drain.end(section));
    }

    fn request_begins(&self, node: NodeId, requester: Requester) {
        self.order(Kind::Add, &self.name_of(node));
        let (node, requester) = (node.0.as_u64(), number(requester));
        let verdict = self.state.with(|state| state.drain.request_begins(node, requester));
        self.judge(verdict);
    }

    fn request_ends(&self, node: NodeId, requester: Requester) {
        self.order(Kind::Add, &self.name_of(node));
        let (node, requester) = (node.0.as_u64(), number(requester));
        self.state.with(|state| state.drain.request_ends(node, requester));
    }

    fn write_lands(
        &self,
        write: (NodeId, u64),
        requester: Requester,
        range: ByteRange,
        len: Option<ByteLen>,
    ) {
        if self.bitmaps.are_watched() {
            self.bitmaps.write_lands(write, requester, range, len);
        }
    }

    fn write_is_marked(&self, write: (NodeId, u64)) {
        if self.bitmaps.are_watched() {
            self.judge(self.bitmaps.write_is_marked(write));
        }
    }

    fn milestone(&self, what: &'static str) {
        self.state.with(|state| state.filter_created |= what == "filter created");
        if what == "final count" {
            let writes = self.writes.read(|writes| *writes);
            sometimes!(writes > 0, "guest write in flight when the final count is taken");
        }
    }
}

fn number(requester: Requester) -> u64 {
    match requester {
        Requester::Backend(backend) => backend.0.as_u64(),
        Requester::Job(job) => job.0.as_u64(),
        Requester::Node(node) => node.0.as_u64(),
        Requester::Command(command) => command.as_u64(),
    }
}

impl EventSink for Checks {
    fn job_event(&self, job: &Job, event: &JobEvent) {
        use blockyard_models::JobEvent as Model;
        let name = job.name();
        if let Some(now_ns) = self.world.observed_ns().filter(|_| job.is_block_job()) {
            self.figures.job(name, event, now_ns);
        }
        match event {
            JobEvent::StatusChange(_) => self.world.reached(Moment::JobBegins),
            JobEvent::Ready => self.world.reached(Moment::JobReady),
            JobEvent::Pending | JobEvent::Error { .. } => {}
            JobEvent::Completed(_) | JobEvent::Cancelled => self.world.reached(Moment::JobEnds),
        }
        if let JobEvent::Completed(error) = event {
            self.backups.job_ends(name, error.is_none());
            let step = self.world.step();
            self.state.with(|state| {
                for device in state.switched.remove(name).unwrap_or_default() {
                    let roots = state.roots.get_mut(&device).into_iter().flatten();
                    roots.for_each(|led| {
                        led.acknowledged.get_or_insert(step);
                    });
                }
            });
        }
        if *event == JobEvent::Ready {
            let writes = self.writes.read(|writes| *writes);
            sometimes!(writes > 0, "mirror ready while writes in flight");
        }
        let verdict = self.state.with(|state| match event {
            JobEvent::StatusChange(status) => {
                let last = state.statuses.insert(name.into(), status.word().into());
                state.jobs.observe(name, last.as_deref().unwrap_or("undefined"), status.word())
            }
            JobEvent::Ready => state.jobs.event(name, Model::Ready),
            JobEvent::Pending => state.jobs.event(name, Model::Pending),
            JobEvent::Error { .. } => state.jobs.event(name, Model::Error),
            JobEvent::Completed(_) => state.jobs.event(name, Model::Completed),
            JobEvent::Cancelled => state.jobs.event(name, Model::Cancelled),
        });
        self.judge(verdict);
    }
}
