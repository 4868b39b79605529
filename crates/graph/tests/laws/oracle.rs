//! What a graph may be, said again as plainly as possible: every path is followed, nothing is
//! remembered.
//!
//! It works on a plain view, so that a wrong graph can be planted in it.

use std::collections::BTreeMap;

use blockyard_graph::{Edge, EdgePolicy, Edit, Graph, NodeAttributes, Parent, Permissions, Role};
use blockyard_units::NodeId;

const READ: Permissions = Permissions::CONSISTENT_READ;
const WRITE: Permissions = Permissions::WRITE;
const UNCHANGED: Permissions = Permissions::WRITE_UNCHANGED;
const RESIZE: Permissions = Permissions::RESIZE;

/// A graph that nobody has judged.
pub struct View {
    pub nodes: BTreeMap<NodeId, NodeAttributes>,
    pub edges: Vec<Edge>,
    /// What the graph says each edge requires and shares, in the order of edges.
    pub said: Vec<(Permissions, Permissions)>,
}

impl View {
    pub fn of(graph: &Graph) -> Self {
        let edges: Vec<Edge> = graph.edges().cloned().collect();
        let said = edges.iter().map(|edge| {
            graph.permissions(edge.parent, &edge.name).expect("each edge has permissions")
        });
        Self {
            nodes: graph.nodes().map(|(id, node)| (id, node.clone())).collect(),
            said: said.collect(),
            edges,
        }
    }

    /// With `edits` done blindly; says nothing about permissions any more.
    pub fn after(mut self, edits: &[Edit]) -> Self {
        self.said.clear();
        for edit in edits {
            match edit {
                Edit::AddNode { id, attributes } | Edit::SetAttributes { id, attributes } => {
                    self.nodes.insert(*id, attributes.clone());
                }
                Edit::RemoveNode { id } => {
                    self.nodes.remove(id);
                }
                Edit::AddEdge(edge) => self.edges.push(edge.clone()),
                Edit::RemoveEdge { parent, name, .. } => {
                    self.edges.retain(|edge| (edge.parent, &edge.name) != (*parent, name));
                }
                Edit::ReplaceChild { parent, name, new, .. } => {
                    let same = |edge: &&mut Edge| (edge.parent, &edge.name) == (*parent, name);
                    self.edges.iter_mut().filter(same).for_each(|edge| edge.child = *new);
                }
                _ => {}
            }
        }
        self
    }

    fn above(&self, parent: Parent) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| Parent::Node(edge.child) == parent)
    }

    /// Whether a path of more edges than there are nodes leads up from `parent`.
    fn endless(&self, parent: Parent, steps: usize) -> bool {
        steps == 0 || self.above(parent).any(|edge| self.endless(edge.parent, steps - 1))
    }

    pub fn cyclic(&self) -> bool {
        let steps = self.nodes.len() + 1;
        self.nodes.keys().any(|id| self.endless(Parent::Node(*id), steps))
    }

    /// Whether `edge` requires `permission`. Only for acyclic views.
    fn requires(&self, edge: &Edge, permission: Permissions) -> bool {
        let mut parents = self.above(edge.parent);
        let writable = matches!(edge.parent, Parent::Node(id) if !self.nodes[&id].read_only && self.nodes[&id].active);
        match edge.policy {
            EdgePolicy::Explicit { required, .. } => required.contains(permission),
            EdgePolicy::CopyOnRead if permission == UNCHANGED && writable => true,
            EdgePolicy::Preallocate if permission == RESIZE && writable => true,
            EdgePolicy::Passthrough
            | EdgePolicy::Exclusive
            | EdgePolicy::CopyOnRead
            | EdgePolicy::Preallocate => parents.any(|upper| self.requires(upper, permission)),
            EdgePolicy::Backing | EdgePolicy::Committed => {
                permission == READ && parents.any(|upper| self.requires(upper, READ))
            }
            EdgePolicy::Storage if permission == READ => true,
            EdgePolicy::Storage => {
                let modifies = edge.roles.contains(Role::Metadata)
                    || parents.any(|upper| {
                        [WRITE, UNCHANGED, RESIZE].iter().any(|p| self.requires(upper, *p))
                    });
                permission != UNCHANGED && writable && modifies
            }
        }
    }

    /// Whether `edge` shares `permission`. Only for acyclic views.
    fn shares(&self, edge: &Edge, permission: Permissions) -> bool {
        let all = |permission| self.above(edge.parent).all(|upper| self.shares(upper, permission));
        let changing = permission == WRITE || permission == RESIZE;
        let inactive = matches!(edge.parent, Parent::Node(id) if !self.nodes[&id].active);
        match edge.policy {
            EdgePolicy::Explicit { shared, .. } => shared.contains(permission),
            EdgePolicy::Passthrough => all(permission),
            EdgePolicy::CopyOnRead => permission == UNCHANGED || all(permission),
            EdgePolicy::Exclusive => !changing && all(permission),
            _ if changing && inactive => true,
            EdgePolicy::Preallocate => permission != RESIZE && all(permission),
            EdgePolicy::Storage => !changing && all(permission),
            EdgePolicy::Backing => !changing || all(WRITE),
            EdgePolicy::Committed => true,
        }
    }
}

