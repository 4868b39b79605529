//! Publishing against publishing: no edit that succeeded is missing from the graph, none that failed is
//! in it. The planted bug swaps without comparing.

use std::sync::Arc;

use blockyard_block::{BlockError, BlockLayer, OnLost, Plan};
use blockyard_loom_tests::{Null, block_on, empty_layer, explore, explore_finds, join, new_node};
use blockyard_sync::{Shared, door};
use loom::thread;

fn add(layer: &BlockLayer, name: &str, on_lost: OnLost) -> Result<(), BlockError> {
    let (node, edit) = new_node(layer, name, Null::default());
    block_on(layer.publish(name, on_lost, |_| {
        Ok(Plan { edits: vec![edit.clone()], nodes: vec![node.clone()], ..Plan::default() })
    }))
}

/// Two threads add a node each. Returns what became of it, and the names in the graph at the end.
fn two_adds(names: [&'static str; 2], on_lost: OnLost) -> ([Result<(), BlockError>; 2], String) {
    let layer = empty_layer();
    let other = thread::spawn({
        let layer = layer.clone();
        move || add(&layer, names[1], on_lost)
    });
    let first = add(&layer, names[0], on_lost);
    let results = [first, join(other)];
    let graph = layer.graph();
    graph.check_invariants();
    let mut found: Vec<_> = graph.nodes().map(|(_, node)| node.name.as_str()).collect();
    for name in &found {
        assert!(layer.node(name).is_ok(), "published-nodes-are-there: {name}");
    }
    found.sort_unstable();
    (results, found.join(" "))
}

#[test]
fn both_edits_are_published_when_the_loser_starts_over() {
    explore(|| {
        let (results, found) = two_adds(["a", "b"], OnLost::StartOver);
        assert_eq!(results, [Ok(()), Ok(())]);
        assert_eq!(found, "a b", "published-edits-stay");
    });
}

#[test]
fn exactly_the_edits_that_succeed_are_published_when_the_loser_fails() {
    explore(|| {
        let (results, found) = two_adds(["a", "b"], OnLost::Fail);
        let expected = match results {
            [Ok(()), Ok(())] => "a b",
            [Ok(()), Err(BlockError::Lost)] => "a",
            [Err(BlockError::Lost), Ok(())] => "b",
            _ => panic!("one-publication-succeeds: {results:?}"),
        };
        assert_eq!(found, expected, "published-edits-stay");
    });
}

#[test]
fn one_of_two_edits_is_refused_when_both_take_one_name() {
    explore(|| {
        let (results, found) = two_adds(["a", "a"], OnLost::StartOver);
        let refused = results.iter().filter(|result| matches!(result, Err(BlockError::Refused(_))));
        assert_eq!(refused.count(), 1, "the-new-graph-is-judged: {results:?}");
        assert_eq!(found, "a");
    });
}

/// A graph as a list and its version, published as the layer does it: derive, prepare, swap.
fn publish(state: &Shared<(u64, Vec<u32>)>, number: u32, compares: bool) {
    loop {
        let (version, mut list) = state.read(Clone::clone);
        list.push(number);
        block_on(door::boundary());
        let swapped = state.write(|state| {
            let swaps = !compares || state.0 == version;
            if swaps {
                *state = (state.0 + 1, list);
            }
            swaps
        });
        if swapped {
            return;
        }
    }
}

fn two_in_small(compares: bool) {
    let state = Arc::new(Shared::new((0, Vec::new())));
    let other = thread::spawn({
        let state = state.clone();
        move || publish(&state, 1, compares)
    });
    publish(&state, 2, compares);
    join(other);
    assert_eq!(state.read(|state| state.1.len()), 2, "published-edits-stay");
}

#[test]
fn a_swap_that_compares_keeps_both_edits() {
    explore(|| two_in_small(true));
}

#[test]
fn planted_swap_that_does_not_compare_loses_an_edit() {
    explore_finds("published-edits-stay", || two_in_small(false));
}
