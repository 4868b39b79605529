//! A program of tasks over a layer whose drivers tell what reaches them, watched by the model of drained sections.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use blockyard_bitmap::{DirtyBitmap, SharedBitmap};
use blockyard_block::{
    Backend, BlockDriver, BlockError, BlockLayer, Change, Io, Limits as Takes, NewNode, Observer,
    OnLost, Owner, Plan, ReadFlags, Requester, Write, WriteKind,
};
use blockyard_graph::{
    Discard, Edge, EdgePolicy, Edit, NodeAttributes, NodeKind, Parent, Permissions, Role, Roles,
};
use blockyard_models::DrainedMeansQuiet;
use blockyard_runtime::{BoxFuture, IoBuffer, Runtime, Storage};
use blockyard_sim::{
    Budgets, DiskImage, Execution, Exploration, Explorer, Finding, Limits, Program, Reduction,
    Setup, SimDisk, Verdict, World,
};
use blockyard_sync::door;
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange, Design, NodeId};

pub const LEN: u64 = 2048;
pub const FAULTLESS: Budgets = Budgets::NONE;
pub const ONE_FAULT: Budgets = Budgets { faults: 1, ..Budgets::NONE };

/// What happened, in order; for asserts.
pub type Log = Arc<Quiet<Vec<String>>>;

pub fn read_log(log: &Log) -> Vec<String> {
    log.with(|log| log.clone())
}

/// What the tasks of a program share.
pub struct Bench {
    pub runtime: Runtime,
    pub layer: BlockLayer,
    pub disk: SimDisk,
    pub log: Log,
    /// Of each driver that was told of a drained section: how many of them hold.
    pub drains: Quiet<BTreeMap<&'static str, i32>>,
    /// What the judge looks at when the run is over.
    pub bitmap: Arc<SharedBitmap>,
}

/// What a driver does when it is asked to prepare.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Prepare {
    Agree,
    Fail,
    /// Publishes something itself, the first time.
    Interfere,
}

/// How a driver takes requests.
#[derive(Clone, Copy)]
pub struct Manner {
    pub limits: Takes,
    /// Zeroes and discards.
    pub zeroes: bool,
    pub keeps_data: bool,
    /// The first so many flushes fail.
    pub bad_flushes: u32,
}

pub const PLAIN: Manner =
    Manner { limits: Takes::NONE, zeroes: true, keeps_data: false, bad_flushes: 0 };

/// A driver that writes down what is asked of it, keeps its bytes on the disk, and asserts that no two requests are
/// inside that exclude each other.
pub struct Probe {
    name: &'static str,
    bench: Arc<Bench>,
    pub prepare: Prepare,
    manner: Manner,
    flushes: Quiet<u32>,
    interfered: Quiet<bool>,
    inside: Quiet<Vec<(ByteRange, bool)>>,
}

impl Probe {
    pub fn new(bench: &Arc<Bench>, name: &'static str, prepare: Prepare, manner: Manner) -> Self {
        let (interfered, inside, flushes) = (Quiet::new(false), Quiet::default(), Quiet::new(0));
        Self { name, bench: bench.clone(), prepare, manner, flushes, interfered, inside }
    }

    fn tell(&self, what: &str) {
        self.bench.log.with(|log| log.push(format!("{what} {}", self.name)));
    }

    fn enter(&self, range: ByteRange, serialising: bool) {
        self.inside.with(|inside| {
            let excluded = inside.iter().find(|(other, other_serialising)| {
                other.overlaps(&range) && (serialising || *other_serialising)
            });
            assert!(excluded.is_none(), "serialising-writes-exclude: {range} beside {excluded:?}");
            inside.push((range, serialising));
        });
    }

    fn leave(&self, range: ByteRange) {
        self.inside.with(|inside| {
            let index = inside.iter().position(|(other, _)| *other == range);
            inside.remove(index.expect("what-leaves-was-inside"));
        });
    }

    fn failed(&self, range: ByteRange) -> BlockError {
        let kind = blockyard_runtime::IoErrorKind::Io;
        BlockError::Io { kind, node: self.name.into(), range }
    }
}

impl BlockDriver for Probe {
    fn len(&self, _io: &Io) -> ByteLen {
        ByteLen(LEN)
    }

    fn limits(&self) -> Takes {
        self.manner.limits
    }

    fn keeps_data(&self) -> bool {
        self.manner.keeps_data
    }

