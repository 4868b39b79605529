//! `raw`: the bytes of its child `file`, as they are. Every request passes on with its kind and
//! flags. Without a child it has no bytes.
//!
//! Source: QEMU's documented raw format. Differs: no offset and no size.

use blockyard_block::BlockDriver;

use crate::FILE;

/// The child's bytes, as they are.
#[derive(Default)]
pub struct Raw;

impl BlockDriver for Raw {
    fn main_child(&self) -> Option<&'static str> {
        Some(FILE)
    }
}
