//! A future that runs to its end even if nobody waits for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::door::world::Quiet;
use crate::door::{self, Reason};

type Inner<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Runs the future it holds in whoever polls it. Dropped before the end, it bequeaths the rest.
///
/// Invariant `ready-is-exact` (see `Shared`): guards that the rest waits for do not make the task ready that gave it
/// up.
pub struct Unstoppable<T: Send + 'static> {
    inner: Option<Inner<T>>,
    /// Only in a simulated world, which counts guards by task; elsewhere a task that is woken once too often finds
    /// nothing to do.
    relay: Option<Arc<Relay>>,
}

impl<T: Send + 'static> Unstoppable<T> {
    /// Of a future that has not begun.
    pub fn new(inner: impl Future<Output = T> + Send + 'static) -> Self {
        Self { inner: Some(Box::pin(inner)), relay: None }
    }
}

impl<T: Send + 'static> Future for Unstoppable<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Self { inner, relay } = &mut *self;
        if relay.is_none() && door::is_open() {
            *relay = Some(Arc::new(Relay::to(context.waker())));
        }
        let poll = poll_through(relay, inner.as_mut().expect("it-ends-once"), context);
        if poll.is_ready() {
            *inner = None;
        }
        poll
    }
}

impl<T: Send + 'static> Drop for Unstoppable<T> {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else { return };
        let relay = self.relay.take();
        if let Some(relay) = &relay {
            relay.leave();
        }
        let mut joined = false;
        door::bequeath(Box::pin(std::future::poll_fn(move |context| {
            if let (Some(relay), false) = (&relay, std::mem::replace(&mut joined, true)) {
                relay.join(context.waker());
            }
            poll_through(&relay, &mut inner, context).map(drop)
        })));
    }
}

fn poll_through<T>(
    relay: &Option<Arc<Relay>>,
    inner: &mut Inner<T>,
    context: &mut Context<'_>,
) -> Poll<T> {
    match relay {
        Some(relay) => inner.as_mut().poll(&mut Context::from_waker(&Waker::from(relay.clone()))),
        None => inner.as_mut().poll(context),
    }
}

/// The waker of a future that may move to another task.
struct Relay(Quiet<State>);

struct State {
    /// `None`: given up, and not adopted yet.
    task: Option<Waker>,
    /// Why the task is ready.
    guards: Vec<Reason>,
}

impl Relay {
    fn to(task: &Waker) -> Self {
        Self(Quiet::new(State { task: Some(task.clone()), guards: Vec::new() }))
    }

    /// The task is not made ready any more by what is waited for here.
    fn leave(&self) {
        let (task, guards) = self.0.with(|state| (state.task.take(), state.guards.clone()));
        let task = task.expect("it-is-given-up-once");
        guards.into_iter().for_each(|reason| door::fell(reason, &task));
    }

    fn join(&self, task: &Waker) {
        let guards = self.0.with(|state| {
            state.task = Some(task.clone());
            state.guards.clone()
        });
        guards.into_iter().for_each(|reason| door::wake_because(reason, task));
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let reason = door::reason();
        let task = self.0.with(|state| {
            match reason {
                Reason::Guard(_) | Reason::Handed(_) | Reason::Since(..) => {
                    state.guards.push(reason);
                }
                Reason::Fell(access) => {
                    let of_it = |held: &Reason| held.guard() == Some(access);
                    let place = state.guards.iter().position(of_it);
                    state.guards.remove(place.expect("what-fell-held"));
                }
                Reason::Waker | Reason::Boundary => {}
            }
            state.task.clone()
        });
        if let Some(task) = task {
            task.wake_by_ref();
        }
    }
}
