//! Why an edit list was refused.

use alloc::string::String;

/// What sort of rule an edit list would have broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusedKind {
    /// An edge does not lead where the edit expects, or is not in the state it expects.
    Mismatch,
    /// A node would reach itself.
    Cycle,
    /// A frozen edge would change.
    Frozen,
    /// An edge would require what another one does not share.
    Permission,
    /// A read-only or inactive node would be asked for a permission to modify.
    ReadOnly,
    /// A name or id is taken, or an id was used before.
    Duplicate,
    /// A node, edge, backend or job is not there.
    NotFound,
    /// Something to be removed is still held, or still holds.
    InUse,
}

/// A refused edit list. The graph it was meant for is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused: {message}")]
pub struct Refused {
    /// For matching.
    pub kind: RefusedKind,
    /// For people: names holders, edges and nodes; without the leading word.
    pub message: String,
}

impl Refused {
    pub(crate) fn new(kind: RefusedKind, message: String) -> Self {
        Self { kind, message }
    }
}
