//! Jobs and bitmaps, ours beside QEMU: mirrors, backups, commits and streams, idle and beside a guest; and bitmaps that
//! are loaded, stored and merged.
//! Every figure is measured now, each side in processes of its own and in turn with the other; a figure is the median
//! of some goes, and only the ratio means anything elsewhere.
//!
//! It needs 4 GiB in the folder for temporary files (`TMPDIR`), which is to be on a disk whose files can be opened with
//! `O_DIRECT`; twice as much memory as that, for the page cache; and a machine that does nothing else.
//!
//! Differs: QEMU's side is the QMP pipe of a `qemu-storage-daemon`; ours is the same commands in this process.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a bench measures the machine, and runs other tools

#[path = "../qcow2/bitmaps.rs"]
mod bitmaps;
#[allow(dead_code)] // this bench uses a part
#[path = "../qcow2/check.rs"]
mod check;
#[path = "../common/mod.rs"]
mod common;
mod copied;
#[allow(dead_code)] // this bench uses a part
#[path = "../qcow2/copy.rs"]
mod copy;
mod guest;
#[allow(dead_code)] // this bench uses a part
#[path = "../qcow2/images.rs"]
mod images;

use std::process::ExitCode;

fn main() -> ExitCode {
    common::table::run("jobs", &[bitmaps::ROWS, bitmaps::MERGES], &[copied::GROUPS])
}
