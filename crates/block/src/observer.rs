//! What happens in the layer, for those who check it.

use blockyard_graph::Graph;
use blockyard_units::{ByteLen, ByteRange, NodeId};

use crate::drain::Owner;
use crate::request::Requester;

/// Sees what happens, in the step in which it happens; does nothing to it.
pub trait Observer: Send + Sync {
    /// A graph was published. `what` says by whom.
    fn published(&self, _what: &str, _before: &Graph, _after: &Graph) {}

    /// A drained section is quiet: it holds from now on, over these nodes.
    fn section_begins(&self, _section: u64, _owner: Owner, _nodes: &[NodeId]) {}

    /// A drained section ends.
    fn section_ends(&self, _section: u64) {}

    /// A job came to a point that observers look for.
    fn milestone(&self, _what: &'static str) {}

    /// A request enters a node's driver.
    fn request_begins(&self, _node: NodeId, _requester: Requester) {}

    /// It has left it.
    fn request_ends(&self, _node: NodeId, _requester: Requester) {}

    /// A write-like request that may have changed what a node shows comes back from its driver. `write`: the node, and
    /// the number it has there. `len`: the node's from now on, if that is what the request was about.
    fn write_lands(
        &self,
        _write: (NodeId, u64),
        _requester: Requester,
        _range: ByteRange,
        _len: Option<ByteLen>,
    ) {
    }

    /// The bitmaps of the node, and of the devices that it concerns, have been told of it.
    fn write_is_marked(&self, _write: (NodeId, u64)) {}
}

/// Sees nothing.
pub struct NoObserver;

impl Observer for NoObserver {}
