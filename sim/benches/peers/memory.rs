//! How much memory a search needs.

use blockyard_sim::{Limits, Reduction};

use crate::figure::{Figure, Row, Target};
use crate::long;
use crate::programs::{Body, Small};
use crate::search::{bare, clean, explore};
use crate::{with_loom, with_shuttle};

/// Ten tasks of a thousand polls: with nothing to reverse but the order of three, and with a conflict in nearly every
/// step, where the search would take for ever and is ended.
fn ours() -> Figure {
    let mut executions = 0;
    for body in [long::conflicting_last as Body, long::meddling_longer] {
        let small = Small::new(body, 10);
        let summary = explore(&small, &bare(), 1_000, |explorer| {
            explorer.limits = Limits { steps: 10_001, ..explorer.limits };
            explorer.depth_first(Reduction::Optimal)
        });
        executions += clean(summary).executions;
    }
    Figure::executions(executions, false)
}

pub const ROWS: &[Row] = &[Row {
    name: "memory",
    what: "exhaustive search of 10,000 events an execution: peak memory",
    target: Target::Within(64),
    sides: [
        Some(|| with_loom::exhaust(with_loom::threads::counter)),
        Some(|| with_shuttle::exhaust(with_shuttle::threads::counter)),
        Some(ours),
    ],
}];
