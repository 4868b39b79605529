//! Threads that wait for a disk, so that no task has to.
//!
//! Invariants:
//! - `submitted-takes-place`: an operation that was submitted runs, whoever goes away; the pool ends only after its
//!   last operation.
//! - `one-worker-at-least`: a pool that exists has a thread, so an operation never waits for one to be made.
//!
//! The blocking threads of tokio would not do: their queue is dropped when their runtime ends.
//! Not for: anything that computes, or waits for a task.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

/// How many operations of one file overlap at most; the others queue.
const WORKERS_MAX: usize = 16;

pub(crate) type Operation = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Operation>,
    /// How many threads wait for an operation.
    idle: usize,
    closed: bool,
}

#[derive(Default)]
struct Desk {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// A queue of operations and the threads that take them. Dropping it waits until all of them have run.
pub(crate) struct Pool {
    desk: Arc<Desk>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    /// A pool with one thread; more come as operations overlap.
    pub(crate) fn new() -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let first = start_worker(&desk)?;
        Ok(Self { desk, workers: Mutex::new(vec![first]) })
    }

    /// Queues `operation`; it will run even if the pool is dropped at once.
    pub(crate) fn submit(&self, operation: Operation) {
        let short_of_hands = {
            let mut queue = self.desk.lock();
            queue.waiting.push_back(operation);
            queue.waiting.len() > queue.idle
        };
        self.desk.changed.notify_one();
        if short_of_hands {
            let mut workers = self.workers.lock().expect("nothing-panics-under-the-lock");
            if workers.len() < WORKERS_MAX {
                // Without one more thread the operation only waits longer: one-worker-at-least.
                workers.extend(start_worker(&self.desk));
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.desk.lock().closed = true;
        self.desk.changed.notify_all();
        let workers = self.workers.get_mut().expect("nothing-panics-under-the-lock");
        for worker in workers.drain(..) {
            // An answer may wake the last owner of the pool to its end on the pool's own thread.
            if worker.thread().id() != thread::current().id() {
                worker.join().expect("operations-do-not-panic");
            }
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing-panics-under-the-lock")
    }

    /// The next operation, or none if the pool is closed and the queue is empty.
    fn next(&self) -> Option<Operation> {
        let mut queue = self.lock();
        loop {
            if let Some(operation) = queue.waiting.pop_front() {
                return Some(operation);
            }
            if queue.closed {
                return None;
            }
            queue.idle += 1;
            queue = self.changed.wait(queue).expect("nothing-panics-under-the-lock");
            queue.idle -= 1;
        }
    }
}

fn start_worker(desk: &Arc<Desk>) -> io::Result<JoinHandle<()>> {
    let desk = desk.clone();
    thread::Builder::new().name("blockyard-io".into()).spawn(move || {
        while let Some(operation) = desk.next() {
            operation();
        }
    })
}
