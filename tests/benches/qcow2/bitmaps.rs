//! Bitmaps that are stored in an image: what it takes to open the image with them, and to close it; and to merge one
//! into another.

use std::path::{Path, PathBuf};
use std::time::Instant;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::StoredBitmap;
use blockyard_host::HostFile;
use blockyard_qcow2::{CreateOptions, Files};
use blockyard_units::ByteLen;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::layer::Layer;
use crate::common::machine::{Folder, shared};
use crate::common::qemu::Daemon;
use crate::images::{self, host, make};

const DISK: u64 = 1 << 40;
const GRANULARITY: u64 = 64 << 10;

/// An image of 1 TiB with the bitmap `b`, half of whose bits are set, anywhere.
fn image() -> PathBuf {
    shared("bitmap.qcow2", |path| {
        make(path, &CreateOptions::new(DISK));
        let file = HostFile::open(path, false).expect("it was just made");
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let words = (0..DISK / GRANULARITY / 64).map(|_| random.next_u64()).collect();
        let bits = DirtyBitmap::from_words(ByteLen(DISK), ByteLen(GRANULARITY), words);
        let bits = bits.expect("it is a granularity");
        let bitmap = StoredBitmap { name: "b".into(), bits, inconsistent: false };
        host().block_on(async {
            let (image, files) = (images::open(&file).await, Files::of_disk(&file));
            image.store_bitmaps(&files, &[bitmap]).await.expect("there is room");
            image.close(&files).await.expect("it closes");
        });
    })
}

/// The commands that open it and have it changed, and those that close it. The second and the last but one are about
/// the image's own node.
fn commands(path: &Path) -> [(&'static str, String); 5] {
    let file = format!(r#""driver": "file", "node-name": "f", "filename": "{}""#, path.display());
    [
        ("blockdev-add", format!("{{{file}}}")),
        ("blockdev-add", r#"{"driver": "qcow2", "node-name": "n", "file": "f"}"#.into()),
        ("block-dirty-bitmap-disable", r#"{"node": "n", "name": "b"}"#.into()),
        ("blockdev-del", r#"{"node-name": "n"}"#.into()),
        ("blockdev-del", r#"{"node-name": "f"}"#.into()),
    ]
}

/// What it takes to open the image, or to close it.
fn timed(stores: bool, mut execute: impl FnMut(&str, [String; 1])) -> f64 {
    let folder = Folder::own();
    let path = images::own_copy(&folder, &image());
    let measured = if stores { 3 } else { 1 };
    let mut passed_s = 0.0;
    for (index, (command, arguments)) in commands(&path).into_iter().enumerate() {
        let began = Instant::now();
        execute(command, [arguments]);
        if index == measured {
            passed_s = began.elapsed().as_secs_f64();
        }
    }
    crate::check::ours(&path);
    passed_s
}

fn ours(stores: bool) -> Result<f64, Absent> {
    let layer = Layer::new();
    Ok(timed(stores, |command, arguments| layer.execute(command, arguments)))
}

fn qemu(stores: bool) -> Result<f64, Absent> {
    let mut daemon = Daemon::start()?;
    Ok(timed(stores, |command, arguments| daemon.execute(command, arguments)))
}

/// What it takes to merge the bitmap into a clean one of this granularity.
fn merged(granularity: u64, mut execute: impl FnMut(&str, [String; 1])) -> f64 {
    let folder = Folder::own();
    let [file, image, ..] = commands(&images::own_copy(&folder, &image()));
    execute(file.0, [file.1]);
    execute(image.0, [image.1]);
    let add = format!(r#"{{"node": "n", "name": "all", "granularity": {granularity}}}"#);
    execute("block-dirty-bitmap-add", [add]);
    let began = Instant::now();
    let merge = r#"{"node": "n", "target": "all", "bitmaps": ["b"]}"#;
    execute("block-dirty-bitmap-merge", [merge.into()]);
    began.elapsed().as_secs_f64()
}

fn ours_merged(granularity: u64) -> Result<f64, Absent> {
    let layer = Layer::new();
    Ok(merged(granularity, |command, arguments| layer.execute(command, arguments)))
}

fn qemu_merged(granularity: u64) -> Result<f64, Absent> {
    let mut daemon = Daemon::start()?;
    Ok(merged(granularity, |command, arguments| daemon.execute(command, arguments)))
}

const fn row(
    name: &'static str,
    what: &'static str,
    qemu: crate::common::figure::Measure,
    ours: crate::common::figure::Measure,
) -> Row {
    Row { name, what, unit: Unit::Seconds, target: Target::PeerAtMost(0.5), qemu, ours }
}

pub const ROWS: &[Row] = &[
    row("bitmap-load", "a bitmap of 1 TiB, loaded", || qemu(false), || ours(false)),
    row("bitmap-store", "    stored", || qemu(true), || ours(true)),
];

pub const MERGES: &[Row] = &[
    Row {
        target: Target::AtMost(0.001),
        ..row(
            "bitmap-merge",
            "    merged into one of its granularity",
            || qemu_merged(GRANULARITY),
            || ours_merged(GRANULARITY),
        )
    },
    Row {
        target: Target::AtMost(0.020),
        ..row(
            "bitmap-merge-4k",
            "    merged into one of 4 KiB",
            || qemu_merged(4096),
            || ours_merged(4096),
        )
    },
];
