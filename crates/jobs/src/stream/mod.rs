//! Streaming: what the layers below a node and above its base hold is pulled up into the node, which then has the base
//! below it, or nothing.
//!
//! What is pulled up is what a reader sees already, so nothing that is written marks a bitmap, and guests go on with
//! the node meanwhile. A filter above it copies up what is read through it, as far as one of these layers holds it; the
//! job reads through the filter wherever that is so. The chain is the job's from the publication in which it begins:
//! frozen down to the last layer that is pulled up. What that has below it is others' business, and may change.
//!
//! Invariants:
//! - `base-is-as-it-is-then`: the base is looked up in the drained section in which the node comes to be above it;
//! - `named-when-it-has-all`: an image names its new backing file, durably, when all that it needs is durable, and
//!   before the graph says so. What it names is valid before and after: both show the same.
//!
//! Source: QEMU's QMP reference of block-stream. Differs: an error that is ignored is met again, as by other jobs, and
//! not left behind; several places are pulled up beside each other.

mod ending;
mod pull;
mod start;

pub use start::{Down, StreamOptions, StreamStart};

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::SharedBitmap;
use blockyard_block::{BackingFile, BlockError, Io, OnError};
use blockyard_graph::{EdgeKey, Edit, Graph, Role};
use blockyard_runtime::BoxFuture;
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteOffset, NodeId};

use crate::chain::close_again;
use crate::flight::{Buffer, Flight};
use crate::job::{Job, JobDriver};

/// How an image is to name a node as its backing file; none, if that has no name.
pub type Naming = Arc<dyn Fn(&Graph, NodeId) -> Option<BackingFile> + Send + Sync>;

/// What is streamed, and from where.
#[derive(Clone)]
struct Chain {
    /// The node that was given.
    given: NodeId,
    /// What has the data of that: itself, or what is below it if it is a filter.
    top: NodeId,
    /// The last layer that is pulled up; the top itself, if none is.
    bottom: NodeId,
    /// The bottom, or the last of the filters below it that go with it.
    last: NodeId,
    /// From the given node down to the last one.
    edges: Vec<EdgeKey>,
}

/// A stream job's own part.
pub(crate) struct Stream {
    chain: Chain,
    /// The job's own edges.
    io: Io,
    filter: NodeId,
    /// The node by which the top reads what is below it, if there is one and it is pulled up.
    below: Option<NodeId>,
    /// What is to be pulled up.
    dirty: Arc<SharedBitmap>,
    flight: Arc<Flight>,
    buffer: Buffer,
    policy: OnError,
    naming: Naming,
    /// What was read-only when the job began.
    read_only: Vec<NodeId>,
    /// Where the next place is looked for; of the job's task alone.
    cursor: Quiet<ByteOffset>,
    /// What the image named before it named the base; of the job's task alone.
    renamed: Quiet<Option<BackingFile>>,
    /// What had the base's data when the job began to work.
    recorded: Quiet<Option<NodeId>>,
}

impl JobDriver for Stream {
    fn kind(&self) -> &'static str {
        "stream"
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.work(job))
    }

    /// What is redirected leads there, so that is what no request may pass.
    fn works_on(&self) -> Option<NodeId> {
        Some(self.below.unwrap_or(self.chain.top))
    }

    fn seal<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(self.make_durable(job))
    }

    fn unseal<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, ()> {
        Box::pin(self.name_back(job))
    }

    fn ending(&self, _job: &Job) -> &'static str {
        "stream"
    }

    fn promised(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        Ok(self.cut(job, graph))
    }

    fn undone(&self, job: &Job, graph: &Graph) -> Result<Vec<Edit>, BlockError> {
        Ok(self.retire(job, graph))
    }

    fn ended(&self, job: &Job) {
        self.note_progress(job, ByteLen(0));
    }

    fn clean<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, ()> {
        Box::pin(close_again(job, &self.read_only))
    }
}

impl Stream {
    /// What the last of what is pulled up has below it now.
    fn base(&self, graph: &Graph) -> Option<NodeId> {
        let by = |role| graph.child_with(self.chain.last, role);
        by(Role::Cow).or_else(|| by(Role::Filtered)).map(|edge| edge.child)
    }
}
