//! Publishing a new graph: derive, let the drivers prepare, compare, swap, let the drivers commit.
//!
//! Between deriving and swapping others may publish: the compare then fails, what was prepared is aborted in reverse,
//! and the edit fails or starts over, as its caller chose.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use blockyard_graph::{Edge, EdgeKey, Edit, Graph, Parent};
use blockyard_sync::door::{self, Kind};
use blockyard_sync::{note, sometimes};
use blockyard_units::{Mutant, NodeId};
use tracing::{Instrument, debug_span};

use crate::driver::Change;
use crate::error::BlockError;
use crate::layer::BlockLayer;
use crate::moving::Move;
use crate::node::Node;
use crate::state::{OPENING, SECTIONS, State, VERSION, edge_key, holder_key, key};

/// A node that is not in the graph yet.
#[derive(Clone)]
pub struct NewNode(pub(crate) Arc<Node>);

impl NewNode {
    /// Its id.
    pub fn id(&self) -> NodeId {
        self.0.id()
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        &self.0
    }
}

/// An edit as derived from a graph: the edits, and the drivers of the nodes that they add.
#[derive(Default)]
pub struct Plan {
    /// Applied as one list, judged once.
    pub edits: Vec<Edit>,
    /// Every node that the edits add.
    pub nodes: Vec<NewNode>,
    /// Nodes of the graph that get new options of their drivers. For [reconfiguring](BlockLayer::reconfigure).
    pub options: Vec<(NodeId, Arc<dyn Any + Send + Sync>)>,
    /// Nodes that are to be drained beside those that the edits touch. For reconfiguring.
    pub drained: Vec<NodeId>,
    /// Nodes that are to be flushed before the edits take place, and drained: what was written to them is out of reach
    /// of the flushes that come after. For reconfiguring.
    pub flushed: Vec<NodeId>,
    /// Nodes of which a bitmap that is stored is to change; they are drained too. For reconfiguring.
    pub disowned: Vec<NodeId>,
    /// Nodes whose stored bitmaps move to another, where bitmaps follow the data: one after the other, when the edits
    /// have taken place. Whoever publishes has [made them ready](BlockLayer::get_ready_to_move); reconfiguring does.
    pub moves: Vec<Move>,
}

/// What becomes of an edit if somebody else published in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLost {
    /// It fails.
    Fail,
    /// It is derived again from the new graph.
    StartOver,
}

impl BlockLayer {
    /// Publishes what `derive` makes of the current graph; `what` names the edit in traces and observations.
    ///
    /// # Errors
    /// What `derive`, the judging or a driver refused, or [`BlockError::Lost`]; the graph is then as others left it.
    ///
    /// # Yields
    /// Always, between preparing and swapping.
    ///
    /// # Panics
    /// `redirected-edges-are-quiesced`: if the edit redirects an edge outside a drained section.
    pub async fn publish(
        &self,
        what: &str,
        on_lost: OnLost,
        derive: impl FnMut(&Graph) -> Result<Plan, BlockError>,
    ) -> Result<(), BlockError> {
        self.publish_in_span(what, on_lost, derive)
            .instrument(debug_span!("publication", what))
            .await
    }

    async fn publish_in_span(
        &self,
        what: &str,
        on_lost: OnLost,
        mut derive: impl FnMut(&Graph) -> Result<Plan, BlockError>,
    ) -> Result<(), BlockError> {
        loop {
            let looked_at = [key(Kind::Read, VERSION), key(Kind::Read, OPENING)];
            let (before, version, opening) = self.state().trusted(looked_at, |state| {
                (state.graph.clone(), state.version, state.opening.clone())
            });
            let plan = derive(&before)?;
            let after = before.apply(&plan.edits)?;
            if !self.design().is_mutant(Mutant::UnopenedNodeUsed) {
                refuse_unopened(&before, &after, &opening)?;
            }
            let affected = self.affected(&before, &after, &plan);
            let change = Change { before: &before, after: &after };
            self.prepare(&affected, change).await?;
            note!("{what}: prepared");
            // Preparing may yield, so it always does.
            door::boundary().await;
            if self.swap(what, &before, version, &after, &plan) {
                self.move_bitmaps(&plan.moves);
                affected.iter().for_each(|node| node.driver().commit(change));
                if self.design().is_mutant(Mutant::ReopenReadOnlyDropsBitmaps) {
                    drop_bitmaps(&affected, change);
                }
                if self.design().is_mutant(Mutant::DeviceBitmapLostWithMedium) {
                    self.drop_device_bitmaps(change);
                }
                return Ok(());
            }
            affected.iter().rev().for_each(|node| node.driver().abort(change));
            sometimes!(true, "a publication was lost to another");
            sometimes!(what == "blockdev-reopen", "reopening was lost to another publication");
            note!("{what}: the graph changed meanwhile");
            if on_lost == OnLost::Fail {
                return Err(BlockError::Lost);
            }
        }
    }

    /// For a mutant: those of the devices that have no medium any more.
    fn drop_device_bitmaps(&self, Change { before, after }: Change<'_>) {
        for edge in before.changed_edges(after) {
            if let (Parent::Backend(device), None) =
                (edge.parent, after.child(edge.parent, &edge.name))
            {
                self.device_bitmaps(device).into_iter().for_each(|all| all.lose(|_| true));
            }
        }
    }

