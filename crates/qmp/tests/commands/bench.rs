//! A monitor in a simulated world, files that tell who has them open, and a driver that takes a backing node.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use blockyard_block::{
    Backend, BlockDriver, BlockError, BlockLayer, Change, Io, Observer, OnLost, Owner, Plan,
    ReadFlags, Requester, Write,
};
use blockyard_graph::{Edit, Graph, Parent};
use blockyard_models::DrainedMeansQuiet;
use blockyard_qmp::{Files, Mode, Monitor, NoWatcher, Opening, QmpError, Value, parse_json};
use blockyard_runtime::{Access, BoxFuture, IoBuffer, IoErrorKind, Runtime, Storage};
use blockyard_sim::{
    Budgets, DiskImage, Execution, Exploration, Explorer, Finding, Granularity, Limits, Program,
    Reduction, Setup, SimDisk, Verdict, World,
};
use blockyard_sync::door;
use blockyard_sync::door::world::Quiet;
use blockyard_units::{BackendId, ByteLen, ByteRange, Design, JobId, NodeId};

pub const LEN: u64 = 4096;
pub const DISKS: [&str; 4] = ["a", "b", "c", "d"];
pub const FAULTLESS: Budgets = Budgets::NONE;
pub const ONE_FAULT: Budgets = Budgets { faults: 1, ..Budgets::NONE };

/// Files over the disks of a world: who has them open, and which of them may not be opened for writing.
#[derive(Default)]
pub struct TestFiles {
    disks: BTreeMap<String, SimDisk>,
    open: Arc<Quiet<Vec<String>>>,
    pub read_only: Arc<Quiet<Vec<String>>>,
}

struct Opened {
    disk: SimDisk,
    label: String,
    open: Arc<Quiet<Vec<String>>>,
    refused: Arc<Quiet<Vec<String>>>,
    read_only: bool,
    /// Reads under way.
    reads: Arc<Quiet<usize>>,
}

impl Opened {
    fn storage(
        disk: &SimDisk,
        open: &Arc<Quiet<Vec<String>>>,
        refused: &Arc<Quiet<Vec<String>>>,
        access: Access,
    ) -> Result<Arc<dyn Storage>, String> {
        let read_only = access != Access::Write;
        let name = String::from(disk.name());
        if !read_only && refused.with(|refused| refused.contains(&name)) {
            return Err(format!("'{name}' cannot be opened for writing"));
        }
        let label = match access {
            Access::Write => name.clone(),
            Access::Read => format!("{name} read-only"),
            Access::Inactive => format!("{name} inactive"),
        };
        open.with(|open| {
            open.push(label.clone());
            open.sort();
        });
        let (disk, open, refused) = (disk.clone(), open.clone(), refused.clone());
        let reads = Arc::default();
        Ok(Arc::new(Self { disk, label, open, refused, read_only, reads }))
    }
}

impl Files for TestFiles {
    fn open(
        &self,
        filename: &str,
        Opening { read_only, .. }: Opening,
    ) -> Result<Arc<dyn Storage>, String> {
        let disk =
            self.disks.get(filename).ok_or_else(|| format!("there is no disk '{filename}'"))?;
        let access = if read_only { Access::Read } else { Access::Write };
        Opened::storage(disk, &self.open, &self.read_only, access)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.open.with(|open| {
            let index = open.iter().position(|label| *label == self.label);
            open.remove(index.expect("what-closes-was-open"));
            if self.reads.with(|reads| *reads > 0) {
                open.push(format!("{} closed while it was read", self.label));
            }
        });
    }
}

impl Storage for Opened {
    fn name(&self) -> &str {
        self.disk.name()
    }

    fn len(&self) -> ByteLen {
        self.disk.len()
    }

    fn read(&self, range: ByteRange) -> BoxFuture<'static, Result<IoBuffer, IoErrorKind>> {
        let (reads, read) = (self.reads.clone(), self.disk.read(range));
        reads.with(|reads| *reads += 1);
        Box::pin(async move {
            let read = read.await;
            reads.with(|reads| *reads -= 1);
            read
        })
    }

    fn write(
        &self,
        offset: u64,
        data: IoBuffer,
        fua: bool,
    ) -> BoxFuture<'static, Result<(), IoErrorKind>> {
        if self.read_only {
            return Box::pin(async { Err(IoErrorKind::ReadOnly) });
        }
        self.disk.write(offset, data, fua)
    }

    fn reopen(&self, access: Access) -> Result<Arc<dyn Storage>, String> {
        Self::storage(&self.disk, &self.open, &self.refused, access)
    }

    fn flush(&self) -> BoxFuture<'static, Result<(), IoErrorKind>> {
        self.disk.flush()
    }
}

