//! Tasks and time.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;

use blockyard_sync::{Receiver, oneshot};

/// A future whose type nobody needs to know.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a world does for the block layer.
pub trait Executor: Send + Sync {
    /// Runs `task` beside the caller. `name` is what people read; the world makes it unique among the caller's
    /// children.
    fn spawn(&self, name: Cow<'static, str>, task: BoxFuture<'static, ()>);

    /// Nanoseconds since the world began.
    fn now_ns(&self) -> u64;

    /// Nanoseconds since 1970; in a world without a calendar those since it began.
    fn date_ns(&self) -> u64 {
        self.now_ns()
    }

    /// Ends when `duration_ns` have passed. Dropping it disarms the timer.
    fn sleep(&self, duration_ns: u64) -> BoxFuture<'static, ()>;

    /// The next number of the running task's own stream of random numbers.
    fn random_u64(&self) -> u64;

    /// Decides between `alternatives` ways to go on: an exploration tries each, the host draws one.
    fn choose(&self, alternatives: u32) -> BoxFuture<'static, u32>;
}

/// A world, as the block layer sees it.
#[derive(Clone)]
pub struct Runtime(Arc<dyn Executor>);

impl Runtime {
    /// The block layer's view of `executor`.
    pub fn new(executor: Arc<dyn Executor>) -> Self {
        Self(executor)
    }

    /// Runs `task` beside the caller; its end can be awaited.
    pub fn spawn<T, F>(&self, name: impl Into<Cow<'static, str>>, task: F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (sender, receiver) = oneshot();
        let body = async move { sender.send(task.await) };
        self.0.spawn(name.into(), Box::pin(body));
        JoinHandle(receiver)
    }

    /// Nanoseconds since the world began.
    pub fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }

    /// Nanoseconds since 1970, for people; in a world without a calendar those since it began.
    pub fn date_ns(&self) -> u64 {
        self.0.date_ns()
    }

    /// Waits `duration_ns`.
    ///
    /// # Yields
    /// Always.
    pub async fn sleep(&self, duration_ns: u64) {
        self.0.sleep(duration_ns).await;
    }

    /// The next number of the running task's own stream of random numbers.
    pub fn random_u64(&self) -> u64 {
        self.0.random_u64()
    }

    /// Fills `bytes` with such numbers.
    pub fn fill_random(&self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.random_u64().to_be_bytes()[..piece.len()]);
        }
    }

    /// Decides between `alternatives` (at least one) ways to go on: an exploration tries each, the host draws one.
    ///
    /// # Yields
    /// Always.
    pub async fn choose(&self, alternatives: u32) -> u32 {
        self.0.choose(alternatives).await
    }
}

/// The end of a task. Dropping it lets the task run on.
pub struct JoinHandle<T>(Receiver<T>);

impl<T: 'static> JoinHandle<T> {
    /// Waits for the task's result.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn join(self) -> T {
        self.0.receive().await
    }
}
