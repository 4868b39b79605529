//! A task as the threads see it: polls what was spawned, adopts what it leaves, records how it fails.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use blockyard_runtime::BoxFuture;
use blockyard_sync::door::world::catch_panic;

use crate::host::Machine;

/// A spawned future; it is dropped within the poll that ends it, so that what it bequeaths then is adopted as well.
pub(crate) struct Task {
    name: Cow<'static, str>,
    /// None once it has ended.
    body: Option<BoxFuture<'static, ()>>,
    machine: Machine,
}

impl Task {
    pub(crate) fn new(
        name: Cow<'static, str>,
        body: BoxFuture<'static, ()>,
        machine: Machine,
    ) -> Self {
        Self { name, body: Some(body), machine }
    }

    /// Runs `part` of the task; whether it went well. If not, the task has ended.
    fn run<R>(&mut self, part: impl FnOnce(&mut Option<BoxFuture<'static, ()>>) -> R) -> Option<R> {
        let result = catch_panic(|| part(&mut self.body));
        result
            .map_err(|message| {
                self.machine.record_failure(format!("task {}: {message}", self.name));
            })
            .ok()
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let polled = self.run(|body| {
            let body = body.as_mut().expect("a-task-ends-once");
            body.as_mut().poll(context)
        });
        let pending = polled == Some(Poll::Pending);
        if !pending {
            self.run(|body| *body = None);
        }
        self.machine.adopt_orphans();
        if pending { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Task {
    /// The host ends, and the task with it; left on this thread its orphans could be taken for another host's.
    fn drop(&mut self) {
        self.run(|body| *body = None);
        self.machine.adopt_orphans();
    }
}
