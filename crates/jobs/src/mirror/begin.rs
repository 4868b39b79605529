//! How a job begins that copies from one node to another; `retire` takes it back.

use alloc::vec::Vec;

use blockyard_graph::{
    Discard, Edge, EdgeKey, EdgePolicy, Edit, Graph, NodeAttributes, NodeKind, Parent, Permissions,
    Role, Roles,
};
use blockyard_units::{JobId, NodeId};

use super::filter::{FILE, TARGET};
use crate::chain::{below_filters, held_by};

/// The name of the job's edge to its filter.
pub(super) const HOLD: &str = "filter";

/// A job, and what it works on.
pub(crate) struct Beginning<'a> {
    pub id: JobId,
    pub name: &'a str,
    /// Its filter, if it has one.
    pub filter: Option<Filter<'a>>,
    pub source: NodeId,
    pub target: NodeId,
    /// Of the target.
    pub needed: Permissions,
    /// It writes to its source, too: its filter needs that whatever goes on above.
    pub writes_source: bool,
}

/// A filter that is not in the graph yet.
pub(crate) struct Filter<'a> {
    pub id: NodeId,
    pub name: &'a str,
    pub driver: &'static str,
}

impl Beginning<'_> {
    /// The edits that put the filter above the source, and make both nodes the job's, and the filters down to the
    /// source's data.
    pub fn edits(&self, graph: &Graph) -> Vec<Edit> {
        let Self { id, name, source, .. } = *self;
        let mut edits = Vec::from([Edit::AddJob { id, name: name.into() }]);
        if let Some(Filter { id: filter, name, driver }) = self.filter {
            let mut attributes = NodeAttributes::new(name, NodeKind::Filter, driver);
            // Whether discards are ignored is for source and target to say.
            attributes.options.discard = Discard::Unmap;
            edits.push(Edit::AddNode { id: filter, attributes });
            edits.extend(graph.redirections(source, filter));
            edits.push(Edit::AddEdge(hold(id, filter)));
        }
        let by = held_by(name);
        let freeze = |EdgeKey { parent, name }| Edit::Freeze { parent, name, holder: by.clone() };
        let data = below_filters(graph, source);
        edits.extend(filters_down_to(graph, source, data).into_iter().map(freeze));
        edits.extend(self.edges().map(Edit::AddEdge));
        edits
    }

    /// The filter, or without one the job, holds source and target, frozen: they are the job's.
    fn edges(&self) -> [Edge; 2] {
        let frozen = || Some(held_by(self.name));
        let explicit = |required, shared| EdgePolicy::Explicit { required, shared };
        let read = Permissions::CONSISTENT_READ;
        // Beside a job that has no filter the guest goes on; the length is to stay.
        let beside = explicit(read, Permissions::ALL.difference(Permissions::RESIZE));
        let data = Roles::of(&[Role::Data]);
        let all = Permissions::ALL.difference(Permissions::RESIZE);
        let filters = match self.writes_source {
            true => explicit(all, all.difference(Permissions::WRITE)),
            false => EdgePolicy::Exclusive,
        };
        let (parent, roles, policy) = match &self.filter {
            Some(filter) => {
                (Parent::Node(filter.id), Roles::of(&[Role::Filtered, Role::Primary]), filters)
            }
            None => (Parent::Job(self.id), data, beside),
        };
        let edge = |name: &str, child, roles, policy| {
            let name = name.into();
            Edge { parent, name, child, roles, policy, frozen: frozen() }
        };
        [
            edge(FILE, self.source, roles, policy),
            edge(TARGET, self.target, data, explicit(self.needed, read)),
        ]
    }
}

/// The edges of the filters from `node` down to `data`.
pub(super) fn filters_down_to(graph: &Graph, node: NodeId, data: NodeId) -> Vec<EdgeKey> {
    let mut edges = Vec::new();
    let mut at = node;
    while at != data {
        let Some(edge) = graph.child_with(at, Role::Filtered) else { break };
        edges.push(edge.key());
        at = edge.child;
    }
    edges
}

/// The job holds the filter.
fn hold(job: JobId, filter: NodeId) -> Edge {
    Edge {
        parent: Parent::Job(job),
        name: HOLD.into(),
        child: filter,
        roles: Roles::NONE,
        policy: EdgePolicy::Explicit {
            required: Permissions::CONSISTENT_READ,
            shared: Permissions::ALL,
        },
        frozen: None,
    }
}
