//! Tests.

use alloc::vec::Vec;

use super::*;

/// Which nodes are reached after each step, and whether that is a job's end; whether the last one breaks the property.
fn check(steps: &[(&[u64], bool)], is_broken: bool) {
    let mut model = DroppedStaysAway::new();
    let observe = |(reached, job_ends): &(&[u64], bool)| {
        model.observe(reached.iter().copied().collect(), *job_ends).is_err()
    };
    let broken: Vec<bool> = steps.iter().map(observe).collect();
    let (last, others) = broken.split_last().expect("there are steps");
    assert_eq!((*last, others.contains(&true)), (is_broken, false), "{steps:?}");
}

#[test]
fn what_a_job_drops_no_job_brings_back() {
    check(&[(&[1, 2, 3], false), (&[1, 3], true), (&[1, 2], true)], true);
    check(&[(&[1, 2, 3], false), (&[1, 3], true), (&[1], true)], false);
}

#[test]
fn commands_bring_back_what_they_like() {
    check(&[(&[1, 2], false), (&[1], true), (&[1, 2], false), (&[1, 2], true)], false);
    check(&[(&[1, 2], false), (&[1], false), (&[1, 2], true)], false);
}