/// An overlay in memory: what was written, and below it the backing node. It may refuse to prepare.
struct Overlay {
    bytes: Quiet<BTreeMap<u64, u8>>,
    refuses: Arc<Quiet<bool>>,
    log: Log,
}

/// What drivers were asked, in order.
pub type Log = Arc<Quiet<Vec<&'static str>>>;

impl BlockDriver for Overlay {
    fn len(&self, _io: &Io) -> ByteLen {
        ByteLen(LEN)
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            let below = match io.len("backing") {
                Ok(_) => io.read("backing", range, flags).await?,
                Err(_) => IoBuffer::zeroes(range.len().as_usize()),
            };
            let mut bytes = below.to_vec();
            self.bytes.with(|own| {
                for (place, byte) in own.range(range.start()..range.end()) {
                    bytes[(place - range.start()) as usize] = *byte;
                }
            });
            Ok(bytes.into())
        })
    }

    fn write<'a>(&'a self, _io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        let places = write.range.start()..write.range.end();
        Box::pin(async move {
            let bytes = write.bytes().await.map_err(|_| BlockError::Invalid("no bytes".into()))?;
            self.bytes.with(|own| own.extend(places.zip(bytes.to_vec())));
            Ok(())
        })
    }

    fn flush<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async { Ok(()) })
    }

    fn prepare<'a>(&'a self, _change: Change<'a>) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            self.log.with(|log| log.push("prepare"));
            door::boundary().await;
            if self.refuses.with(|refuses| *refuses) {
                return Err(BlockError::Invalid("the overlay refuses".into()));
            }
            Ok(())
        })
    }

    fn commit(&self, _change: Change<'_>) {
        self.log.with(|log| log.push("commit"));
    }

    fn abort(&self, _change: Change<'_>) {
        self.log.with(|log| log.push("abort"));
    }
}

/// What a test's body is given.
pub struct Bench {
    pub runtime: Runtime,
    pub monitor: Monitor,
    pub files: Arc<TestFiles>,
    pub log: Log,
    /// Overlays fail to prepare from now on.
    pub refuses: Arc<Quiet<bool>>,
}

impl Bench {
    /// Executes a command, its arguments as JSON.
    pub async fn execute(&self, command: &str, arguments: &str) -> Result<Value, QmpError> {
        let Ok(Value::Dict(arguments)) = parse_json(arguments) else {
            panic!("{arguments} is an object")
        };
        blockyard_qmp::check_command(command, &arguments, Mode::Strict)?;
        self.monitor.execute(command, arguments, Mode::Strict).await
    }

    /// The command is done.
    pub async fn done(&self, command: &str, arguments: &str) {
        let reply = self.execute(command, arguments).await;
        assert!(reply.is_ok(), "{command} {arguments}: {reply:?}");
    }

    /// The command is refused, the error says all of `said`, and everything is as it was.
    pub async fn refused(&self, command: &str, arguments: &str, said: &[&str]) {
        let before = self.trace().await;
        let reply = self.execute(command, arguments).await;
        let Err(error) = reply else { panic!("{command} {arguments} was not refused") };
        for said in said {
            assert!(error.desc.contains(said), "{command} {arguments}: {error}, not: {said}");
        }
        assert_eq!(self.trace().await, before, "{command} {arguments} left a trace");
    }

    /// Everything that a command may leave behind.
    pub async fn trace(&self) -> String {
        let layer = self.monitor.layer();
        let nodes = self.execute("query-named-block-nodes", "{}").await;
        let jobs = self.execute("query-jobs", "{}").await;
        let open = self.files.open.with(|open| open.clone());
        let (graph, sections) = (layer.graph().describe(), layer.open_sections());
        format!("{graph}{nodes:?}\n{jobs:?}\n{sections:?}\n{open:?}")
    }

