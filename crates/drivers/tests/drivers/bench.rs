//! A program whose one actor gets a layer and a disk, and builds a chain of nodes below a backend.

use std::future::Future;
use std::sync::Arc;

use blockyard_block::{
    Backend, BlockDriver, BlockError, BlockLayer, NewNode, Observer, OnLost, Plan, Requester,
};
use blockyard_drivers::{
    FileDriver, Rate, Rates, Throttle, ThrottleLimits, Throttling, attributes, child_edges,
};
use blockyard_graph::{Discard, Edge, EdgePolicy, Edit, Parent, Permissions, Roles};
use blockyard_runtime::{Access, BoxFuture, IoBuffer, Runtime};
use blockyard_sim::{
    Action, Budgets, Chooser, DiskImage, Event, Execution, Exploration, Explorer, Finding, Limits,
    Outcome, Pick, Program, RandomWalk, Reduction, Setup, SimDisk, Verdict, World, run_once,
};
use blockyard_sync::door::world::Quiet;
use blockyard_units::{Design, Mutant, NodeId};

pub const LEN: u64 = 4096;
pub const FAULTLESS: Budgets = Budgets::NONE;

/// A node to be, with the name of its driver as its own.
pub type Link = (&'static str, Box<dyn BlockDriver>);

/// What the actor works with.
pub struct Bench {
    pub runtime: Runtime,
    pub layer: BlockLayer,
    pub disk: SimDisk,
    /// Another disk, if the setup has one.
    pub second: Option<SimDisk>,
    /// Every request that entered a node, and on whose behalf.
    pub requests: Arc<Requests>,
}

/// Writes down who came.
#[derive(Default)]
pub struct Requests(Quiet<Vec<(NodeId, Requester)>>);

impl Requests {
    pub fn of(&self, node: NodeId) -> Vec<Requester> {
        let of = |requests: &mut Vec<(NodeId, Requester)>| {
            let those = requests.iter().filter(|(at, _)| *at == node);
            those.map(|(_, requester)| *requester).collect()
        };
        self.0.with(of)
    }
}

impl Observer for Requests {
    fn request_begins(&self, node: NodeId, requester: Requester) {
        self.0.with(|requests| requests.push((node, requester)));
    }
}

pub fn throttle(bps_total: u64, iops_total: u64) -> Link {
    let limits = ThrottleLimits { bps: total(bps_total), iops: total(iops_total), iops_size: 0 };
    ("throttle", Box::new(Throttle::new(Throttling::Own(limits))))
}

/// Of reads and writes together.
pub fn total(average: u64) -> Rates {
    Rates { total: Rate { average, ..Rate::default() }, ..Rates::default() }
}

pub fn file(bench: &Bench) -> Link {
    ("file", Box::new(FileDriver::new("file", Arc::new(bench.disk.clone()), Access::Write)))
}

/// `len` bytes that differ from those of every other `seed` below 256.
pub fn bytes(seed: u8, len: u64) -> IoBuffer {
    (0..len).map(|index| seed.wrapping_add(index as u8)).collect::<Vec<u8>>().into()
}

impl Bench {
    /// A backend `disk0` above `links`, the top one first, and the id of each node.
    pub async fn chain(&self, links: Vec<Link>) -> Result<(Backend, Vec<NodeId>), BlockError> {
        self.chain_for(Permissions::ALL.difference(Permissions::RESIZE), links).await
    }

    /// The same, for a backend that requires these permissions.
    pub async fn chain_for(
        &self,
        required: Permissions,
        links: Vec<Link>,
    ) -> Result<(Backend, Vec<NodeId>), BlockError> {
        self.chain_of("disk0", required, links).await
    }

    /// The same, of another backend than the first.
    pub async fn chain_of(
        &self,
        device: &str,
        required: Permissions,
        links: Vec<Link>,
    ) -> Result<(Backend, Vec<NodeId>), BlockError> {
        let backend = self.layer.add_backend(device)?;
        let named = |name: &str| match device {
            "disk0" => name.into(),
            _ => format!("{name}-{device}"),
        };
        let new = |(name, driver): Link| (name, self.layer.new_node(&named(name), driver));
        let nodes: Vec<(&str, NewNode)> = links.into_iter().map(new).collect();
        let policy = EdgePolicy::Explicit { required, shared: Permissions::ALL };
        let root = Edge {
            parent: Parent::Backend(backend.id()),
            name: "root".into(),
            child: nodes[0].1.id(),
            roles: Roles::NONE,
            policy,
            frozen: None,
        };
        let mut edits = vec![Edit::AddEdge(root)];
        for (name, node) in &nodes {
            let mut attributes = attributes(&named(name), name);
            attributes.options.discard = Discard::Unmap;
            edits.push(Edit::AddNode { id: node.id(), attributes });
        }
        for pair in nodes.windows(2) {
            let child = (child_name(pair[0].0), pair[1].1.id());
            let edges = child_edges(pair[0].1.id(), pair[0].0, &[child]);
            edits.extend(edges.into_iter().map(Edit::AddEdge));
        }
        let ids = nodes.iter().map(|(_, node)| node.id()).collect();
        let nodes: Vec<NewNode> = nodes.into_iter().map(|(_, node)| node).collect();
        let plan = || Plan { edits: edits.clone(), nodes: nodes.clone(), ..Plan::default() };
        self.layer.publish("add", OnLost::StartOver, |_| Ok(plan())).await?;
        for node in nodes.iter().rev() {
            self.layer.open_node(node.node()).await?;
        }
        Ok((backend, ids))
    }
}

impl Bench {
    /// A backend above a node of this driver, whose children, so named, have the two disks. With another number: opened
    /// anew.
    pub async fn over_both(
        &self,
        number: u32,
        (driver, made): Link,
        children: [&'static str; 2],
    ) -> Result<Backend, BlockError> {
        let backend = self.layer.add_backend(&format!("disk{number}"))?;
        let new = |name: &str, driver| self.layer.new_node(&format!("{name}{number}"), driver);
        let file = |name: &'static str, disk: SimDisk| {
            new(name, Box::new(FileDriver::new(name, Arc::new(disk), Access::Write)))
        };
        let second = self.second.clone().expect("the setup has it");
        let nodes = [
            (driver, new(driver, made)),
            ("file", file(children[0], self.disk.clone())),
            ("file", file(children[1], second)),
        ];
        let [top, first, second] = [0, 1, 2].map(|index| nodes[index].1.id());
        let root = Edge {
            parent: Parent::Backend(backend.id()),
            name: "root".into(),
            child: top,
            roles: Roles::NONE,
            policy: EdgePolicy::Explicit {
                required: Permissions::ALL.difference(Permissions::RESIZE),
                shared: Permissions::ALL,
            },
            frozen: None,
        };
        let mut edits = vec![Edit::AddEdge(root)];
        for (driver, node) in &nodes {
            let mut attributes = attributes(node.node().name(), driver);
            attributes.options.discard = Discard::Unmap;
            edits.push(Edit::AddNode { id: node.id(), attributes });
        }
        let edges = child_edges(top, driver, &[(children[0], first), (children[1], second)]);
        edits.extend(edges.into_iter().map(Edit::AddEdge));
        let nodes = nodes.map(|(_, node)| node).to_vec();
        let plan = || Plan { edits: edits.clone(), nodes: nodes.clone(), ..Plan::default() };
        self.layer.publish("add", OnLost::StartOver, |_| Ok(plan())).await?;
        for node in nodes.iter().rev() {
            self.layer.open_node(node.node()).await?;
        }
        Ok(backend)
    }
}

/// What the driver calls the child of a chain.
fn child_name(driver: &str) -> &'static str {
    match driver {
        "overlay" => "backing",
        "blkdebug" => "image",
        _ => "file",
    }
}

