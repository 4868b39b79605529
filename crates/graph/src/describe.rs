//! Words for people: the picture of a graph, and the names that refusals use.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use blockyard_units::NodeId;

use crate::draft::Draft;
use crate::graph::{Graph, Held, Tables};
use crate::parts::{NodeAttributes, Parent};
use crate::refused::{Refused, RefusedKind};

impl Graph {
    /// The graph as text, the same for equal graphs. A line an edge, by holder and child name; then
    /// a line for each node that is read-only, inactive, retired, or that no edge touches.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for held in &self.0.edges {
            describe_edge(&self.0, held, &mut text).expect("text-grows-without-failing");
        }
        for (id, node) in self.nodes() {
            let alone = self.children(Parent::Node(id)).chain(self.parents(id)).next().is_none();
            let marks = marks(node, alone);
            if !marks.is_empty() {
                writeln!(text, "{}: {}", node.name, marks.join(", "))
                    .expect("text-grows-without-failing");
            }
        }
        text
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

fn describe_edge(tables: &Tables, held: &Held, text: &mut String) -> fmt::Result {
    let edge = &held.edge;
    let parent = tables.parent_name(edge.parent).expect("no-edge-dangles");
    let child = &tables.node(edge.child).expect("no-edge-dangles").name;
    write!(text, "{parent}.{} -> {child}", edge.name)?;
    if !edge.roles.is_empty() {
        write!(text, " ({})", edge.roles)?;
    }
    let permissions = held.permissions;
    write!(text, " [requires {}; shares {}]", permissions.required, permissions.shared)?;
    if let Some(holder) = &edge.frozen {
        write!(text, " frozen by {holder}")?;
    }
    text.write_char('\n')
}

fn marks(node: &NodeAttributes, alone: bool) -> Vec<&'static str> {
    let marks = [
        (node.read_only, "read-only"),
        (!node.active, "inactive"),
        (node.retired, "retired"),
        (alone, "without edges"),
    ];
    marks.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect()
}

impl Draft<'_> {
    /// The name of a parent as it is, or else as it was before the list.
    fn known_name(&self, parent: Parent) -> Option<&str> {
        self.after.parent_name(parent).or_else(|| self.before.parent_name(parent))
    }

    /// `disk0`, or what sort of id it is that no name is known for.
    fn parent_name(&self, parent: Parent) -> Cow<'_, str> {
        self.known_name(parent).map_or_else(|| Cow::Owned(self.holder(parent)), Cow::Borrowed)
    }

    pub fn node_name(&self, id: NodeId) -> Cow<'_, str> {
        self.parent_name(Parent::Node(id))
    }

    /// `disk0.root`.
    pub fn edge_name(&self, parent: Parent, name: &str) -> String {
        format!("{}.{name}", self.parent_name(parent))
    }

    /// `backend disk0`.
    pub fn holder(&self, parent: Parent) -> String {
        let (kind, id) = match parent {
            Parent::Node(id) => ("node", id.0),
            Parent::Backend(id) => ("backend", id.0),
            Parent::Job(id) => ("job", id.0),
        };
        match self.known_name(parent) {
            Some(name) => format!("{kind} {name}"),
            None => format!("{kind} {id:?}"),
        }
    }

    pub fn not_found(&self, parent: Parent) -> Refused {
        Refused::new(RefusedKind::NotFound, format!("{} is not there", self.holder(parent)))
    }

    /// An edge leads elsewhere than expected. Ids are told where names alone would not tell two
    /// nodes apart.
    pub fn mismatch(
        &self,
        parent: Parent,
        name: &str,
        actual: Option<NodeId>,
        expected: Option<NodeId>,
    ) -> Refused {
        let word =
            |id: Option<NodeId>| id.map_or(Cow::Borrowed("nothing"), |id| self.node_name(id));
        let same_name = word(actual) == word(expected);
        let told = |id: Option<NodeId>| match id {
            Some(id) if same_name => format!("{} (node id {:?})", self.node_name(id), id.0),
            _ => word(id).into_owned(),
        };
        let edge = self.edge_name(parent, name);
        let message = format!("edge {edge} leads to {}, expected {}", told(actual), told(expected));
        Refused::new(RefusedKind::Mismatch, message)
    }
}