    pub fn graph(&self) -> Graph {
        self.monitor.layer().graph()
    }

    /// Where the edge `name` of a device or node leads.
    pub fn child(&self, parent: &str, name: &str) -> Option<String> {
        let graph = self.graph();
        let backend = graph.backend_by_name(parent).map(Parent::Backend);
        let parent = backend.or_else(|| graph.node_by_name(parent).map(Parent::Node));
        let child = graph.child(parent.unwrap_or_else(|| panic!("no such parent")), name)?;
        graph.node(child).map(|node| node.name.clone())
    }

    /// `file` nodes named as their disks.
    pub async fn add_files(&self, names: &[&str]) {
        for name in names {
            let options =
                format!(r#"{{"driver":"file","node-name":"{name}","filename":"{name}"}}"#);
            self.done("blockdev-add", &options).await;
        }
    }

    /// A node that takes a backing node and has none.
    pub async fn add_overlay(&self, name: &str) {
        let layer = self.monitor.layer();
        let (bytes, refuses, log) = (Quiet::default(), self.refuses.clone(), self.log.clone());
        let driver = Overlay { bytes, refuses, log };
        let node = layer.new_node(name, Box::new(driver));
        let attributes = blockyard_drivers::attributes(name, "overlay");
        let derive = |_: &Graph| {
            let edits = [Edit::AddNode { id: node.id(), attributes: attributes.clone() }].into();
            Ok(Plan { edits, nodes: [node.clone()].into(), ..Plan::default() })
        };
        let added = layer.publish("add overlay", OnLost::StartOver, derive).await;
        assert!(added.is_ok(), "{added:?}");
        self.log.with(Vec::clear);
    }

    pub async fn device(&self, id: &str, node: &str) -> Backend {
        self.monitor.attach_device(id, node, false).await.expect("nothing forbids it")
    }

    pub fn task<F: Future<Output = ()> + Send + 'static>(&self, name: &str, body: F) {
        drop(self.runtime.spawn(name.to_owned(), body));
    }
}

/// The first 512 bytes, all of one value.
pub fn write(value: u8) -> Write {
    Write::data(0, vec![value; 512].into())
}

/// The first byte that a backend shows.
pub async fn first_byte(backend: &Backend) -> u8 {
    let read = backend.read(ByteRange::new(0, 512)).await;
    read.expect("no fault is budgeted")[0]
}

/// Panics where the model of drained sections says no.
struct Watch(Quiet<DrainedMeansQuiet>);

impl Observer for Watch {
    fn section_begins(&self, section: u64, owner: Owner, nodes: &[NodeId]) {
        let (Owner::Command(owner) | Owner::Job(JobId(owner))) = owner;
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
        Requester::Backend(BackendId(id))
        | Requester::Job(JobId(id))
        | Requester::Node(NodeId(id))
        | Requester::Command(id) => id.as_u64(),
    }
}

type Body = Box<dyn Fn(Arc<Bench>) -> BoxFuture<'static, ()>>;

/// A program: its first task. It panics where something is wrong.
pub struct Test(Body);

impl Test {
    pub fn new<F: Future<Output = ()> + Send + 'static>(
        body: impl Fn(Arc<Bench>) -> F + 'static,
    ) -> Self {
        Self(Box::new(move |bench| Box::pin(body(bench))))
    }
}

struct Run(Arc<Bench>);

impl Program for Test {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let disk = |name: &&str| Some((String::from(*name), world.disk(name)?));
        let disks = DISKS.iter().filter_map(disk).collect();
        let bench = world.begin(|runtime| {
            let files = Arc::new(TestFiles { disks, ..TestFiles::default() });
            let design = Design::default();
            let watch = Arc::new(Watch(Quiet::new(DrainedMeansQuiet::new())));
            let layer = BlockLayer::new(runtime.clone(), design, watch);
            let monitor = Monitor::new(layer, files.clone(), Arc::new(NoWatcher));
            let (runtime, log, refuses) = (runtime.clone(), Log::default(), Arc::default());
            let bench = Arc::new(Bench { runtime, monitor, files, log, refuses });
            bench.task("actor", (self.0)(bench.clone()));
            bench
        });
        Box::new(Run(bench))
    }
}

