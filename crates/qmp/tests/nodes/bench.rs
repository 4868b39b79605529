//! A program whose one actor has a monitor, and runs in every order there is.

use std::future::Future;
use std::sync::Arc;

use blockyard_block::{BlockLayer, NoObserver};
use blockyard_qmp::{Dict, Files, Mode, Monitor, NoWatcher, Opening, Options, QmpError, Value};
use blockyard_runtime::{BoxFuture, Runtime, Storage};
use blockyard_sim::{
    Execution, Explorer, Finding, Limits, Program, Reduction, Setup, Verdict, World,
};
use blockyard_units::Design;

/// A world without files.
struct NoFiles;

impl Files for NoFiles {
    fn open(&self, filename: &str, _opening: Opening) -> Result<Arc<dyn Storage>, String> {
        Err(format!("there is no file '{filename}'"))
    }
}

/// What the actor works with.
pub struct Bench {
    pub runtime: Runtime,
    pub monitor: Monitor,
}

impl Bench {
    /// Executes a command; its arguments as JSON, or as dotted keys.
    pub async fn execute(&self, command: &str, arguments: &str) -> Result<Value, QmpError> {
        let (arguments, mode) = parse(arguments);
        self.monitor.execute(command, arguments, mode).await
    }

    /// The same, where nothing is in its way.
    pub async fn run(&self, command: &str, arguments: &str) {
        let done = self.execute(command, arguments).await;
        done.unwrap_or_else(|error| panic!("{command} {arguments}: {error}"));
    }
}

pub fn parse(arguments: &str) -> (Dict, Mode) {
    let Options { value, mode } =
        blockyard_qmp::parse_options(arguments).expect("it is well-formed");
    (value.into_dict().expect("arguments are an object"), mode)
}

type Body = Box<dyn Fn(Arc<Bench>) -> BoxFuture<'static, ()>>;

struct Test(Body);
struct Run(Arc<Bench>);

impl Program for Test {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let bench = world.begin(|runtime| {
            let layer = BlockLayer::new(runtime.clone(), Design::default(), Arc::new(NoObserver));
            let monitor = Monitor::new(layer, Arc::new(NoFiles), Arc::new(NoWatcher));
            let bench = Arc::new(Bench { runtime: runtime.clone(), monitor });
            drop(runtime.spawn("actor", (self.0)(bench.clone())));
            bench
        });
        Box::new(Run(bench))
    }
}

impl Execution for Run {
    fn judge(&self, world: &World) -> Option<Finding> {
        let unfinished = world.unfinished();
        let rest = (self.0.monitor.layer().in_flight(), unfinished.join(", "));
        let message = format!("never ended: {rest:?}");
        (!unfinished.is_empty()).then(|| Finding { property: "progress".into(), message })
    }

    fn digest(&self, _world: &World) -> u64 {
        0
    }
}

/// Everything that may happen is right.
pub fn check<F: Future<Output = ()> + Send + 'static>(body: impl Fn(Arc<Bench>) -> F + 'static) {
    let test = Test(Box::new(move |bench| Box::pin(body(bench))));
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let limits = Limits { executions: 20_000, ..Limits::default() };
    let mut explorer = Explorer::new(&test, Setup::default(), limits, &mut go_on);
    let exploration = explorer.depth_first(Reduction::SourceSets);
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
}
