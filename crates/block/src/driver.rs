//! What a driver is to the layer.

use alloc::boxed::Box;

use blockyard_graph::Graph;
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_units::{ByteLen, ByteRange};

use crate::error::BlockError;
use crate::io::Io;
use crate::request::{ReadFlags, Write};

/// A change of the graph that a driver is asked to prepare for.
pub struct Change<'a> {
    /// The graph as it is.
    pub before: &'a Graph,
    /// The graph as it will be.
    pub after: &'a Graph,
}

/// The part of a node that knows what to do with a request.
///
/// A driver reaches its children through the [`Io`] it is given, and holds none of them.
pub trait BlockDriver: Send + Sync {
    /// Bytes.
    fn len(&self, io: &Io) -> ByteLen;

    /// Reads `range`.
    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>>;

    /// Does a write-like request.
    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>>;

    /// Makes what was written durable.
    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>>;

    /// Whether overlapping writes through this node must not run side by side.
    fn serialises_writes(&self) -> bool {
        false
    }

    /// Gets ready for a change that touches this node: takes locks, opens what is needed. May yield; changes nothing
    /// that a request can see.
    fn prepare<'a>(&'a self, _change: Change<'a>) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async { Ok(()) })
    }

    /// The prepared change is published.
    fn commit(&self) {}

    /// The prepared change does not take place.
    fn abort(&self) {}

    /// A drained section that covers this node has begun: requests that the driver holds back must go on.
    fn drain_begin(&self) {}

    /// It has ended.
    fn drain_end(&self) {}
}
