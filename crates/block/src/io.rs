//! How a request goes down an edge.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::future::Future;

use blockyard_graph::{NodeOptions, Parent, Permissions};
use blockyard_runtime::{BoxFuture, IoBuffer, IoErrorKind};
use blockyard_sync::door::Kind;
use blockyard_units::{ByteLen, ByteRange, JobId, Mutant, NodeId};
use tracing::{Instrument, trace_span};

use crate::driver::Amended;
use crate::error::BlockError;
use crate::layer::BlockLayer;
use crate::links::Link;
use crate::node::{Node, Through};
use crate::recording::{Bitmaps, Length};
use crate::request::{CopySource, ReadFlags, Requester, Write, WriteFlags, WriteKind};
use crate::state::{State, edge_key, holder_key, key};
use crate::status::{self, Above, Extent};

/// Awaits a request in its span. Where nobody listens it is awaited where it is made: to move it would cost as much as
/// many a node.
macro_rules! in_span {
    ($span:expr, $request:expr) => {{
        let span = $span;
        if span.is_disabled() { $request.await } else { Box::pin($request.instrument(span)).await }
    }};
}

/// A holder of edges, on behalf of a requester: what a driver is given to reach its children, and what a backend or
/// a job reaches the graph with. Each request finds its child anew.
#[derive(Clone)]
pub struct Io {
    layer: BlockLayer,
    parent: Parent,
    holder: u64,
    requester: Requester,
    /// Of the device whose view it is.
    device: Option<Arc<Bitmaps>>,
    /// For a mutant: what is written is said to leave everything as it is.
    unchanged: bool,
}

impl Io {
    pub(crate) fn new(
        layer: BlockLayer,
        parent: Parent,
        holder: u64,
        requester: Requester,
    ) -> Self {
        Self { layer, parent, holder, requester, device: None, unchanged: false }
    }

    /// The view of a device that has these bitmaps.
    pub(crate) fn of_device(self, bitmaps: Arc<Bitmaps>) -> Self {
        Self { device: Some(bitmaps), ..self }
    }

    /// A node's own edges, for requests that `requester` makes in the node's place: a job that copies through its
    /// filter.
    pub fn of_node(layer: &BlockLayer, node: &Node, requester: Requester) -> Self {
        Self::new(layer.clone(), Parent::Node(node.id()), node.holder(), requester)
    }

    /// A job's own edges.
    pub fn of_job(layer: &BlockLayer, job: JobId, name: &str) -> Self {
        let parent = Parent::Job(job);
        Self::new(layer.clone(), parent, holder_key(parent, name), Requester::Job(job))
    }

    /// The same view; for a mutant, through which nothing is said to change.
    pub(crate) fn of_copy(&self) -> Self {
        let unchanged = self.layer.design().is_mutant(Mutant::UnchangedReachesStorage);
        Self { unchanged, ..self.clone() }
    }

    /// The layer.
    pub fn layer(&self) -> &BlockLayer {
        &self.layer
    }

    /// The node whose own view this is.
    ///
    /// # Panics
    /// If it is that of a backend or a job.
    pub fn node_id(&self) -> NodeId {
        match self.parent {
            Parent::Node(node) => node,
            _ => unreachable!("only a node's own view is observed"),
        }
    }

    /// What a driver says of a request that it does not support, this being its node's view.
    pub fn unsupported(&self, range: ByteRange) -> BlockError {
        let node = self.layer.node_by_id(self.node_id());
        let node = node.map_or_else(String::new, |node| node.name().into());
        BlockError::Io { kind: IoErrorKind::Unsupported, node, range }
    }

    pub(crate) fn requester(&self) -> Requester {
        self.requester
    }

    pub(crate) fn observe_begin(&self) {
        self.layer.observer().request_begins(self.node_id(), self.requester);
    }

    pub(crate) fn observe_write(&self, number: u64, range: ByteRange, length: Length) {
        let len = match length {
            Length::Exactly(len) => Some(len),
            Length::Kept | Length::AtLeast(_) => None,
        };
        let write = (self.node_id(), number);
        self.layer.observer().write_lands(write, self.requester, range, len);
    }

    pub(crate) fn observe_marked(&self, number: u64) {
        self.layer.observer().write_is_marked((self.node_id(), number));
    }

    pub(crate) fn observe_end(&self) {
        self.layer.observer().request_ends(self.node_id(), self.requester);
    }

