//! Ours beside QEMU: what a request costs from the backend down, what an edit of the graph costs, and what a node
//! weighs. Every figure is measured now, each side in processes of its own and in turn with the other, so that a
//! machine that is busy with something else is busy with both; a figure is the median of some goes.
//!
//! Differs: QEMU's requests are those of `qemu-img bench`, its edits go through the QMP pipe of a
//! `qemu-storage-daemon`; ours are made by a task on the host's executor, and by commands parsed from the same text.
//! Processor time is that of the whole process, in the system too, less what it takes to begin.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // a bench measures the machine, and runs other tools

#[path = "../common/mod.rs"]
mod common;
mod encrypted;
mod files;
mod graph;
mod nodes;

use std::process::ExitCode;

fn main() -> ExitCode {
    common::table::run("requests", &[nodes::ROWS, encrypted::ROWS, files::ROWS, graph::ROWS], &[])
}
