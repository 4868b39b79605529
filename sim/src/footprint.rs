//! Objects that the world itself has, and the test for dependence.

use blockyard_sync::door::{Access, Kind};
use blockyard_units::Id;

use crate::paths::PathId;

const DISK: u32 = u32::MAX;
/// The creator of what [`durability`] touches.
pub const DURABILITY: u32 = u32::MAX - 1;
/// The creator of what [`readiness`] touches.
pub const READINESS: u32 = u32::MAX - 2;
const WORLD: u32 = u32::MAX - 3;
const SPACE: u32 = u32::MAX - 4;

/// The bytes of a disk; ranges are bytes.
pub fn disk_bytes(disk: u32, kind: Kind, from: u64, to: u64) -> Access {
    Access { object: Id { creator: DISK, index: disk }, kind, from, to }
}

/// What of a disk is durable.
pub fn durability(disk: u32, kind: Kind) -> Access {
    Access::whole(Id { creator: DURABILITY, index: disk }, kind)
}

/// Whether a disk has space left.
pub fn space(disk: u32, kind: Kind) -> Access {
    Access::whole(Id { creator: SPACE, index: disk }, kind)
}

/// Whether a task may be polled, for wakes that follow from no guard.
pub fn readiness(task: PathId, kind: Kind) -> Access {
    Access::whole(Id { creator: READINESS, index: task }, kind)
}

/// The clock.
pub fn clock(kind: Kind) -> Access {
    Access::whole(Id { creator: WORLD, index: 0 }, kind)
}

/// Objects whose creator is a path that a task has: their ids need the path's hash to mean the same everywhere.
pub fn names_a_path(object: Id) -> Option<PathId> {
    match object.creator {
        READINESS => Some(object.index),
        DISK | DURABILITY | SPACE | WORLD => None,
        path => Some(path),
    }
}

/// Whether two steps with these footprints do not commute.
pub fn conflicts(a: &[Access], b: &[Access]) -> bool {
    a.iter().any(|x| b.iter().any(|y| x.conflicts(y)))
}
