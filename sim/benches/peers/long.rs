//! Programs of many steps over the door, ten tasks as a rule.

use blockyard_runtime::Runtime;

use crate::programs::{Values, increment, values};

/// Each does so many steps, and two passages through the door in each: one on its own number, and what `pass` does.
fn busy(
    runtime: &Runtime,
    order: &[usize],
    steps: usize,
    pass: impl Fn(&Values, usize, usize) + Copy + Send + 'static,
) {
    let values = values(order.len() + 1);
    for &index in order {
        let values = values.clone();
        drop(runtime.spawn("t", async move {
            for step in 0..steps {
                pass(&values, index, step);
                increment(&values, index).await;
            }
        }));
    }
}

/// Adds to a number that nobody reads.
fn add(values: &Values, _: usize, _: usize) {
    values[values.len() - 1].add(|value| *value += 1);
}

/// Increments the number of another, which changes.
fn meddle(values: &Values, index: usize, step: usize) {
    values[(index + step) % (values.len() - 1)].write(|value| *value += 1);
}

/// A hundred polls each, without a conflict.
pub fn adding(runtime: &Runtime, order: &[usize]) {
    busy(runtime, order, 99, add);
}

/// A hundred polls each, most of them in conflict with others.
pub fn meddling(runtime: &Runtime, order: &[usize]) {
    busy(runtime, order, 99, meddle);
}

/// A thousand polls each, without a conflict but for the last of the first three.
pub fn conflicting_last(runtime: &Runtime, order: &[usize]) {
    busy(runtime, order, 999, |values, index, step| match (index, step) {
        (0..=2, 998) => values[values.len() - 1].write(|value| *value += 1),
        _ => values[index].write(|value| *value += 1),
    });
}

/// A thousand polls each, most of them in conflict with others.
pub fn meddling_longer(runtime: &Runtime, order: &[usize]) {
    busy(runtime, order, 999, meddle);
}
