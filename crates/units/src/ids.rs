//! Identities that do not depend on the schedule.

use core::fmt;

/// Who created a thing, and the how-manieth it was of its creator: never a global counter, so that the same thing
/// has the same id in every interleaving. Never reused within a world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The creator's path, as the world numbers it; 0 is the root, and outside any world.
    pub creator: u32,
    /// Counts what the creator created.
    pub index: u32,
}

impl Id {
    /// As one number, for footprints.
    pub fn as_u64(self) -> u64 {
        (u64::from(self.creator) << 32) | u64::from(self.index)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.creator, self.index)
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Id);
    )*};
}

ids! {
    /// A node of the block graph.
    NodeId;
    /// A backend: the place where a guest device (or another user) holds the graph.
    BackendId;
    /// A job.
    JobId;
}
