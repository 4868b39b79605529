//! Requests to a file: out of the page cache, and past it.

use std::fs::File;
use std::io::Write;

use crate::figure::{Absent, Row, Target, Unit};
use crate::layer::{Layer, Load, REQUEST};
use crate::machine::{Scratch, text, timed};
use crate::qemu::{self, Took};

/// Bytes.
const LEN: u64 = 256 << 20;
/// From one request to the next, so that no two can be made one.
const STEP: u64 = (1 << 20) + REQUEST;

/// How the file is used.
#[derive(Clone, Copy)]
struct Way {
    direct: bool,
    ring: bool,
    depth: u64,
    write: bool,
}

impl Way {
    fn count(self) -> u64 {
        match (self.direct, self.depth) {
            (false, _) => 200_000,
            (true, 1) => 10_000,
            (true, _) => 100_000,
        }
    }

    fn aio(self) -> &'static str {
        if self.ring { "io_uring" } else { "threads" }
    }
}

/// A file without holes, which the page cache has.
fn filled(scratch: &Scratch) -> String {
    let path = scratch.path("disk");
    let mut file = File::create(&path).expect("the directory is writable");
    let piece = vec![0x5A; 1 << 20];
    (0..LEN >> 20).for_each(|_| file.write_all(&piece).expect("there is space"));
    file.sync_all().expect("the disk takes it");
    text(&path)
}

fn ours(way: Way) -> Result<Took, Absent> {
    let scratch = Scratch::new();
    let filename = filled(&scratch);
    let direct = if way.direct { "on" } else { "off" };
    let file = format!("driver=file,filename={filename},cache.direct={direct},aio={}", way.aio());
    let layer = Layer::new();
    layer.execute("blockdev-add", [format!("node-name=file,{file}")]);
    layer.execute("blockdev-add", [String::from("driver=raw,node-name=disk,file=file")]);
    let backend = layer.backend("disk");
    let load =
        Load { count: way.count(), depth: way.depth, step: STEP, len: LEN, write: way.write };
    layer.requests(&backend, Load { count: load.count / 10, ..load });
    let (processor_s, passed_s) = timed(|| layer.requests(&backend, load));
    Ok(Took { processor_s, passed_s })
}

fn qemu(way: Way) -> Result<Took, Absent> {
    let scratch = Scratch::new();
    let filename = filled(&scratch);
    let cache = if way.direct { "none" } else { "writeback" };
    let (depth, step) = (way.depth.to_string(), STEP.to_string());
    let options = ["-f", "raw", "-t", cache, "-i", way.aio(), "-d", &depth, "-s", "4096", "-S"];
    let write = if way.write { &["-w"] as &[&str] } else { &[] };
    let options = [&options[..], &[&step], write].concat();
    qemu::bench(&options, &filename, way.count())
}

fn per_request_us(took: Took, way: Way) -> f64 {
    took.processor_s * 1e6 / way.count() as f64
}

fn per_second(took: Took, way: Way) -> f64 {
    way.count() as f64 / took.passed_s
}

/// Names, words, how; what is measured of it follows.
macro_rules! rows {
    ($($name:literal, $what:literal, $way:expr, $target:expr, $unit:expr, $of:path;)*) => {
        &[$(Row {
            name: $name,
            what: $what,
            unit: $unit,
            target: $target,
            qemu: || Ok($of(qemu($way)?, $way)),
            ours: || Ok($of(ours($way)?, $way)),
        },)*]
    };
}

const fn cached(ring: bool, depth: u64, write: bool) -> Way {
    Way { direct: false, ring, depth, write }
}

const fn direct(ring: bool, depth: u64, write: bool) -> Way {
    Way { direct: true, ring, depth, write }
}

const US: Unit = Unit::Microseconds;

pub const ROWS: &[Row] = rows! {
    "cached-read-1", "4 KiB cached read of raw, depth 1: processor time",
        cached(false, 1, false), Target::AtMost(3.0), US, per_request_us;
    "cached-read-32", "    depth 32",
        cached(false, 32, false), Target::AtMost(3.0), US, per_request_us;
    "cached-write-1", "4 KiB cached write to raw, depth 1",
        cached(false, 1, true), Target::AtMost(3.0), US, per_request_us;
    "cached-write-32", "    depth 32",
        cached(false, 32, true), Target::AtMost(3.0), US, per_request_us;
    "direct-read-1", "4 KiB O_DIRECT read of raw, io_uring, depth 1: time as it passes",
        direct(true, 1, false), Target::OfPeer(0.95), Unit::PerSecond, per_second;
    "direct-read-32", "    depth 32",
        direct(true, 32, false), Target::OfPeer(0.95), Unit::PerSecond, per_second;
    "direct-read-cpu", "    depth 32: processor time",
        direct(true, 32, false), Target::AtMost(7.0), US, per_request_us;
    "direct-write-1", "4 KiB O_DIRECT write to raw, io_uring, depth 1: time as it passes",
        direct(true, 1, true), Target::OfPeer(0.95), Unit::PerSecond, per_second;
    "direct-write-32", "    depth 32",
        direct(true, 32, true), Target::OfPeer(0.95), Unit::PerSecond, per_second;
    "direct-write-cpu", "    depth 32: processor time",
        direct(true, 32, true), Target::AtMost(7.0), US, per_request_us;
    "threads-read-32", "4 KiB O_DIRECT read of raw, threads, depth 32: time as it passes",
        direct(false, 32, false), Target::OfPeer(0.95), Unit::PerSecond, per_second;
    "threads-read-cpu", "    depth 32: processor time",
        direct(false, 32, false), Target::AtMostPeer, US, per_request_us;
};
