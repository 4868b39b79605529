//! Reconfiguring: the drained section follows from the edits, wherever others lead the edge meanwhile.

use std::sync::Arc;

use blockyard_block::{Backend, BlockError, NewNode, OnLost, Plan};
use blockyard_graph::{Edit, Graph, Parent};
use blockyard_sync::{door, sometimes};
use blockyard_units::NodeId;

use crate::bench::{Bench, FAULTLESS, ONE_FAULT, Prepare, Test, add_filter, check, write};

/// Where the backend's root leads.
fn root(graph: &Graph, backend: &Backend) -> NodeId {
    graph.child(Parent::Backend(backend.id()), "root").expect("nobody takes the root away")
}

/// Puts `filter` under the backend, over whatever is there.
async fn insert(
    bench: Arc<Bench>,
    backend: Backend,
    name: &'static str,
    prepare: Prepare,
) -> Result<(), BlockError> {
    let filter: NewNode = bench.node(name, prepare);
    let derive = |graph: &Graph| {
        let below = root(graph, &backend);
        let mut edits = Vec::from(add_filter(&filter, name, below));
        let parent = Parent::Backend(backend.id());
        let (name, new) = ("root".into(), filter.id());
        edits.push(Edit::ReplaceChild { parent, name, expected: Some(below), new });
        Ok(Plan { edits, nodes: [filter.clone()].into(), ..Plan::default() })
    };
    bench.layer.reconfigure("insert", derive).await
}

#[test]
fn reconfigurations_of_one_edge_side_by_side_all_take_place() {
    for budgets in [FAULTLESS, ONE_FAULT] {
        let test = Test::new(move |bench| async move {
            let (backend, _) = bench.device("n").await;
            for name in ["f0", "f1"] {
                let (task, backend) = (bench.clone(), backend.clone());
                bench.task(name, async move {
                    let inserted = insert(task, backend, name, Prepare::Agree).await;
                    assert_eq!(inserted, Ok(()));
                });
            }
            let written = backend.write(write(0, 7)).await;
            sometimes!(written.is_err(), "a write failed");
        })
        .checked(|bench| {
            let graph = bench.layer.graph();
            let ids = ["f0", "f1", "n"].map(|name| graph.node_by_name(name).expect("it is there"));
            let backend = graph.backend_by_name("b-n").expect("it is there");
            let below = graph.child(Parent::Backend(backend), "root").expect("it is there");
            let order: Vec<NodeId> = graph.descendants(below);
            assert_eq!(order.len(), 3, "each is above what it found: {graph:?}");
            assert!(ids.iter().all(|id| order.contains(id)));
        });
        let mark = "a reconfiguration drained again, as the graph had changed";
        check("two", &test, budgets, &[mark]);
    }
}

#[test]
fn a_reconfiguration_that_is_refused_leaves_nothing_drained() {
    // By a driver; by the judging, before anything is drained; by judging inside the section.
    let test = Test::new(|bench| async move {
        let (backend, node) = bench.device("n").await;
        let before = bench.layer.graph();
        let inserted = insert(bench.clone(), backend.clone(), "f0", Prepare::Fail).await;
        assert!(matches!(inserted, Err(BlockError::Invalid(_))), "{inserted:?}");
        let remove = || Plan { edits: [Edit::RemoveNode { id: node }].into(), ..Plan::default() };
        let removed = bench.layer.reconfigure("remove", |_| Ok(remove())).await;
        assert!(matches!(removed, Err(BlockError::Refused(_))), "{removed:?}");
        assert_eq!(bench.layer.open_sections(), [""; 0]);
        assert!(bench.layer.graph() == before);
        let task = bench.clone();
        bench.task("remover", async move {
            let derive = |_: &Graph| Ok(remove_root(&before));
            let removed = task.layer.reconfigure("remove root", derive).await;
            assert_eq!(removed, Ok(()));
        });
        door::boundary().await;
        let inserted = insert_expecting(&bench, &backend, node).await;
        let refused = matches!(inserted, Err(BlockError::Refused(_)));
        sometimes!(refused, "refused, as the root was gone");
        assert!(inserted.is_ok() || refused, "{inserted:?}");
    });
    check("refused", &test, FAULTLESS, &["refused, as the root was gone"]);
}

fn remove_root(graph: &Graph) -> Plan {
    let backend = graph.backend_by_name("b-n").expect("it is there");
    let (parent, name) = (Parent::Backend(backend), "root".into());
    Plan { edits: [Edit::RemoveEdge { parent, name, expected: None }].into(), ..Plan::default() }
}

async fn insert_expecting(
    bench: &Arc<Bench>,
    backend: &Backend,
    below: NodeId,
) -> Result<(), BlockError> {
    let filter = bench.node("f1", Prepare::Agree);
    let derive = |_: &Graph| {
        let mut edits = Vec::from(add_filter(&filter, "f1", below));
        let (parent, name) = (Parent::Backend(backend.id()), "root".into());
        edits.push(Edit::ReplaceChild { parent, name, expected: Some(below), new: filter.id() });
        Ok(Plan { edits, nodes: [filter.clone()].into(), ..Plan::default() })
    };
    bench.layer.reconfigure("insert", derive).await
}

#[test]
fn edges_that_come_and_go_are_quiet_meanwhile() {
    // A filter's child is taken away and given back; the guest's write fails in between or comes through.
    let test = Test::new(|bench| async move {
        let (backend, node) = bench.device("n").await;
        insert(bench.clone(), backend.clone(), "f", Prepare::Agree).await.expect("it is allowed");
        let filter = root(&bench.layer.graph(), &backend);
        let task = bench.clone();
        bench.task("admin", async move {
            let (parent, name) = (Parent::Node(filter), String::from("file"));
            let graph = task.layer.graph();
            let edge = graph.edge(parent, &name).expect("it is there").clone();
            let remove = Edit::RemoveEdge { parent, name, expected: Some(node) };
            for edit in [remove, Edit::AddEdge(edge)] {
                let plan = || Plan { edits: [edit.clone()].into(), ..Plan::default() };
                let done = task.layer.reconfigure("take and give", |_| Ok(plan())).await;
                assert_eq!(done, Ok(()));
            }
        });
        for value in [7, 8] {
            backend.write(write(0, value)).await.expect("the probe keeps its bytes itself");
        }
    });
    check("come and go", &test, FAULTLESS, &["guest request parked by a drained section"]);
}

#[test]
fn nothing_is_drained_where_nothing_is_redirected() {
    let test = Test::new(|bench| async move {
        let (_, n) = bench.device("n").await;
        let filter = bench.node("f", Prepare::Agree);
        let section = bench.layer.drain(blockyard_block::Owner::command(), &[n]).await;
        let edits = Vec::from(add_filter(&filter, "f", n));
        let plan =
            || Plan { edits: edits.clone(), nodes: [filter.clone()].into(), ..Plan::default() };
        let added = bench.layer.reconfigure("add", |_| Ok(plan())).await;
        assert_eq!(added, Ok(()), "it did not wait for the other's section");
        section.end();
        let again = bench.layer.publish("add", OnLost::Fail, |_| Ok(plan())).await;
        assert!(again.is_err(), "it is there already");
    });
    check("nothing", &test, FAULTLESS, &[]);
}
