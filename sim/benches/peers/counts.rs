//! How many executions exhaust a program in which nothing is wrong.

use crate::figure::{Figure, Row, Target};
use crate::programs::{self, Body, Small};
use crate::search::{bare, exhaust};
use crate::{with_loom, with_shuttle};

fn ours(body: Body, tasks: usize) -> Figure {
    exhaust(&Small::new(body, tasks), &bare())
}

pub const ROWS: &[Row] = &[
    Row {
        name: "independent",
        what: "5 independent tasks of 3 steps, joined: executions",
        target: Target::Exactly(1),
        sides: [
            Some(|| with_loom::exhaust(with_loom::threads::disjoint)),
            Some(|| with_shuttle::exhaust(with_shuttle::threads::disjoint)),
            Some(|| ours(programs::joined, 5)),
        ],
    },
    Row {
        name: "shared",
        what: "4 tasks, one shared operation each: executions",
        target: Target::Exactly(24),
        sides: [
            Some(|| with_loom::exhaust(with_loom::threads::shared)),
            Some(|| with_shuttle::exhaust(with_shuttle::threads::shared)),
            Some(|| ours(programs::shared, 4)),
        ],
    },
    Row {
        name: "fair-lock",
        what: "counter under a fair lock, 3 tasks x 2: executions",
        target: Target::Exactly(30),
        sides: [None, None, Some(|| ours(programs::fair, 3))],
    },
    Row {
        name: "barging-lock",
        what: "counter under a barging lock, 3 tasks x 2: executions",
        target: Target::Exactly(90),
        sides: [
            Some(|| with_loom::exhaust(with_loom::threads::counter)),
            Some(|| with_shuttle::exhaust(with_shuttle::threads::counter)),
            Some(|| ours(programs::barging, 3)),
        ],
    },
    Row {
        name: "yields",
        what: "3 async tasks x 3 yields, disjoint: executions",
        target: Target::Exactly(1),
        sides: [
            Some(|| with_loom::exhaust(with_loom::yields)),
            Some(|| with_shuttle::exhaust(with_shuttle::yields)),
            Some(|| ours(programs::yields, 3)),
        ],
    },
];
