//! The differences from QEMU that are meant: at most five, none of them in data or bitmaps.

use super::side::Reply;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    /// How what it is about begins.
    pub what: &'static str,
    /// The reason.
    pub why: &'static str,
    /// Where QEMU documents its own way.
    pub source: &'static str,
}

/// All of them.
pub const EXPECTED: &[Expected] = &[
    Expected {
        what: "edge of filter ",
        why: "the filter holds the target, and its child is called file; QEMU's is called backing, and the job holds \
              the target",
        source: "QMP reference, x-debug-query-block-graph: unstable, meant for debugging",
    },
    Expected {
        what: "rests of ",
        why: "a drained section has a job rest without changing its status",
        source: "QMP reference, JobStatus: a pause may be requested by the user or by internal processes",
    },
];

/// What QEMU says of a step that it cannot do, though it knows the command; and where it is documented.
///
/// There a scenario ends: nothing that comes after it would mean the same.
const CANNOT: &[(&str, &str)] = &[(
    "Need a root block node",
    "a mirror's device is to be a root node, says the QMP reference of blockdev-mirror",
)];

/// The one that this is.
pub(super) fn expected(what: &str) -> Option<&'static Expected> {
    EXPECTED.iter().find(|known| what.starts_with(known.what))
}

/// Why a side cannot do it, if that is what it says.
pub(super) fn cannot(reply: &Reply) -> Option<&'static str> {
    let Reply::Refused { desc, .. } = reply else { return None };
    CANNOT.iter().find(|(said, _)| desc.contains(said)).map(|(_, why)| *why)
}
