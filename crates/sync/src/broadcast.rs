//! Messages to everyone who listens.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::door;
use crate::inbox::Inbox;
use crate::shared::Shared;

type Mailbox<T> = Arc<Shared<Inbox<T>>>;

/// Who subscribed, by number.
struct List<T> {
    next: u64,
    mailboxes: BTreeMap<u64, Mailbox<T>>,
}

/// Hands each message to everyone who subscribed before, in one order. Sending never waits: a mailbox grows until its
/// subscriber receives. It is a read of the list and a write of each mailbox.
pub struct Broadcast<T>(Arc<Shared<List<T>>>);

impl<T> Default for Broadcast<T> {
    fn default() -> Self {
        Self(Arc::new(Shared::new(List { next: 0, mailboxes: BTreeMap::new() })))
    }
}

impl<T: Clone + Send + 'static> Broadcast<T> {
    /// From now on every message is kept for the subscriber.
    pub fn subscribe(&self) -> Subscriber<T> {
        let mailbox = Mailbox::default();
        let number = self.0.write(|list| {
            list.mailboxes.insert(list.next, mailbox.clone());
            list.next += 1;
            list.next - 1
        });
        Subscriber { list: Some(self.0.clone()), number, mailbox }
    }

    /// Leaves `message` with every subscriber.
    pub fn send(&self, message: &T) {
        // Within the passage, so that two senders at once come in the same order everywhere.
        self.0.read(|list| {
            for mailbox in list.mailboxes.values() {
                mailbox.write_within(|mailbox| mailbox.push(message.clone()));
            }
        });
    }
}

/// One who listens to a [`Broadcast`]. Unsubscribe by name: if it is merely dropped, it is unsubscribed a step later,
/// by a task of its own.
pub struct Subscriber<T: Clone + Send + 'static> {
    /// None once it was unsubscribed.
    list: Option<Arc<Shared<List<T>>>>,
    number: u64,
    mailbox: Mailbox<T>,
}

impl<T: Clone + Send + 'static> Subscriber<T> {
    /// Waits for the next message since the subscription and takes it. Dropped before it ends, it takes nothing.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn receive(&mut self) -> T {
        let take = |mailbox: &mut Inbox<T>| mailbox.pop().expect("guard-holds");
        self.mailbox.wait_since(Inbox::filled, take).await
    }

    /// Listens no longer.
    pub fn unsubscribe(mut self) {
        if let Some(list) = self.list.take() {
            remove(&list, self.number);
        }
    }
}

fn remove<T>(list: &Shared<List<T>>, number: u64) {
    list.write(|list| list.mailboxes.remove(&number));
}

impl<T: Clone + Send + 'static> Drop for Subscriber<T> {
    fn drop(&mut self) {
        if let Some(list) = self.list.take() {
            let number = self.number;
            door::bequeath(Box::pin(async move { remove(&list, number) }));
        }
    }
}
