//! Messages that one receiver takes in order.

use std::collections::VecDeque;

use crate::door;

pub(crate) struct Inbox<T> {
    messages: VecDeque<T>,
    closed: bool,
    filled: Option<u32>,
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self { messages: VecDeque::new(), closed: false, filled: None }
    }
}

impl<T> Inbox<T> {
    pub fn push(&mut self, message: T) {
        self.messages.push_back(message);
        self.note_filled();
    }

    pub fn close(&mut self) {
        self.closed = true;
        self.note_filled();
    }

    pub fn pop(&mut self) -> Option<T> {
        let message = self.messages.pop_front();
        self.filled = None;
        if self.closed || !self.messages.is_empty() {
            self.note_filled();
        }
        message
    }

    fn note_filled(&mut self) {
        self.filled.get_or_insert(door::world::step());
    }

    /// The step since which there is a message, or none will come any more: the receiver's own last one, if that left
    /// some, so that nobody's step made it true earlier.
    pub fn filled(&self) -> Option<u32> {
        self.filled
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }
}
