//! How many executions a space takes, and how fast they run: small programs, plain and reduced, and one scenario with
//! the whole block layer and all models. Prints one table; times are the median of three where one takes under a
//! second.

#![allow(clippy::disallowed_types)] // a bench measures the machine's time

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blockyard::{ScenarioProgram, setup_of};
use blockyard_runtime::Runtime;
use blockyard_scenario::{Parameters, Script, builtin};
use blockyard_sim::{
    Budgets, Execution, Exploration, Explorer, Finding, Limits, Program, Reduction, Setup, Summary,
    Verdict, World,
};
use blockyard_sync::{Mutex, Shared, WaitQueue, door};
use blockyard_units::Design;

const MOST_EXECUTIONS: u64 = 200_000;

type Values = Arc<Vec<Shared<u64>>>;

fn values(count: usize) -> Values {
    Arc::new((0..count).map(|_| Shared::new(0)).collect())
}

async fn increment(values: &Values, index: usize) {
    values[index].write(|value| *value += 1);
    door::boundary().await;
}

/// Five tasks of three steps on their own values.
fn disjoint(runtime: &Runtime) {
    let values = values(5);
    for index in 0..5 {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            for _ in 0..3 {
                increment(&values, index).await;
            }
        }));
    }
}

/// Four tasks of two steps on their own values and one on a common one.
fn shared1(runtime: &Runtime) {
    let values = values(5);
    for index in 0..4 {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            increment(&values, index).await;
            increment(&values, index).await;
            values[4].write(|value| *value += 1);
        }));
    }
}

/// Three tasks increment a number under a fair lock, twice each.
fn counter(runtime: &Runtime) {
    let number = Arc::new(Mutex::new(0_u64));
    for _ in 0..3 {
        let number = number.clone();
        drop(runtime.spawn("t", async move {
            for _ in 0..2 {
                let mut guard = number.lock().await;
                *guard += 1;
                guard.unlock();
            }
        }));
    }
}

/// Three tasks read, then write.
fn lost_update(runtime: &Runtime) {
    let values = values(1);
    for _ in 0..3 {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            let read = values[0].read(|value| *value);
            door::boundary().await;
            values[0].write(|value| *value = read + 1);
        }));
    }
}

/// One writes, three read.
fn readers(runtime: &Runtime) {
    let values = values(1);
    for index in 0..4 {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            match index {
                0 => values[0].write(|value| *value = 1),
                _ => drop(values[0].read(|value| *value)),
            }
        }));
    }
}

/// Two requests are in flight; a drain waits until none is.
fn drain(runtime: &Runtime) {
    let values = values(1);
    let (in_flight, ended) = (Arc::new(Mutex::new(2_u64)), Arc::new(WaitQueue::default()));
    for _ in 0..2 {
        let (values, in_flight, ended) = (values.clone(), in_flight.clone(), ended.clone());
        drop(runtime.spawn("request", async move {
            increment(&values, 0).await;
            let mut count = in_flight.lock().await;
            *count -= 1;
            if *count == 0 {
                ended.notify_all();
            }
            count.unlock();
        }));
    }
    drop(runtime.spawn("drain", async move {
        loop {
            let count = in_flight.lock().await;
            let (left, ticket) = (*count, ended.register());
            count.unlock();
            if left == 0 {
                return;
            }
            ticket.wait().await;
        }
    }));
}

/// Two messages through a queue for one.
fn channel(runtime: &Runtime) {
    let queue: Arc<Shared<VecDeque<u64>>> = Arc::default();
    let receiving = queue.clone();
    drop(runtime.spawn("sender", async move {
        for message in 0..2 {
            let room = |queue: &VecDeque<u64>| queue.is_empty();
            queue.wait_for(room, |queue| queue.push_back(message)).await;
        }
    }));
    drop(runtime.spawn("receiver", async move {
        for message in 0..2 {
            let some = |queue: &VecDeque<u64>| !queue.is_empty();
            let received = receiving.wait_for(some, VecDeque::pop_front).await;
            assert_eq!(received, Some(message));
        }
    }));
}