    /// New nodes, and the nodes that hold an edge which changes, or change themselves.
    fn affected(&self, before: &Graph, after: &Graph, plan: &Plan) -> Vec<Arc<Node>> {
        let changed = before.changed_edges(after);
        let mut holders: BTreeSet<NodeId> = changed
            .iter()
            .filter_map(|edge| match edge.parent {
                Parent::Node(node) => Some(node),
                _ => None,
            })
            .collect();
        holders.extend(before.changed_nodes(after));
        let mut affected: Vec<_> = plan.nodes.iter().map(|new| new.0.clone()).collect();
        let known: Vec<Arc<Node>> = self.state().trusted([key(Kind::Read, VERSION)], |state| {
            holders.iter().filter_map(|id| state.nodes.get(id).cloned()).collect()
        });
        affected.extend(known);
        affected
    }

    async fn prepare(&self, affected: &[Arc<Node>], change: Change<'_>) -> Result<(), BlockError> {
        for (index, node) in affected.iter().enumerate() {
            if let Err(error) = node.driver().prepare(change).await {
                affected[..index].iter().rev().for_each(|node| node.driver().abort(change));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Swaps, if nobody has since `version`.
    fn swap(&self, what: &str, before: &Graph, version: u64, after: &Graph, plan: &Plan) -> bool {
        let changed = before.changed_edges(after);
        // A request looks at an edge's permissions too, and those change with what is above; and at the options of
        // the node that it leads to.
        let permitted = before.edges_permitted_otherwise(after);
        let options = |graph: &Graph, id| graph.node(id).map(|node| node.options);
        let optioned = before
            .changed_nodes(after)
            .filter(|id| options(before, *id) != options(after, *id))
            .flat_map(|id| after.parents(id));
        let seen: Vec<EdgeKey> = permitted.chain(optioned).map(Edge::key).collect();
        let current = self.state().trusted([key(Kind::Read, VERSION)], |state| state.version);
        if current != version {
            return false;
        }
        let mut touched: Vec<_> = changed
            .iter()
            .chain(&seen)
            .map(|edge| key(Kind::Write, published_key(edge, before, after)))
            .collect();
        touched.push(key(Kind::Write, VERSION));
        touched.push(key(Kind::Read, SECTIONS));
        let swapped = self.state().trusted(touched, |state| {
            // On the host another thread may have come in between.
            if state.version != version {
                return false;
            }
            assert_quiesced(state, &changed, after);
            sometimes!(
                what == "pivot" && state.sections.len() > 1,
                "a drained section was asked for before a pivot in another"
            );
            state.graph = after.clone();
            state.version += 1;
            for new in &plan.nodes {
                state.nodes.insert(new.id(), new.0.clone());
            }
            for edge in changed.iter().chain(&seen) {
                let child = after.child(edge.parent, &edge.name);
                let child = child.and_then(|child| state.nodes.get(&child).cloned());
                state.links.set(published_key(edge, before, after), edge, after, child);
            }
            for gone in before.gone_nodes(after) {
                state.nodes.remove(&gone);
            }
            true
        });
        if swapped {
            note!("{what}: {}", describe(before, after, &changed));
            self.observer().published(what, before, after);
        }
        swapped
    }
}

/// What is done when a node is closed, done to one that becomes read-only: a mutant.
fn drop_bitmaps(affected: &[Arc<Node>], Change { before, after }: Change<'_>) {
    let read_only = |graph: &Graph, id| graph.node(id).is_some_and(|node| node.read_only);
    let closed = |node: &&Arc<Node>| read_only(after, node.id()) && !read_only(before, node.id());
    affected.iter().filter(closed).for_each(|node| node.bitmaps().lose(|_| true));
}

/// Whoever opens a node may find that it is none, and takes it out again.
fn refuse_unopened(
    before: &Graph,
    after: &Graph,
    opening: &BTreeSet<NodeId>,
) -> Result<(), BlockError> {
    let is_opened_too = |parent| matches!(parent, Parent::Node(node) if opening.contains(&node));
    for edge in before.changed_edges(after).iter().filter(|edge| !is_opened_too(edge.parent)) {
        let child = after.child(edge.parent, &edge.name).filter(|child| opening.contains(child));
        if let Some(node) = child.and_then(|child| after.node(child)) {
            let name = &node.name;
            let message = alloc::format!("node '{name}' is still being opened: wait for that");
            return Err(BlockError::Invalid(message));
        }
    }
    Ok(())
}

fn published_key(edge: &EdgeKey, before: &Graph, after: &Graph) -> u64 {
    let name = after.parent_name(edge.parent).or(before.parent_name(edge.parent));
    edge_key(holder_key(edge.parent, name.unwrap_or_default()), &edge.name)
}

fn assert_quiesced(state: &State, changed: &[EdgeKey], after: &Graph) {
    for edge in changed {
        let old = state.graph.child(edge.parent, &edge.name);
        let new = after.child(edge.parent, &edge.name);
        let (Some(old), Some(_)) = (old, new) else { continue };
        let covered = state.sections.iter().any(|section| {
            section.nodes.iter().any(|node| state.graph.descendants(old).contains(node))
        });
        let holder = state.graph.parent_name(edge.parent).unwrap_or_default();
        assert!(covered, "redirected-edges-are-quiesced: {holder}.{}", edge.name);
    }
}

fn describe(before: &Graph, after: &Graph, changed: &[EdgeKey]) -> String {
    let name = |graph: &Graph, edge: &EdgeKey| -> String {
        let child = graph.child(edge.parent, &edge.name).and_then(|child| graph.node(child));
        child.map_or("nothing".into(), |node| node.name.clone())
    };
    let line = |edge: &EdgeKey| {
        let holder = before.parent_name(edge.parent).or(after.parent_name(edge.parent));
        let (old, new) = (name(before, edge), name(after, edge));
        alloc::format!("{}.{}: {old} -> {new}", holder.unwrap_or_default(), edge.name)
    };
    changed.iter().map(line).collect::<Vec<_>>().join(", ")
}
