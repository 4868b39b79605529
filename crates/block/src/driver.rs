//! What a driver is to the layer.

use alloc::boxed::Box;
use alloc::string::String;
use core::any::Any;

use blockyard_graph::Graph;
use blockyard_runtime::{BoxFuture, IoBuffer};
use blockyard_units::{ByteLen, ByteRange};

use crate::debug::Debugger;
use crate::error::BlockError;
use crate::io::Io;
use crate::request::{ReadFlags, Write, WriteKind};
use crate::status::Extent;
use crate::stored::BitmapStore;

/// A change of the graph that a driver is asked to prepare for.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// The graph as it is.
    pub before: &'a Graph,
    /// The graph as it will be.
    pub after: &'a Graph,
}

/// A backing file, as an image names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackingFile {
    /// A filename, as seen from the image's own directory, or `json:` and options.
    pub name: String,
    /// The driver to read it with, if that is said.
    pub format: Option<String>,
}

/// What requests a driver takes; the node makes such of those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, a power of two up to 64 KiB: requests begin and end at multiples, or end at the end of the node.
    pub request_alignment: u32,
    /// Bytes, a multiple of the alignment: the longest read or write of data.
    pub max_transfer: u64,
    /// Bytes, a multiple of the alignment: the longest write of zeroes.
    pub max_zeroes: u64,
    /// Bytes, a multiple of the alignment: the longest discard.
    pub max_discard: u64,
    /// Whether it makes data durable when asked with FUA; if not, a flush follows.
    pub fua: bool,
    /// The same of zeroes, discards and all else.
    pub fua_zeroes: bool,
}

impl Limits {
    /// The largest alignment.
    pub const MAX_ALIGNMENT: u32 = 64 << 10;

    /// Anything goes: for drivers that pass requests on, and their children say.
    pub const NONE: Self = Self {
        request_alignment: 1,
        max_transfer: u64::MAX,
        max_zeroes: u64::MAX,
        max_discard: u64::MAX,
        fua: true,
        fua_zeroes: true,
    };

    pub(crate) fn alignment(&self) -> ByteLen {
        ByteLen(u64::from(self.request_alignment))
    }

    pub(crate) fn max(&self, kind: &WriteKind) -> u64 {
        match kind {
            WriteKind::Data(_) | WriteKind::Copy(_) => self.max_transfer,
            WriteKind::Zeroes => self.max_zeroes,
            WriteKind::Discard => self.max_discard,
            WriteKind::Compressed(_) | WriteKind::Truncate(_) => u64::MAX,
        }
    }

    pub(crate) fn has_fua(&self, kind: &WriteKind) -> bool {
        match kind {
            WriteKind::Data(_) | WriteKind::Compressed(_) | WriteKind::Copy(_) => self.fua,
            _ => self.fua_zeroes,
        }
    }
}

