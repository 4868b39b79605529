//! What a guest asks for.

use blockyard_block::WriteFlags;
use blockyard_units::ByteRange;

/// What a guest asks of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads it.
    Read,
    /// Writes data that no other request writes.
    Write,
    /// Writes zeroes.
    Zeroes,
    /// Has no more need of its data.
    Discard,
    /// Writes such data, to be compressed.
    Compressed,
    /// Writes what another range holds.
    Copy,
    /// Asks whether its beginning is zeroes.
    Status,
}

impl Request {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Read,
        Self::Write,
        Self::Zeroes,
        Self::Discard,
        Self::Compressed,
        Self::Copy,
        Self::Status,
    ];

    /// The key of such a step.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Zeroes => "write-zeroes",
            Self::Discard => "discard",
            Self::Compressed => "write-compressed",
            Self::Copy => "copy-range",
            Self::Status => "block-status",
        }
    }

    /// Whether it may change what is there.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Read | Self::Status)
    }

    /// Whether this flag means something with it.
    pub fn takes(self, flag: &str) -> bool {
        match flag {
            FUA => self.writes() && self != Self::Discard,
            SERIALISING => self.writes(),
            _ => self == Self::Zeroes,
        }
    }
}

/// Durable when it ends well.
pub(crate) const FUA: &str = "fua";
/// Alone in its range.
pub(crate) const SERIALISING: &str = "serialising";
/// Zeroes by giving space back.
pub(crate) const UNMAP: &str = "unmap";
/// Zeroes in no slow way.
pub(crate) const NO_FALLBACK: &str = "no-fallback";

/// Given up after so many steps of its guest.
pub(crate) const CANCEL_AFTER: &str = "cancel-after";

/// The keys of the flags that are set.
pub(crate) fn words(flags: WriteFlags) -> impl Iterator<Item = &'static str> {
    let WriteFlags { fua, serialising, may_unmap, no_fallback, unchanged: _ } = flags;
    let all =
        [(FUA, fua), (SERIALISING, serialising), (UNMAP, may_unmap), (NO_FALLBACK, no_fallback)];
    all.into_iter().filter(|(_, set)| *set).map(|(word, _)| word)
}

/// A guest request.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What.
    pub kind: Request,
    /// In bytes.
    pub range: ByteRange,
    /// Where a copy comes from.
    pub from: u64,
    /// How.
    pub flags: WriteFlags,
    /// It is given up after so many steps of its actor, unless it has ended.
    pub cancel_after: Option<u32>,
}

impl Asked {
    /// A plain one.
    pub fn plain(kind: Request, range: ByteRange) -> Self {
        Self { kind, range, from: 0, flags: WriteFlags::default(), cancel_after: None }
    }

    /// The ranges that it is about.
    pub fn places(&self) -> Vec<ByteRange> {
        let source = ByteRange::new(self.from, self.range.len().0);
        let source = (self.kind == Request::Copy).then_some(source);
        [self.range].into_iter().chain(source).collect()
    }
}
