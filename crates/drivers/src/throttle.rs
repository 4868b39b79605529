//! `throttle`: a filter that holds a rate over its child `file`.
//!
//! A request that finds the bucket over what it holds waits until enough has leaked, then is
//! accounted whole and goes on. Reads, writes, zeroes and discards are accounted, flushes are not.
//! A drained section over a node above the throttle, and not over the throttle, releases nothing: it
//! holds once the requests have passed at their rate.
//!
//! Invariants:
//! - `first-come-first-served`: requests pass in the order of their arrival, since whoever waits
//!   holds the lock that the later ones queue for;
//! - `drained-means-unparked`: while a drained section covers the node nobody waits for the bucket.
//!   What passes then is accounted all the same, so the rate is made up for afterwards;
//! - `no-limits-no-trace`: without limits a request touches nothing here: no lock, no clock, no
//!   counter.
//!
//! Source: QEMU's documented throttle filter.
//! Differs: limits on totals only, and each node has a group of its own.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;

use blockyard_block::{BlockDriver, BlockError, Io, ReadFlags, Write};
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::door::world::Quiet;
use blockyard_sync::{Mutex, Shared, first_of, note, sometimes};
use blockyard_units::{ByteLen, ByteRange};

use crate::FILE;
use crate::bucket::Bucket;

/// The rates that a throttle holds; 0 means without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Bytes a second.
    pub bps_total: u64,
    /// Requests a second.
    pub iops_total: u64,
}

/// A filter that holds a rate.
pub struct Throttle {
    /// Replaced only in a drained section over the node, so nobody sees it change.
    gate: Quiet<Option<Arc<Gate>>>,
    /// Drained sections that cover the node.
    sections: Quiet<u64>,
}

struct Gate {
    buckets: Mutex<Buckets>,
    /// Drained sections that cover the node.
    sections: Shared<u64>,
}

struct Buckets {
    bytes: Bucket,
    requests: Bucket,
}

impl Throttle {
    /// A filter that holds `limits`.
    pub fn new(limits: ThrottleLimits) -> Self {
        let sections = 0;
        Self { gate: Quiet::new(Gate::new(limits, sections)), sections: Quiet::new(sections) }
    }

    fn gate(&self) -> Option<Arc<Gate>> {
        self.gate.with(|gate| gate.clone())
    }

    async fn admit(&self, io: &Io, range: ByteRange) {
        if let Some(gate) = self.gate() {
            gate.admit(io, range.len()).await;
        }
    }
}

impl Gate {
    /// None without limits.
    fn new(limits: ThrottleLimits, sections: u64) -> Option<Arc<Self>> {
        if limits == ThrottleLimits::default() {
            return None;
        }
        let bytes = Bucket::new(limits.bps_total);
        let requests = Bucket::new(limits.iops_total);
        let buckets = Mutex::new(Buckets { bytes, requests });
        Some(Arc::new(Self { buckets, sections: Shared::new(sections) }))
    }

    fn drained(&self) -> bool {
        self.sections.read(|sections| *sections > 0)
    }

    /// Waits for the turn of a request of `len` bytes, then for the buckets, and accounts it.
    ///
    /// # Yields
    /// Always.
    async fn admit(&self, io: &Io, len: ByteLen) {
        let runtime = io.layer().runtime();
        let mut buckets = self.buckets.lock().await;
        while !self.drained() {
            let now_ns = runtime.now_ns();
            let wait_ns = buckets.bytes.wait_ns(now_ns).max(buckets.requests.wait_ns(now_ns));
            if wait_ns == 0 {
                break;
            }
            note!("request throttled for {wait_ns} ns");
            let drained = self.sections.wait_until(|sections| *sections > 0);
            let leaked = first_of(runtime.sleep(wait_ns), drained).await;
            sometimes!(!leaked, "throttled request released by a drained section");
        }
        let now_ns = runtime.now_ns();
        buckets.bytes.fill(now_ns, len.0);
        buckets.requests.fill(now_ns, 1);
        buckets.unlock();
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
            self.admit(io, range).await;
            io.read(FILE, range, flags).await
        })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            self.admit(io, write.range).await;
            io.write(FILE, write).await
        })
    }

    /// Buckets that hold other rates are empty.
    fn reopen(&self, options: &dyn Any) {
        if let Some(limits) = options.downcast_ref::<ThrottleLimits>() {
            let gate = Gate::new(*limits, self.sections.with(|sections| *sections));
            self.gate.with(|old| *old = gate);
        }
    }

    fn drain_begin(&self) {
        self.sections.with(|sections| *sections += 1);
        if let Some(gate) = self.gate() {
            gate.sections.add(|sections| *sections += 1);
        }
    }

    fn drain_end(&self) {
        self.sections.with(|sections| *sections -= 1);
        if let Some(gate) = self.gate() {
            gate.sections.add(|sections| {
                *sections = sections.checked_sub(1).expect("sections-end-once");
            });
        }
    }
}