/// Whether the view is acyclic, its edges agree, and nothing modifies what may not be modified.
pub fn agrees(view: &View) -> bool {
    let each = [READ, WRITE, UNCHANGED, RESIZE];
    !view.cyclic()
        && view.edges.iter().enumerate().all(|(index, edge)| {
            let child = &view.nodes[&edge.child];
            let closed = child.read_only || !child.active;
            each.iter().filter(|p| view.requires(edge, **p)).all(|permission| {
                let mut others = view
                    .edges
                    .iter()
                    .enumerate()
                    .filter(|(other, upper)| *other != index && upper.child == edge.child);
                (*permission == READ || !closed)
                    && others.all(|(_, other)| view.shares(other, *permission))
            })
        })
}

/// Whether the view is a graph, and says of its edges what they require and share.
pub fn check(view: &View) -> Result<(), String> {
    if view.cyclic() {
        return Err("cyclic".into());
    }
    if !agrees(view) {
        return Err("edges do not agree".into());
    }
    for (edge, (required, shared)) in view.edges.iter().zip(&view.said) {
        for permission in [READ, WRITE, UNCHANGED, RESIZE] {
            let same = required.contains(permission) == view.requires(edge, permission)
                && shared.contains(permission) == view.shares(edge, permission);
            if !same {
                return Err(format!("{permission} is said wrongly of {}", edge.name));
            }
        }
    }
    Ok(())
}

#[test]
fn wrong_graphs_are_noticed() {
    let id = |index| NodeId(blockyard_units::Id { creator: 0, index });
    let node = |index: u32| Edit::AddNode {
        id: id(index),
        attributes: NodeAttributes::new(
            index.to_string(),
            blockyard_graph::NodeKind::Filter,
            "test",
        ),
    };
    let edge = |from, name: &str, to, policy| Edge {
        parent: Parent::Node(id(from)),
        name: name.into(),
        child: id(to),
        roles: Role::Filtered.into(),
        policy,
        frozen: None,
    };
    let exclusive = EdgePolicy::Explicit { required: WRITE, shared: READ };
    let graph = Graph::default()
        .apply(&[node(0), node(1), node(2), Edit::AddEdge(edge(0, "file", 1, exclusive))])
        .expect("the example is a graph");
    let view = || View::of(&graph);
    assert_eq!(check(&view()), Ok(()));

    let mut cyclic = view();
    cyclic.edges.push(edge(1, "file", 0, EdgePolicy::Passthrough));
    assert_eq!(check(&cyclic), Err("cyclic".into()));

    let mut conflict = view();
    conflict.edges.push(edge(2, "file", 1, exclusive));
    assert_eq!(check(&conflict), Err("edges do not agree".into()));

    let mut written = view();
    written.nodes.get_mut(&id(1)).expect("it was added").read_only = true;
    assert_eq!(check(&written), Err("edges do not agree".into()));

    let mut misjudged = view();
    misjudged.said[0].0 = READ.union(WRITE);
    assert_eq!(check(&misjudged), Err("consistent-read is said wrongly of file".into()));
}
