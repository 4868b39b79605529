//! Publishing: all drivers commit, or all that prepared abort, the last one first.

use std::sync::Arc;

use blockyard_block::{BlockError, NewNode, OnLost, Owner};
use blockyard_graph::{Edit, Parent};
use blockyard_sim::Verdict;
use blockyard_sync::sometimes;

use crate::bench::{Bench, FAULTLESS, Prepare, Test, add, add_filter, check, explore, read_log};

const NAMES: [&str; 4] = ["n0", "n1", "n2", "n3"];

/// What four drivers see when the one at index `fails` fails to prepare.
fn expected(fails: Option<usize>) -> Vec<String> {
    let all = |what: &'static str| move |name: &&str| format!("{what} {name}");
    let last = fails.map_or(NAMES.len(), |index| index + 1);
    let mut log: Vec<String> = NAMES[..last].iter().map(all("prepare")).collect();
    match fails {
        Some(index) => log.extend(NAMES[..index].iter().rev().map(all("abort"))),
        None => log.extend(NAMES.iter().map(all("commit"))),
    }
    log
}

#[test]
fn a_driver_that_fails_to_prepare_undoes_those_before_it_in_reverse() {
    for fails in [None, Some(0), Some(1), Some(2), Some(3)] {
        let test = Test::new(move |bench| async move {
            let node = |(index, name): (usize, &&'static str)| {
                let fails = fails == Some(index);
                bench.node(name, if fails { Prepare::Fail } else { Prepare::Agree })
            };
            let nodes: Vec<NewNode> = NAMES.iter().enumerate().map(node).collect();
            let edits: Vec<Edit> =
                nodes.iter().zip(NAMES).map(|(node, name)| add(node, name)).collect();
            let before = bench.layer.graph();
            let result = bench.publish(&edits, &nodes, OnLost::StartOver).await;
            assert_eq!(result.is_err(), fails.is_some(), "{result:?}");
            assert_eq!(read_log(&bench.log), expected(fails));
            assert_eq!(bench.layer.graph() == before, fails.is_some(), "the graph");
            for (node, name) in nodes.iter().zip(NAMES) {
                assert_eq!(bench.layer.node_by_id(node.id()).is_none(), fails.is_some(), "{name}");
                assert_eq!(bench.layer.node(name).is_err(), fails.is_some(), "{name}");
            }
        });
        check(&format!("{fails:?} fails"), &test, FAULTLESS, &[]);
    }
}

/// Puts a filter between a node's parent and the node; the parent's driver fails or not.
#[test]
fn holders_of_changed_edges_prepare_after_the_new_nodes() {
    for fails in [false, true] {
        let test = Test::new(move |bench| async move {
            let (_, bottom) = bench.device("bottom").await;
            let holder = bench.node("holder", Prepare::Agree);
            let edits = add_filter(&holder, "holder", bottom);
            bench
                .publish(&edits, std::slice::from_ref(&holder), OnLost::Fail)
                .await
                .expect("it is allowed");
            bench.log.with(Vec::clear);
            let new = bench.node("new", if fails { Prepare::Fail } else { Prepare::Agree });
            let mut edits = add_filter(&new, "new", bottom).to_vec();
            edits.push(Edit::ReplaceChild {
                parent: Parent::Node(holder.id()),
                name: "file".into(),
                expected: Some(bottom),
                new: new.id(),
            });
            let section = bench.layer.drain(Owner::command(), &[bottom]).await;
            let result = bench.publish(&edits, &[new], OnLost::Fail).await;
            section.end();
            assert_eq!(result.is_err(), fails);
            let all = ["prepare new", "prepare holder", "commit new", "commit holder"];
            let log = read_log(&bench.log);
            assert_eq!(log, if fails { &all[..1] } else { &all[..] });
        });
        check("a holder", &test, FAULTLESS, &[]);
    }
}

#[test]
fn a_publication_that_is_lost_is_undone_and_fails_or_starts_over() {
    for on_lost in [OnLost::Fail, OnLost::StartOver] {
        let test = Test::new(move |bench| async move {
            let nodes = [bench.node("n0", Prepare::Agree), bench.node("n1", Prepare::Interfere)];
            let edits = [add(&nodes[0], "n0"), add(&nodes[1], "n1")];
            let result = bench.publish(&edits, &nodes, on_lost).await;
            let prepared = ["prepare n0", "prepare n1"];
            let aborted = [&prepared[..], &["abort n1", "abort n0"]].concat();
            let (expected, log) = match on_lost {
                OnLost::Fail => (Err(BlockError::Lost), aborted),
                OnLost::StartOver => {
                    let again = [&prepared[..], &["commit n0", "commit n1"]].concat();
                    (Ok(()), [aborted, again].concat())
                }
            };
            assert_eq!(result, expected);
            assert_eq!(read_log(&bench.log), log);
            assert!(bench.layer.graph().backend_by_name("another").is_some());
            assert_eq!(bench.layer.node("n0").is_ok(), on_lost == OnLost::StartOver);
        });
        check(&format!("{on_lost:?}"), &test, FAULTLESS, &["a publication was lost to another"]);
    }
}

async fn publish_one(bench: Arc<Bench>, name: &'static str, on_lost: OnLost) {
    let node = bench.node(name, Prepare::Agree);
    let result = bench.publish(&[add(&node, name)], &[node], on_lost).await;
    let lost = result == Err(BlockError::Lost);
    sometimes!(lost, "it was lost");
    assert!(lost || result.is_ok(), "{result:?}");
    assert!(!lost || on_lost == OnLost::Fail, "starting over never loses");
    assert_eq!(bench.layer.node(name).is_ok(), result.is_ok());
}

#[test]
fn of_publications_side_by_side_each_is_whole_or_not_at_all() {
    for on_lost in [OnLost::Fail, OnLost::StartOver] {
        let test = Test::new(move |bench| async move {
            for name in ["n0", "n1", "n2"] {
                bench.task(name, publish_one(bench.clone(), name, on_lost));
            }
        })
        .checked(move |bench| {
            let log = read_log(&bench.log);
            let count = |what: &str| log.iter().filter(|line| line.starts_with(what)).count();
            assert_eq!(count("prepare"), count("commit") + count("abort"), "{log:?}");
            let nodes = bench.layer.graph().nodes().count();
            assert_eq!(nodes, count("commit"));
            assert!(nodes >= 1 && (nodes == 3 || on_lost == OnLost::Fail));
        });
        check(&format!("{on_lost:?}"), &test, FAULTLESS, &["a publication was lost to another"]);
    }
}

#[test]
fn an_edge_redirected_outside_a_drained_section_is_our_own_bug() {
    // Without a section, and with one over something else.
    for drains in [false, true] {
        let test = Test::new(move |bench| async move {
            let (backend, old) = bench.device("old").await;
            let (_, new) = bench.device("new").await;
            let section =
                if drains { Some(bench.layer.drain(Owner::command(), &[new]).await) } else { None };
            let parent = Parent::Backend(backend.id());
            let edit = Edit::ReplaceChild { parent, name: "root".into(), expected: Some(old), new };
            let result = bench.publish(&[edit], &[], OnLost::Fail).await;
            unreachable!("it was published: {result:?}, {}", section.is_some());
        });
        let Verdict::Violated { finding, .. } = explore(&test, FAULTLESS).verdict else {
            panic!("nothing was noticed");
        };
        assert_eq!(finding.property, "no-panic");
        let said = "redirected-edges-are-quiesced: b-old.root";
        assert!(finding.message.contains(said), "{}", finding.message);
    }
}
