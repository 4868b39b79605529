//! The options that every node has, whatever its driver.
//!
//! Source: QEMU's documented BlockdevOptions, their names and defaults.

/// What becomes of a discard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discard {
    /// It is left undone, and zeroes take space.
    #[default]
    Ignore,
    /// It reaches the driver, and zeroes may be made by giving space back.
    Unmap,
}

/// Whether data that are all zeroes are written as zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectZeroes {
    /// As they came.
    #[default]
    Off,
    /// As zeroes.
    On,
    /// As zeroes that may be made by giving space back.
    Unmap,
}

impl DetectZeroes {
    /// QEMU's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Unmap => "unmap",
        }
    }
}

/// The options of a node that its driver need not know, but for how it opens what it has below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeOptions {
    /// What is below is open for writing only while somebody needs that.
    pub auto_read_only: bool,
    /// Its parents share every permission on it, also with those outside this graph. For read-only nodes.
    pub force_share: bool,
    /// What becomes of discards.
    pub discard: Discard,
    /// What becomes of zeroes that come as data.
    pub detect_zeroes: DetectZeroes,
}
