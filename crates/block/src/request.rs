//! Requests.

use alloc::boxed::Box;

use blockyard_runtime::{IoBuffer, IoErrorKind, Storage};
use blockyard_units::{BackendId, ByteLen, ByteRange, Id, JobId, NodeId};

use crate::drain::Owner;
use crate::error::BlockError;
use crate::io::Io;
use crate::stats::Counted;

/// On whose behalf a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requester {
    /// The user of a backend.
    Backend(BackendId),
    /// A job.
    Job(JobId),
    /// A node of its own accord: it is opened or closed.
    Node(NodeId),
    /// A command, in a drained section of its own.
    Command(Id),
}

impl From<Owner> for Requester {
    fn from(owner: Owner) -> Self {
        match owner {
            Owner::Job(job) => Self::Job(job),
            Owner::Command(command) => Self::Command(command),
        }
    }
}

/// How a read is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadFlags {
    /// Made by a before-write hook, or on behalf of a write under way: neither waits for serialising requests nor
    /// copies on read.
    pub by_hook: bool,
    /// What comes from a backing child is copied up, where the edge allows to write unchanged data. Whether that
    /// succeeds is not the reader's business.
    pub copy_on_read: bool,
    /// Only that: no data are returned, and a copy that fails is an error. The edge must allow it.
    pub prefetch: bool,
}

impl ReadFlags {
    /// On behalf of a write under way.
    pub const BY_HOOK: Self = Self { by_hook: true, copy_on_read: false, prefetch: false };
}

/// How a write is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteFlags {
    /// Durable when it ends well.
    pub fua: bool,
    /// Leaves this node's view as it is, so it marks nothing.
    pub unchanged: bool,
    /// Waits for overlapping requests, and overlapping ones wait for it.
    pub serialising: bool,
    /// Zeroes may be made by giving the space back.
    pub may_unmap: bool,
    /// Zeroes must not be written as data: where there is no faster way the request fails.
    pub no_fallback: bool,
}

/// How the space that a truncation adds is to be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preallocation {
    /// When it is written.
    #[default]
    Off,
    /// Structures at once, data when written.
    Metadata,
    /// Reserved at once.
    Falloc,
    /// Written with zeroes at once.
    Full,
}

impl Preallocation {
    /// QEMU's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Metadata => "metadata",
            Self::Falloc => "falloc",
            Self::Full => "full",
        }
    }
}

/// A change of length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// The length afterwards.
    pub len: ByteLen,
    /// Of what is added.
    pub preallocation: Preallocation,
}

impl Truncate {
    /// Does it on a disk, which has no structures of its own.
    ///
    /// # Errors
    /// What the disk says: it may have become longer, and not all of that be had as asked.
    ///
    /// # Yields
    /// As the disk does.
    pub async fn on(self, disk: &dyn Storage) -> Result<(), IoErrorKind> {
        const AT_ONCE: u64 = 1 << 20;
        let Self { len, preallocation } = self;
        let mut at = disk.len().0;
        match preallocation {
            Preallocation::Metadata => return Err(IoErrorKind::Unsupported),
            Preallocation::Off => return disk.truncate(len, false).await,
            Preallocation::Falloc => return disk.truncate(len, true).await,
            Preallocation::Full => disk.truncate(len, false).await?,
        }
        while at < len.0 {
            let next = len.0.min(at + AT_ONCE);
            disk.write(at, IoBuffer::zeroes(ByteLen(next - at).as_usize()), false).await?;
            at = next;
        }
        Ok(())
    }
}

/// Where a copy takes its data from: read when it is needed, by whoever can do no better.
#[derive(Clone)]
pub struct CopySource {
    io: Io,
    child: &'static str,
    offset: u64,
}

impl CopySource {
    pub(crate) fn new(io: Io, child: &'static str, offset: u64) -> Self {
        Self { io, child, offset }
    }

    fn shifted(&self, bytes: u64) -> Self {
        Self { offset: self.offset + bytes, ..self.clone() }
    }

    async fn read(&self, len: ByteLen) -> Result<IoBuffer, BlockError> {
        let range = ByteRange::new(self.offset, len.0);
        // The copy may be in the way of its own reads.
        self.io.read(self.child, range, ReadFlags::BY_HOOK).await
    }
}

