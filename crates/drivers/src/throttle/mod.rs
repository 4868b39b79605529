//! `throttle`: a filter that holds a rate over its child `file`.
//!
//! A request that finds a bucket over what it holds waits until enough has leaked, then is
//! accounted whole and goes on. Reads, writes, zeroes and discards are accounted, flushes are not.
//! A drained section over a node above the throttle, and not over the throttle, releases nothing: it
//! holds once the requests have passed at their rate.
//!
//! Invariants:
//! - `first-come-first-served`: of a node, reads pass in the order of their arrival, and so do
//!   writes;
//! - `drained-means-unparked`: while a drained section covers the node nobody waits for the bucket;
//! - `no-limits-no-trace`: without limits and without a group a request touches nothing here: no
//!   lock, no clock, no counter.
//!
//! Source: QEMU's documented throttle filter. Differs: limits may be the node's own.

mod bucket;
mod group;
mod limits;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use blockyard_block::{BlockDriver, BlockError, Io, ReadFlags, Write};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteRange, Design};

pub use self::group::ThrottleGroup;
use self::group::{Member, Request};
pub use self::limits::{Rate, Rates, ThrottleLimits};
use crate::FILE;

/// What a throttle is held to.
#[derive(Clone)]
pub enum Throttling {
    /// Limits of its own.
    Own(ThrottleLimits),
    /// Those that it shares.
    Group(Arc<ThrottleGroup>),
}

/// A filter that holds a rate.
pub struct Throttle {
    /// Replaced only in a drained section over the node, so nobody sees it change.
    gate: Quiet<Option<Gate>>,
    /// Drained sections that cover the node.
    sections: Quiet<u64>,
}

/// The node's place in its group.
#[derive(Clone)]
struct Gate {
    group: Arc<ThrottleGroup>,
    member: Member,
}

impl Throttle {
    /// A filter that is held to this.
    pub fn new(to: Throttling) -> Self {
        Self { gate: Quiet::new(Gate::new(to, 0)), sections: Quiet::new(0) }
    }

    fn gate(&self) -> Option<Gate> {
        self.gate.with(|gate| gate.clone())
    }

    async fn admit(&self, io: &Io, range: ByteRange, is_write: bool) {
        if let Some(Gate { group, member }) = self.gate() {
            let request = Request { is_write, len: range.len().0 };
            group.admit(io.layer().runtime(), member, request).await;
        }
    }
}

impl Gate {
    /// None without limits.
    fn new(to: Throttling, sections: u64) -> Option<Self> {
        let group = match to {
            Throttling::Group(group) => group,
            Throttling::Own(limits) if limits == ThrottleLimits::default() => return None,
            // Its one member has nobody to wait for.
            Throttling::Own(limits) => Arc::new(ThrottleGroup::new(limits, Design::default())),
        };
        let member = group.join(sections);
        Some(Self { group, member })
    }
}

impl BlockDriver for Throttle {
    fn main_child(&self) -> Option<&'static str> {
        Some(FILE)
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move {
            self.admit(io, range, false).await;
            io.read(FILE, range, flags).await
        })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            self.admit(io, write.range, true).await;
            io.write(FILE, write).await
        })
    }

    /// Buckets that hold other rates are empty.
    fn reopen(&self, options: &dyn Any) {
        if let Some(to) = options.downcast_ref::<Throttling>() {
            let gate = Gate::new(to.clone(), self.sections.with(|sections| *sections));
            let old = self.gate.with(|old| core::mem::replace(old, gate));
            if let Some(Gate { group, member }) = old {
                group.leave(member);
            }
        }
    }

    fn drain_begin(&self) {
        self.sections.with(|sections| *sections += 1);
        if let Some(gate) = self.gate() {
            gate.group.drain_begin(gate.member);
        }
    }

    fn drain_end(&self) {
        self.sections.with(|sections| *sections -= 1);
        if let Some(gate) = self.gate() {
            gate.group.drain_end(gate.member);
        }
    }
}
