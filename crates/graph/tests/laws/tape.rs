//! Tapes: lists of small numbers that name edits of whatever graph they meet.

use blockyard_graph::{
    Edge, EdgePolicy, Edit, Graph, NodeAttributes, NodeKind, Parent, Permissions, Role, Roles,
};
use blockyard_units::{BackendId, Id, JobId, NodeId};
use proptest::prelude::*;

/// What to do, and three picks among what exists.
pub type Op = (u8, u8, u8, u8);

/// Edit lists, each of a few operations.
pub type Tape = Vec<Vec<Op>>;

/// Short tapes of short lists.
pub fn strategy() -> impl Strategy<Value = Tape> {
    prop::collection::vec(prop::collection::vec(any::<Op>(), 1..4), 1..24)
}

/// The edits that `op` stands for on this graph. Ids of what it adds come from `fresh`.
pub fn edits(graph: &Graph, fresh: &mut u32, op: Op) -> Vec<Edit> {
    let (kind, a, b, c) = op;
    let Some(node) = pick(graph.nodes().map(|(id, _)| id), a) else {
        return vec![add_node(fresh, b)];
    };
    let edge = pick(graph.edges(), b);
    match (kind % 16, edge) {
        (0 | 1, _) => vec![add_node(fresh, b)],
        (2 | 3, _) => hold(fresh, node, b, c),
        (4 | 5, _) => vec![add_edge(graph, node, b, c)],
        (6 | 7, _) => insert_filter(graph, fresh, node),
        (8, _) => remove_node(graph, node, b.is_multiple_of(4)),
        (9, _) => vec![toggle(graph, node, b)],
        (10, Some(edge)) => drop_holder(graph, edge.parent),
        (11, Some(edge)) => vec![freeze(edge, c)],
        (12, Some(edge)) => {
            let name = edge.name.clone();
            vec![Edit::RemoveEdge { parent: edge.parent, name, expected: expect(edge, node, c) }]
        }
        (13, Some(edge)) if c.is_multiple_of(4) => match edge.parent {
            Parent::Backend(backend) => {
                vec![Edit::ExpectRoot { backend, expected: expect(edge, node, b) }]
            }
            _ => Vec::new(),
        },
        (_, Some(edge)) => vec![replace(edge, expect(edge, node, c), node)],
        (_, None) => Vec::new(),
    }
}

fn pick<T>(items: impl Iterator<Item = T>, index: u8) -> Option<T> {
    let mut items: Vec<T> = items.collect();
    if items.is_empty() { None } else { Some(items.swap_remove(usize::from(index) % items.len())) }
}

fn next(fresh: &mut u32) -> Id {
    *fresh += 1;
    Id { creator: *fresh % 3, index: *fresh }
}

/// Mostly where the edge leads, sometimes nothing, seldom elsewhere.
fn expect(edge: &Edge, elsewhere: NodeId, pick: u8) -> Option<NodeId> {
    match pick % 8 {
        0 => Some(elsewhere),
        1 | 2 => None,
        _ => Some(edge.child),
    }
}

fn replace(edge: &Edge, expected: Option<NodeId>, new: NodeId) -> Edit {
    Edit::ReplaceChild { parent: edge.parent, name: edge.name.clone(), expected, new }
}

fn add_node(fresh: &mut u32, pick: u8) -> Edit {
    // Seldom an id that was used before, seldom a name that is taken.
    let id = if pick % 16 == 1 { Id { creator: 1, index: 1 } } else { next(fresh) };
    let name = if pick % 16 == 2 { "n1".into() } else { format!("n{}", id.index) };
    let attributes = NodeAttributes {
        read_only: pick % 8 == 3,
        active: pick % 8 != 4,
        retired: pick.is_multiple_of(2),
        ..NodeAttributes::new(name, NodeKind::Format, "test")
    };
    Edit::AddNode { id: NodeId(id), attributes }
}

fn hold(fresh: &mut u32, child: NodeId, b: u8, c: u8) -> Vec<Edit> {
    let id = next(fresh);
    let (parent, add, name) = if b.is_multiple_of(2) {
        let name = format!("b{}", id.index);
        (Parent::Backend(BackendId(id)), Edit::AddBackend { id: BackendId(id), name }, "root")
    } else {
        let name = format!("j{}", id.index);
        (Parent::Job(JobId(id)), Edit::AddJob { id: JobId(id), name }, "target")
    };
    vec![add, Edit::AddEdge(edge(parent, name, child, 0, c))]
}

