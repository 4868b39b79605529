//! Checks of large images.

use std::path::{Path, PathBuf};
use std::time::Instant;

use blockyard_host::HostFile;
use blockyard_qcow2::{CheckOptions, ImageFile, check};

use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::machine::text;
use crate::common::qemu;
use crate::images::{host, large, with_snapshots};

pub fn ours(path: &Path) -> f64 {
    let began = Instant::now();
    let file = HostFile::open(path, true).expect("it is there");
    let mut watch = |_| true;
    let checking = check(ImageFile::Disk(&file), None, CheckOptions::default(), &mut watch);
    let checked = host().block_on(checking).expect("it can be checked");
    assert!(checked.is_clean(), "{:?}", checked.findings);
    began.elapsed().as_secs_f64()
}

fn qemu(path: PathBuf) -> Result<f64, Absent> {
    qemu::passed_s("qemu-img", &["check", "-q", &text(&path)])
}

macro_rules! rows {
    ($($name:literal, $what:literal, $image:expr;)*) => {
        &[$(Row {
            name: $name,
            what: $what,
            unit: Unit::Seconds,
            target: Target::PeerAtMost(0.5),
            qemu: || qemu($image),
            ours: || Ok(ours(&$image)),
        },)*]
    };
}

pub const ROWS: &[Row] = rows! {
    "check", "check of an image with 64 GiB allocated", large(64 << 10);
    "check-snapshots", "    with 10 snapshots", with_snapshots(10);
    "check-4k", "    with clusters of 4 KiB", large(4 << 10);
};