/// What a write-like request does.
#[derive(Clone)]
pub enum WriteKind {
    /// Writes data.
    Data(IoBuffer),
    /// Writes data that a format may compress; a driver that cannot refuses.
    Compressed(IoBuffer),
    /// Makes the range read as zeroes.
    Zeroes,
    /// Says that the range is not needed any more: it reads as before, or as zeroes.
    Discard,
    /// Writes what is read elsewhere.
    Copy(Box<CopySource>),
    /// Changes the length; the range is what is added or cut off.
    Truncate(Truncate),
}

impl WriteKind {
    /// What people call it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Data(_) => "write",
            Self::Compressed(_) => "write-compressed",
            Self::Zeroes => "write-zeroes",
            Self::Discard => "discard",
            Self::Copy(_) => "copy-range",
            Self::Truncate(_) => "truncate",
        }
    }

    /// What it is counted as, if it is.
    pub fn counted(&self) -> Option<Counted> {
        match self {
            Self::Discard => Some(Counted::Unmap),
            Self::Truncate(_) => None,
            _ => Some(Counted::Write),
        }
    }
}

/// A write-like request: all kinds take one path.
#[derive(Clone)]
pub struct Write {
    /// What is done.
    pub kind: WriteKind,
    /// Where; for data, as long as the data.
    pub range: ByteRange,
    /// How.
    pub flags: WriteFlags,
}

impl Write {
    /// One of `kind` over `range`, without flags.
    pub fn new(kind: WriteKind, range: ByteRange) -> Self {
        Self { kind, range, flags: WriteFlags::default() }
    }

    /// A plain write of `data` at `offset`.
    pub fn data(offset: u64, data: IoBuffer) -> Self {
        let range = ByteRange::new(offset, data.len() as u64);
        Self::new(WriteKind::Data(data), range)
    }

    /// A discard of `range`.
    pub fn discard(range: ByteRange) -> Self {
        Self::new(WriteKind::Discard, range)
    }

    /// Zeroes over `range`.
    pub fn zeroes(range: ByteRange) -> Self {
        Self::new(WriteKind::Zeroes, range)
    }

    /// A change of length. Its range is found when nothing else is in its way.
    pub fn truncate(truncate: Truncate) -> Self {
        Self::new(WriteKind::Truncate(truncate), ByteRange::new(0, 0))
    }

    /// The same as data: for drivers that store what they are given themselves, or in more than one place. A discard
    /// may be done as zeroes.
    ///
    /// # Errors
    /// A copy's source could not be read.
    ///
    /// # Yields
    /// Only a copy, as its source does.
    ///
    /// # Panics
    /// `truncations-have-no-data`
    pub async fn bytes(&self) -> Result<IoBuffer, BlockError> {
        match &self.kind {
            WriteKind::Data(data) | WriteKind::Compressed(data) => Ok(data.clone()),
            WriteKind::Zeroes | WriteKind::Discard => {
                Ok(IoBuffer::zeroes(self.range.len().as_usize()))
            }
            WriteKind::Copy(source) => source.read(self.range.len()).await,
            WriteKind::Truncate(_) => panic!("truncations-have-no-data"),
        }
    }

    /// The same, with the data of a copy at hand: for drivers that write it in more than one place.
    ///
    /// # Errors
    /// A copy's source could not be read.
    ///
    /// # Yields
    /// Only a copy, as its source does.
    pub async fn resolved(self) -> Result<Self, BlockError> {
        match &self.kind {
            WriteKind::Copy(_) => Ok(Self { kind: WriteKind::Data(self.bytes().await?), ..self }),
            _ => Ok(self),
        }
    }

    pub(crate) fn is_data_of_zeroes(&self) -> bool {
        matches!(&self.kind, WriteKind::Data(data) if data.iter().all(|byte| *byte == 0))
    }

    /// As far as it reaches: to check, before a truncation has its range.
    pub(crate) fn reach(&self) -> ByteRange {
        match &self.kind {
            WriteKind::Truncate(truncate) => ByteRange::new(0, truncate.len.0.max(1)),
            _ => self.range,
        }
    }

    /// The part of it that lies in `range`, which is inside its own.
    pub(crate) fn part(&self, range: ByteRange) -> Self {
        let skipped = range.start() - self.range.start();
        let cut = |data: &IoBuffer| {
            let from = ByteLen(skipped).as_usize();
            data.slice(from..from + range.len().as_usize())
        };
        let kind = match &self.kind {
            WriteKind::Data(data) => WriteKind::Data(cut(data)),
            WriteKind::Compressed(data) => WriteKind::Compressed(cut(data)),
            WriteKind::Copy(source) => WriteKind::Copy(Box::new(source.shifted(skipped))),
            whole => whole.clone(),
        };
        Self { kind, range, flags: self.flags }
    }
}
