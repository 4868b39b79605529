//! qcow2 images, ours beside QEMU: conversions, requests, checks, snapshots, bitmaps, chains, memory; and requests
//! beside other crates. Every figure is
//! measured now, each side in processes of its own and in turn with the other, so that a machine that is busy with
//! something else is busy with both; a figure is the median of some goes, and only the ratio means anything elsewhere.
//!
//! The images are made by us and are the same for both. Time is as it passes, less what QEMU's tools take to start.
//!
//! Differs: QEMU's side is `qemu-img`, and for bitmaps and chains the QMP pipe of a `qemu-storage-daemon`; ours is the
//! library and the commands in this process. What converts is eight tasks here, as there are eight in
//! `qemu-img convert`.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a bench measures the machine, and runs other tools

mod bitmaps;
mod chain;
mod check;
#[path = "../common/mod.rs"]
mod common;
mod convert;
mod copy;
mod crates;
mod images;
mod memory;
mod requests;
mod snapshots;

use std::process::ExitCode;

fn main() -> ExitCode {
    let rows = [
        convert::ROWS,
        requests::ROWS,
        crates::ROWS,
        check::ROWS,
        snapshots::ROWS,
        bitmaps::ROWS,
        bitmaps::MERGES,
        chain::ROWS,
        memory::ROWS,
    ];
    common::table::run("qcow2", &rows, &[])
}
