//! Scenarios that nobody thought of: drawn from numbers, so that a testbed finds more than what it was written around.
//!
//! What is drawn is plain data ([`Generate`]), and all of it means something: what does not apply where it stands is
//! left out, and places are taken modulo what exists. A [`Plan`] is about devices, what is between them and their
//! disks, and mirrors; a [`ChainPlan`] about a chain of images, and the jobs that work on it at the same time; a
//! [`StackPlan`] about the same below filters. With the
//! features `arbitrary`, `proptest` and `quickcheck` the traits of those crates draw a [`Plan`], too.
//!
//! Invariant `a-correct-layer-keeps-every-promise`: under the default design no plan breaks a property. So nothing is
//! generated that changes data behind a guest's back: a child is replaced by hand, or by reopening, only with what
//! shows the same data, a medium only with such a node or with a disk that nobody has written to, a mirror without a
//! copy (`sync` `none`) never pivots, and in a [`Plan`] no mirror begins over another's filter.
//!
//! Not for: scenarios about one question; those are written by hand.

mod admin;
mod bitmaps;
mod chain;
mod changes;
mod draw;
mod keep;
mod render;
mod smaller;
mod stack;
mod step;
mod streams;

#[cfg(feature = "arbitrary")]
mod arbitrary;
#[cfg(feature = "proptest")]
mod proptest;
#[cfg(feature = "quickcheck")]
mod quickcheck;

pub use self::bitmaps::{BitmapChange, BitmapStep};
pub use self::chain::{ChainJob, ChainPlan, ChainStep, JobKind, LayerPlan, StackNode};
#[cfg(feature = "proptest")]
pub use self::proptest::{PlanTree, Plans};
pub use self::stack::StackPlan;
pub use self::step::{Action, AdminStep, Away, Back, Place, Reopened};

use blockyard_block::ErrorPolicies;

use crate::request::Request;

/// A scenario to be.
pub trait Generate: Clone {
    /// What a large number of them reaches: the places where graph operations, jobs, requests and faults meet.
    const MARKS: &'static [&'static str];

    /// The one of this seed: the same everywhere, and for ever as long as the code that draws it stays as it is.
    fn from_seed(seed: u64) -> Self;

    /// The text of the scenario, under a name.
    fn scenario(&self, name: &str) -> String;

    /// Those that are simpler by one thing, the largest steps first: fewer actors and steps, then smaller sizes and
    /// plainer jobs. Going on with any of them comes to an end.
    fn smaller(&self) -> Vec<Self>;

    /// Disk requests that may fail, and power losses.
    fn budgets(&mut self) -> [&mut u32; 2];

    /// The simplest one to be reached by steps to [`Generate::smaller`] ones that all `fail`. This one does.
    #[must_use]
    fn simplest(self, fails: &mut dyn FnMut(&Self) -> bool) -> Self {
        let mut simplest = self;
        while let Some(simpler) = simplest.smaller().into_iter().find(|plan| fails(plan)) {
            simplest = simpler;
        }
        simplest
    }
}

impl Generate for Plan {
    const MARKS: &'static [&'static str] = &[
        "a drained section was asked for before a pivot in another",
        "a flush failed",
        "a request waited for one that overlaps it and serialises",
        "a snapshot was asked for while a drained section held",
        "a transaction was aborted between its actions",
        "a transaction was aborted by its first action",
        "a transaction was aborted by its last action",
        "a transaction was aborted when it was published",
        "nodes were reopened while a job was at work",
        "reopening was lost to another publication",
    ];

    fn from_seed(seed: u64) -> Self {
        Self::draw(&mut draw::numbers(seed))
    }

    fn scenario(&self, name: &str) -> String {
        self.text(name)
    }

    fn smaller(&self) -> Vec<Self> {
        self.simpler_by_one()
    }

    fn budgets(&mut self) -> [&mut u32; 2] {
        [&mut self.faults, &mut self.crashes]
    }
}

impl Generate for ChainPlan {
    const MARKS: &'static [&'static str] = chain::MARKS;

    fn from_seed(seed: u64) -> Self {
        Self::draw(&mut draw::Source(&mut draw::numbers(seed)))
    }

    fn scenario(&self, name: &str) -> String {
        self.text(name)
    }

    fn smaller(&self) -> Vec<Self> {
        self.simpler_by_one()
    }

    fn budgets(&mut self) -> [&mut u32; 2] {
        [&mut self.faults, &mut self.crashes]
    }
}

/// Devices, and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who there is: a guest device each, with its own nodes.
    pub devices: Vec<DevicePlan>,
    /// Disk requests that may fail; left out where two devices have mirrors.
    pub faults: u32,
    /// Power losses.
    pub crashes: u32,
}

/// A device, what lies below it, and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// Its disk's size, in chunks of 4 KiB; at least one.
    pub chunks: u64,
    /// What that disk is beyond its size.
    pub disk: DiskPlan,
    /// A second guest device, on the node of this index, modulo those that the device begins with; every second guest
    /// uses it. Left out where there are mirrors.
    pub twin: Option<usize>,
    /// What is done about its guests' requests that fail.
    pub policies: ErrorPolicies,
    /// The nodes between the disk's and the device, from below.
    pub filters: Vec<Filter>,
    /// Its writes may make its disk longer; left out where there are mirrors.
    pub resizes: bool,
    /// The guests that use it, each with its steps.
    pub guests: Vec<Vec<GuestStep>>,
    /// The mirrors of its data, one after the other.
    pub mirrors: Vec<MirrorPlan>,
    /// What somebody else does meanwhile.
    pub admin: Vec<AdminStep>,
    /// What another does meanwhile about its dirty bitmaps: several changes at a time, all of them or none.
    pub bitmaps: Vec<Vec<BitmapStep>>,
}