    fn read<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
        _flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            self.enter(range, false);
            let read = self.bench.disk.read(range).await;
            self.leave(range);
            read.map_err(|_| self.failed(range))
        })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            let range = write.range;
            if !self.manner.zeroes && matches!(write.kind, WriteKind::Zeroes | WriteKind::Discard) {
                return Err(io.unsupported(range));
            }
            let unmaps = if write.flags.may_unmap { "unmapping " } else { "" };
            self.tell(&format!("{unmaps}{}", write.kind.word()));
            self.enter(range, write.flags.serialising);
            let data = write.bytes().await?;
            let written = self.bench.disk.write(range.start(), data, false).await;
            self.leave(range);
            written.map_err(|_| self.failed(range))
        })
    }

    fn flush<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            self.tell("flush");
            door::boundary().await;
            let earlier = self.flushes.with(|flushes| std::mem::replace(flushes, *flushes + 1));
            let fails = earlier < self.manner.bad_flushes;
            if fails { Err(self.failed(ByteRange::new(0, LEN))) } else { Ok(()) }
        })
    }

    fn prepare<'a>(&'a self, _change: Change<'a>) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            self.tell("prepare");
            door::boundary().await;
            let first = !self.interfered.with(|interfered| std::mem::replace(interfered, true));
            match self.prepare {
                Prepare::Interfere if first => self.bench.layer.add_backend("another").map(drop),
                Prepare::Fail => {
                    Err(BlockError::Invalid(format!("{} does not want to", self.name)))
                }
                _ => Ok(()),
            }
        })
    }

    fn drain_begin(&self) {
        self.bench.drains.with(|drains| *drains.entry(self.name).or_default() += 1);
    }

    fn drain_end(&self) {
        self.bench.drains.with(|drains| *drains.entry(self.name).or_default() -= 1);
    }

    fn commit(&self, _change: Change<'_>) {
        self.tell("commit");
    }

    fn abort(&self, _change: Change<'_>) {
        self.tell("abort");
    }
}

impl Bench {
    pub fn node(self: &Arc<Self>, name: &'static str, prepare: Prepare) -> NewNode {
        self.layer.new_node(name, Box::new(Probe::new(self, name, prepare, PLAIN)))
    }

    /// Publishes `name` with a backend `b-name` on it.
    pub async fn device(self: &Arc<Self>, name: &'static str) -> (Backend, NodeId) {
        self.device_with(name, PLAIN).await
    }

    /// The same, with a driver of its own manner.
    pub async fn device_with(
        self: &Arc<Self>,
        name: &'static str,
        manner: Manner,
    ) -> (Backend, NodeId) {
        let driver = Probe::new(self, name, Prepare::Agree, manner);
        let node = self.layer.new_node(name, Box::new(driver));
        let backend = self.layer.add_backend(&format!("b-{name}")).expect("the name is free");
        let edits = [add(&node, name), root(&backend, node.id())];
        self.publish(&edits, std::slice::from_ref(&node), OnLost::StartOver)
            .await
            .expect("nothing forbids it");
        self.log.with(Vec::clear);
        (backend, node.id())
    }

    pub async fn publish(
        &self,
        edits: &[Edit],
        nodes: &[NewNode],
        on_lost: OnLost,
    ) -> Result<(), BlockError> {
        let plan = || Plan { edits: edits.to_vec(), nodes: nodes.to_vec(), ..Plan::default() };
        self.layer.publish("test", on_lost, |_| Ok(plan())).await
    }

    pub fn task<F: Future<Output = ()> + Send + 'static>(&self, name: &str, body: F) {
        drop(self.runtime.spawn(name.to_owned(), body));
    }

    /// What the disk holds in `range`.
    pub fn on_disk(&self, range: ByteRange) -> Vec<u8> {
        let range = range.start() as usize..range.end() as usize;
        self.disk.observe_quietly(|bytes| bytes[range].to_vec())
    }
}

pub fn add(node: &NewNode, name: &str) -> Edit {
    let mut attributes = NodeAttributes::new(name, NodeKind::Protocol, "probe");
    attributes.options.discard = Discard::Unmap;
    Edit::AddNode { id: node.id(), attributes }
}

pub fn add_filter(node: &NewNode, name: &str, child: NodeId) -> [Edit; 2] {
    let Edit::AddNode { id, mut attributes } = add(node, name) else { unreachable!("it adds") };
    attributes.kind = NodeKind::Filter;
    let edge = Edge {
        parent: Parent::Node(id),
        name: "file".into(),
        child,
        roles: Roles::of(&[Role::Filtered, Role::Primary]),
        policy: EdgePolicy::Passthrough,
        frozen: None,
    };
    [Edit::AddNode { id, attributes }, Edit::AddEdge(edge)]
}

fn root(backend: &Backend, child: NodeId) -> Edit {
    let required = Permissions::ALL.difference(Permissions::RESIZE);
    Edit::AddEdge(Edge {
        parent: Parent::Backend(backend.id()),
        name: "root".into(),
        child,
        roles: Roles::of(&[Role::Primary]),
        policy: EdgePolicy::Explicit { required, shared: Permissions::ALL },
        frozen: None,
    })
}

/// The backend's root edge leads to `new`.
pub fn redirect(backend: &Backend, expected: NodeId, new: NodeId) -> Edit {
    let (parent, name) = (Parent::Backend(backend.id()), "root".into());
    Edit::ReplaceChild { parent, name, expected: Some(expected), new }
}

