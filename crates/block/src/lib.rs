//! The I/O path: drivers, nodes, tracked requests, drained sections, backends, and publishing a new graph.
//!
//! Requests travel down by async calls; each hop reads the published graph again and nobody keeps a graph across an
//! await.
//!
//! Invariants:
//! - `drained-means-quiet`: while a drained section holds, nobody but its owner has a request in its nodes;
//! - `every-end-marks`: a write-like request that reached the driver is marked in its node's bitmaps at its end,
//!   whether it succeeded, failed or was given up, before its range is released;
//! - `successor-follows-bitmap`: a successor has the shape of its bitmap, which does not record beside it;
//! - `redirected-edges-are-quiesced`: an edge is redirected only while a drained section covers where it led;
//! - `edge-has-permission`: a request travels along an edge that holds the permission it needs.
//!
//! Not for: what a driver does with a request, what a job copies, what a command is called.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod backend;
mod bitmaps;
mod copy_on_read;
mod debug;
mod drain;
mod driver;
mod error;
mod io;
mod layer;
mod links;
mod moving;
mod node;
mod observer;
mod pieces;
mod policy;
mod publish;
mod reconfigure;
mod recording;
mod request;
mod state;
mod stats;
mod status;
mod stored;
mod tracked;
mod turning;

pub use backend::Backend;
pub use bitmaps::{BitmapOwner, BitmapState, NamedBitmap};
pub use debug::{DebugEvent, Debugger};
pub use drain::{Drained, Owner};
pub use driver::{Amended, BackingFile, BlockDriver, Change, Limits};
pub use error::BlockError;
pub use io::Io;
pub use layer::BlockLayer;
pub use moving::Move;
pub use node::{BeforeWrite, Node, Serialised};
pub use observer::{NoObserver, Observer};
pub use policy::{
    ChildVote, Corrupted, ErrorAction, ErrorPolicies, GuestError, LayerEvents, OnError,
    QuorumOperation,
};
pub use publish::{NewNode, OnLost, Plan};
pub use reconfigure::Undo;
pub use recording::Bitmaps;
pub use request::{
    CopySource, Preallocation, ReadFlags, Requester, Truncate, Write, WriteFlags, WriteKind,
};
pub use stats::{Account, Counted, Histogram, Outcome, Stats};
pub use status::{Above, Extent};
pub use stored::{BitmapStore, StoredBitmap};
pub use tracked::LONGEST;
