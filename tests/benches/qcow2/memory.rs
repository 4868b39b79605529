//! How much memory grows by what is kept of an image, beside what was asked for.

use blockyard_qcow2::CreateOptions;

use crate::check;
use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::layer::Layer;
use crate::common::machine::{Folder, children_peak_kib, peak_kib, text};
use crate::common::qemu;
use crate::images::{everywhere, large, make};

/// Bytes of L2 tables that are kept, of refcounts a quarter of it.
const CACHE: u64 = 1 << 20;
const REQUESTS: u64 = 20_000;

/// Reads everywhere in a disk that takes 8 MiB of L2 tables.
fn ours_reading() -> Result<f64, Absent> {
    let layer = Layer::new();
    let path = text(&large(64 << 10));
    let caches = format!("l2-cache-size={CACHE},refcount-cache-size={}", CACHE / 4);
    let disk =
        format!("driver=qcow2,node-name=disk,{caches},file.driver=file,file.filename={path}");
    layer.execute("blockdev-add", [disk]);
    let backend = layer.reader("disk");
    layer.host.block_on(async {
        let mut before = 0.0;
        for (index, range) in everywhere(REQUESTS).enumerate() {
            backend.read(range).await.expect("nothing fails here");
            before = if index == 0 { peak_kib() } else { before };
        }
        Ok(peak_kib() - before)
    })
}

fn qemu_reading() -> Result<f64, Absent> {
    let path = text(&large(64 << 10));
    let caches = format!("l2-cache-size={CACHE},refcount-cache-size={}", CACHE / 4);
    let disk = format!("driver=qcow2,{caches},file.driver=file,file.filename={path}");
    let step = (7_919 * (64 << 10)).to_string();
    let options = ["--image-opts", "-d", "1", "-s", "4096", "-S", &step];
    qemu::bench(&options, &disk, 1)?;
    let before = children_peak_kib();
    qemu::bench(&options, &disk, REQUESTS)?;
    Ok(children_peak_kib() - before)
}

/// What a check grows by, beside that of a small image.
fn ours_checking() -> Result<f64, Absent> {
    let folder = Folder::own();
    let small = folder.path("small.qcow2");
    make(&small, &CreateOptions::new(1 << 20));
    check::ours(&small);
    let before = peak_kib();
    check::ours(&large(4 << 10));
    Ok(peak_kib() - before)
}

fn qemu_checking() -> Result<f64, Absent> {
    let folder = Folder::own();
    let small = folder.path("small.qcow2");
    make(&small, &CreateOptions::new(1 << 20));
    qemu::passed_s("qemu-img", &["check", "-q", &text(&small)])?;
    let before = children_peak_kib();
    qemu::passed_s("qemu-img", &["check", "-q", &text(&large(4 << 10))])?;
    Ok(children_peak_kib() - before)
}

/// Bytes that a check may take for counting, and what it reads at once.
const CHECK: u64 = (64 << 20) + (2 << 20);

pub const ROWS: &[Row] = &[
    Row {
        name: "memory-read",
        what: "growth with caches of 1.25 MiB, where tables take 8 MiB",
        unit: Unit::Kib,
        target: Target::AtMost(((CACHE + CACHE / 4) / 1024) as f64),
        qemu: qemu_reading,
        ours: ours_reading,
    },
    Row {
        name: "memory-check",
        what: "growth in a check of 64 GiB in clusters of 4 KiB",
        unit: Unit::Kib,
        target: Target::AtMost((CHECK / 1024) as f64),
        qemu: qemu_checking,
        ours: ours_checking,
    },
];
