//! What a task runs: a future, polled at once or a part at a time.

use core::fmt;
use core::str::FromStr;
use core::task::{Context, Poll, Waker};

use blockyard_coroutine::Coroutine;
use blockyard_sync::door::{Orphan, Passage, world as door_world};

/// What a step of a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// One poll: what is between two awaits happens at once, as on one thread.
    #[default]
    Await,
    /// One operation at the door, and what follows it up to the next: what is between two awaits may be interrupted, as
    /// on several threads whose operations come in one order.
    Door,
}

impl Granularity {
    /// As it is spelt on the command line and in seed files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Await => "await",
            Self::Door => "door",
        }
    }
}

/// A word that names no granularity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownGranularity;

impl fmt::Display for UnknownGranularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither 'await' nor 'door'")
    }
}

impl core::error::Error for UnknownGranularity {}

impl FromStr for Granularity {
    type Err = UnknownGranularity;

    fn from_str(word: &str) -> Result<Self, UnknownGranularity> {
        let known = [Self::Await, Self::Door].into_iter().find(|known| known.word() == word);
        known.ok_or(UnknownGranularity)
    }
}

/// A future, and a poll of it that may be under way.
pub(crate) struct Body {
    /// None while a poll has it.
    future: Option<Orphan>,
    poll: Option<Coroutine<(Orphan, Poll<()>)>>,
}

impl Body {
    pub fn new(future: Orphan) -> Self {
        Self { future: Some(future), poll: None }
    }

    /// Whether a poll paused before an operation.
    pub fn is_under_way(&self) -> bool {
        self.poll.is_some()
    }

    /// Polls the future, or goes on with the poll that is under way. `passage` is how a poll begins.
    pub fn go_on(&mut self, waker: &Waker, granularity: Granularity, passage: Passage) -> Poll<()> {
        if let (Some(future), Granularity::Await) = (&mut self.future, granularity) {
            return future.as_mut().poll(&mut Context::from_waker(waker));
        }
        let mut poll = self.poll.take().unwrap_or_else(|| {
            let mut future = self.future.take().expect("at-rest-or-under-way");
            let waker = waker.clone();
            Coroutine::new(move || {
                let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
                (future, poll)
            })
        });
        match door_world::pausing(blockyard_coroutine::pause, passage, || poll.resume()) {
            Some((future, ended)) => {
                self.future = Some(future);
                ended
            }
            None => {
                self.poll = Some(poll);
                Poll::Pending
            }
        }
    }
}