/// The part of a node that knows what to do with a request.
///
/// A driver reaches its children through the [`Io`] it is given, and holds none of them. What it says nothing about
/// goes to its [main child](Self::main_child): a request walks down to the first driver that has something to say.
pub trait BlockDriver: Send + Sync {
    /// The child whose bytes are this node's where they are, if there is one.
    fn main_child(&self) -> Option<&'static str> {
        None
    }

    /// What requests it takes.
    fn limits(&self) -> Limits {
        Limits::NONE
    }

    /// Bytes, a power of two: what it allocates at once.
    fn cluster_size(&self) -> ByteLen {
        self.limits().alignment()
    }

    /// Bytes. Who has a [main child](Self::main_child) leaves this as it is: its length is that child's, and whoever
    /// asks goes down there without asking the driver.
    fn len(&self, io: &Io) -> ByteLen {
        self.main_child().and_then(|child| io.len(child).ok()).unwrap_or_default()
    }

    /// Whether a write behind its end makes it longer.
    fn grows(&self, io: &Io) -> bool {
        self.main_child().is_some_and(|child| io.grows(child))
    }

    /// Reads `range`.
    fn read<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
        flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        match self.main_child() {
            Some(child) => Box::pin(io.read(child, range, flags)),
            None => unsupported(io, range),
        }
    }

    /// Reads `range` as it was at the moment to which it keeps a way back.
    fn read_snapshot<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        unsupported(io, range)
    }

    /// Gives up what it keeps of `range` as it was: whoever reads that from then on is refused.
    fn discard_snapshot<'a>(
        &'a self,
        io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<(), BlockError>> {
        unsupported(io, range)
    }

    /// Does a write-like request. What it does not support it says so of: zeroes are then written as data, a discard is
    /// left undone, all else fails.
    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        match self.main_child() {
            Some(child) => Box::pin(io.write(child, write)),
            None => unsupported(io, write.range),
        }
    }

    /// Makes what was written durable.
    fn flush<'a>(&'a self, io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        match self.main_child() {
            Some(child) => Box::pin(io.flush(child)),
            None => Box::pin(async { Ok(()) }),
        }
    }

    /// What the beginning of `range` is; all of it that is the same, or less.
    fn block_status<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
    ) -> BoxFuture<'a, Result<Extent, BlockError>> {
        let extent = match self.main_child() {
            Some(child) => Extent::raw(range, child, range.start()),
            None => Extent::data(range),
        };
        Box::pin(async move { Ok(extent) })
    }

    /// Whether it can compress what it is told to, in whole clusters.
    fn compresses(&self) -> bool {
        false
    }

    /// Whether what is written stays here, and in no child: a flush with nothing written since the last one is then
    /// left out, and there is one at a time.
    fn keeps_data(&self) -> bool {
        false
    }

    /// Whether overlapping writes through this node must not run side by side.
    fn serialises_writes(&self) -> bool {
        false
    }

    /// Whether it shows what its child was, as long as that keeps a way back.
    fn looks_back(&self) -> bool {
        false
    }

    /// Who is told of the points that requests come by, if this is a driver for tests.
    fn debugger(&self) -> Option<&dyn Debugger> {
        None
    }

    /// Where the bitmaps of its node are stored, if it stores them.
    fn bitmap_store(&self) -> Option<&dyn BitmapStore> {
        None
    }

    /// The backing file that what it has opened names, if that names one.
    fn backing_file(&self) -> Option<BackingFile> {
        None
    }

    /// Whether what it opens keeps the name of its backing file.
    fn keeps_backing_file(&self) -> bool {
        false
    }

    /// The file that has its data, if what it has opened names one: a filename as the world knows it.
    fn data_file(&self) -> Option<String> {
        None
    }

    /// The node is in the graph, and nobody uses it yet: what its children hold is looked at, and nothing changed.
    fn open<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async { Ok(()) })
    }

    /// Nobody uses the node any more, which is about to leave the graph: all that it keeps goes to its children.
    fn close<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async { Ok(()) })
    }

    /// The node is about to become read-only, or inactive, in a drained section over it, and may still write: all that
    /// it keeps goes to its children, as when it is closed. From here on it writes nothing.
    ///
    /// # Errors
    /// It is as writable as before.
    fn becomes_read_only<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async { Ok(()) })
    }

    /// The node has become writable and active in a drained section over it: whatever has to be done before it is
    /// written. Also if it was about to become read-only and does not after all.
    ///
    /// # Errors
    /// It is read-only as before, and refuses writes.
    fn becomes_writable<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async { Ok(()) })
    }

    /// Gets ready for a change that touches this node: takes locks, opens what is needed. May yield; changes nothing
    /// that a request can see.
    fn prepare<'a>(&'a self, _change: Change<'a>) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async { Ok(()) })
    }

    /// The prepared change is published. Others may be prepared beside it, which then do not take place.
    fn commit(&self, _change: Change<'_>) {}

    /// The prepared change does not take place.
    fn abort(&self, _change: Change<'_>) {}

    /// Changes what the image is like that it has opened, beside requests; what that can be, driver and caller know.
    /// The node has one of these under way at a time. What it comes to is of a type that they know as well.
    fn amend<'a>(
        &'a self,
        io: &'a Io,
        _change: &'a (dyn Any + Send + Sync),
    ) -> BoxFuture<'a, Result<Amended, BlockError>> {
        unsupported(io, ByteRange::new(0, 0))
    }

    /// Takes new options of its own in a drained section over its node, together with a change of the graph.
    fn reopen(&self, _options: &dyn Any) {}

    /// A drained section that covers this node has begun: requests that the driver holds back must go on.
    fn drain_begin(&self) {}

    /// It has ended.
    fn drain_end(&self) {}

    /// A drained section has begun that covers a node above, and not this one: what is held back without an end must
    /// go on.
    fn drain_begin_above(&self) {}

    /// It has ended.
    fn drain_end_above(&self) {}
}

/// What a driver has to say of what it has amended.
pub type Amended = Box<dyn Any + Send>;

fn unsupported<'a, T: Send + 'a>(
    io: &'a Io,
    range: ByteRange,
) -> BoxFuture<'a, Result<T, BlockError>> {
    Box::pin(async move { Err(io.unsupported(range)) })
}
