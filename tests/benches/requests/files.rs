//! Requests to a file: out of the page cache, and past it.

use std::fs::File;
use std::io::Write;

use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::layer::{Load, REQUEST};
use crate::common::machine::{Folder, text};
use crate::common::qemu::Took;
use crate::common::way::Way;

/// Bytes.
const LEN: u64 = 256 << 20;
/// From one request to the next, so that no two can be made one.
const STEP: u64 = (1 << 20) + REQUEST;

/// A file without holes, which the page cache has.
fn filled(folder: &Folder) -> String {
    let path = folder.path("disk");
    let mut file = File::create(&path).expect("the directory is writable");
    let piece = vec![0x5A; 1 << 20];
    (0..LEN >> 20).for_each(|_| file.write_all(&piece).expect("there is space"));
    file.sync_all().expect("the disk takes it");
    text(&path)
}

fn ours(way: Way) -> Result<Took, Absent> {
    let folder = Folder::own();
    way.ours(&filled(&folder))
}

fn qemu(way: Way) -> Result<Took, Absent> {
    let folder = Folder::own();
    way.qemu(&filled(&folder))
}

const fn way(direct: bool, ring: bool, depth: u64, write: bool) -> Way {
    let count = match (direct, depth) {
        (false, _) => 200_000,
        (true, 1) => 10_000,
        (true, _) => 100_000,
    };
    let load = Load { count, depth, size: REQUEST, step: STEP, len: LEN, write };
    Way { format: "raw", direct, ring, warm: count / 10, load }
}

/// Names, words, how; what is measured of it follows.
macro_rules! rows {
    ($($name:literal, $what:literal, $way:expr, $target:expr, $unit:expr, $of:path;)*) => {
        &[$(Row {
            name: $name,
            what: $what,
            unit: $unit,
            target: $target,
            qemu: || Ok($of($way, qemu($way)?)),
            ours: || Ok($of($way, ours($way)?)),
        },)*]
    };
}

const fn cached(ring: bool, depth: u64, write: bool) -> Way {
    way(false, ring, depth, write)
}

const fn direct(ring: bool, depth: u64, write: bool) -> Way {
    way(true, ring, depth, write)
}

const US: Unit = Unit::Microseconds;

pub const ROWS: &[Row] = rows! {
    "cached-read-1", "4 KiB cached read of raw, depth 1: processor time",
        cached(false, 1, false), Target::AtMost(3.0), US, Way::per_request_us;
    "cached-read-32", "    depth 32",
        cached(false, 32, false), Target::AtMost(3.0), US, Way::per_request_us;
    "cached-write-1", "4 KiB cached write to raw, depth 1",
        cached(false, 1, true), Target::AtMost(3.0), US, Way::per_request_us;
    "cached-write-32", "    depth 32",
        cached(false, 32, true), Target::AtMost(3.0), US, Way::per_request_us;
    "direct-read-1", "4 KiB O_DIRECT read of raw, io_uring, depth 1: time as it passes",
        direct(true, 1, false), Target::PeerAtLeast(0.95), Unit::PerSecond, Way::per_second;
    "direct-read-32", "    depth 32",
        direct(true, 32, false), Target::PeerAtLeast(0.95), Unit::PerSecond, Way::per_second;
    "direct-read-cpu", "    depth 32: processor time",
        direct(true, 32, false), Target::AtMost(7.0), US, Way::per_request_us;
    "direct-write-1", "4 KiB O_DIRECT write to raw, io_uring, depth 1: time as it passes",
        direct(true, 1, true), Target::PeerAtLeast(0.95), Unit::PerSecond, Way::per_second;
    "direct-write-32", "    depth 32",
        direct(true, 32, true), Target::PeerAtLeast(0.95), Unit::PerSecond, Way::per_second;
    "direct-write-cpu", "    depth 32: processor time",
        direct(true, 32, true), Target::AtMost(7.0), US, Way::per_request_us;
    "threads-read-32", "4 KiB O_DIRECT read of raw, threads, depth 32: time as it passes",
        direct(false, 32, false), Target::PeerAtLeast(0.95), Unit::PerSecond, Way::per_second;
    "threads-read-cpu", "    depth 32: processor time",
        direct(false, 32, false), Target::PeerAtMost(1.0), US, Way::per_request_us;
};
