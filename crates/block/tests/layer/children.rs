//! Children: as many as a driver likes, found by name and index; and what a driver says nothing about goes down to the
//! first one that does.

use blockyard_block::{BlockDriver, BlockError, Io, OnLost, Owner, Write};
use blockyard_graph::{Edge, EdgePolicy, Edit, Parent, Role, Roles};
use blockyard_runtime::BoxFuture;
use blockyard_units::{ByteLen, ByteRange, NodeId};

use crate::bench::{
    FAULTLESS, LEN, Prepare, Test, add, add_filter, check, read_log, redirect, write,
};

const CHILDREN: [&str; 3] = ["children.0", "children.1", "children.2"];

/// Each sector is in a child of its own.
struct Spread;

impl BlockDriver for Spread {
    fn len(&self, _io: &Io) -> ByteLen {
        ByteLen(LEN)
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        let index = (write.range.start() / 512) as usize;
        Box::pin(async move { io.write(CHILDREN[index], write).await })
    }
}

fn edge(parent: NodeId, name: &str, child: NodeId) -> Edit {
    Edit::AddEdge(Edge {
        parent: Parent::Node(parent),
        name: name.into(),
        child,
        roles: Roles::of(&[Role::Data]),
        policy: EdgePolicy::Passthrough,
        frozen: None,
    })
}

#[test]
fn a_driver_has_many_children_each_found_by_name_and_index() {
    let test = Test::new(|bench| async move {
        let (backend, old) = bench.device("old").await;
        let spread = bench.layer.new_node("spread", Box::new(Spread));
        let mut nodes = vec![spread.clone()];
        let mut edits = vec![add(&spread, "spread")];
        for (child, name) in CHILDREN.into_iter().zip(["a", "b", "c"]) {
            let node = bench.node(name, Prepare::Agree);
            edits.extend([add(&node, name), edge(spread.id(), child, node.id())]);
            nodes.push(node);
        }
        edits.push(redirect(&backend, old, spread.id()));
        let section = bench.layer.drain(Owner::command(), &[old]).await;
        bench.publish(&edits, &nodes, OnLost::Fail).await.expect("nothing forbids it");
        section.end();
        for sector in 0..3 {
            backend.write(write(sector, 7)).await.expect("no fault is budgeted");
        }
        let section = bench.layer.drain(Owner::command(), &[nodes[2].id()]).await;
        let (parent, name) = (Parent::Node(spread.id()), CHILDREN[1].into());
        let other = Edit::ReplaceChild { parent, name, expected: Some(nodes[2].id()), new: old };
        bench.publish(&[other], &[], OnLost::Fail).await.expect("nothing forbids it");
        section.end();
        backend.write(write(1, 8)).await.expect("no fault is budgeted");
        let log = read_log(&bench.log);
        let written: Vec<&str> =
            log.iter().filter_map(|line| line.strip_prefix("write ")).collect();
        assert_eq!(written, ["a", "b", "c", "old"]);
    });
    check("children", &test, FAULTLESS, &[]);
}

/// Says nothing but which child has its bytes.
struct Through;

impl BlockDriver for Through {
    fn main_child(&self) -> Option<&'static str> {
        Some("file")
    }
}

#[test]
fn an_operation_walks_down_to_the_first_driver_that_implements_it() {
    let test = Test::new(|bench| async move {
        let (backend, node) = bench.device("n").await;
        let mut below = node;
        let (mut edits, mut nodes) = (Vec::new(), Vec::new());
        for name in ["lower", "upper"] {
            let filter = bench.layer.new_node(name, Box::new(Through));
            edits.extend(add_filter(&filter, name, below));
            below = filter.id();
            nodes.push(filter);
        }
        edits.push(redirect(&backend, node, below));
        let section = bench.layer.drain(Owner::command(), &[node]).await;
        bench.publish(&edits, &nodes, OnLost::Fail).await.expect("nothing forbids it");
        section.end();
        bench.log.with(Vec::clear);
        let range = ByteRange::new(512, 512);
        assert_eq!(backend.len(), Ok(ByteLen(LEN)));
        backend.write(write(1, 7)).await.expect("no fault is budgeted");
        assert_eq!(&*backend.read(range).await.expect("no fault is budgeted"), &[7; 512]);
        backend.write(Write::zeroes(range)).await.expect("no fault is budgeted");
        backend.write(Write::discard(range)).await.expect("no fault is budgeted");
        backend.flush().await.expect("no fault is budgeted");
        assert_eq!(read_log(&bench.log), ["write n", "write-zeroes n", "discard n", "flush n"]);
    });
    check("walk", &test, FAULTLESS, &[]);
}