/// Three tasks take two neighbours of a ring of locks each.
fn deadlock(runtime: &Runtime) {
    let ring: Arc<Vec<Mutex<()>>> = Arc::new((0..3).map(|_| Mutex::new(())).collect());
    for index in 0..3 {
        let ring = ring.clone();
        drop(runtime.spawn("t", async move {
            let first = ring[index].lock().await;
            let second = ring[(index + 1) % 3].lock().await;
            second.unlock();
            first.unlock();
        }));
    }
}

/// A flag is up for one step, between twenty and twenty steps of no interest.
fn needle(runtime: &Runtime) {
    let values = values(3);
    for index in 0..2 {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            for _ in 0..20 {
                increment(&values, index).await;
            }
            match index {
                0 => {
                    values[2].write(|flag| *flag = 1);
                    door::boundary().await;
                    values[2].write(|flag| *flag = 0);
                }
                _ => drop(values[2].read(|flag| *flag)),
            }
            door::boundary().await;
            for _ in 0..20 {
                increment(&values, index).await;
            }
        }));
    }
}

type Body = fn(&Runtime);

struct Small(Body);

impl Program for Small {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        world.begin(self.0);
        Box::new(AnyEnd)
    }
}

struct AnyEnd;

impl Execution for AnyEnd {
    fn judge(&self, _world: &World) -> Option<Finding> {
        None
    }

    fn digest(&self, _world: &World) -> u64 {
        0
    }
}

fn explore(program: &dyn Program, setup: Setup, reduction: Reduction) -> (Exploration, Duration) {
    let limits = Limits { executions: MOST_EXECUTIONS, ..Limits::default() };
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(program, setup, limits, &mut go_on);
    let began = Instant::now();
    let exploration = explorer.depth_first(reduction);
    (exploration, began.elapsed())
}

fn row(name: &str, program: &dyn Program, setup: &Setup, reduction: Reduction) {
    let (exploration, first) = explore(program, setup.clone(), reduction);
    let mut times = vec![first];
    while times.len() < 3 && first < Duration::from_secs(1) {
        times.push(explore(program, setup.clone(), reduction).1);
    }
    times.sort();
    let seconds = times[times.len() / 2].as_secs_f64();
    let Summary { executions, blocked, steps, .. } = exploration.summary;
    let more = match exploration.verdict {
        Verdict::Clean { exhausted: true } => "",
        Verdict::Clean { exhausted: false } => ">",
        broken => panic!("{name}: {broken:?}"),
    };
    let strategy = if reduction == Reduction::Plain { "dfs" } else { "reduced" };
    let executions_shown = format!("{more}{executions}");
    println!(
        "{name:<20} {strategy:<8} {executions_shown:>10} {blocked:>8} {:>9.1} {:>12.0} {:>10.0}",
        steps as f64 / executions as f64,
        executions as f64 / seconds,
        steps as f64 / seconds,
    );
}

fn main() {
    println!(
        "{:<20} {:<8} {:>10} {:>8} {:>9} {:>12} {:>10}",
        "program", "strategy", "executions", "blocked", "steps/ex", "executions/s", "steps/s"
    );
    let programs: [(&str, Body); 9] = [
        ("disjoint 5x3", disjoint),
        ("shared1 4x(2+1)", shared1),
        ("counter 3x2", counter),
        ("lost_update 3", lost_update),
        ("readers 1+3", readers),
        ("drain 2", drain),
        ("channel 2", channel),
        ("deadlock ring 3", deadlock),
        ("needle 20", needle),
    ];
    let none = Budgets::NONE;
    let setup = Setup { images: Vec::new(), budgets: none, ..Setup::default() };
    for (name, body) in programs {
        for reduction in [Reduction::Plain, Reduction::Optimal] {
            row(name, &Small(body), &setup, reduction);
        }
    }
    let text = builtin("resurrected-filter").expect("the scenario is built in");
    let script = Script::compile(text, &Parameters::new()).expect("the scenario is right");
    let setup = setup_of(&script, 0, 0);
    let scenario = ScenarioProgram { script: Arc::new(script), design: Design::default() };
    row("resurrected-filter", &scenario, &setup, Reduction::Optimal);
}
