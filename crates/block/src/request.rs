//! Requests.

use blockyard_runtime::IoBuffer;
use blockyard_units::{BackendId, ByteRange, JobId};

/// On whose behalf a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requester {
    /// The user of a backend.
    Backend(BackendId),
    /// A job.
    Job(JobId),
}

/// How a read is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadFlags {
    /// Made by a before-write hook: neither waits for serialising requests nor copies on read.
    pub by_hook: bool,
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
}

/// What a write-like request does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// Writes data.
    Data(IoBuffer),
    /// Makes the range read as zeroes.
    Zeroes,
    /// Says that the range is not needed any more: it reads as before, or as zeroes.
    Discard,
}

impl WriteKind {
    /// What people call it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Data(_) => "write",
            Self::Zeroes => "write-zeroes",
            Self::Discard => "discard",
        }
    }
}

/// A write-like request: all kinds take one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What is done.
    pub kind: WriteKind,
    /// Where; for data, as long as the data.
    pub range: ByteRange,
    /// How.
    pub flags: WriteFlags,
}

impl Write {
    /// A plain write of `data` at `offset`.
    pub fn data(offset: u64, data: IoBuffer) -> Self {
        let range = ByteRange::new(offset, data.len() as u64);
        Self { kind: WriteKind::Data(data), range, flags: WriteFlags::default() }
    }

    /// A discard of `range`.
    pub fn discard(range: ByteRange) -> Self {
        Self { kind: WriteKind::Discard, range, flags: WriteFlags::default() }
    }

    /// Zeroes over `range`.
    pub fn zeroes(range: ByteRange) -> Self {
        Self { kind: WriteKind::Zeroes, range, flags: WriteFlags::default() }
    }

    /// The bytes it leaves, for drivers that store zeroes as data. A discard may be done as zeroes.
    pub fn bytes(&self) -> IoBuffer {
        match &self.kind {
            WriteKind::Data(data) => data.clone(),
            WriteKind::Zeroes | WriteKind::Discard => IoBuffer::zeroes(self.range.len().as_usize()),
        }
    }
}
