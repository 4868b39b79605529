//! A disk on a chain of images, and jobs that work on parts of it at the same time: what backups, commits, streams,
//! mirrors and snapshots do to each other.
//!
//! Every command may be refused, and every job may fail; whatever comes of them, the guest's view, the backups and what
//! a power loss leaves are judged. Where somebody waits, it is for what comes in any case, or he ends.
//!
//! Not for: filters and media that come and go; those are in the [other plans](super::Plan).

mod draw;
mod render;
mod smaller;
mod stack;

pub use self::stack::StackNode;
use super::{BitmapStep, GuestStep};

/// What a large number of these scenarios reaches.
pub(super) const MARKS: &[&str] = &[
    "a base became as long as what is committed to it",
    "a backup did not look at what it need not save",
    "a flush failed",
    "a snapshot was asked for while a drained section held",
    "a stream's base changed while its job worked",
    "a worker saved what a guest waits for",
    "mirror found dirty in the drained section",
    "nodes were reopened while a job was at work",
    "what a base has behind the end of the top was hidden",
];

/// A chain to be, and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainPlan {
    /// The device's length, in sectors of 512 bytes; at least one.
    pub sectors: u64,
    /// The images between the lowest disk and the device, from below.
    pub layers: Vec<LayerPlan>,
    /// What is between them and the device, from below.
    pub stack: Vec<StackNode>,
    /// The lowest disk lacks as many of these sectors, modulo all.
    pub short: u64,
    /// The guests, each with its steps.
    pub guests: Vec<Vec<GuestStep>>,
    /// The operators, each with jobs that follow each other.
    pub operators: Vec<Vec<ChainJob>>,
    /// What the administrator does meanwhile.
    pub admin: Vec<ChainStep>,
    /// What another does meanwhile about dirty bitmaps: several changes at a time, all of them or none.
    pub bitmaps: Vec<Vec<BitmapStep>>,
    /// Disk requests that may fail.
    pub faults: u32,
    /// Power losses.
    pub crashes: u32,
}

/// An image of the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerPlan {
    /// Its clusters have 1 KiB, or else 512 bytes.
    pub large: bool,
    /// It lacks as many of the device's sectors, modulo all; the highest lacks none.
    pub short: u64,
    /// What was written to it before the next came: the sectors in which this has a bit, modulo all.
    pub written: u8,
    /// Of these, what was discarded again.
    pub discarded: u8,
}

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainJob {
    /// What it does.
    pub kind: JobKind,
    /// It is made to rest for a while.
    pub pauses: bool,
    /// It is cancelled: right away, or where it can be ready, then.
    pub cancels: bool,
    /// It waits for `job-finalize`.
    pub finalize: bool,
    /// It waits for `job-dismiss`.
    pub dismiss: bool,
    /// After an error it stops until it is told to go on.
    pub stops: bool,
}

/// What a job does. Nodes are those of the chain, from below, and then those that the administrator puts above it,
/// modulo all; and what is so many nodes below one is modulo those that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// `block-stream`.
    Stream {
        /// Into which node: of this index.
        into: usize,
        /// Down to what is one node below that and so many more; without, all of them.
        down: Option<usize>,
        /// That included.
        included: bool,
    },
    /// `block-commit`.
    Commit {
        /// From which node down; without, the device's.
        top: Option<usize>,
        /// To what is one node below that and so many more; without, the lowest.
        down: Option<usize>,
    },
    /// `blockdev-mirror` of the device.
    Mirror {
        /// Of the chain below the stack instead.
        below: bool,
        /// To an image, or else a plain disk.
        image: bool,
        /// With its guest's writes.
        active: bool,
    },
    /// `blockdev-backup` of everything, restored and compared.
    Full {
        /// To an image, or else a plain disk.
        image: bool,
        /// What is saved: the device, or the node of this index.
        of: Option<usize>,
    },
    /// `blockdev-backup` of nothing; meanwhile somebody looks at what was.
    Fleecing {
        /// Where he looks first, in sectors, modulo the device's.
        sector: u64,
    },
    /// A full `blockdev-backup` with a bitmap from that moment on, and then what the bitmap has, into an image above
    /// that, twice, whatever became of the first; restored and compared.
    Incremental {
        /// The bitmap's granularity is 512 bytes times two to this power, modulo 4.
        granularity: u32,
    },
}

/// What the administrator does next; every refusal is fine with him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainStep {
    /// Puts an image above the device's.
    Snapshot {
        /// Its clusters have 1 KiB, or else 512 bytes.
        large: bool,
        /// Below the stack, above the chain and whatever is the same.
        below: bool,
    },
    /// Gives the file below a node of this index, modulo all, its options anew.
    Reopen(usize),
    /// Deletes the node of this index, modulo all.
    Delete(usize),
    /// Asks what there is.
    Query,
    /// Has the guests stand still for a while.
    StandStill,
    /// Takes the last copy from the quorum of this index, modulo all of the stack, where no request fails: those that
    /// are left all have to agree.
    RemoveCopy(usize),
    /// Has reads copy up what comes from below the node of this index, modulo all, or no more.
    CopyOnRead {
        /// Where.
        over: usize,
        /// From now on.
        on: bool,
    },
}