    /// The child that the edge leads to now, if the edge holds the permission needed.
    fn child(&self, name: &str, needed: Permissions) -> Result<Arc<Node>, BlockError> {
        self.linked(name, needed).map(|(child, ..)| child)
    }

    /// The same, what the edge holds, and the child's options. Whoever may write may write what is there already.
    fn linked(
        &self,
        name: &str,
        needed: Permissions,
    ) -> Result<(Arc<Node>, Permissions, NodeOptions), BlockError> {
        let edge = edge_key(self.holder, name);
        self.layer.state().trusted([key(Kind::Read, edge)], |state| {
            let link = state.links.get(edge, self.parent, name);
            let Link { child, held, options, .. } =
                link.ok_or_else(|| self.missing(state, name))?;
            assert!(
                held.contains(needed),
                "edge-has-permission: {name} holds {held}, needs {needed}"
            );
            Ok((child.clone(), *held, *options))
        })
    }

    #[cold]
    fn missing(&self, state: &State, name: &str) -> BlockError {
        let holder = state.graph.parent_name(self.parent).unwrap_or("a holder that is gone");
        match self.parent {
            Parent::Backend(_) => BlockError::NoMedium(holder.into()),
            _ => BlockError::NotFound(format!("{holder} has no child '{name}'")),
        }
    }

    /// The child's own view, for the child.
    fn below(&self, child: &Node) -> Self {
        Self::of_node(&self.layer, child, self.requester)
    }

    /// The child's length.
    ///
    /// # Errors
    /// If there is no such child.
    pub fn len(&self, name: &str) -> Result<ByteLen, BlockError> {
        let shown = self.shown(name)?;
        Ok(shown.len(&self.below(&shown)))
    }

    /// Bytes, a power of two: what the child allocates at once, and so compresses; none if it cannot compress.
    ///
    /// # Errors
    /// If there is no such child.
    pub fn compresses(&self, name: &str) -> Result<Option<ByteLen>, BlockError> {
        let shown = self.shown(name)?;
        Ok(shown.driver().compresses().then(|| shown.cluster_size()))
    }

    /// The node whose bytes are the child's where they are.
    fn shown(&self, name: &str) -> Result<Arc<Node>, BlockError> {
        let edge = edge_key(self.holder, name);
        self.layer.state().trusted_follow((edge, edge + 1), |state, looks| {
            let link = state.links.get(edge, self.parent, name);
            let mut child = &link.ok_or_else(|| self.missing(state, name))?.child;
            // Its length is that of its main child, down to the first that has one of its own.
            while let Some(main) = child.driver().main_child() {
                let edge = edge_key(child.holder(), main);
                looks(edge, edge + 1);
                match state.links.get(edge, Parent::Node(child.id()), main) {
                    Some(link) => child = &link.child,
                    None => break,
                }
            }
            Ok(child.clone())
        })
    }

    /// Whether a write behind the child's end makes it longer.
    pub fn grows(&self, name: &str) -> bool {
        let child = self.linked(name, Permissions::NONE);
        child.is_ok_and(|(child, held, _)| {
            held.contains(Permissions::RESIZE) && child.driver().grows(&self.below(&child))
        })
    }

    /// Reads from the child.
    ///
    /// # Errors
    /// What the child's driver met; or there is no such child.
    ///
    /// # Yields
    /// As the driver does; the graph may have changed.
    pub async fn read(
        &self,
        name: &str,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        // Whoever writes a block in part has to read the rest, whatever it makes of what is there.
        let needed = if flags.by_hook { Permissions::NONE } else { Permissions::CONSISTENT_READ };
        let (child, held, _) = self.linked(name, needed)?;
        let copies = held.contains(Permissions::WRITE_UNCHANGED);
        assert!(copies || !flags.prefetch, "edge-has-permission: {name} holds {held}, prefetches");
        let span = trace_span!("request", kind = "read", node = child.name(), %range);
        in_span!(span, child.read(&self.below(&child), range, flags, copies))
    }

    /// Reads from the child as it was at the moment to which that keeps a way back.
    ///
    /// # Errors
    /// What the child's driver met; or it keeps none, or there is no such child.
    ///
    /// # Yields
    /// As the driver does; the graph may have changed.
    pub async fn read_snapshot(
        &self,
        name: &str,
        range: ByteRange,
    ) -> Result<IoBuffer, BlockError> {
        let (child, ..) = self.linked(name, Permissions::CONSISTENT_READ)?;
        let span = trace_span!("request", kind = "read snapshot", node = child.name(), %range);
        let below = self.below(&child);
        let request = child.driver().read_snapshot(&below, range);
        in_span!(span, child.of_snapshot(&below, range, request))
    }

