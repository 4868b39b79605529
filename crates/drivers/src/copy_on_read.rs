//! `copy-on-read`: what is read through it is copied up into its child, if it comes from a backing child of that.
//! With a `bottom`, only what that node or one above it has. A bottom that is no longer below stops all of it.
//!
//! Source: QEMU's documented copy-on-read filter.

use alloc::boxed::Box;
use alloc::vec::Vec;

use blockyard_block::{BlockDriver, BlockError, Io, ReadFlags};
use blockyard_graph::Parent;
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_units::{ByteRange, NodeId};

use crate::FILE;

/// Copies up what is read.
pub struct CopyOnRead {
    bottom: Option<NodeId>,
}

impl CopyOnRead {
    /// `bottom`: the last node of the chain, no filter, from which it copies.
    pub fn new(bottom: Option<NodeId>) -> Self {
        Self { bottom }
    }

    async fn read_above(
        &self,
        bottom: NodeId,
        io: &Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        let layer = io.layer();
        let is_below = layer.graph().reaches(Parent::Node(io.node_id()), bottom);
        let base = layer.backing_of(bottom);
        let mut data = Vec::new();
        let mut rest = range;
        while !rest.is_empty() {
            let above = io.status_above(FILE, base, rest).await?;
            let piece = ByteRange::new(rest.start(), above.extent.len.0);
            let copy_on_read = is_below && above.depth > 1;
            // What is not to be copied need not be read either.
            if copy_on_read || !flags.prefetch {
                let flags = ReadFlags { copy_on_read, ..flags };
                data.extend_from_slice(&io.read(FILE, piece, flags).await?);
            }
            rest = ByteRange::between(piece.end(), range.end());
        }
        Ok(data.into())
    }
}

impl BlockDriver for CopyOnRead {
    fn main_child(&self) -> Option<&'static str> {
        Some(FILE)
    }

    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        match self.bottom {
            Some(bottom) if !flags.by_hook => Box::pin(self.read_above(bottom, io, range, flags)),
            _ => Box::pin(io.read(FILE, range, ReadFlags { copy_on_read: true, ..flags })),
        }
    }
}
