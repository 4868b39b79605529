//! What a backend does about requests that fail, and guests that stand still because of it; what management is told.
//!
//! Source: QEMU's documented `rerror` and `werror`, and its events `BLOCK_IO_ERROR` and `BLOCK_IMAGE_CORRUPTED`.
//! Differs: the default is to report, also when no space is left; a guest that was stopped makes no request at all
//! until it goes on, and then the failed one is made again.

use core::future::Future;

use blockyard_graph::Parent;
use blockyard_runtime::IoErrorKind;
use blockyard_sync::{note, sometimes};
use blockyard_units::{ByteRange, NodeId};

use crate::backend::Backend;
use crate::error::BlockError;
use crate::layer::BlockLayer;

/// What to do about an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// The guest learns of it.
    #[default]
    Report,
    /// The request counts as done.
    Ignore,
    /// The guest stands still, and its request is made again when it goes on.
    Stop,
    /// Stops if no space is left, reports all else.
    Enospc,
}

/// What a backend does about errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ErrorPolicies {
    /// Of reads.
    pub read: OnError,
    /// Of all others.
    pub write: OnError,
}

/// What was done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorAction {
    /// The guest learns of it.
    Report,
    /// Nothing.
    Ignore,
    /// The guest stands still.
    Stop,
}

impl OnError {
    /// What is done about an error; `no_space`: it says that no space is left.
    pub fn action(self, no_space: bool) -> ErrorAction {
        match self {
            Self::Ignore => ErrorAction::Ignore,
            Self::Stop => ErrorAction::Stop,
            Self::Enospc if no_space => ErrorAction::Stop,
            Self::Report | Self::Enospc => ErrorAction::Report,
        }
    }
}

/// An error that a backend's guest met.
pub struct GuestError<'a> {
    /// The backend.
    pub device: &'a str,
    /// Whether it was reading.
    pub reads: bool,
    /// What is done about it.
    pub action: ErrorAction,
    /// No space is left.
    pub no_space: bool,
    /// The error.
    pub error: &'a BlockError,
}

/// Learns of what management is to be told.
pub trait LayerEvents: Send + Sync {
    /// A write ended behind the threshold that was set for the node, by so many bytes; told once.
    fn write_threshold(&self, node: &str, exceeded: u64, threshold: u64);

    /// A guest's request failed.
    fn guest_error(&self, error: &GuestError<'_>);

    /// Guests stand still, or go on.
    fn running(&self, running: bool);

    /// A persistent bitmap was where nothing could store it when its node was closed.
    fn bitmap_lost(&self, node: &str, bitmap: &str);

    /// An image was found corrupt, and is not written any more; told once.
    fn image_corrupted(&self, met: &Corrupted<'_>);

    /// A child of a quorum failed, or differs from what most say.
    fn quorum_report_bad(&self, vote: &ChildVote<'_>);

    /// The children of the blkverify `node` differ, from the start of `range` on; that is empty if a flush did.
    fn blkverify_mismatch(&self, node: &str, range: ByteRange);

    /// Too few children of a quorum agreed; `reference`: its backend's name, or its node's.
    fn quorum_failure(&self, reference: &str, range: ByteRange);
}

/// What the children of a quorum were asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumOperation {
    /// To read.
    Read,
    /// To write, or what is like writing.
    Write,
    /// To flush.
    Flush,
}

/// A child of a quorum that is outvoted.
pub struct ChildVote<'a> {
    /// The child.
    pub node: &'a str,
    /// What it was asked to do.
    pub operation: QuorumOperation,
    /// Bytes.
    pub range: ByteRange,
    /// What it met; if nothing, its bytes differ.
    pub error: Option<&'a BlockError>,
}

/// An image that was found corrupt.
pub struct Corrupted<'a> {
    /// The backend that it is the root of, if there is one.
    pub device: Option<&'a str>,
    /// The node.
    pub node: &'a str,
    /// What was found.
    pub message: &'a str,
    /// Bytes of the image's file, of the request that was not made.
    pub range: ByteRange,
}

impl BlockLayer {
    /// Tells that a child of a quorum is outvoted.
    pub fn child_is_bad(&self, vote: &ChildVote<'_>) {
        note!("{} is outvoted at {}", vote.node, vote.range);
        self.tell(|events| events.quorum_report_bad(vote));
    }

    /// Tells that the children of the blkverify `node` differ.
    pub fn children_differ(&self, node: &str, range: ByteRange) {
        note!("the children of {node} differ at {range}");
        self.tell(|events| events.blkverify_mismatch(node, range));
    }

    /// Tells that too few children of the quorum `node` agreed.
    pub fn quorum_failed(&self, node: NodeId, range: ByteRange) {
        let graph = self.graph();
        let device = graph.parents(node).find_map(|edge| match edge.parent {
            Parent::Backend(id) => graph.backend_name(id),
            _ => None,
        });
        let name = graph.node(node).map_or("", |node| node.name.as_str());
        self.tell(|events| events.quorum_failure(device.unwrap_or(name), range));
    }

    /// Tells that the image of `node` was found corrupt, by a request for `range` of its file.
    pub fn image_is_corrupt(&self, node: NodeId, message: &str, range: ByteRange) {
        let graph = self.graph();
        let device = graph.parents(node).find_map(|edge| match edge.parent {
            Parent::Backend(id) => graph.backend_name(id),
            _ => None,
        });
        let name = graph.node(node).map_or("", |node| node.name.as_str());
        sometimes!(true, "an image was found corrupt");
        note!("{name} is corrupt: {message}");
        self.tell(|events| {
            events.image_corrupted(&Corrupted { device, node: name, message, range });
        });
    }
}

impl BlockLayer {
    /// Guests make requests, or none until they may again; those under way go on.
    pub fn set_running(&self, running: bool) {
        let changed = self.stopped().write(|stopped| {
            let changed = *stopped == running;
            *stopped = !running;
            changed
        });
        if changed {
            self.tell(|events| events.running(running));
        }
    }

    /// Whether guests make requests.
    pub fn is_running(&self) -> bool {
        self.stopped().read(|stopped| !*stopped)
    }
}

impl Backend {
    /// Makes a request as often as the policy says; `ignored` is what one that failed returns if nobody minds.
    pub(crate) async fn by_policy<T, F: Future<Output = Result<T, BlockError>>>(
        &self,
        reads: bool,
        mut request: impl FnMut() -> F,
        ignored: impl FnOnce() -> T,
    ) -> Result<T, BlockError> {
        loop {
            let error = match request().await {
                Err(error) if error.io_kind().is_some() => error,
                result => return result,
            };
            let policies = self.policies();
            let policy = if reads { policies.read } else { policies.write };
            let no_space = error.io_kind() == Some(IoErrorKind::NoSpace);
            let action = policy.action(no_space);
            let told = GuestError { device: self.name(), reads, action, no_space, error: &error };
            self.layer().tell(|events| events.guest_error(&told));
            match action {
                ErrorAction::Report => return Err(error),
                ErrorAction::Ignore => return Ok(ignored()),
                ErrorAction::Stop => {
                    sometimes!(true, "a guest was stopped by an error");
                    note!("{error}: the guests stand still");
                    self.layer().set_running(false);
                }
            }
        }
    }
}
