//! The usual async primitives, each a few lines over [`Shared`]; without hand-over: nobody waits for a turn.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

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