/// A disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskPlan {
    /// What it is made of; where there are mirrors, a file or an overlay.
    pub medium: Medium,
    /// It takes requests in this many bytes.
    pub alignment: Alignment,
    /// It lacks as many sectors of 512 bytes, modulo a chunk's.
    pub short: u64,
    /// The chunks of 4 KiB that it can grow by.
    pub spare: u64,
}

/// What a disk is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Medium {
    /// A disk of the world.
    #[default]
    File,
    /// Memory.
    Memory,
    /// Nothing: it forgets what is written.
    Null,
    /// Clusters in memory over as many more of them as this says, over a disk of the world.
    Overlay {
        /// Overlays below it.
        chain: usize,
        /// Its clusters have 512 bytes, or else 4 KiB.
        small: bool,
    },
}

/// In what steps a disk takes requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alignment {
    /// A byte.
    #[default]
    Byte,
    /// 512 bytes.
    Sector,
    /// 4 KiB.
    Page,
    /// 64 KiB.
    Most,
}

/// A node that passes requests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A raw format node.
    Raw,
    /// A throttle; `limited`: with a rate to hold.
    Throttle {
        /// It has a limit.
        limited: bool,
    },
    /// One that copies up what is read.
    CopyOnRead,
    /// One that lets requests fail. Where that could leave somebody waiting, and where it is put over an edge, a plain
    /// one.
    Blkdebug(DebugRule),
}

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugRule {
    /// Nothing.
    Nothing,
    /// One request of a kind: `read_aio`, `write_aio`, `flush_to_disk` or one of those beside them, modulo all; with
    /// more than all of these, for want of space.
    Once(usize),
    /// Two reads, one write and one flush; if it is set: for want of it.
    Each(bool),
    /// Every one.
    Always(usize),
    /// None, but they stop, one at a time, and are told to go on.
    Break(usize),
}

/// What a guest does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestStep {
    /// A request.
    Request {
        /// Which.
        kind: Request,
        /// Where it begins, in sectors of 512 bytes, modulo the disk's.
        sector: u64,
        /// How long it is, in sectors; at least one.
        sectors: u64,
        /// How it is made.
        how: How,
    },
    /// A flush.
    Flush,
    /// Waits for the device's first mirror to begin.
    AwaitRunning,
    /// Waits for the device's first mirror to be in sync, or ends with it.
    AwaitReady,
}

/// How a request is made; what its kind does not take is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// As many bytes behind its sector's beginning.
    pub skew: u64,
    /// The sector that a copy comes from, modulo the disk's.
    pub from: u64,
    /// Durable when it ends.
    pub fua: bool,
    /// Alone in its range.
    pub serialising: bool,
    /// Zeroes by giving space back.
    pub unmap: bool,
    /// Zeroes in no slow way.
    pub no_fallback: bool,
    /// Not cut at the disk's end, which it may pass by as much as a chunk behind what the disk can grow to.
    pub behind: bool,
    /// Given up after so many steps.
    pub cancel_after: Option<u32>,
}

/// A mirror of a device's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorPlan {
    /// What is mirrored: whatever is below the device, or for the first mirror the node of this index, modulo those
    /// that the device begins with.
    pub source: Option<usize>,
    /// How it follows writes: active, passive, or as the design says.
    pub active: Option<bool>,
    /// It copies everything; one that does not never pivots.
    pub full: bool,
    /// The granularity is 512 bytes times two to this power, at most 64 KiB.
    pub granularity: u32,
    /// So many chunks may be copied at once.
    pub buffer: u64,
    /// Its copy mode is changed to the other one while it copies, so many times.
    pub switches: usize,
    /// Of the target's disk.
    pub alignment: Alignment,
    /// It is made to rest for a while.
    pub pause: Pause,
    /// It waits for `job-finalize`.
    pub finalize: bool,
    /// It waits for `job-dismiss`.
    pub dismiss: bool,
    /// The second of two copies back to where the first came from, if that is certain to have pivoted.
    pub back: bool,
    /// It is started by a transaction.
    pub in_transaction: bool,
    /// It commits the overlays of the device's disk to what is below them, where those are, and neither another mirror
    /// nor a raw node, nor larger changes.
    pub commits: bool,
    /// Where it would commit it streams instead.
    pub streams: Option<StreamPlan>,
    /// How it is ended.
    pub end: End,
}

/// How overlays are pulled up into that of the device's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPlan {
    /// Down to where: all of them, or to one of this index, modulo all; and that included or not.
    pub down: usize,
    /// Where there are enough of them, the lower ones are committed at the same time.
    pub beside_commit: bool,
}

/// When a mirror is made to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Never.
    Never,
    /// While it copies.
    Running,
    /// In sync.
    Ready,
}

/// How a mirror is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It pivots.
    Complete,
    /// It is cancelled in sync, so that the copy is whole.
    Cancel,
    /// It is cancelled in sync, by force.
    CancelByForce,
    /// It is cancelled while it copies.
    CancelEarly,
}
