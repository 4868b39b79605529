//! Tasks, time and random numbers on the real machine.
//!
//! Invariants:
//! - `orphans-are-adopted`: what a poll, or the end of a task, bequeaths becomes a task of its own at once.
//! - `panics-are-noticed`: a panic in a task is printed by the panic hook, recorded for [`Host::failed`], and ends a
//!   [`Host::block_on`] that still waits: whoever waits for that task would wait for ever.
//!
//! Timers have the resolution of tokio's, a millisecond, and are never early.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use blockyard_runtime::{BoxFuture, Executor, Runtime};
use blockyard_sync::door;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::task::Task;

/// How long the end of a host waits for polls that do not return.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// The machine's executor. Dropping it drops every task where it stands and waits (a few seconds at most) for polls
/// that are going on; inside a task of any tokio runtime it does not wait.
pub struct Host {
    /// There until the drop.
    threads: Option<tokio::runtime::Runtime>,
    machine: Machine,
}

/// What tasks know of their host.
#[derive(Clone)]
pub(crate) struct Machine {
    handle: Handle,
    start: Instant,
    failure: watch::Sender<Option<String>>,
}

impl Host {
    /// How many threads are enough where nobody asks for more.
    pub const DEFAULT_WORKERS: usize = 2;

    /// A host whose tasks run on `workers` threads (at least one).
    ///
    /// # Errors
    /// If the system has no threads or descriptors left.
    pub fn new(workers: usize) -> io::Result<Self> {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers.max(1))
            .thread_name("blockyard-task")
            .enable_time()
            .enable_io()
            .build()?;
        let machine = Machine {
            handle: threads.handle().clone(),
            start: Instant::now(),
            failure: watch::Sender::new(None),
        };
        Ok(Self { threads: Some(threads), machine })
    }

    /// This host, as the block layer sees it. Once the host is dropped, what is spawned through it never runs.
    pub fn runtime(&self) -> Runtime {
        Runtime::new(Arc::new(self.machine.clone()))
    }

    /// The first panic of a task so far: the task's name and the message.
    pub fn failed(&self) -> Option<String> {
        self.machine.failure.borrow().clone()
    }

    /// Runs `future` on this thread, and the tasks beside it, until it ends.
    ///
    /// # Panics
    /// If `future` does, or a task did (see [`Host::failed`]) and `future` still waits; if called within a task.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        // Dropped after the future, whose end may bequeath too.
        let _adopts = AdoptsAtEnd(&self.machine);
        let mut future = pin!(future);
        let mut failure = self.machine.failure.subscribe();
        let mut failed = pin!(failure.wait_for(Option::is_some));
        let threads = self.threads.as_ref().expect("there-until-the-drop");
        threads.block_on(poll_fn(|context| {
            let polled = future.as_mut().poll(context);
            self.machine.adopt_orphans();
            if polled.is_pending()
                && let Poll::Ready(found) = failed.as_mut().poll(context)
            {
                let message = found.expect("the-host-outlives-its-block-on").clone();
                panic!("panics-are-noticed: {}", message.unwrap_or_default());
            }
            polled
        }))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let threads = self.threads.take().expect("there-until-the-drop");
        if Handle::try_current().is_ok() {
            threads.shutdown_background();
        } else {
            threads.shutdown_timeout(SHUTDOWN_WAIT);
        }
        // Of tasks that were dropped on this thread; their host is gone, so they go too.
        self.machine.adopt_orphans();
    }
}

struct AdoptsAtEnd<'a>(&'a Machine);

impl Drop for AdoptsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.adopt_orphans();
    }
}

impl Machine {
    /// Makes tasks of what was bequeathed on this thread. After the host's end they are dropped at once.
    pub(crate) fn adopt_orphans(&self) {
        for orphan in door::take_orphans() {
            self.spawn("orphan".into(), orphan);
        }
    }

    /// Keeps the first panic.
    pub(crate) fn record_failure(&self, message: String) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(message);
            first
        });
    }
}

impl Executor for Machine {
    fn spawn(&self, name: Cow<'static, str>, task: BoxFuture<'static, ()>) {
        // Nobody waits for it here: the runtime's own handle does that, and panics are recorded.
        drop(self.handle.spawn(Task::new(name, task, self.clone())));
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn date_ns(&self) -> u64 {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration_ns: u64) -> BoxFuture<'static, ()> {
        let _entered = self.handle.enter();
        let timer = tokio::time::sleep(Duration::from_nanos(duration_ns));
        Box::pin(async move {
            // A timer may be over at its first poll, and a sleep always yields.
            tokio::task::yield_now().await;
            timer.await;
        })
    }

    fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        let flags = rustix::rand::GetRandomFlags::empty();
        let filled = rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut bytes, flags));
        assert_eq!(filled, Ok(bytes.len()), "the-system-has-random-numbers");
        u64::from_ne_bytes(bytes)
    }

    fn choose(&self, alternatives: u32) -> BoxFuture<'static, u32> {
        assert_ne!(alternatives, 0, "one-alternative-at-least");
        let drawn = (u128::from(self.random_u64()) * u128::from(alternatives)) >> u64::BITS;
        Box::pin(async move {
            tokio::task::yield_now().await;
            u32::try_from(drawn).expect("drawn-below-the-alternatives")
        })
    }
}
