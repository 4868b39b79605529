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
const ORDER: u32 = u32::MAX - 5;

/// The bytes of a disk; ranges are bytes.
pub fn disk_bytes(disk: u32, kind: Kind, from: u64, to: u64) -> Access {
    Access { object: Id { creator: DISK, index: disk }, kind, from, to }
}

/// Which completed writes of a disk a flush covers, where it may lose them.
pub fn durability(disk: u32, kind: Kind) -> Access {
    Access::whole(Id { creator: DURABILITY, index: disk }, kind)
}

/// The order in which the writes of a disk take effect, where that is the order in which they become durable.
pub fn order(disk: u32) -> Access {
    Access::whole(Id { creator: ORDER, index: disk }, Kind::Write)
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

/// What is known about the moment at which power was lost, and about what it left, as far as atoms share it.
pub fn fate(kind: Kind) -> Access {
    Access::whole(Id { creator: WORLD, index: 1 }, kind)
}

/// The power: each step adds to it that it needs it, and its loss comes after all of them.
pub fn power(kind: Kind) -> Access {
    Access::whole(Id { creator: WORLD, index: 2 }, kind)
}

/// Objects whose creator is a path that a task has: their ids need the path's hash to mean the same everywhere.
pub fn names_a_path(object: Id) -> Option<PathId> {
    match object.creator {
        READINESS => Some(object.index),
        DISK | DURABILITY | SPACE | ORDER | WORLD => None,
        path => Some(path),
    }
}

/// Whether two steps with these footprints do not commute.
pub fn conflicts(a: &[Access], b: &[Access]) -> bool {
    a.iter().any(|x| b.iter().any(|y| x.conflicts(y)))
}
