//! What benches beside QEMU have in common: rows of a table, both sides of one, and what the machine is asked.

#![allow(dead_code)] // each bench uses a part

pub mod figure;
pub mod layer;
pub mod machine;
pub mod qemu;
pub mod table;
pub mod way;
