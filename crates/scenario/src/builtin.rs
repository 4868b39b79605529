//! The scenarios that come with the program.

/// Name and text of each.
pub const BUILTIN: &[(&str, &str)] = &[
    ("attach-during-drain", include_str!("../../../tests/scenarios/attach-during-drain.json")),
    ("bitmap-clear", include_str!("../../../tests/scenarios/bitmap-clear.json")),
    ("bitmap-device", include_str!("../../../tests/scenarios/bitmap-device.json")),
    ("bitmap-device-medium", include_str!("../../../tests/scenarios/bitmap-device-medium.json")),
    ("bitmap-device-merge", include_str!("../../../tests/scenarios/bitmap-device-merge.json")),
    ("bitmap-follow-closed", include_str!("../../../tests/scenarios/bitmap-follow-closed.json")),
    ("bitmap-follow-mirror", include_str!("../../../tests/scenarios/bitmap-follow-mirror.json")),
    (
        "bitmap-follow-snapshot",
        include_str!("../../../tests/scenarios/bitmap-follow-snapshot.json"),
    ),
    (
        "bitmap-follow-unplaced",
        include_str!("../../../tests/scenarios/bitmap-follow-unplaced.json"),
    ),
    ("bitmap-merge", include_str!("../../../tests/scenarios/bitmap-merge.json")),
    ("bitmap-metadata-root", include_str!("../../../tests/scenarios/bitmap-metadata-root.json")),
    ("bitmap-persistent", include_str!("../../../tests/scenarios/bitmap-persistent.json")),
    ("bitmap-qcow2", include_str!("../../../tests/scenarios/bitmap-qcow2.json")),
    ("bitmap-reopen", include_str!("../../../tests/scenarios/bitmap-reopen.json")),
    ("bitmap-resize", include_str!("../../../tests/scenarios/bitmap-resize.json")),
    (
        "bitmap-stored-beside-commands",
        include_str!("../../../tests/scenarios/bitmap-stored-beside-commands.json"),
    ),
    ("bitmap-subsection", include_str!("../../../tests/scenarios/bitmap-subsection.json")),
    ("bitmap-transaction", include_str!("../../../tests/scenarios/bitmap-transaction.json")),
    ("bitmap-unchanged", include_str!("../../../tests/scenarios/bitmap-unchanged.json")),
    (
        "guest-stopped-by-error",
        include_str!("../../../tests/scenarios/guest-stopped-by-error.json"),
    ),
    ("commit-active", include_str!("../../../tests/scenarios/commit-active.json")),
    ("commit-bitmap", include_str!("../../../tests/scenarios/commit-bitmap.json")),
    ("commit-durable", include_str!("../../../tests/scenarios/commit-durable.json")),
    ("commit-filters", include_str!("../../../tests/scenarios/commit-filters.json")),
    ("commit-grow", include_str!("../../../tests/scenarios/commit-grow.json")),
    ("commit-intermediate", include_str!("../../../tests/scenarios/commit-intermediate.json")),
    ("commit-refused", include_str!("../../../tests/scenarios/commit-refused.json")),
    ("insert-filter-alone", include_str!("../../../tests/scenarios/insert-filter-alone.json")),
    (
        "insert-filter-transaction",
        include_str!("../../../tests/scenarios/insert-filter-transaction.json"),
    ),
    ("mirror-active", include_str!("../../../tests/scenarios/mirror-active.json")),
    ("mirror-busy-guest", include_str!("../../../tests/scenarios/mirror-busy-guest.json")),
    ("mirror-busy-source", include_str!("../../../tests/scenarios/mirror-busy-source.json")),
    ("mirror-cancel-ready", include_str!("../../../tests/scenarios/mirror-cancel-ready.json")),
    ("mirror-durable", include_str!("../../../tests/scenarios/mirror-durable.json")),
    ("mirror-endless-load", include_str!("../../../tests/scenarios/mirror-endless-load.json")),
    ("mirror-errors", include_str!("../../../tests/scenarios/mirror-errors.json")),
    ("mirror-finalize", include_str!("../../../tests/scenarios/mirror-finalize.json")),
    ("mirror-group", include_str!("../../../tests/scenarios/mirror-group.json")),
    ("mirror-incremental", include_str!("../../../tests/scenarios/mirror-incremental.json")),
    (
        "mirror-keeps-upper-filter",
        include_str!("../../../tests/scenarios/mirror-keeps-upper-filter.json"),
    ),
    (
        "mirror-overlapping-writes",
        include_str!("../../../tests/scenarios/mirror-overlapping-writes.json"),
    ),
    ("mirror-parallel", include_str!("../../../tests/scenarios/mirror-parallel.json")),
    ("mirror-passive", include_str!("../../../tests/scenarios/mirror-passive.json")),
    ("mirror-speed", include_str!("../../../tests/scenarios/mirror-speed.json")),
    ("mirror-switch", include_str!("../../../tests/scenarios/mirror-switch.json")),
    ("mirror-top", include_str!("../../../tests/scenarios/mirror-top.json")),
    ("mirror-witness", include_str!("../../../tests/scenarios/mirror-witness.json")),
    ("qcow2-allocate", include_str!("../../../tests/scenarios/qcow2-allocate.json")),
    ("qcow2-clean-caches", include_str!("../../../tests/scenarios/qcow2-clean-caches.json")),
    (
        "qcow2-cow-over-backing",
        include_str!("../../../tests/scenarios/qcow2-cow-over-backing.json"),
    ),
    ("qcow2-create", include_str!("../../../tests/scenarios/qcow2-create.json")),
    (
        "qcow2-discard-and-reuse",
        include_str!("../../../tests/scenarios/qcow2-discard-and-reuse.json"),
    ),
    (
        "qcow2-internal-snapshot",
        include_str!("../../../tests/scenarios/qcow2-internal-snapshot.json"),
    ),
    ("qcow2-refcount-block", include_str!("../../../tests/scenarios/qcow2-refcount-block.json")),
    ("qcow2-resize", include_str!("../../../tests/scenarios/qcow2-resize.json")),
    ("qcow2-snapshot", include_str!("../../../tests/scenarios/qcow2-snapshot.json")),
    ("qcow2-under-mirror", include_str!("../../../tests/scenarios/qcow2-under-mirror.json")),
    ("reopen-during-mirror", include_str!("../../../tests/scenarios/reopen-during-mirror.json")),
    (
        "replace-child-during-mirror",
        include_str!("../../../tests/scenarios/replace-child-during-mirror.json"),
    ),
    ("resize-during-writes", include_str!("../../../tests/scenarios/resize-during-writes.json")),
    ("resurrected-filter", include_str!("../../../tests/scenarios/resurrected-filter.json")),
    (
        "transaction-during-mirror",
        include_str!("../../../tests/scenarios/transaction-during-mirror.json"),
    ),
    ("writes-behind-the-end", include_str!("../../../tests/scenarios/writes-behind-the-end.json")),
];

/// The text of a built-in scenario.
pub fn builtin(name: &str) -> Option<&'static str> {
    BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
