//! A bounded queue of messages from many senders to one receiver.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::turns::Turns;

/// Invariant `bounded`: there are never more messages than the capacity.
struct Queue<T> {
    messages: VecDeque<T>,
    closed: bool,
}

/// The sending half of a [`channel`]; clones send to the same receiver.
pub struct Sender<T> {
    turns: Arc<Turns<Queue<T>>>,
    capacity: usize,
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
    let turns = Turns::shared(Queue { messages: VecDeque::new(), closed: false });
    (Sender { turns: turns.clone(), capacity }, Receiver(turns))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { turns: self.turns.clone(), capacity: self.capacity }
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
        let capacity = self.capacity;
        let may = move |queue: &Queue<T>| queue.closed || queue.messages.len() < capacity;
        let leave = |queue: &mut Queue<T>| {
            if queue.closed {
                return Err(message);
            }
            queue.messages.push_back(message);
            Ok(())
        };
        self.turns.turn(may, leave).await
    }

    /// Ends it, for every sender: what was sent before is still received.
    pub fn close(&self) {
        self.turns.change(|queue| queue.closed = true);
    }
}

impl<T: Send + Unpin + 'static> Receiver<T> {
    /// Waits for the next message and takes it; none once the channel is closed and empty. Dropped before it ends, it
    /// takes nothing.
    ///
    /// # Yields
    /// Always, at least once.
    pub async fn receive(&mut self) -> Option<T> {
        let may = |queue: &Queue<T>| queue.closed || !queue.messages.is_empty();
        self.0.wait_for(may, |queue| queue.messages.pop_front()).await
    }

    /// Ends it: senders get their messages back from now on, and what was sent before is still received.
    pub fn close(&self) {
        self.0.change(|queue| queue.closed = true);
    }
}
