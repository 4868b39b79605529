//! Which kinds of faults may be injected: the families, by their names.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// A kind of fault; what each means is told in [`Fault`](super::Fault).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// A request fails once, without effect.
    Eio,
    /// A write that had its effect fails once.
    EioLate,
    /// A range fails again and again.
    StickyEio,
    /// A disk is full.
    Enospc,
    /// A write that fails has written its first sectors.
    Short,
    /// A write that fails has written some of its sectors, not the first ones.
    Torn,
    /// A write that is said to be done was not.
    Lost,
    /// A request goes to another place.
    Misdirected,
    /// A bit on the medium turns over.
    BitRot,
    /// A request does not end.
    Stuck,
    /// A flush fails.
    Flush,
}

impl Family {
    /// Every family, in order.
    pub const ALL: &'static [Self] = &[
        Self::Eio,
        Self::EioLate,
        Self::StickyEio,
        Self::Enospc,
        Self::Short,
        Self::Torn,
        Self::Lost,
        Self::Misdirected,
        Self::BitRot,
        Self::Stuck,
        Self::Flush,
    ];

    /// What it is called.
    pub fn word(self) -> &'static str {
        match self {
            Self::Eio => "eio",
            Self::EioLate => "eio-late",
            Self::StickyEio => "sticky-eio",
            Self::Enospc => "enospc",
            Self::Short => "short",
            Self::Torn => "torn",
            Self::Lost => "lost",
            Self::Misdirected => "misdirected",
            Self::BitRot => "bit-rot",
            Self::Stuck => "stuck",
            Self::Flush => "flush",
        }
    }

    /// Whether something stays broken behind the request that it hit.
    fn lasts(self) -> bool {
        !matches!(self, Self::Eio | Self::EioLate | Self::Short | Self::Torn)
    }
}

/// A set of families.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Families(u16);

impl Families {
    /// No family.
    pub const NONE: Self = Self(0);
    /// What disks do most often: a request fails once, before or after its effect.
    pub const DEFAULT: Self = Self::NONE.with(Family::Eio).with(Family::EioLate);
    /// Every family.
    pub const ALL: Self = Self((1 << Family::ALL.len()) - 1);

    /// These and `family`.
    pub const fn with(self, family: Family) -> Self {
        Self(self.0 | 1 << family as u16)
    }

    /// Whether `family` is among them.
    pub fn contains(self, family: Family) -> bool {
        self.0 & 1 << family as u16 != 0
    }

    /// Those that both have.
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Them, in order.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.iter().copied().filter(move |family| self.contains(*family))
    }

    /// Whether one of them leaves something broken behind the request that it hit.
    pub fn lasting(self) -> bool {
        self.iter().any(Family::lasts)
    }

    /// A set for each number.
    pub(crate) fn of_number(number: u64) -> Self {
        Self((number & u64::from(Self::ALL.0)) as u16)
    }
}

impl Default for Families {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, family) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", family.word())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Families {
    type Err = String;

    /// Reads names with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut families = Self::NONE;
        for word in text.split(',') {
            let Some(family) = Family::ALL.iter().find(|family| family.word() == word) else {
                return Err(format!("there is no family '{word}'; there are {}", Self::ALL));
            };
            families = families.with(*family);
        }
        Ok(families)
    }
}
