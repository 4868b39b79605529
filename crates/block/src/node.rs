//! A node, and the one path that every request takes through it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::SharedBitmap;
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_sync::Shared;
use blockyard_units::{ByteLen, ByteRange, Mutant, NodeId};

use crate::driver::BlockDriver;
use crate::error::BlockError;
use crate::io::Io;
use crate::request::{ReadFlags, Write, WriteKind};
use crate::tracked::{Number, Tracked};

/// Runs before a write-like request reaches the driver: after it has waited for those it must not overlap.
pub trait BeforeWrite: Send + Sync {
    /// Does what must precede `write`; an error fails the request.
    fn before<'a>(&'a self, io: &'a Io, write: &'a Write) -> BoxFuture<'a, Result<(), BlockError>>;
}

/// A range that a filter keeps to itself; see [`Node::begin_serialising`].
#[must_use = "the range is to be released"]
pub struct Serialised {
    number: Number,
    range: ByteRange,
}

/// A node of the block graph: a driver, its requests in flight, its bitmaps and hooks.
pub struct Node {
    id: NodeId,
    name: String,
    driver: Box<dyn BlockDriver>,
    tracked: Tracked,
    bitmaps: Shared<Vec<Arc<SharedBitmap>>>,
    hooks: Shared<Vec<Arc<dyn BeforeWrite>>>,
}

impl Node {
    pub(crate) fn new(id: NodeId, name: String, driver: Box<dyn BlockDriver>) -> Self {
        Self {
            id,
            name,
            driver,
            tracked: Tracked::default(),
            bitmaps: Shared::default(),
            hooks: Shared::default(),
        }
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Its node-name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn driver(&self) -> &dyn BlockDriver {
        &*self.driver
    }

    /// Every write-like request through this node is recorded in `bitmap` from its next end on.
    pub fn add_bitmap(&self, bitmap: Arc<SharedBitmap>) {
        self.bitmaps.write(|bitmaps| bitmaps.push(bitmap));
    }

    /// `hook` runs before every write-like request from the next one on.
    pub fn add_hook(&self, hook: Arc<dyn BeforeWrite>) {
        self.hooks.write(|hooks| hooks.push(hook));
    }

    /// Requests in flight, for the end of a run.
    pub fn in_flight(&self) -> usize {
        self.tracked.count()
    }

    /// The length of what it shows. `io`: the node's own view.
    pub fn len(&self, io: &Io) -> ByteLen {
        self.driver.len(io)
    }

    fn check(&self, io: &Io, range: ByteRange) -> Result<(), BlockError> {
        let len = self.len(io);
        if range.end() <= len.0 {
            return Ok(());
        }
        let name = &self.name;
        let message = alloc::format!("range {range} is not inside node {name} of {len} bytes");
        Err(BlockError::Invalid(message))
    }

    /// Reads.
    pub(crate) async fn read(
        &self,
        io: &Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> Result<IoBuffer, BlockError> {
        self.check(io, range)?;
        if flags.by_hook {
            return self.driver.read(io, range, flags).await;
        }
        let number = self.tracked.begin(range, false).await;
        io.observe_begin();
        let result = self.driver.read(io, range, flags).await;
        io.observe_end();
        self.tracked.end(number, range, false);
        result
    }

    /// Writes, of every kind.
    pub(crate) async fn write(&self, io: &Io, write: Write) -> Result<(), BlockError> {
        if let WriteKind::Data(data) = &write.kind {
            assert_eq!(data.len() as u64, write.range.len().0, "data-fills-its-range");
        }
        self.check(io, write.range)?;
        let (range, flags) = (write.range, write.flags);
        let serialising = flags.serialising || self.driver.serialises_writes();
        let number = self.tracked.begin(range, serialising).await;
        io.observe_begin();
        let design = io.layer().design();
        let marks_early = design.is_mutant(Mutant::MirrorMarksBeforeIo);
        if marks_early {
            self.mark(&write.range, flags.unchanged);
        }
        let reached_driver;
        let result = match self.run_hooks(io, &write).await {
            Ok(()) => {
                reached_driver = true;
                self.driver.write(io, write).await
            }
            Err(error) => {
                reached_driver = false;
                Err(error)
            }
        };
        let skips = result.is_err() && design.is_mutant(Mutant::RequestEndSkipsFailed);
        // A failed write may have changed the disk, so it is marked too.
        if reached_driver && !marks_early && !skips {
            self.mark(&range, flags.unchanged);
        }
        io.observe_end();
        self.tracked.end(number, range, serialising);
        result
    }

    /// Keeps overlapping requests out of `range`: waits for those in flight, and later ones wait until it is
    /// [ended](Self::end_serialising). For a filter's own copies.
    ///
    /// # Yields
    /// Only if there are any.
    pub async fn begin_serialising(&self, range: ByteRange) -> Serialised {
        Serialised { number: self.tracked.begin(range, true).await, range }
    }

    /// Lets the requests that waited go on.
    pub fn end_serialising(&self, serialised: Serialised) {
        self.tracked.end(serialised.number, serialised.range, true);
    }

    async fn run_hooks(&self, io: &Io, write: &Write) -> Result<(), BlockError> {
        let hooks = self.hooks.read(Clone::clone);
        for hook in hooks {
            hook.before(io, write).await?;
        }
        Ok(())
    }

    fn mark(&self, range: &ByteRange, unchanged: bool) {
        if !unchanged {
            let bitmaps = self.bitmaps.read(Clone::clone);
            bitmaps.iter().for_each(|bitmap| bitmap.record(*range));
        }
    }

    /// Flushes.
    pub(crate) async fn flush(&self, io: &Io) -> Result<(), BlockError> {
        // A flush overlaps nothing, and is in flight like any other request.
        let nowhere = ByteRange::new(0, 0);
        let number = self.tracked.begin(nowhere, false).await;
        io.observe_begin();
        let result = self.driver.flush(io).await;
        io.observe_end();
        self.tracked.end(number, nowhere, false);
        result
    }
}
