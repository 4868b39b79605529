//! Small programs over the door. Each is given the numbers of its tasks in the order in which they are spawned.

use std::collections::VecDeque;
use std::sync::Arc;

use blockyard_runtime::Runtime;
use blockyard_sim::{Execution, Finding, Program, World};
use blockyard_sync::{Mutex, Shared, WaitQueue, door};

/// Spawns its tasks.
pub type Body = fn(&Runtime, &[usize]);

/// A program whose tasks must all end.
pub struct Small {
    body: Body,
    order: Vec<usize>,
}

impl Small {
    /// With so many tasks.
    pub fn new(body: Body, tasks: usize) -> Self {
        Self { body, order: (0..tasks).collect() }
    }

    /// With as many tasks as there are numbers.
    pub fn in_order(body: Body, order: Vec<usize>) -> Self {
        Self { body, order }
    }
}

impl Program for Small {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        world.begin(|runtime| (self.body)(runtime, &self.order));
        Box::new(AllEnd)
    }
}

struct AllEnd;

impl Execution for AllEnd {
    fn judge(&self, world: &World) -> Option<Finding> {
        let unfinished = world.unfinished();
        let message = unfinished.first().map(|name| format!("{name} never ended"))?;
        Some(Finding { property: "progress".into(), message })
    }

    fn digest(&self, _world: &World) -> u64 {
        0
    }
}

pub type Values = Arc<Vec<Shared<u64>>>;

pub fn values(count: usize) -> Values {
    Arc::new((0..count).map(|_| Shared::new(0)).collect())
}

pub async fn increment(values: &Values, index: usize) {
    values[index].write(|value| *value += 1);
    door::boundary().await;
}

/// Each does three steps on a value of its own.
pub fn disjoint(runtime: &Runtime, order: &[usize]) {
    let values = values(order.len());
    for &index in order {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            for _ in 0..3 {
                increment(&values, index).await;
            }
        }));
    }
}

/// The same, where the first task spawns the others and joins them.
pub fn joined(runtime: &Runtime, order: &[usize]) {
    let (values, own, others) = (values(order.len()), order[0], order[1..].to_vec());
    let spawner = runtime.clone();
    drop(runtime.spawn("main", async move {
        let three_steps = async |values: Values, index| {
            for _ in 0..3 {
                increment(&values, index).await;
            }
        };
        let spawn = |index| spawner.spawn("t", three_steps(values.clone(), index));
        let handles: Vec<_> = others.into_iter().map(spawn).collect();
        three_steps(values.clone(), own).await;
        for handle in handles {
            handle.join().await;
        }
    }));
}

/// Each does nothing, three times.
pub fn yields(runtime: &Runtime, order: &[usize]) {
    for _ in order {
        drop(runtime.spawn("t", async {
            for _ in 0..3 {
                door::boundary().await;
            }
        }));
    }
}

/// Each does two steps on a value of its own, and one on a common one.
pub fn shared(runtime: &Runtime, order: &[usize]) {
    let values = values(order.len() + 1);
    let common = order.len();
    for &index in order {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            increment(&values, index).await;
            increment(&values, index).await;
            values[common].write(|value| *value += 1);
        }));
    }
}

/// Each increments a number under a fair lock, twice.
pub fn counter(runtime: &Runtime, order: &[usize]) {
    let number = Arc::new(Mutex::new(0_u64));
    for _ in order {
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

/// The same with yields while the lock is held. Each asks again in the step that gave back: with a yield between the
/// two there are 90 orders of asking, not 30.
pub fn fair(runtime: &Runtime, order: &[usize]) {
    let number = Arc::new(Mutex::new(0_u64));
    for _ in order {
        let number = number.clone();
        drop(runtime.spawn("t", async move {
            for _ in 0..2 {
                let mut guard = number.lock().await;
                door::boundary().await;
                *guard += 1;
                door::boundary().await;
                guard.unlock();
            }
        }));
    }
}

/// The same under a lock that whoever comes first takes, and with a yield before each operation.
pub fn barging(runtime: &Runtime, order: &[usize]) {
    let held = Arc::new(Shared::remembered(false, bool::clone));
    let number = values(1);
    for _ in order {
        let (held, number) = (held.clone(), number.clone());
        drop(runtime.spawn("t", async move {
            for _ in 0..2 {
                door::boundary().await;
                held.wait_for(|held| !held, |held| *held = true).await;
                door::boundary().await;
                number[0].write(|number| *number += 1);
                door::boundary().await;
                held.write(|held| *held = false);
            }
        }));
    }
}

/// Each reads, then writes.
pub fn lost_update(runtime: &Runtime, order: &[usize]) {
    let values = values(1);
    for _ in order {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            let read = values[0].read(|value| *value);
            door::boundary().await;
            values[0].write(|value| *value = read + 1);
        }));
    }
}

