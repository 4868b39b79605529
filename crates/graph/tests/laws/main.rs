//! Laws that hold for every graph and edit list, over generated tapes with a fixed seed.
//!
//! A tape picks among what exists (index modulo), so any tape means something and shrinks. Accepted
//! graphs are held against `oracle`, which knows the rules of permissions by itself.
#![forbid(unsafe_code)]

mod oracle;
mod tape;

use std::collections::BTreeMap;

use blockyard_graph::{Edit, Graph, RefusedKind};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use tape::{Op, Tape};

fn config() -> Config {
    Config {
        cases: 400,
        rng_seed: RngSeed::Fixed(0x6772_6170_6800),
        failure_persistence: None,
        ..Config::default()
    }
}

/// Plays a tape; `check` sees each list, the graph it was meant for and what came of it.
fn play(tape: &Tape, mut check: impl FnMut(&Graph, &[Edit], Result<&Graph, RefusedKind>)) {
    let mut graph = Graph::default();
    let mut fresh = 0;
    for ops in tape {
        let edits: Vec<Edit> =
            ops.iter().flat_map(|op| tape::edits(&graph, &mut fresh, *op)).collect();
        let result = graph.apply(&edits);
        check(&graph, &edits, result.as_ref().map_err(|refused| refused.kind));
        graph = result.unwrap_or(graph);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn accepted_graphs_agree_with_the_oracle(tape in tape::strategy()) {
        play(&tape, |_, _, result| {
            let Ok(after) = result else { return };
            after.check_invariants();
            if let Err(wrong) = oracle::check(&oracle::View::of(after)) {
                panic!("{wrong}\n{after:?}");
            }
        });
    }

    #[test]
    fn oracle_refuses_what_is_refused_for_permissions(tape in tape::strategy()) {
        play(&tape, |before, edits, result| {
            let judged = matches!(
                result,
                Ok(_) | Err(RefusedKind::Permission | RefusedKind::ReadOnly | RefusedKind::Cycle)
            );
            if judged {
                let view = oracle::View::of(before).after(edits);
                assert_eq!(oracle::agrees(&view), result.is_ok(), "{before:?}{edits:?}");
            }
        });
    }

    #[test]
    fn refused_lists_leave_the_value_as_it_was(tape in tape::strategy()) {
        play(&tape, |before, edits, _| {
            let (copy, picture) = (before.clone(), before.describe());
            let again = (before.apply(edits), before.apply(edits));
            assert_eq!(again.0, again.1, "applying is a function");
            assert_eq!(*before, copy);
            assert_eq!(before.describe(), picture);
        });
    }

    #[test]
    fn one_list_equals_its_steps_when_each_is_accepted(tape in tape::strategy()) {
        play(&tape, |before, edits, result| {
            let steps = edits.iter().try_fold(before.clone(), |graph, edit| {
                graph.apply(std::slice::from_ref(edit))
            });
            if let Ok(steps) = steps {
                assert_eq!(result, Ok(&steps));
            }
        });
    }

    #[test]
    fn replacing_a_child_back_gives_an_equal_graph(tape in tape::strategy()) {
        play(&tape, |before, edits, result| {
            let (Ok(after), [Edit::ReplaceChild { parent, name, new, .. }]) = (result, edits)
            else { return };
            let old = before.child(*parent, name).expect("the edge was redirected");
            let back = Edit::ReplaceChild {
                parent: *parent, name: name.clone(), expected: Some(*new), new: old,
            };
            assert_eq!(after.apply(&[back]).as_ref(), Ok(before));
            assert_eq!(before.changed_edges(after).len(), usize::from(old != *new));
        });
    }

    #[test]
    fn frozen_edges_stay_until_somebody_unfreezes_them(tape in tape::strategy()) {
        play(&tape, |before, edits, result| {
            let Ok(after) = result else { return };
            if edits.iter().any(|edit| matches!(edit, Edit::Unfreeze { .. })) {
                return;
            }
            for edge in before.edges().filter(|edge| edge.frozen.is_some()) {
                let now = after.edge(edge.parent, &edge.name).expect("a frozen edge stays");
                assert_eq!((now.child, now.frozen.is_some()), (edge.child, true));
            }
        });
    }

    #[test]
    fn walks_agree_with_each_other(tape in tape::strategy()) {
        play(&tape, |_, _, result| {
            let Ok(graph) = result else { return };
            let order = graph.topological();
            for &upper in &order {
                let below = graph.descendants(upper);
                for &lower in &order {
                    let reaches = graph.reaches(blockyard_graph::Parent::Node(upper), lower);
                    assert_eq!(below.contains(&lower), reaches);
                    assert_eq!(graph.ancestors(lower).contains(&upper), reaches);
                }
            }
        });
    }

    #[test]
    fn changed_edges_tell_what_differs(tape in tape::strategy()) {
        play(&tape, |before, _, result| {
            let Ok(after) = result else { return };
            let changed = before.changed_edges(after);
            assert_eq!(changed, after.changed_edges(before));
            for edge in before.edges().chain(after.edges()) {
                let same = before.child(edge.parent, &edge.name)
                    == after.child(edge.parent, &edge.name);
                assert_eq!(changed.contains(&edge.key()), !same);
            }
        });
    }
}

#[test]
fn tapes_reach_every_kind_of_refusal_and_enough_graphs() {
    let mut runner = TestRunner::new(config());
    let mut reached: BTreeMap<Option<RefusedKind>, usize> = BTreeMap::new();
    let mut longest_list = 0;
    let mut replaced_alone = 0;
    for _ in 0..400 {
        let tape: Vec<Vec<Op>> =
            tape::strategy().new_tree(&mut runner).expect("tapes are always found").current();
        play(&tape, |_, edits, result| {
            *reached.entry(result.err()).or_default() += 1;
            if result.is_ok() {
                longest_list = longest_list.max(edits.len());
                replaced_alone += usize::from(matches!(edits, [Edit::ReplaceChild { .. }]));
            }
        });
    }
    let kinds = [
        RefusedKind::Mismatch,
        RefusedKind::Cycle,
        RefusedKind::Frozen,
        RefusedKind::Permission,
        RefusedKind::ReadOnly,
        RefusedKind::Duplicate,
        RefusedKind::NotFound,
        RefusedKind::InUse,
    ];
    for kind in kinds {
        let count = reached.get(&Some(kind)).copied().unwrap_or(0);
        assert!(count >= 20, "{kind:?} was reached {count} times: {reached:?}");
    }
    assert!(reached[&None] >= 2000, "{reached:?}");
    assert!(longest_list >= 8 && replaced_alone >= 50, "{longest_list}, {replaced_alone}");
}
