//! Requests to an image, allocated and empty.

use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::layer::{Load, REQUEST};
use crate::common::machine::{Folder, text};
use crate::common::qemu::Took;
use crate::common::way::Way;
use crate::images::{self, Content};

/// Bytes of the disk of an empty image.
const EMPTY: u64 = 4 << 30;
/// Bytes of the disk of an allocated one.
const FULL: u64 = 256 << 20;
/// Bytes of a long request.
const LONG: u64 = 256 << 10;

/// At which image.
pub type Side = fn(Way, &str) -> Result<Took, Absent>;

/// Requests to an image of its own.
pub fn measured(way: Way, side: Side) -> Result<f64, Absent> {
    let folder = Folder::own();
    let path = match way.load.len {
        EMPTY => images::empty(&folder, EMPTY),
        _ => images::own_copy(&folder, &Content::Full.image()),
    };
    Ok(way.per_second(side(way, &text(&path))?))
}

pub const fn allocated(direct: bool, depth: u64, write: bool) -> Way {
    let count = match (direct, depth) {
        (false, _) => 200_000,
        (true, 1) => 5_000,
        (true, _) => 50_000,
    };
    let step = (1 << 20) + REQUEST;
    let load = Load { count, depth, size: REQUEST, step, len: FULL, write };
    Way { format: "qcow2", direct, ring: direct, warm: count / 10, load }
}

/// Each write is to another cluster.
const fn empty(direct: bool, depth: u64, write: bool) -> Way {
    let count = match (direct, write) {
        (_, false) => 200_000,
        (false, true) => 3_000,
        (true, true) => 1_500,
    };
    let step = 17 * (64 << 10);
    let load = Load { count, depth, size: REQUEST, step, len: EMPTY, write };
    Way { format: "qcow2", direct, ring: direct, warm: 1, load }
}

const fn long(len: u64, write: bool) -> Way {
    let count = 4_000;
    let load = Load { count, depth: 8, size: LONG, step: LONG, len, write };
    Way { format: "qcow2", direct: false, ring: false, warm: 1, load }
}

macro_rules! rows {
    ($($name:literal, $what:literal, $way:expr;)*) => {
        &[$(Row {
            name: $name,
            what: $what,
            unit: Unit::PerSecond,
            target: Target::PeerAtLeast(1.0),
            qemu: || measured($way, Way::qemu),
            ours: || measured($way, Way::ours),
        },)*]
    };
}

pub const ROWS: &[Row] = rows! {
    "cached-read-1", "4 KiB cached read of an allocated image, depth 1",
        allocated(false, 1, false);
    "cached-read-32", "    depth 32", allocated(false, 32, false);
    "cached-write-1", "4 KiB cached write to an allocated image, depth 1",
        allocated(false, 1, true);
    "cached-write-32", "    depth 32", allocated(false, 32, true);
    "direct-read-1", "4 KiB O_DIRECT read of an allocated image, depth 1",
        allocated(true, 1, false);
    "direct-read-32", "    depth 32", allocated(true, 32, false);
    "direct-write-1", "4 KiB O_DIRECT write to an allocated image, depth 1",
        allocated(true, 1, true);
    "direct-write-32", "    depth 32", allocated(true, 32, true);
    "empty-read-1", "4 KiB read of an empty image, depth 1", empty(false, 1, false);
    "empty-read-32", "    depth 32", empty(false, 32, false);
    "empty-write-1", "4 KiB cached write to an empty image, depth 1", empty(false, 1, true);
    "empty-write-32", "    depth 32", empty(false, 32, true);
    "empty-direct-1", "4 KiB O_DIRECT write to an empty image, depth 1", empty(true, 1, true);
    "empty-direct-32", "    depth 32", empty(true, 32, true);
    "long-read", "256 KiB cached sequential read of an allocated image, depth 8",
        long(FULL, false);
    "long-write", "256 KiB cached sequential write to an allocated image", long(FULL, true);
    "long-empty", "    to an empty one", long(EMPTY, true);
};