/// The first writes, the others read.
pub fn readers(runtime: &Runtime, order: &[usize]) {
    let values = values(1);
    for &index in order {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            match index {
                0 => values[0].write(|value| *value = 1),
                _ => drop(values[0].read(|value| *value)),
            }
        }));
    }
}

/// Requests in flight, and who waits until there are none.
struct Drain {
    data: Values,
    in_flight: Mutex<u64>,
    /// What is in flight, for those who do not lock.
    seen: Shared<u64>,
    ended: WaitQueue,
}

impl Drain {
    fn of(requests: usize) -> Arc<Self> {
        let (count, ended) = (requests as u64, WaitQueue::default());
        let (in_flight, seen) = (Mutex::new(count), Shared::new(count));
        Arc::new(Self { data: values(1), in_flight, seen, ended })
    }

    async fn request(&self) {
        increment(&self.data, 0).await;
        let mut count = self.in_flight.lock().await;
        *count -= 1;
        self.seen.write(|seen| *seen = *count);
        if *count == 0 {
            self.ended.notify_all();
        }
        count.unlock();
    }

    async fn drain(&self) {
        loop {
            let count = self.in_flight.lock().await;
            let (left, ticket) = (*count, self.ended.register());
            count.unlock();
            if left == 0 {
                return;
            }
            ticket.wait().await;
        }
    }

    /// Does not look again under the lock: the last request may have ended since.
    async fn drain_and_miss(&self) {
        if self.seen.read(|seen| *seen) > 0 {
            let count = self.in_flight.lock().await;
            let ticket = self.ended.register();
            count.unlock();
            ticket.wait().await;
        }
    }
}

/// The first drains, the others are requests.
pub fn drain(runtime: &Runtime, order: &[usize]) {
    drain_beside(runtime, order, false);
}

/// The same with a lost wake-up.
pub fn drain_that_misses(runtime: &Runtime, order: &[usize]) {
    drain_beside(runtime, order, true);
}

fn drain_beside(runtime: &Runtime, order: &[usize], misses: bool) {
    let drain = Drain::of(order.len() - 1);
    for &index in order {
        let drain = drain.clone();
        drop(match index {
            0 if misses => runtime.spawn("drain", async move { drain.drain_and_miss().await }),
            0 => runtime.spawn("drain", async move { drain.drain().await }),
            _ => runtime.spawn("request", async move { drain.request().await }),
        });
    }
}

/// The first receives what the others send, two messages each, through a queue for one.
pub fn channel(runtime: &Runtime, order: &[usize]) {
    let queue = Arc::new(Shared::remembered(VecDeque::<u64>::new(), VecDeque::clone));
    let messages = 2 * (order.len() - 1);
    for &index in order {
        let queue = queue.clone();
        drop(match index {
            0 => runtime.spawn("receiver", async move {
                for _ in 0..messages {
                    let some = |queue: &VecDeque<u64>| !queue.is_empty();
                    queue.wait_for(some, VecDeque::pop_front).await;
                }
            }),
            _ => runtime.spawn("sender", async move {
                for message in 0..2 {
                    let room = |queue: &VecDeque<u64>| queue.is_empty();
                    queue.wait_for(room, |queue| queue.push_back(message)).await;
                }
            }),
        });
    }
}

/// Each takes two neighbours of a ring of locks.
pub fn ring(runtime: &Runtime, order: &[usize]) {
    let locks: Arc<Vec<Mutex<()>>> = Arc::new(order.iter().map(|_| Mutex::new(())).collect());
    for &index in order {
        let locks = locks.clone();
        drop(runtime.spawn("t", async move {
            let first = locks[index].lock().await;
            let second = locks[(index + 1) % locks.len()].lock().await;
            second.unlock();
            first.unlock();
        }));
    }
}

/// The second raises a flag for one step, and the first must not see that: both between fifty steps and fifty of no
/// interest.
pub fn needle(runtime: &Runtime, order: &[usize]) {
    let values = values(3);
    for &index in order {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            for _ in 0..50 {
                increment(&values, index).await;
            }
            match index {
                0 => assert_eq!(values[2].read(|flag| *flag), 0, "the flag was seen"),
                _ => {
                    values[2].write(|flag| *flag = 1);
                    door::boundary().await;
                    values[2].write(|flag| *flag = 0);
                }
            }
            door::boundary().await;
            for _ in 0..50 {
                increment(&values, index).await;
            }
        }));
    }
}
