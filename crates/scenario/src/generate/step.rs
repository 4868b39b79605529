//! What an administrator may do.
//!
//! Not for: whether it applies where it stands; that is seen when it is rendered.

use super::Filter;

/// What an administrator does next; every refusal is fine with him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminStep {
    /// Puts a filter into the graph.
    Insert {
        /// Where.
        place: Place,
        /// If the edge leads elsewhere by then: once more.
        retry: bool,
        /// Which.
        filter: Filter,
    },
    /// Takes the last filter out again, where it is known what lies below it.
    Remove,
    /// Makes a filter that nobody uses, over a node of this index.
    Beside {
        /// The node's, modulo those that the device begins with and, where there are no mirrors, those made since.
        over: usize,
        /// Which.
        filter: Filter,
        /// It cannot be written through.
        read_only: bool,
    },
    /// Leads an edge to another node that shows the same, where there are no mirrors.
    Redirect {
        /// Which edge.
        place: Place,
        /// The node's index, as of [`AdminStep::Beside`].
        to: usize,
    },
    /// Makes a node that has nothing to do with the device.
    Spare,
    /// Deletes the node that was made last.
    Delete,
    /// Changes the length of the device's disk to so many sectors, modulo what it can have; where there are no mirrors.
    Resize {
        /// Sectors, without the first.
        sectors: u64,
        /// By its lowest node's name.
        by_node: bool,
    },
    /// Asks what there is, and what was counted.
    Query,
    /// Has the guests stand still for a while.
    StandStill,
    /// Has the next write behind a place told, or none.
    Threshold {
        /// Whose, as of [`AdminStep::Beside`].
        over: usize,
        /// The place, in sectors; 0: none.
        sectors: u64,
    },
    /// Has durations counted, in intervals that end at the first so many of these nanoseconds; without any, no more.
    Histogram {
        /// How many.
        boundaries: usize,
        /// Those of writes only.
        writes: bool,
    },
    /// Has reads copy up what comes from a backing node, or no more.
    CopyOnRead {
        /// Where, as of [`AdminStep::Beside`]; if there is an overlay, every second one is that.
        over: usize,
        /// From now on.
        on: bool,
    },
    /// Keeps a secret for a while.
    Secret,
    /// Makes the device's first mirror rest for a while; not where two devices have mirrors.
    PauseMirror,
    /// Cancels the device's first mirror; not where two devices have mirrors.
    CancelMirror {
        /// By force.
        force: bool,
    },
    /// Several changes, all of them or none.
    Transaction(Vec<Action>),
    /// Gives nodes their options anew, all of them or none, with other children that show the same. With a mirror it is
    /// one node, above the mirror's filter.
    Reopen(Vec<Reopened>),
    /// Gives the overlay that is lowest, or was put there last, another backing node that shows the same.
    ReopenBacking,
    /// Puts an overlay above a node.
    Snapshot {
        /// Above the lowest, or else the highest.
        base: bool,
        /// Its clusters have 512 bytes, or else 4 KiB.
        small: bool,
    },
    /// Takes the medium out of the device, and puts one in.
    ChangeMedium {
        /// What is done in between.
        away: Away,
        /// What comes in.
        back: Back,
    },
    /// Hands a node of this index over to somebody else, and takes it back.
    SetActive {
        /// As of [`AdminStep::Beside`].
        over: usize,
        /// All nodes instead, where there is one device.
        all: bool,
    },
}

impl AdminStep {
    /// Whether a mirror that begins later may be refused because of it.
    pub(super) fn is_large(&self) -> bool {
        matches!(
            self,
            Self::Transaction(_)
                | Self::Reopen(_)
                | Self::ReopenBacking
                | Self::Snapshot { .. }
                | Self::ChangeMedium { .. }
                | Self::SetActive { .. }
        )
    }
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

/// One of several changes that are made together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// As [`AdminStep::Insert`].
    Insert {
        /// Where.
        place: Place,
        /// Which.
        filter: Filter,
    },
    /// As [`AdminStep::Redirect`].
    Redirect {
        /// Which edge.
        place: Place,
        /// The node's index, as of [`AdminStep::Beside`].
        to: usize,
    },
    /// As [`AdminStep::Snapshot`].
    Snapshot {
        /// Above the lowest, or else the highest.
        base: bool,
        /// Its clusters have 512 bytes, or else 4 KiB.
        small: bool,
    },
    /// Starts a mirror; left out where nothing aborts the whole.
    Mirror,
    /// Aborts the whole.
    Abort,
}

/// A node that is reopened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reopened {
    /// Its index, modulo the filters that there are, and the disk.
    pub node: usize,
    /// The index of its new child, as of [`AdminStep::Beside`].
    pub to: usize,
    /// It cannot be written through from then on.
    pub read_only: bool,
    /// With an option that cannot change, if it has one.
    pub other: bool,
}

/// What is done while a medium is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// Nothing.
    Nothing,
    /// Its disk is made read-only, and writable again.
    ReadOnly,
    /// It is handed over to somebody else, and taken back.
    Inactive,
}

/// What comes in the place of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// A node of this index that shows the same, as of [`AdminStep::Beside`]; if that is not known, as
    /// [`Back::Other`].
    Same(usize),
    /// Another disk; left out where two devices share one.
    Other,
}
