//! The small programs as threads. Compiled once for each tool, which provides `rt`.

use std::collections::VecDeque;
use std::ops::{DerefMut, Range};
use std::sync::Arc;

use super::rt::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use super::rt::sync::{Condvar, Mutex};
use super::rt::thread;

type Values = Arc<Vec<AtomicUsize>>;

fn values(count: usize) -> Values {
    Arc::new((0..count).map(|_| AtomicUsize::new(0)).collect())
}

/// Runs `task` with each of these numbers in a thread of its own, does what this thread does, and joins them.
fn beside(tasks: Range<usize>, task: impl Fn(usize) + Clone + Send + 'static, here: impl FnOnce()) {
    let spawn = |index| {
        let task = task.clone();
        thread::spawn(move || task(index))
    };
    let handles: Vec<_> = tasks.map(spawn).collect();
    here();
    handles.into_iter().for_each(|handle| handle.join().expect("no-thread-panics"));
}

/// The main thread is the first task.
fn with_main(tasks: usize, task: impl Fn(usize) + Clone + Send + 'static) {
    beside(1..tasks, task.clone(), || task(0));
}

/// The main thread is none of the tasks.
fn without_main(tasks: usize, task: impl Fn(usize) + Clone + Send + 'static) {
    beside(0..tasks, task, || ());
}

fn in_lock<T>(mutex: &Mutex<T>) -> impl DerefMut<Target = T> + '_ {
    mutex.lock().expect("no-lock-is-poisoned")
}

fn private_steps(tasks: usize) {
    let values = values(tasks);
    with_main(tasks, move |index| {
        for _ in 0..3 {
            values[index].fetch_add(1, SeqCst);
        }
    });
}

pub fn disjoint() {
    private_steps(5);
}

pub fn disjoint_of_3() {
    private_steps(3);
}

pub fn shared() {
    let values = values(5);
    with_main(4, move |index| {
        values[index].fetch_add(1, SeqCst);
        values[index].fetch_add(1, SeqCst);
        values[4].fetch_add(1, SeqCst);
    });
}

pub fn counter() {
    let number = Arc::new(Mutex::new(0_u64));
    without_main(3, move |_| {
        for _ in 0..2 {
            *in_lock(&number) += 1;
        }
    });
}

pub fn lost_update() {
    let values = values(1);
    without_main(3, move |_| {
        let read = values[0].load(SeqCst);
        values[0].store(read + 1, SeqCst);
    });
}

pub fn readers() {
    let values = values(1);
    with_main(4, move |index| match index {
        0 => values[0].store(1, SeqCst),
        _ => drop(values[0].load(SeqCst)),
    });
}

struct Drain {
    data: AtomicUsize,
    in_flight: Mutex<usize>,
    seen: AtomicUsize,
    ended: Condvar,
}

impl Drain {
    fn of(requests: usize) -> Arc<Self> {
        let (in_flight, seen) = (Mutex::new(requests), AtomicUsize::new(requests));
        Arc::new(Self { data: AtomicUsize::new(0), in_flight, seen, ended: Condvar::new() })
    }

    fn request(&self) {
        self.data.fetch_add(1, SeqCst);
        let mut count = in_lock(&self.in_flight);
        *count -= 1;
        self.seen.store(*count, SeqCst);
        if *count == 0 {
            self.ended.notify_all();
        }
    }
}

pub fn drain() {
    let drain = Drain::of(2);
    with_main(3, move |index| {
        if index > 0 {
            return drain.request();
        }
        let mut count = drain.in_flight.lock().expect("no-lock-is-poisoned");
        while *count > 0 {
            count = drain.ended.wait(count).expect("no-lock-is-poisoned");
        }
    });
}

pub fn drain_that_misses() {
    let drain = Drain::of(2);
    with_main(3, move |index| {
        if index > 0 {
            return drain.request();
        }
        if drain.seen.load(SeqCst) > 0 {
            let count = drain.in_flight.lock().expect("no-lock-is-poisoned");
            drop(drain.ended.wait(count).expect("no-lock-is-poisoned"));
        }
    });
}

#[derive(Default)]
struct Queue {
    messages: Mutex<VecDeque<usize>>,
    changed: Condvar,
}

impl Queue {
    /// Waits for this many messages, and changes them.
    fn when(&self, count: usize, change: impl FnOnce(&mut VecDeque<usize>)) {
        let mut messages = self.messages.lock().expect("no-lock-is-poisoned");
        while messages.len() != count {
            messages = self.changed.wait(messages).expect("no-lock-is-poisoned");
        }
        change(&mut messages);
        self.changed.notify_all();
    }
}

pub fn channel() {
    let queue = Arc::new(Queue::default());
    with_main(3, move |index| match index {
        0 => (0..4).for_each(|_| queue.when(1, VecDeque::clear)),
        _ => (0..2).for_each(|message| queue.when(0, |messages| messages.push_back(message))),
    });
}

pub fn ring() {
    let locks: Arc<Vec<Mutex<()>>> = Arc::new((0..3).map(|_| Mutex::new(())).collect());
    without_main(3, move |index| {
        let first = in_lock(&locks[index]);
        let second = in_lock(&locks[(index + 1) % 3]);
        drop(second);
        drop(first);
    });
}

pub fn needle() {
    let values = values(3);
    with_main(2, move |index| {
        for _ in 0..50 {
            values[index].fetch_add(1, SeqCst);
        }
        match index {
            0 => assert_eq!(values[2].load(SeqCst), 0, "the flag was seen"),
            _ => {
                values[2].store(1, SeqCst);
                values[2].store(0, SeqCst);
            }
        }
        for _ in 0..50 {
            values[index].fetch_add(1, SeqCst);
        }
    });
}

/// As ours are named and sized.
pub const SMALL: &[(&str, fn())] = &[
    ("disjoint 3x3", disjoint_of_3),
    ("shared 4x(2+1)", shared),
    ("counter 3x2", counter),
    ("lost update 3", lost_update),
    ("readers 1+3", readers),
    ("drain 2", drain),
    ("channel 2x2", channel),
];
