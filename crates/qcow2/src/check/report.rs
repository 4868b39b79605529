//! What a check finds.

use alloc::vec::Vec;
use core::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Data are lost, or may be by the next write.
    Corruption,
    /// Space is lost.
    Leak,
    /// The next write copies what it need not.
    ClearFlag,
}

impl Severity {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Corruption => "corruption",
            Self::Leak => "leak",
            Self::ClearFlag => "clear-flag",
        }
    }
}

/// What should stand where something else was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This number.
    Count(u64),
    /// What the words say.
    Said(&'static str),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Said(words) => f.write_str(words),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// In the words of the specification.
    pub structure: &'static str,
    /// Bytes from the start of the image; for a refcount, of the cluster that it counts.
    pub offset: u64,
    /// What stands there.
    pub found: u64,
    /// What should.
    pub expected: Expected,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, structure, offset, found, expected } = self;
        let word = severity.word();
        write!(f, "{word}: {structure} at {offset:#x} is {found:#x}, expected {expected}")
    }
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Things that are wrong.
    pub corruptions: u64,
    /// Clusters that are counted more often than they are referred to.
    pub leaks: u64,
    /// Clusters with one reference that does not say so: they would be copied before they are written.
    pub clear_flags: u64,
    /// Structures that could not be checked.
    pub check_errors: u64,
    /// Clusters of the guest's disk.
    pub total_clusters: u64,
    /// Those of them that have space in the image.
    pub allocated_clusters: u64,
    /// Those of them that do not follow the one before.
    pub fragmented_clusters: u64,
    /// Those of them that are compressed.
    pub compressed_clusters: u64,
    /// Bytes: the end of the last cluster that is in use.
    pub image_end_offset: u64,
    /// Corruptions that were there before a repair, and are not any more.
    pub corruptions_fixed: u64,
    /// Leaks that were.
    pub leaks_fixed: u64,
    /// The first findings, as many as were asked for.
    pub findings: Vec<Finding>,
}

impl Check {
    /// Whether data are safe: there may be leaks.
    pub fn is_sound(&self) -> bool {
        self.corruptions == 0 && self.check_errors == 0
    }

    /// Whether nothing at all was found.
    pub fn is_clean(&self) -> bool {
        self.is_sound() && self.leaks == 0 && self.clear_flags == 0
    }

    /// Counts `finding`, and keeps it if there are fewer than `most`.
    pub(super) fn add(&mut self, finding: Finding, most: usize) {
        match finding.severity {
            Severity::Corruption => self.corruptions += 1,
            Severity::Leak => self.leaks += 1,
            Severity::ClearFlag => self.clear_flags += 1,
        }
        if self.findings.len() < most {
            self.findings.push(finding);
        }
    }
}