fn edge(parent: Parent, name: &str, child: NodeId, policy: u8, c: u8) -> Edge {
    let (policy, roles) = match policy % 4 {
        0 => (explicit(c), Roles::NONE),
        1 if c.is_multiple_of(4) => (EdgePolicy::Exclusive, Role::Filtered.into()),
        1 if c % 4 == 1 => (EdgePolicy::CopyOnRead, Role::Filtered.into()),
        1 if c % 4 == 2 => (EdgePolicy::Preallocate, Role::Filtered.into()),
        1 => (EdgePolicy::Passthrough, Role::Filtered.into()),
        2 if c.is_multiple_of(2) => (EdgePolicy::Storage, Role::Data.into()),
        2 => (EdgePolicy::Storage, Roles::of(&[Role::Data, Role::Metadata])),
        _ if c.is_multiple_of(4) => (EdgePolicy::Committed, Role::Cow.into()),
        _ => (EdgePolicy::Backing, Role::Cow.into()),
    };
    Edge { parent, name: name.into(), child, roles, policy, frozen: None }
}

/// Rather permissive, so that graphs with several holders come about.
fn explicit(c: u8) -> EdgePolicy {
    let (read, write) = (Permissions::CONSISTENT_READ, Permissions::WRITE);
    let (unchanged, resize) = (Permissions::WRITE_UNCHANGED, Permissions::RESIZE);
    let required =
        [Permissions::NONE, read, read.union(write), unchanged, resize, read][usize::from(c) % 6];
    let all = Permissions::ALL;
    let shared =
        [all, all, all.difference(write), all.difference(resize), read][usize::from(c / 6) % 5];
    EdgePolicy::Explicit { required, shared }
}

fn add_edge(graph: &Graph, child: NodeId, b: u8, c: u8) -> Edit {
    let holders = graph.nodes().map(|(id, _)| Parent::Node(id));
    let holders = holders.chain(graph.backends().map(|(id, _)| Parent::Backend(id)));
    let holders = holders.chain(graph.jobs().map(|(id, _)| Parent::Job(id)));
    let parent = pick(holders, b).expect("there is a node at least");
    let name = ["file", "backing", "target"][usize::from(c) % 3];
    Edit::AddEdge(edge(parent, name, child, c / 3, b ^ c))
}

fn insert_filter(graph: &Graph, fresh: &mut u32, below: NodeId) -> Vec<Edit> {
    let id = NodeId(next(fresh));
    let attributes = NodeAttributes::new(format!("f{}", id.0.index), NodeKind::Filter, "test");
    let mut edits = vec![Edit::AddNode { id, attributes }];
    edits.extend(graph.redirections(below, id));
    edits.push(Edit::AddEdge(edge(Parent::Node(id), "file", below, 1, 0)));
    edits
}

fn children_removed(graph: &Graph, parent: Parent) -> impl Iterator<Item = Edit> {
    graph.children(parent).map(|edge| Edit::RemoveEdge {
        parent: edge.parent,
        name: edge.name.clone(),
        expected: Some(edge.child),
    })
}

/// Bridges a node's parents to its first child, unless it is to be removed as it hangs.
fn remove_node(graph: &Graph, id: NodeId, as_it_hangs: bool) -> Vec<Edit> {
    let mut edits = Vec::new();
    if !as_it_hangs {
        if let Some(below) = graph.children(Parent::Node(id)).next().map(|edge| edge.child) {
            edits.extend(graph.parents(id).map(|edge| replace(edge, Some(id), below)));
        }
        edits.extend(children_removed(graph, Parent::Node(id)));
    }
    edits.push(Edit::RemoveNode { id });
    edits
}

fn toggle(graph: &Graph, id: NodeId, pick: u8) -> Edit {
    let mut attributes = graph.node(id).expect("it was picked").clone();
    match pick % 3 {
        0 => attributes.read_only = !attributes.read_only,
        1 => attributes.active = !attributes.active,
        _ => attributes.retired = !attributes.retired,
    }
    Edit::SetAttributes { id, attributes }
}

fn drop_holder(graph: &Graph, parent: Parent) -> Vec<Edit> {
    let mut edits: Vec<Edit> = children_removed(graph, parent).collect();
    edits.push(match parent {
        Parent::Node(id) => Edit::RemoveNode { id },
        Parent::Backend(id) => Edit::RemoveBackend { id },
        Parent::Job(id) => Edit::RemoveJob { id },
    });
    edits
}

fn freeze(edge: &Edge, pick: u8) -> Edit {
    let (parent, name) = (edge.parent, edge.name.clone());
    if pick.is_multiple_of(3) {
        Edit::Freeze { parent, name, holder: "job j0".into() }
    } else {
        Edit::Unfreeze { parent, name }
    }
}