type Body = Box<dyn Fn(Arc<Bench>) -> BoxFuture<'static, ()>>;

/// A program of one actor; its asserts are the findings.
pub struct Test(Body, Design);

impl Test {
    pub fn new<F: Future<Output = ()> + Send + 'static>(
        body: impl Fn(Arc<Bench>) -> F + 'static,
    ) -> Self {
        Self(Box::new(move |bench| Box::pin(body(bench))), Design::default())
    }

    /// The same with a known bug.
    pub fn with(mut self, mutant: Mutant) -> Self {
        self.1.set_mutant(mutant).expect("tests are built with mutants");
        self
    }
}

struct Run(Arc<Bench>);

impl Program for Test {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let disk = world.disk("disk").expect("the setup has it");
        let second = world.disk("second");
        let bench = world.begin(|runtime| {
            let requests = Arc::new(Requests::default());
            let layer = BlockLayer::new(runtime.clone(), self.1, requests.clone());
            let bench = Arc::new(Bench { runtime: runtime.clone(), layer, disk, second, requests });
            drop(runtime.spawn("actor", (self.0)(bench.clone())));
            bench
        });
        Box::new(Run(bench))
    }
}

impl Execution for Run {
    fn judge(&self, world: &World) -> Option<Finding> {
        let layer = &self.0.layer;
        let rest = (layer.in_flight(), layer.open_sections(), layer.backend_requests());
        let unfinished = world.unfinished();
        let at_rest = unfinished.is_empty() && rest == (Vec::new(), Vec::new(), 0);
        let message = format!("never ended: {}, {rest:?}", unfinished.join(", "));
        (!at_rest).then(|| Finding { property: "progress".into(), message })
    }