    /// Has the child give up what it keeps of `range` as it was.
    ///
    /// # Errors
    /// What the child's driver met; or it keeps nothing, or there is no such child.
    ///
    /// # Yields
    /// As the driver does; the graph may have changed.
    pub async fn discard_snapshot(&self, name: &str, range: ByteRange) -> Result<(), BlockError> {
        let (child, ..) = self.linked(name, Permissions::CONSISTENT_READ)?;
        let span = trace_span!("request", kind = "discard snapshot", node = child.name(), %range);
        let below = self.below(&child);
        let request = child.driver().discard_snapshot(&below, range);
        in_span!(span, child.of_snapshot(&below, range, request))
    }

    /// Writes to the child, or does to it what else is like writing.
    ///
    /// # Errors
    /// What the child's driver met: the range may or may not have changed, and is marked. Or there is no such child.
    ///
    /// # Yields
    /// As the driver does; the graph may have changed.
    pub fn write(
        &self,
        name: &str,
        mut write: Write,
    ) -> impl Future<Output = Result<(), BlockError>> + Send {
        write.flags.unchanged |= self.unchanged;
        let needed = match &write.kind {
            WriteKind::Truncate(_) => Permissions::RESIZE,
            _ if write.flags.unchanged => Permissions::WRITE_UNCHANGED,
            _ => Permissions::WRITE,
        };
        async move {
            let (child, held, options) = self.linked(name, needed)?;
            let (node, range) = (child.name(), write.range);
            let span = trace_span!("request", kind = write.kind.word(), node, %range);
            let grows = held.contains(Permissions::RESIZE);
            let through = Through { options, grows, device: self.device.as_ref() };
            in_span!(span, child.write(&self.below(&child), write, through))
        }
    }

    /// Copies from the child `from`, at `offset`, to `range` of the child `to`.
    ///
    /// # Errors
    /// As a read and a write; the range may or may not have changed, and is marked if it was tried.
    ///
    /// # Yields
    /// As the drivers do; the graph may have changed.
    pub async fn copy_range(
        &self,
        (from, offset): (&'static str, u64),
        (to, range): (&str, ByteRange),
        flags: WriteFlags,
    ) -> Result<(), BlockError> {
        let source = CopySource::new(self.clone(), from, offset);
        let copy = Write { kind: WriteKind::Copy(Box::new(source)), range, flags };
        self.write(to, copy).await
    }

    /// What the beginning of `range` is in the child, as far down as its bytes are passed through.
    ///
    /// # Errors
    /// What a driver met; or there is no such child.
    ///
    /// # Yields
    /// As the drivers do; the graph may have changed.
    pub fn block_status<'a>(
        &'a self,
        name: &'a str,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        Box::pin(async move {
            let child = self.child(name, Permissions::NONE)?;
            status::of_node(&self.below(&child), range).await
        })
    }

    /// What the chain of backing children from the child down to, not including, `base` has to say of the beginning of
    /// `range`; the whole chain, if there is no base.
    ///
    /// # Errors
    /// What a driver met; or there is no such child.
    ///
    /// # Yields
    /// As the drivers do; the graph may have changed.
    pub async fn status_above(
        &self,
        name: &str,
        base: Option<NodeId>,
        range: ByteRange,
    ) -> Result<Above, BlockError> {
        let child = self.child(name, Permissions::NONE)?;
        self.layer.status_above(self.requester, child.id(), base, range).await
    }

    /// Has the child amended.
    ///
    /// # Errors
    /// What the child's driver met or refused. Or there is no such child.
    ///
    /// # Yields
    /// As the driver does; the graph may have changed.
    pub async fn amend(
        &self,
        name: &str,
        change: &(dyn Any + Send + Sync),
    ) -> Result<Amended, BlockError> {
        let child = self.child(name, Permissions::WRITE)?;
        child.amend(&self.below(&child), change).await
    }

    /// Flushes the child.
    ///
    /// # Errors
    /// What the child's driver met: nothing is known to be durable. Or there is no such child.
    ///
    /// # Yields
    /// As the driver does; the graph may have changed.
    pub async fn flush(&self, name: &str) -> Result<(), BlockError> {
        let child = self.child(name, Permissions::NONE)?;
        let span = trace_span!("request", kind = "flush", node = child.name());
        in_span!(span, child.flush(&self.below(&child)))
    }
}
