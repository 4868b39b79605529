//! Reconfiguring: a publication inside one drained section over everything that it redirects or changes.
//!
//! What is to be drained follows from the edits, and the edits from the graph, which may change until the section
//! holds. So both are derived again inside, and if the edits then reach beyond the section, another one is begun.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use blockyard_graph::{EdgeKey, Graph, Parent};
use blockyard_sync::sometimes;
use blockyard_units::{BackendId, NodeId};

use crate::drain::Owner;
use crate::error::BlockError;
use crate::layer::BlockLayer;
use crate::publish::{OnLost, Plan, changed_nodes};

impl BlockLayer {
    /// [Publishes](Self::publish) what `derive` makes of the current graph, in a drained section of its own. It starts
    /// over as often as others publish in between.
    ///
    /// # Errors
    /// What `derive`, the judging or a driver refused; the graph is then as others left it, and nothing is drained.
    ///
    /// # Yields
    /// Always; others may publish until the section holds, and while the drivers prepare.
    pub async fn reconfigure(
        &self,
        what: &str,
        mut derive: impl FnMut(&Graph) -> Result<Plan, BlockError>,
    ) -> Result<(), BlockError> {
        let owner = Owner::command();
        loop {
            let graph = self.graph();
            let (nodes, held) = to_be_drained(&graph, &graph.apply(&derive(&graph)?.edits)?);
            let section = match nodes.as_slice() {
                [] => None,
                nodes => Some(self.drain_with(owner, nodes, &held).await),
            };
            let mut beyond = false;
            let result = self
                .publish(what, OnLost::StartOver, |graph| {
                    let plan = derive(graph)?;
                    let (more, _) = to_be_drained(graph, &graph.apply(&plan.edits)?);
                    beyond = more.iter().any(|node| !nodes.contains(node));
                    if beyond { Err(BlockError::Lost) } else { Ok(plan) }
                })
                .await;
            if let Some(section) = section {
                section.end();
            }
            if !beyond {
                return result;
            }
            sometimes!(true, "a reconfiguration drained again, as the graph had changed");
        }
    }
}

/// What no request must pass while the graph becomes `after`: the old child of each edge that is redirected or taken
/// away, the holder of each that is new, and the nodes whose attributes change. Not what comes or goes itself. And the
/// backends that get a root: they are held, as is what they get, lest others lead them on from there meanwhile.
fn to_be_drained(before: &Graph, after: &Graph) -> (Vec<NodeId>, Vec<BackendId>) {
    let (mut nodes, mut held) = (BTreeSet::new(), Vec::new());
    nodes.extend(changed_nodes(before, after));
    for EdgeKey { parent, name } in before.changed_edges(after) {
        if after.parent_name(parent).is_none() {
            continue;
        }
        match (before.child(parent, &name), parent) {
            (Some(old), _) => nodes.extend([old]),
            (None, Parent::Node(holder)) => nodes.extend(before.node(holder).map(|_| holder)),
            (None, Parent::Backend(holder)) => {
                let new = after.child(parent, &name);
                nodes.extend(new.filter(|new| before.node(*new).is_some()));
                held.push(holder);
            }
            // A job that begins makes no requests yet.
            (None, Parent::Job(_)) => {}
        }
    }
    (nodes.into_iter().collect(), held)
}
