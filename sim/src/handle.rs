//! What tasks hold of the world: a handle through which they spawn, sleep, choose and submit disk requests. The
//! world looks into the mailbox after each step.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use blockyard_runtime::{BoxFuture, Executor, Io, IoBuffer, Runtime};
use blockyard_sync::Shared;
use blockyard_sync::door::world::{self as door_world, Quiet};
use blockyard_sync::door::{self, Kind, Orphan};
use blockyard_units::{ByteLen, ByteRange};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::explore::Finding;
use crate::footprint;

/// Where the result of something that the world does appears.
pub(crate) type Slot<T> = Arc<Shared<Option<T>>>;

pub(crate) enum Operation {
    Read(ByteRange),
    Write {
        offset: u64,
        data: IoBuffer,
        fua: bool,
    },
    /// Covers the writes that had completed when it was submitted: those up to this number, counted where flushes may
    /// lose them.
    Flush {
        covers: u64,
    },
    /// What is behind `from` goes, and the disk, which can have up to `capacity` bytes, is `len` bytes long.
    Truncate {
        from: u64,
        len: ByteLen,
        capacity: ByteLen,
    },
}

impl Operation {
    /// The bytes that it names: a flush names none.
    pub fn range(&self) -> ByteRange {
        match self {
            Self::Read(range) => *range,
            Self::Write { offset, data, .. } => ByteRange::new(*offset, data.len() as u64),
            Self::Flush { .. } => ByteRange::new(0, 0),
            Self::Truncate { from, capacity, .. } => ByteRange::between(*from, capacity.0),
        }
    }

    /// Whether it makes the disk longer by zeroes, which take space, and not only its length.
    pub fn is_growing_zeroes(&self) -> bool {
        matches!(self, Self::Truncate { from, len, .. } if *from < len.0)
    }
}

/// What a step asks of the world.
pub(crate) enum Post {
    Spawn { name: Cow<'static, str>, task: Orphan },
    Request { disk: u32, operation: Operation, slot: Slot<Io<IoBuffer>>, spared: bool },
    Arm { timer: u64, deadline_ns: u64, slot: Slot<()> },
    Disarm { timer: u64 },
    Choice { alternatives: u32, slot: Slot<u32> },
}

#[derive(Default)]
pub(crate) struct Mailbox {
    pub posts: Vec<Post>,
    pub findings: Vec<Finding>,
    pub now_ns: u64,
    pub timers: u64,
    pub seed: u64,
    /// How many random numbers have been drawn from each task's stream.
    pub draws: BTreeMap<u64, u64>,
    /// Completed writes so far, for each disk.
    pub completed: Vec<u64>,
    /// Requests from now on do not fail.
    pub spared: bool,
    /// The step since which they are no longer spared, nor is the power.
    pub ready: u32,
    /// Flushes may lose what they cover.
    pub may_lose: bool,
    /// Disks may run full.
    pub may_fill: bool,
}

/// A handle on the world, for tasks and for observers.
#[derive(Clone, Default)]
pub struct SimHandle {
    pub(crate) mailbox: Arc<Quiet<Mailbox>>,
}

impl SimHandle {
    /// The world as the block layer sees it.
    pub fn runtime(&self) -> Runtime {
        Runtime::new(Arc::new(self.clone()))
    }

    /// Reports that a property is broken; the run ends after the step.
    pub fn report(&self, finding: Finding) {
        self.mailbox.with(|mailbox| mailbox.findings.push(finding));
    }

    /// Virtual time, for observers: no footprint.
    pub fn observe_now_ns(&self) -> u64 {
        self.mailbox.with(|mailbox| mailbox.now_ns)
    }

    /// The number of the running step, for observers: no footprint. What they note with it a [`Cut`](crate::Cut) puts
    /// before or behind a power loss.
    pub fn observe_step(&self) -> u32 {
        door_world::step()
    }

    /// Whether requests are spared from faults from now on: those that make ready what a run is about. It is for who is
    /// alone, so that it does not depend on the schedule which they are. Nor is power lost before they no longer are.
    pub fn spare_requests(&self, on: bool) {
        let ready = self.observe_step();
        self.mailbox.with(|mailbox| (mailbox.spared, mailbox.ready) = (on, ready));
    }

    pub(crate) fn post(&self, post: Post) {
        self.mailbox.with(|mailbox| mailbox.posts.push(post));
    }
}

impl Executor for SimHandle {
    fn spawn(&self, name: Cow<'static, str>, task: BoxFuture<'static, ()>) {
        self.post(Post::Spawn { name, task });
    }

    fn now_ns(&self) -> u64 {
        door::enter(footprint::clock(Kind::Read));
        self.observe_now_ns()
    }

    fn sleep(&self, duration_ns: u64) -> BoxFuture<'static, ()> {
        door::enter(footprint::clock(Kind::Add));
        let slot: Slot<()> = Arc::default();
        let timer = self.mailbox.with(|mailbox| {
            let deadline_ns = mailbox.now_ns.saturating_add(duration_ns);
            mailbox.timers += 1;
            let timer = mailbox.timers;
            mailbox.posts.push(Post::Arm { timer, deadline_ns, slot: slot.clone() });
            timer
        });
        let fired = Box::pin(async move { slot.wait_handed(Option::is_some, |_| ()).await });
        Box::pin(Sleep { handle: self.clone(), timer: Some(timer), fired })
    }

    fn random_u64(&self) -> u64 {
        let task = door_world::stream();
        let (seed, draws) = self.mailbox.with(|mailbox| {
            let draws = mailbox.draws.entry(task).or_default();
            *draws += 1;
            (mailbox.seed, *draws)
        });
        let mut stream = ChaCha8Rng::seed_from_u64(seed ^ task);
        stream.set_word_pos(u128::from(draws) * 2);
        stream.next_u64()
    }

    fn choose(&self, alternatives: u32) -> BoxFuture<'static, u32> {
        let slot: Slot<u32> = Arc::default();
        self.post(Post::Choice { alternatives, slot: slot.clone() });
        Box::pin(async move {
            slot.wait_handed(Option::is_some, |slot| slot.take().expect("guard-holds")).await
        })
    }
}

/// A wait for a timer; disarms it when dropped earlier, within the dropper's step.
struct Sleep {
    handle: SimHandle,
    timer: Option<u64>,
    fired: BoxFuture<'static, ()>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let poll = self.fired.as_mut().poll(context);
        if poll.is_ready() {
            self.timer = None;
        }
        poll
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            door::enter(footprint::clock(Kind::Add));
            self.handle.post(Post::Disarm { timer });
        }
    }
}