/// A write of 512 bytes of value `value`.
pub fn write(sector: u64, value: u8) -> Write {
    Write::data(sector * 512, vec![value; 512].into())
}

/// Panics where the model of drained sections says no.
struct Watch(Quiet<DrainedMeansQuiet>);

impl Observer for Watch {
    fn section_begins(&self, section: u64, owner: Owner, nodes: &[NodeId]) {
        let Owner::Command(owner) = owner else { unreachable!("there is no job here") };
        let nodes: Vec<u64> = nodes.iter().map(|node| node.0.as_u64()).collect();
        let verdict = self.0.with(|model| model.begin(section, owner.as_u64(), &nodes));
        assert!(verdict.is_ok(), "drained-means-quiet: {verdict:?}");
    }

    fn section_ends(&self, section: u64) {
        self.0.with(|model| model.end(section));
    }

    fn request_begins(&self, node: NodeId, requester: Requester) {
        let verdict = self.0.with(|model| model.request_begins(node.0.as_u64(), number(requester)));
        assert!(verdict.is_ok(), "drained-means-quiet: {verdict:?}");
    }

    fn request_ends(&self, node: NodeId, requester: Requester) {
        self.0.with(|model| model.request_ends(node.0.as_u64(), number(requester)));
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

type Body = Box<dyn Fn(Arc<Bench>) -> BoxFuture<'static, ()>>;
type Check = Arc<dyn Fn(&Bench)>;

/// A program: a first task, and asserts over what is left in the end.
pub struct Test(Body, Check);

impl Test {
    pub fn new<F: Future<Output = ()> + Send + 'static>(
        body: impl Fn(Arc<Bench>) -> F + 'static,
    ) -> Self {
        Self(Box::new(move |bench| Box::pin(body(bench))), Arc::new(|_| ()))
    }

    /// Also asserts when nothing can happen any more.
    pub fn checked(self, check: impl Fn(&Bench) + 'static) -> Self {
        Self(self.0, Arc::new(check))
    }
}

struct Run(Arc<Bench>, Check);

impl Program for Test {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let disk = world.disk("disk").expect("the setup has it");
        let bench = world.begin(|runtime| {
            let watch = Arc::new(Watch(Quiet::new(DrainedMeansQuiet::new())));
            let layer = BlockLayer::new(runtime.clone(), Design::default(), watch);
            let bitmap = DirtyBitmap::new(ByteLen(LEN), ByteLen(512)).expect("a power of two");
            let bitmap = Arc::new(SharedBitmap::new(bitmap));
            let (runtime, log) = (runtime.clone(), Log::default());
            let bench =
                Arc::new(Bench { runtime, layer, disk, log, bitmap, drains: Quiet::default() });
            bench.task("actor", (self.0)(bench.clone()));
            bench
        });
        Box::new(Run(bench, self.1.clone()))
    }
}

impl Execution for Run {
    fn judge(&self, world: &World) -> Option<Finding> {
        let layer = &self.0.layer;
        let rest = (layer.in_flight(), layer.open_sections(), layer.backend_requests());
        let unfinished = world.unfinished();
        if !unfinished.is_empty() || rest != (Vec::new(), Vec::new(), 0) {
            let message = format!("never ended: {}, {rest:?}", unfinished.join(", "));
            return Some(Finding { property: "progress".into(), message });
        }
        door::world::catch_panic(|| (self.1)(&self.0))
            .err()
            .map(|message| Finding { property: "check".into(), message })
    }

    fn digest(&self, world: &World) -> u64 {
        world.disk_digests().iter().fold(0, |digest, hash| digest.rotate_left(7) ^ hash)
    }
}

/// Runs all that may happen.
pub fn explore(test: &Test, budgets: Budgets) -> Exploration {
    let disk = DiskImage::new("disk", vec![0; LEN as usize]);
    let setup = Setup { images: vec![disk], budgets, ..Setup::default() };
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let limits = Limits { executions: 60_000, ..Limits::default() };
    Explorer::new(test, setup, limits, &mut go_on).depth_first(Reduction::SourceSets)
}

/// Everything that may happen is right, and every one of `marks` does.
pub fn check(name: &str, test: &Test, budgets: Budgets, marks: &[&str]) {
    let Exploration { verdict, summary } = explore(test, budgets);
    if let Verdict::Violated { finding, tape, .. } = &verdict {
        let line =
            |line: &blockyard_sim::TapeLine| format!("{}  ; {}", line.event, line.notes.join("; "));
        let tape: Vec<String> = tape.iter().map(line).collect();
        panic!("{name}: {}: {}\n{}", finding.property, finding.message, tape.join("\n"));
    }
    let count = summary.executions;
    assert_eq!(verdict, Verdict::Clean { exhausted: true }, "{name}: {count} executions");
    for mark in marks {
        assert!(summary.marks.contains(*mark), "{name}: never came to '{mark}' in {count}");
    }
}
