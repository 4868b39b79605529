//! Requests that no device delays: what the layer itself costs, and each node that only passes them on.

use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::layer::{Layer, Load, REQUEST};
use crate::common::machine::timed;
use crate::common::qemu;

const LEN: u64 = 1 << 30;
const COUNT: u64 = 400_000;

fn null(prefix: &str) -> String {
    format!("{prefix}driver=null-co,{prefix}size={LEN}")
}

/// Processor time of a request under so many nodes.
fn ours_us(nodes: usize, write: bool) -> Result<f64, Absent> {
    let layer = Layer::new();
    let raw = |index: usize| format!("driver=raw,node-name=node{},file=node{index}", index + 1);
    let null = [format!("node-name=node0,{}", null(""))];
    layer.execute("blockdev-add", null.into_iter().chain((0..nodes).map(raw)));
    let backend = layer.backend(&format!("node{nodes}"));
    let load = Load { count: COUNT, depth: 1, size: REQUEST, step: REQUEST, len: LEN, write };
    layer.requests(&backend, Load { count: COUNT / 10, ..load });
    let (processor_s, _) = timed(|| layer.requests(&backend, load));
    Ok(processor_s * 1e6 / COUNT as f64)
}

/// Ours reads zeroes, so QEMU's is told to do so too.
fn qemu_us(nodes: usize, write: bool) -> Result<f64, Absent> {
    let files: String = (0..nodes).map(|_| "file.").collect();
    let raws = (0..nodes).map(|depth| format!("{}driver=raw,", "file.".repeat(depth)));
    let image = format!("{}{},{files}read-zeroes=on", raws.collect::<String>(), null(&files));
    let write = if write { &["-w"] as &[&str] } else { &[] };
    let options = [&["--image-opts", "-d", "1", "-s", "4096"], write].concat();
    Ok(qemu::bench(&options, &image, COUNT)?.processor_s * 1e6 / COUNT as f64)
}

/// What each of eight nodes adds.
fn added_us(of: fn(usize, bool) -> Result<f64, Absent>) -> Result<f64, Absent> {
    Ok((of(8, false)? - of(0, false)?) / 8.0)
}

const fn row(
    name: &'static str,
    what: &'static str,
    most_us: f64,
    qemu: crate::common::figure::Measure,
    ours: crate::common::figure::Measure,
) -> Row {
    Row { name, what, unit: Unit::Microseconds, target: Target::AtMost(most_us), qemu, ours }
}

pub const ROWS: &[Row] = &[
    row(
        "null",
        "4 KiB read of null-co: processor time",
        0.2,
        || qemu_us(0, false),
        || ours_us(0, false),
    ),
    row("null-1", "    under one raw node", 0.28, || qemu_us(1, false), || ours_us(1, false)),
    row("null-4", "    under 4", 0.52, || qemu_us(4, false), || ours_us(4, false)),
    row("null-8", "    under 8", 0.84, || qemu_us(8, false), || ours_us(8, false)),
    row("null-node", "    what each of 8 adds", 0.08, || added_us(qemu_us), || added_us(ours_us)),
    row(
        "null-write",
        "4 KiB write to null-co: processor time",
        0.2,
        || qemu_us(0, true),
        || ours_us(0, true),
    ),
    row("null-write-8", "    under 8 raw nodes", 0.84, || qemu_us(8, true), || ours_us(8, true)),
];
