//! Reconfiguring: a publication inside one drained section over everything that it redirects or changes.
//!
//! What is to be drained follows from the edits, and the edits from the graph, which may change until the section
//! holds. So both are derived again inside, and if the edits then reach beyond the section, another one is begun.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use blockyard_graph::{EdgeKey, Graph, Parent};
use blockyard_sync::sometimes;
use blockyard_units::{Mutant, NodeId};

use crate::drain::Owner;
use crate::error::BlockError;
use crate::layer::BlockLayer;
use crate::publish::{OnLost, Plan};

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
            let drained = to_be_drained(&graph, &derive(&graph)?)?;
            let section = match drained.as_slice() {
                [] => None,
                nodes => Some(self.drain(owner, nodes).await),
            };
            let ends_early = self.design().is_mutant(Mutant::ReplaceNodeWithRequestsInside);
            let section = match section {
                Some(section) if ends_early => {
                    section.end();
                    None
                }
                section => section,
            };
            let mut beyond = false;
            let result = self
                .publish(what, OnLost::StartOver, |graph| {
                    let plan = derive(graph)?;
                    let nodes = to_be_drained(graph, &plan)?;
                    beyond = nodes.iter().any(|node| !drained.contains(node));
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

/// What no request must pass while the plan takes place: the old child of each edge that is redirected or taken away,
/// the holder of each that is new, and the nodes whose attributes or options change. Not what comes or goes itself. And
/// what a backend gets as its root: a request of that backend may be under way, and must not come into what another
/// owner has drained.
fn to_be_drained(before: &Graph, plan: &Plan) -> Result<Vec<NodeId>, BlockError> {
    let after = &before.apply(&plan.edits)?;
    let touched = |EdgeKey { parent, name }: EdgeKey| {
        after.parent_name(parent)?;
        let there = |node: &NodeId| before.node(*node).is_some();
        match (before.child(parent, &name), parent) {
            (Some(old), _) => Some(old),
            (None, Parent::Node(holder)) => Some(holder).filter(there),
            (None, Parent::Backend(_)) => after.child(parent, &name).filter(there),
            // A job that begins makes no requests yet.
            (None, Parent::Job(_)) => None,
        }
    };
    let edges = before.changed_edges(after).into_iter().filter_map(touched);
    let reopened = plan.options.iter().map(|(node, _)| *node);
    let nodes: BTreeSet<NodeId> =
        edges.chain(before.changed_nodes(after)).chain(reopened).collect();
    Ok(nodes.into_iter().collect())
}
