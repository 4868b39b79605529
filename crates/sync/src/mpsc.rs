//! A bounded queue of messages from many senders to one receiver.

use std::sync::Arc;

use crate::inbox::Inbox;
use crate::turns::Turns;

/// Invariant `bounded`: there are never more messages than the capacity.
struct Queue<T> {
    inbox: Inbox<T>,
    capacity: usize,
}

impl<T> Queue<T> {
    /// Once it is closed nobody waits for room.
    fn room(&self) -> u64 {
        let left = (self.capacity - self.inbox.len()) as u64;
        if self.inbox.is_closed() { u64::MAX } else { left }
    }
}

/// The sending half of a [`channel`]; clones send to the same receiver.
pub struct Sender<T> {
    turns: Arc<Turns<Queue<T>>>,
}

/// The receiving half of a [`channel`].
pub struct Receiver<T>(Arc<Turns<Queue<T>>>);

/// A queue of at most `capacity` (at least one) messages. Senders that wait for room are served in the order of asking.
/// Either side may close it, by name: a half that is merely dropped leaves the other waiting.
///
/// # Panics
/// `a-channel-has-room`: if the capacity is zero.
pub fn channel<T: Send + Unpin + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a-channel-has-room");
    let turns = Turns::new(Queue { inbox: Inbox::default(), capacity }, Queue::room);
    (Sender { turns: turns.clone() }, Receiver(turns))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { turns: self.turns.clone() }
    }
}

impl<T: Send + Unpin + 'static> Sender<T> {
    /// Waits for its turn and for room, and leaves the message. Dropped before it ends, it sends nothing, and passes
    /// the turn on in a task of its own.
    ///
    /// # Errors
    /// The message, if the channel is closed by then.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn send(&self, message: T) -> Result<(), T> {
        let leave = |queue: &mut Queue<T>| {
            if queue.inbox.is_closed() {
                return Err(message);
            }
            queue.inbox.push(message);
            Ok(())
        };
        self.turns.turn(1, leave).await
    }

    /// Ends it, for every sender: what was sent before is still received.
    pub fn close(&self) {
        self.turns.change(|queue| queue.inbox.close());
    }
}

impl<T: Send + Unpin + 'static> Receiver<T> {
    /// Waits for the next message and takes it; none once the channel is closed and empty. Dropped before it ends, it
    /// takes nothing.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn receive(&mut self) -> Option<T> {
        self.0.wait_since(|queue| queue.inbox.filled(), |queue| queue.inbox.pop()).await
    }

    /// Ends it: senders get their messages back from now on, and what was sent before is still received.
    pub fn close(&self) {
        self.0.change(|queue| queue.inbox.close());
    }
}
