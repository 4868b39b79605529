//! Properties by name, and what a checker says when one is broken.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// A property was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub property: Property,
    /// What happened, in one line of lower-case text.
    pub message: String,
}

/// What must hold in every execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// [`crate::GuestRegister`].
    GuestConsistency,
    /// [`crate::GuestRegister`], of what a device was at one moment.
    PointInTime,
    /// [`crate::MirrorConvergence`].
    MirrorConvergence,
    /// [`crate::GraphValidity`].
    GraphValidity,
    /// [`crate::DrainedMeansQuiet`].
    DrainedMeansQuiet,
    /// [`crate::Durability`].
    Durability,
    /// [`crate::qcow2`].
    MetadataIntegrity,
    /// [`crate::Progress`].
    Progress,
    /// [`crate::JobProtocol`].
    JobProtocol,
    /// What is counted and told of requests: judged where scenarios are played.
    Accounting,
    /// [`crate::DirtyBitmaps`].
    BitmapSoundness,
    /// [`crate::DirtyBitmaps`].
    BitmapPrecision,
    /// One tape, one run: judged by whoever runs it twice.
    Determinism,
}

impl Property {
    /// Every property, in the order of the documentation.
    pub const ALL: &[Self] = &[
        Self::GuestConsistency,
        Self::PointInTime,
        Self::MirrorConvergence,
        Self::GraphValidity,
        Self::DrainedMeansQuiet,
        Self::Durability,
        Self::MetadataIntegrity,
        Self::Progress,
        Self::JobProtocol,
        Self::Accounting,
        Self::BitmapSoundness,
        Self::BitmapPrecision,
        Self::Determinism,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::GuestConsistency => "guest-consistency",
            Self::PointInTime => "point-in-time",
            Self::MirrorConvergence => "mirror-convergence",
            Self::GraphValidity => "graph-validity",
            Self::DrainedMeansQuiet => "drained-means-quiet",
            Self::Durability => "durability",
            Self::MetadataIntegrity => "metadata-integrity",
            Self::Progress => "progress",
            Self::JobProtocol => "job-protocol",
            Self::Accounting => "accounting",
            Self::BitmapSoundness => "bitmap-soundness",
            Self::BitmapPrecision => "bitmap-precision",
            Self::Determinism => "determinism",
        }
    }

    /// What it demands, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Self::GuestConsistency => {
                "a read returns what some order of the overlapping writes permits"
            }
            Self::PointInTime => {
                "a backup, and what looks back at its source, is that at one moment of the command that began it"
            }
            Self::MirrorConvergence => "at the pivot the target equals the source",
            Self::GraphValidity => {
                "the graph is acyclic, its permissions agree, and a retired node never comes back"
            }
            Self::DrainedMeansQuiet => {
                "while a drained section holds, only its owner has requests in its nodes"
            }
            Self::Durability => {
                "after a power loss nothing older is found than what a flush or FUA made durable"
            }
            Self::MetadataIntegrity => {
                "after a power loss an image opens, and every reference in it is counted"
            }
            Self::Progress => "at the end nothing is in flight, quiesced, parked or unfinished",
            Self::JobProtocol => "jobs make legal transitions only, and their events come in order",
            Self::Accounting => {
                "errors are treated as their policy says, and what is told and counted is what happened"
            }
            Self::BitmapSoundness => "a bitmap has all that was written while it recorded",
            Self::BitmapPrecision => "a bitmap has nothing, beyond its granularity, that was not",
            Self::Determinism => "one tape, one run",
        }
    }

    pub(crate) fn broken(self, message: String) -> Violation {
        Violation { property: self, message }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// There is no property of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownProperty(pub String);

impl FromStr for Property {
    type Err = UnknownProperty;
    fn from_str(text: &str) -> Result<Self, UnknownProperty> {
        let found = Self::ALL.iter().copied().find(|property| property.word() == text);
        found.ok_or_else(|| UnknownProperty(text.into()))
    }
}

impl fmt::Display for UnknownProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no property '{}'", self.0)
    }
}

impl core::error::Error for UnknownProperty {}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.message)
    }
}

impl core::error::Error for Violation {}

#[cfg(test)]
mod tests;
