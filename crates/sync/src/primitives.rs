//! The usual async primitives, each a few lines over [`Shared`]; hand-over is first come, first served.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use crate::door;
use crate::shared::Shared;

/// A latch: set once, and for ever.
#[derive(Default)]
pub struct Event(Shared<bool>);

impl Event {
    /// Sets it.
    pub fn set(&self) {
        self.0.write(|set| *set = true);
    }

    /// Whether it was set.
    pub fn is_set(&self) -> bool {
        self.0.read(|set| *set)
    }

    /// Waits until it is set.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn wait(&self) {
        self.0.wait_until(|set| *set).await;
    }
}

/// Wakes those who registered before; the predicate is the caller's. A notification that comes before the
/// registration is not seen: where a value can be waited for, [`Shared::wait_for`] cannot lose it.
#[derive(Default)]
pub struct WaitQueue(Shared<u64>);

/// A registration with a [`WaitQueue`]: look at the condition after taking it, then wait with it.
#[must_use = "a registration that nobody waits with is of no use"]
pub struct Ticket<'a> {
    queue: &'a WaitQueue,
    registered: u64,
}

impl WaitQueue {
    /// Registers for the next notification.
    pub fn register(&self) -> Ticket<'_> {
        Ticket { queue: self, registered: self.0.read(|epoch| *epoch) }
    }

    /// Wakes everyone registered.
    pub fn notify_all(&self) {
        self.0.write(|epoch| *epoch += 1);
    }
}

impl Ticket<'_> {
    /// Waits until notified since the registration.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn wait(self) {
        let registered = self.registered;
        self.queue.0.wait_until(move |epoch| *epoch > registered).await;
    }
}

/// The sending half of a [`oneshot`].
pub struct Sender<T>(Arc<Shared<Option<T>>>);

/// The receiving half of a [`oneshot`].
pub struct Receiver<T>(Arc<Shared<Option<T>>>);

/// A place for one value that one task leaves and another takes.
pub fn oneshot<T>() -> (Sender<T>, Receiver<T>) {
    let slot = Arc::new(Shared::new(None));
    (Sender(slot.clone()), Receiver(slot))
}

impl<T> Sender<T> {
    /// Leaves the value.
    pub fn send(self, value: T) {
        self.0.write(|slot| *slot = Some(value));
    }
}

impl<T: 'static> Receiver<T> {
    /// Waits for the value and takes it.
    ///
    /// # Yields
    /// Always, at least once. For ever, if the sender was dropped without sending.
    pub async fn receive(self) -> T {
        self.0.wait_handed(Option::is_some, |slot| slot.take().expect("guard-holds")).await
    }
}

/// A lock that may be held across awaits; first come, first served. Invariant `one-owner`: from the end of
/// [`Mutex::lock`] until the guard is unlocked nobody else has a guard.
pub struct Mutex<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    /// The next number to be drawn.
    tail: Shared<u64>,
    /// The number being served, and the value while nobody has it.
    owner: Shared<(u64, Option<T>)>,
}

impl<T: Send + 'static> Mutex<T> {
    /// An unlocked lock.
    pub fn new(value: T) -> Self {
        let inner = Inner { tail: Shared::new(0), owner: Shared::new((0, Some(value))) };
        Self { inner: Arc::new(inner) }
    }

    /// Waits for its turn.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn lock(&self) -> MutexGuard<T> {
        let number = self.inner.tail.write(|tail| {
            *tail += 1;
            *tail - 1
        });
        let mut turn = Turn { inner: Some(self.inner.clone()), number };
        let guard =
            move |(serving, value): &(u64, Option<T>)| *serving == number && value.is_some();
        let value = self.inner.owner.wait_handed(guard, |(_, value)| value.take()).await;
        turn.inner = None;
        MutexGuard { inner: self.inner.clone(), value }
    }
}

/// A drawn number; if its holder goes away before it is served, the turn is passed on.
struct Turn<T: Send + 'static> {
    inner: Option<Arc<Inner<T>>>,
    number: u64,
}

impl<T: Send + 'static> Drop for Turn<T> {
    fn drop(&mut self) {
        let number = self.number;
        if let Some(inner) = self.inner.take() {
            door::bequeath(Box::pin(async move {
                let guard = move |state: &(u64, Option<T>)| state.0 == number && state.1.is_some();
                inner.owner.wait_handed(guard, |state| state.0 += 1).await;
            }));
        }
    }
}

/// The value of a locked [`Mutex`]. Unlock it by name: if it is merely dropped, it is unlocked a step later, by a
/// task of its own.
#[must_use = "a guard is to be unlocked"]
pub struct MutexGuard<T: Send + 'static> {
    inner: Arc<Inner<T>>,
    value: Option<T>,
}

impl<T: Send + 'static> MutexGuard<T> {
    /// Lets the next one in.
    pub fn unlock(mut self) {
        let value = self.value.take();
        release(&self.inner, value);
    }
}

fn release<T>(inner: &Inner<T>, value: Option<T>) {
    inner.owner.write(|state| *state = (state.0 + 1, value));
}

impl<T: Send + 'static> std::ops::Deref for MutexGuard<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("one-owner")
    }
}

impl<T: Send + 'static> std::ops::DerefMut for MutexGuard<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("one-owner")
    }
}

impl<T: Send + 'static> Drop for MutexGuard<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            let inner = self.inner.clone();
            door::bequeath(Box::pin(async move { release(&inner, Some(value)) }));
        }
    }
}

/// Waits until one of two waits ends; the other is dropped. `a` is looked at first: once it has ended, `b` does not
/// move any more. Tells whether it was `a`.
///
/// # Yields
/// As the two do.
pub async fn first_of(a: impl Future<Output = ()>, b: impl Future<Output = ()>) -> bool {
    let (mut a, mut b) = (pin!(a), pin!(b));
    std::future::poll_fn(|context| {
        if a.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        b.as_mut().poll(context).map(|()| false)
    })
    .await
}
