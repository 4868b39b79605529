//! Scenarios that nobody thought of: drawn from numbers, so that a testbed finds more than what it was written around.
//!
//! A [`Plan`] is plain data, and every plan means something: what does not apply where it stands is left out, and
//! places are taken modulo what exists. [`Plan::scenario`] is the text of the scenario it stands for, and
//! [`Plan::smaller`] gives simpler plans. One body of code draws plans from a source of numbers:
//! [`Plan::from_seed`] from a seed, and with the features `arbitrary`, `proptest` and `quickcheck` the traits of those
//! crates from theirs.
//!
//! Invariant `a-correct-layer-keeps-every-promise`: under the default design no plan breaks a property. So nothing is
//! generated that changes data behind a guest's back: a child is replaced by hand only with what shows the same data, a
//! mirror without a copy (`sync` `none`) never pivots, and no mirror begins over another's filter.
//!
//! Not for: scenarios about one question; those are written by hand.

mod admin;
mod draw;
mod render;
mod smaller;

#[cfg(feature = "arbitrary")]
mod arbitrary;
#[cfg(feature = "proptest")]
mod proptest;
#[cfg(feature = "quickcheck")]
mod quickcheck;

#[cfg(feature = "proptest")]
pub use self::proptest::{PlanTree, Plans};

use crate::steps::Request;

/// A scenario to be.
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
    /// The nodes between the disk's and the device, from below.
    pub filters: Vec<Filter>,
    /// The guests that use it, each with its steps.
    pub guests: Vec<Vec<GuestStep>>,
    /// The mirrors of its data, one after the other.
    pub mirrors: Vec<MirrorPlan>,
    /// What somebody else does meanwhile.
    pub admin: Vec<AdminStep>,
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
        /// How long it is, in sectors, cut at the disk's end; at least one.
        sectors: u64,
    },
    /// A flush.
    Flush,
    /// Waits for the device's first mirror to begin.
    AwaitRunning,
    /// Waits for the device's first mirror to be in sync, or ends with it.
    AwaitReady,
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
    /// It is made to rest for a while.
    pub pause: Pause,
    /// It waits for `job-finalize`.
    pub finalize: bool,
    /// It waits for `job-dismiss`.
    pub dismiss: bool,
    /// The second of two copies back to where the first came from, if that is certain to have pivoted.
    pub back: bool,
    /// How it is ended.
    pub end: End,
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

/// What an administrator does next; every refusal is fine with him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminStep {
    /// Puts a throttle into the graph.
    Insert {
        /// Where.
        place: Place,
        /// If the edge leads elsewhere by then: once more.
        retry: bool,
        /// It has a limit.
        limited: bool,
    },
    /// Takes the last throttle out again, where it is known what lies below it.
    Remove,
    /// Makes a throttle that nobody uses, over the node of this index, modulo those that the device begins with.
    Beside(usize),
    /// Deletes the throttle that was made last.
    Delete,
    /// Asks what there is.
    Query,
    /// Makes the device's first mirror rest for a while; not where two devices have mirrors.
    PauseMirror,
    /// Cancels the device's first mirror; not where two devices have mirrors.
    CancelMirror {
        /// By force.
        force: bool,
    },
}

/// An edge, by its two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// From the device to whatever it leads to.
    Root,
    /// From the device to its first mirror's filter.
    OverMirror,
    /// From the filter of this index, modulo those that the device begins with, to what it leads to.
    Below(usize),
}
