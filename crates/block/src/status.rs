//! What the bytes of a node are: data or zeroes, its own or those of what is below.
//!
//! Source: QEMU's documented block status flags.

use alloc::boxed::Box;

use blockyard_graph::{Parent, Role};
use blockyard_runtime::BoxFuture;
use blockyard_units::{ByteLen, ByteRange, NodeId};

use crate::error::BlockError;
use crate::io::Io;
use crate::layer::BlockLayer;
use crate::request::Requester;

/// The beginning of a range, as far as it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the start of the range that was asked about; 0 only for an empty one.
    pub len: ByteLen,
    /// There is data in the node that holds it. Neither data nor zero: what is read is not known, or is that of the
    /// backing child.
    pub data: bool,
    /// It reads as zeroes.
    pub zero: bool,
    /// This node, or what its bytes pass through to, decides what is read, not a backing child.
    pub allocated: bool,
    /// Where it lies, at `map`'s node or, of one whose driver is asked, in the child `raw`.
    pub offset: Option<u64>,
    /// The node that holds it, as far as that was followed.
    pub map: Option<NodeId>,
    /// Ask this child at `offset` instead.
    pub raw: Option<&'static str>,
    /// The node ends with it.
    pub eof: bool,
}

impl Extent {
    /// Data of the node's own, at its own offsets.
    pub fn data(range: ByteRange) -> Self {
        Self {
            len: range.len(),
            data: true,
            zero: false,
            allocated: true,
            offset: Some(range.start()),
            map: None,
            raw: None,
            eof: false,
        }
    }

    /// Zeroes that take no space.
    pub fn zeroes(range: ByteRange) -> Self {
        Self { data: false, zero: true, offset: None, ..Self::data(range) }
    }

    /// Nothing of the node's own: what is read is the backing child's, or zeroes where that ends.
    pub fn unallocated(range: ByteRange) -> Self {
        Self { data: false, allocated: false, offset: None, ..Self::data(range) }
    }

    /// What `child` has at `offset`.
    pub fn raw(range: ByteRange, child: &'static str, offset: u64) -> Self {
        Self { offset: Some(offset), raw: Some(child), ..Self::data(range) }
    }

    /// No longer than `len`.
    fn up_to(self, len: ByteLen) -> Self {
        Self { len: self.len.min(len), ..self }
    }
}

/// What a chain of backing children has to say of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Above {
    /// What it is; `allocated` if a layer that was asked has it.
    pub extent: Extent,
    /// How many layers down it is, the top being 1; 0 if no layer has it.
    pub depth: u32,
}

/// As far as a node's own children: what `range`'s beginning is in the node that `io` is the view of.
pub(crate) fn of_node<'a>(
    io: &'a Io,
    range: ByteRange,
) -> BoxFuture<'a, Result<Extent, BlockError>> {
    Box::pin(async move {
        let layer = io.layer();
        let gone = || BlockError::NotFound("the node is gone".into());
        let node = layer.node_by_id(io.node_id()).ok_or_else(gone)?;
        let len = node.len(io);
        let inside = range.intersection(&ByteRange::new(0, len.0));
        if inside.is_empty() {
            return Ok(Extent { eof: true, ..Extent::zeroes(ByteRange::new(range.start(), 0)) });
        }
        let alignment = node.driver().limits().alignment();
        let aligned = inside.align_outward(alignment).intersection(&ByteRange::new(0, len.0));
        let extent = node.driver().block_status(io, aligned).await?;
        let skipped = inside.start() - aligned.start();
        let mut extent = Extent {
            len: ByteLen(extent.len.0.saturating_sub(skipped)),
            offset: extent.offset.map(|offset| offset + skipped),
            ..extent
        }
        .up_to(inside.len());
        assert!(extent.len.0 > 0, "a-status-goes-on: node {} at {range}", node.name());
        extent.eof = inside.start() + extent.len.0 == len.0;
        let (Some(child), Some(offset)) = (extent.raw, extent.offset) else {
            extent.map = extent.offset.map(|_| node.id());
            return Ok(extent);
        };
        let below = io.block_status(child, ByteRange::new(offset, extent.len.0)).await?;
        if below.len.0 == 0 {
            // The child is shorter: nothing is there to be read.
            return Ok(Extent { raw: None, ..Extent::zeroes(inside).up_to(extent.len) });
        }
        let below = match format_over(io, child) {
            Some(child) if !below.allocated => {
                let passed = ByteRange::new(offset, below.len.0);
                let whole: BoxFuture<'_, _> =
                    Box::pin(layer.status_above(io.requester(), child, None, passed));
                Extent { allocated: true, ..whole.await?.extent }
            }
            _ => below,
        };
        Ok(Extent { eof: inside.start() + below.len.0 == len.0, raw: None, ..below })
    })
}

/// The node that this child leads to, unless the holder filters it: what backing files that node has is no matter of
/// those above the holder.
fn format_over(io: &Io, child: &str) -> Option<NodeId> {
    let graph = io.layer().graph();
    let mut edges = graph.children(Parent::Node(io.node_id()));
    let edge = edges.find(|edge| edge.name == child)?;
    (!edge.roles.contains(Role::Filtered)).then_some(edge.child)
}

impl BlockLayer {
    /// What the chain of backing children from node `top` down to, not including, `base` has to say of the beginning
    /// of `range`; the whole chain, if there is no base. Filters are looked through and are no layers.
    ///
    /// # Errors
    /// What a driver met, or a node is gone.
    ///
    /// # Yields
    /// As the drivers do; the graph may have changed.
    pub async fn status_above(
        &self,
        requester: Requester,
        top: NodeId,
        base: Option<NodeId>,
        range: ByteRange,
    ) -> Result<Above, BlockError> {
        let (mut at, mut depth, mut len) = (top, 1, range.len());
        loop {
            let gone = || BlockError::NotFound("a node of the chain is gone".into());
            let node = self.node_by_id(at).ok_or_else(gone)?;
            let io = Io::of_node(self, &node, requester);
            let asked = ByteRange::new(range.start(), len.0);
            let extent = of_node(&io, asked).await?;
            if extent.len.0 == 0 {
                // A layer that is shorter than those above it reads as zeroes behind its end.
                return Ok(Above { extent: Extent::zeroes(asked), depth });
            }
            len = extent.len;
            if extent.allocated {
                return Ok(Above { extent, depth });
            }
            match self.backing_of(at) {
                Some(below) if Some(below) != base => at = below,
                Some(_) => return Ok(Above { extent, depth: 0 }),
                None => {
                    let extent = Extent { zero: true, ..extent };
                    return Ok(Above { extent, depth: 0 });
                }
            }
            depth += 1;
        }
    }

    /// The node below `node` that is read where it has nothing, filters looked through.
    pub fn backing_of(&self, node: NodeId) -> Option<NodeId> {
        let graph = self.graph();
        let mut at = node;
        loop {
            if let Some(backing) = graph.child_with(at, Role::Cow) {
                return Some(backing.child);
            }
            at = graph.child_with(at, Role::Filtered)?.child;
        }
    }
}
