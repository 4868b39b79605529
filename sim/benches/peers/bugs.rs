//! How many executions a search takes to find what is wrong: ours in the worst order of spawning the tasks, the others
//! in the order as written.

use crate::figure::{Figure, Row, Target};
use crate::programs::{self, Body, Small};
use crate::search::{bare, find};
use crate::{with_loom, with_shuttle};

/// Every order of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let with_last = |order: Vec<usize>| {
        (0..count).map(move |place| {
            let mut order = order.clone();
            order.insert(place, last);
            order
        })
    };
    orders(last).into_iter().flat_map(with_last).collect()
}

fn worst(body: Body, tasks: usize) -> Figure {
    // What a task panics with is the finding.
    std::panic::set_hook(Box::new(|_| ()));
    let mut worst = Figure::executions(0, false);
    for order in orders(tasks) {
        let (executions, found) = find(&Small::in_order(body, order), &bare());
        worst.more |= !found;
        worst.value = worst.value.max(executions as f64);
    }
    worst
}

pub const ROWS: &[Row] = &[
    Row {
        name: "ring",
        what: "ring of 3 locks: executions to the deadlock",
        target: Target::AtMost(10),
        sides: [
            Some(|| with_loom::find(with_loom::threads::ring)),
            Some(|| with_shuttle::find(with_shuttle::threads::ring)),
            Some(|| worst(programs::ring, 3)),
        ],
    },
    Row {
        name: "drain",
        what: "lost wake-up in a drain of 2 requests: executions to it",
        target: Target::AtMost(10),
        sides: [
            Some(|| with_loom::find(with_loom::threads::drain_that_misses)),
            Some(|| with_shuttle::find(with_shuttle::threads::drain_that_misses)),
            Some(|| worst(programs::drain_that_misses, 3)),
        ],
    },
    Row {
        name: "needle",
        what: "order of 2 steps behind 50 private ones: executions to it",
        target: Target::AtMost(5),
        sides: [
            Some(|| with_loom::find(with_loom::threads::needle)),
            Some(|| with_shuttle::find(with_shuttle::threads::needle)),
            Some(|| worst(programs::needle, 2)),
        ],
    },
];