    fn digest(&self, world: &World) -> u64 {
        world.disk_digests().iter().fold(0, |digest, hash| digest.rotate_left(7) ^ hash)
    }
}

fn setup(budgets: Budgets) -> Setup {
    setup_on(DiskImage::new("disk", bytes(1, LEN)), budgets)
}

fn setup_on(disk: DiskImage, budgets: Budgets) -> Setup {
    Setup { images: vec![disk], budgets, ..Setup::default() }
}

/// Picks evenly among what may happen now; time passes only when nothing else may.
struct Prompt(RandomWalk);

impl Chooser for Prompt {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        let now = |event: &&Event| event.action != Action::Fire;
        let prompt: Vec<Event> = enabled.iter().filter(now).copied().collect();
        if prompt.is_empty() {
            return self.0.pick(world, enabled);
        }
        match self.0.pick(world, &prompt) {
            Pick::Event(index) => {
                let same = |event: &Event| *event == prompt[index];
                Pick::Event(enabled.iter().position(same).expect("prompt-is-enabled"))
            }
            other => other,
        }
    }
}

/// Everything that may happen with these disks is right; how many executions that took.
pub fn check_on_disks(test: &Test, images: Vec<DiskImage>) -> u64 {
    explore_on_disks(test, images, FAULTLESS)
}

/// The same, whatever goes wrong.
pub fn explore_on_disks(test: &Test, images: Vec<DiskImage>, budgets: Budgets) -> u64 {
    let exploration = explore_in(test, Setup { images, budgets, ..Setup::default() });
    match exploration.verdict {
        Verdict::Violated { finding, .. } => panic!("{finding:?}"),
        verdict => assert_eq!(verdict, Verdict::Clean { exhausted: true }),
    }
    exploration.summary.executions
}

/// Runs once at random, each task promptly.
pub fn walk(test: &Test, seed: u64) {
    let Setup { images, budgets, seed: stream, .. } = setup(FAULTLESS);
    let mut world = World::new(&images, budgets, stream);
    let limits = Limits { steps: 2_000_000, ..Limits::default() };
    let mut chooser = Prompt(RandomWalk::new(seed));
    let report = run_once(&mut world, test, &mut chooser, limits, &mut |_, _| ());
    assert!(matches!(report.outcome, Outcome::Ended), "{:?}", report.outcome);
}

/// Runs all that may happen.
pub fn explore(test: &Test, budgets: Budgets) -> Exploration {
    explore_in(test, setup(budgets))
}

/// Everything that may happen with this disk is right.
pub fn check_on(test: &Test, disk: DiskImage) {
    explore_on(test, disk, FAULTLESS);
}

/// Everything that may happen with this disk is right, whatever goes wrong.
pub fn explore_on(test: &Test, disk: DiskImage, budgets: Budgets) {
    match explore_in(test, setup_on(disk, budgets)).verdict {
        Verdict::Violated { finding, .. } => panic!("{finding:?}"),
        verdict => assert_eq!(verdict, Verdict::Clean { exhausted: true }),
    }
}

fn explore_in(test: &Test, setup: Setup) -> Exploration {
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let limits = Limits { executions: 100_000, ..Limits::default() };
    Explorer::new(test, setup, limits, &mut go_on).depth_first(Reduction::SourceSets)
}