impl Execution for Run {
    fn judge(&self, world: &World) -> Option<Finding> {
        let layer = self.0.monitor.layer();
        let rest = (layer.in_flight(), layer.open_sections(), layer.backend_requests());
        let unfinished = world.unfinished();
        let open = self.0.files.open.with(|open| open.clone());
        if let Some(wrong) = open.iter().find(|label| label.contains("closed while")) {
            let (property, message) = ("drained-means-quiet".into(), wrong.clone());
            return Some(Finding { property, message });
        }
        if unfinished.is_empty() && rest == (Vec::new(), Vec::new(), 0) {
            return None;
        }
        let message = format!("never ended: {}, {rest:?}", unfinished.join(", "));
        Some(Finding { property: "progress".into(), message })
    }

    fn digest(&self, world: &World) -> u64 {
        world.disk_digests().iter().fold(0, |digest, hash| digest.rotate_left(7) ^ hash)
    }
}

/// Everything that may happen is right, and every one of `marks` does.
pub fn check(name: &str, test: &Test, budgets: Budgets, marks: &[&str]) {
    explore(name, test, Setup { budgets, ..Setup::default() }, 60_000, marks);
}

/// The same with other bytes on one of the disks.
pub fn check_with(
    name: &str,
    test: &Test,
    (disk, bytes): (&str, IoBuffer),
    budgets: Budgets,
    marks: &[&str],
) {
    let images = vec![DiskImage::new(disk, bytes)];
    explore(name, test, Setup { images, budgets, ..Setup::default() }, 60_000, marks);
}

/// The same at each operation on what is shared; of all that may happen the first so many runs.
pub fn check_by_door(name: &str, test: &Test, executions: u64, marks: &[&str]) {
    let granularity = Granularity::Door;
    explore(name, test, Setup { granularity, ..Setup::default() }, executions, marks);
}

/// The same, of more than can be exhausted: so many runs are drawn.
pub fn check_some(name: &str, test: &Test, budgets: Budgets, runs: u64, marks: &[&str]) {
    let draw = |explorer: &mut Explorer<'_>| explorer.random(0..runs);
    explore_by(name, test, Setup { budgets, ..Setup::default() }, runs, marks, &draw);
}

fn explore(name: &str, test: &Test, setup: Setup, executions: u64, marks: &[&str]) {
    let by_door = setup.granularity == Granularity::Door;
    let all = |explorer: &mut Explorer<'_>| {
        let found = explorer.depth_first(Reduction::Optimal);
        let exhausted = found.verdict == Verdict::Clean { exhausted: true };
        let violated = matches!(found.verdict, Verdict::Violated { .. });
        let count = found.summary.executions;
        assert!(exhausted || violated || by_door, "{name}: {:?} in {count}", found.verdict);
        found
    };
    explore_by(name, test, setup, executions, marks, &all);
}

fn explore_by(
    name: &str,
    test: &Test,
    setup: Setup,
    executions: u64,
    marks: &[&str],
    search: &dyn Fn(&mut Explorer<'_>) -> Exploration,
) {
    let image =
        |(index, name): (usize, &&str)| DiskImage::new(name, vec![index as u8 + 1; LEN as usize]);
    let mut images: Vec<DiskImage> = DISKS.iter().enumerate().map(image).collect();
    for given in &setup.images {
        images.retain(|image| image.name != given.name);
        images.push(given.clone());
    }
    let setup = Setup { images, ..setup };
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let limits = Limits { executions, ..Limits::default() };
    let mut explorer = Explorer::new(test, setup, limits, &mut go_on);
    let Exploration { verdict, summary } = search(&mut explorer);
    if let Verdict::Violated { finding, tape, .. } = &verdict {
        let line =
            |line: &blockyard_sim::TapeLine| format!("{}  ; {}", line.event, line.notes.join("; "));
        let tape: Vec<String> = tape.iter().map(line).collect();
        panic!("{name}: {}: {}\n{}", finding.property, finding.message, tape.join("\n"));
    }
    let count = summary.executions;
    for mark in marks {
        assert!(summary.marks.contains(*mark), "{name}: never came to '{mark}' in {count}");
    }
}

/// The same with nobody else about: one order is all there is to see.
pub fn check_alone(name: &str, test: &Test) {
    check(name, test, FAULTLESS, &[]);
}
