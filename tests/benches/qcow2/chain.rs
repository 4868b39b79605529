//! Chains of images: opened by the name of the top, and added one by one.

use std::time::Instant;

use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::layer::Layer;
use crate::common::qemu::Daemon;
use crate::images::chain;

const IMAGES: usize = 200;

/// The arguments of each command, from the bottom of the chain on if `each` image is added by itself.
fn arguments(each: bool) -> Vec<String> {
    let paths = chain(IMAGES);
    let node = |index: usize, backing: &str| {
        let file = format!(r#"{{"driver": "file", "filename": "{}"}}"#, paths[index].display());
        format!(r#"{{"driver": "qcow2", "node-name": "node{index}", "file": {file}{backing}}}"#)
    };
    let on_top = |index: usize| match index {
        0 => node(0, ""),
        _ => node(index, &format!(r#", "backing": "node{}""#, index - 1)),
    };
    if each { (0..IMAGES).map(on_top).collect() } else { vec![node(IMAGES - 1, "")] }
}

fn ours(each: bool) -> Result<f64, Absent> {
    let arguments = arguments(each);
    let layer = Layer::new();
    let began = Instant::now();
    layer.execute("blockdev-add", arguments);
    Ok(began.elapsed().as_secs_f64())
}

fn qemu(each: bool) -> Result<f64, Absent> {
    let arguments = arguments(each);
    let mut daemon = Daemon::start()?;
    let began = Instant::now();
    daemon.execute("blockdev-add", arguments);
    Ok(began.elapsed().as_secs_f64())
}

const fn row(
    name: &'static str,
    what: &'static str,
    qemu: crate::common::figure::Measure,
    ours: crate::common::figure::Measure,
) -> Row {
    Row { name, what, unit: Unit::Seconds, target: Target::AtMost(0.05), qemu, ours }
}

pub const ROWS: &[Row] = &[
    row(
        "chain-by-name",
        "a chain of 200 images, by the top's name",
        || qemu(false),
        || ours(false),
    ),
    row("chain-one-by-one", "    added one by one", || qemu(true), || ours(true)),
];
