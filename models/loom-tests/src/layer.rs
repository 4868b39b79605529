//! A block layer without a world, and a driver that does nothing.

use alloc::sync::Arc;

use blockyard_block::{
    BlockDriver, BlockError, BlockLayer, Io, NewNode, NoObserver, ReadFlags, Write,
};
use blockyard_graph::{Edit, NodeAttributes, NodeKind};
use blockyard_runtime::{BoxFuture, Executor, IoBuffer, Runtime};
use blockyard_units::{ByteLen, ByteRange, Design};
use loom::sync::atomic::{AtomicUsize, Ordering};

/// A layer with an empty graph.
pub fn empty_layer() -> BlockLayer {
    BlockLayer::new(Runtime::new(Arc::new(NoWorld)), Design::default(), Arc::new(NoObserver))
}

/// A node for `driver`, and the edit that adds it.
pub fn new_node(layer: &BlockLayer, name: &str, driver: Null) -> (NewNode, Edit) {
    let node = layer.new_node(name, Box::new(driver));
    let attributes = NodeAttributes::new(name, NodeKind::Protocol, "null");
    let edit = Edit::AddNode { id: node.id(), attributes };
    (node, edit)
}

/// Does nothing, at once, and counts how many requests are inside while it does.
#[derive(Default)]
pub struct Null {
    /// Requests inside.
    pub inside: Arc<AtomicUsize>,
}

const LEN: ByteLen = ByteLen(4096);

impl Null {
    fn pass(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl BlockDriver for Null {
    fn len(&self, _io: &Io) -> ByteLen {
        LEN
    }

    fn read<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
        _flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        self.pass();
        Box::pin(async move { Ok(IoBuffer::zeroes(range.len().as_usize())) })
    }

    fn write<'a>(&'a self, _io: &'a Io, _write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        self.pass();
        Box::pin(async { Ok(()) })
    }

    fn flush<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        self.pass();
        Box::pin(async { Ok(()) })
    }
}

/// Publishing and draining ask nothing of the world.
struct NoWorld;

impl Executor for NoWorld {
    fn spawn(&self, _name: alloc::borrow::Cow<'static, str>, _task: BoxFuture<'static, ()>) {
        unreachable!("no-world");
    }

    fn now_ns(&self) -> u64 {
        unreachable!("no-world");
    }

    fn sleep(&self, _duration_ns: u64) -> BoxFuture<'static, ()> {
        unreachable!("no-world");
    }

    fn random_u64(&self) -> u64 {
        unreachable!("no-world");
    }

    fn choose(&self, _alternatives: u32) -> BoxFuture<'static, u32> {
        unreachable!("no-world");
    }
}
