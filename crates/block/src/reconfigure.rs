//! Reconfiguring: a publication inside one drained section over everything that it redirects or changes.
//!
//! What is to be drained follows from the edits, and the edits from the graph, which may change until the section
//! holds. So both are derived again inside, and if the edits then reach beyond the section, another one is begun.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use blockyard_graph::{EdgeKey, Graph, Parent};
use blockyard_sync::{door, sometimes};
use blockyard_units::{BackendId, Mutant, NodeId};

use crate::drain::Owner;
use crate::error::BlockError;
use crate::io::Io;
use crate::layer::BlockLayer;
use crate::moving::Move;
use crate::publish::{OnLost, Plan};
use crate::turning::{Turns, inverse};

/// How what was done is undone; it is when this is dropped, the last first, unless it is [kept](Self::keep).
#[derive(Default)]
#[must_use = "what was done is undone when this is dropped"]
pub struct Undo(Vec<Box<dyn FnOnce() + Send>>);

impl Undo {
    /// One thing that was done.
    pub fn new(undo: impl FnOnce() + Send + 'static) -> Self {
        Self(Vec::from([Box::new(undo) as Box<dyn FnOnce() + Send>]))
    }

    /// What was done after it too.
    pub fn extend(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }

    /// What was done stays.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        while let Some(undo) = self.0.pop() {
            undo();
        }
    }
}

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
        derive: impl FnMut(&Graph) -> Result<Plan, BlockError>,
    ) -> Result<(), BlockError> {
        self.reconfigure_and(what, derive, || Ok(Undo::default())).await
    }

    /// The same, with something done `inside` the section, before the publication; it is undone where nothing is
    /// published, and done again where that starts over.
    ///
    /// # Errors
    /// The same, or what `inside` refused.
    ///
    /// # Yields
    /// The same.
    pub async fn reconfigure_and(
        &self,
        what: &str,
        mut derive: impl FnMut(&Graph) -> Result<Plan, BlockError>,
        mut inside: impl FnMut() -> Result<Undo, BlockError>,
    ) -> Result<(), BlockError> {
        let owner = Owner::command();
        loop {
            let graph = self.graph();
            let plan = derive(&graph)?;
            let drained = to_be_drained(&graph, &plan)?;
            let section = match drained.nodes.as_slice() {
                [] => None,
                nodes => Some(self.drain_and_hold(owner, nodes, &drained.backends).await),
            };
            let ends_early = self.design().is_mutant(Mutant::ReplaceNodeWithRequestsInside);
            let section = match section {
                Some(section) if ends_early => {
                    section.end();
                    None
                }
                section => section,
            };
            let within = Within { owner, plan: &plan, drained: &drained };
            let result = self.reconfigure_within(what, &within, &mut derive, &mut inside).await;
            if let Some(section) = section {
                section.end();
            }
            match result {
                Ok(()) => {
                    self.move_late(&plan.moves).await;
                    return Ok(());
                }
                Err(Failed::Refused(error)) => return Err(error),
                Err(Failed::Beyond) => {
                    sometimes!(true, "a reconfiguration drained again, as the graph had changed");
                }
            }
        }
    }

    /// In the drained section.
    async fn reconfigure_within(
        &self,
        what: &str,
        within: &Within<'_>,
        derive: &mut impl FnMut(&Graph) -> Result<Plan, BlockError>,
        inside: &mut impl FnMut() -> Result<Undo, BlockError>,
    ) -> Result<(), Failed> {
        let (owner, turns) = (within.owner, &within.drained.turns);
        if *turns != Turns::default() {
            let now = self.graph();
            within.check(&now, &derive(&now)?)?;
        }
        self.get_ready(owner, within.plan).await?;
        self.become_read_only(owner, &turns.read_only).await?;
        let late = self.design().is_mutant(Mutant::FollowAfterDrain);
        let mut edited = None;
        let mut beyond = false;
        let derive_within = |graph: &Graph| {
            let mut plan = derive(graph)?;
            let after = match within.check(graph, &plan) {
                Ok(after) => after,
                Err(Failed::Refused(error)) => return Err(error),
                Err(Failed::Beyond) => {
                    beyond = true;
                    return Err(BlockError::Lost);
                }
            };
            edited = Some((graph.clone(), after, plan.options.clone()));
            if late {
                plan.moves.clear();
            }
            Ok(plan)
        };
        let published = match inside() {
            Ok(done) => {
                let published = self.publish(what, OnLost::StartOver, derive_within).await;
                published.map(|()| done)
            }
            Err(error) => Err(error),
        };
        let done = match published {
            Ok(done) => done,
            Err(error) => {
                self.stay_writable(owner, &turns.read_only).await;
                return Err(if beyond { Failed::Beyond } else { Failed::Refused(error) });
            }
        };
        let (before, after, options) = edited.expect("what-is-published-was-derived");
        if let Err(error) = self.become_writable(owner, &turns.writable).await {
            self.take_back(what, (&before, &after), turns).await;
            self.stay_writable(owner, &turns.read_only).await;
            return Err(error.into());
        }
        for (id, options) in options {
            self.node_by_id(id).into_iter().for_each(|node| node.driver().reopen(&*options));
        }
        done.keep();
        Ok(())
    }

    /// Undoes an edit whose nodes have not become writable after all. If even that fails they are so in name only, and
    /// refuse writes.
    async fn take_back(&self, what: &str, (before, after): (&Graph, &Graph), turns: &Turns) {
        sometimes!(!turns.writable.is_empty(), "a node could not become writable");
        let derive =
            |now: &Graph| Ok(Plan { edits: inverse(before, after, now), ..Plan::default() });
        // The first error is the one to tell.
        let _taken_back = self.publish(what, OnLost::StartOver, derive).await;
    }

    /// For a mutant: bitmaps move when the section has ended.
    async fn move_late(&self, moves: &[Move]) {
        if self.design().is_mutant(Mutant::FollowAfterDrain) {
            door::boundary().await;
            self.move_bitmaps(moves);
        }
    }

    /// What is to be done before the edits take place, inside the section.
    async fn get_ready(&self, owner: Owner, plan: &Plan) -> Result<(), BlockError> {
        for id in &plan.disowned {
            let Some(node) = self.node_by_id(*id) else { continue };
            self.disown_bitmaps(&node, &Io::of_node(self, &node, owner.into())).await?;
        }
        self.get_ready_to_move(&plan.moves, owner.into()).await?;
        let skips = self.design().is_mutant(Mutant::SnapshotSkipsFlush);
        for id in plan.flushed.iter().filter(|_| !skips) {
            let Some(node) = self.node_by_id(*id) else { continue };
            node.flush(&Io::of_node(self, &node, owner.into())).await?;
        }
        Ok(())
    }
}

/// See [`to_be_drained`].
struct ToBeDrained {
    nodes: Vec<NodeId>,
    /// The nodes that become read-only or writable.
    turns: Turns,
    /// The graph afterwards.
    after: Graph,
    /// That get a root and have none: a request that found none must not find it inside.
    backends: Vec<BackendId>,
}

impl ToBeDrained {
    fn covers(&self, other: &Self) -> bool {
        other.nodes.iter().all(|node| self.nodes.contains(node))
            && other.backends.iter().all(|backend| self.backends.contains(backend))
            && other.turns == self.turns
    }
}

/// What a section was begun for.
struct Within<'a> {
    owner: Owner,
    plan: &'a Plan,
    drained: &'a ToBeDrained,
}

/// Why a plan did not take place in its section.
enum Failed {
    /// It reaches beyond the section by now.
    Beyond,
    Refused(BlockError),
}

impl From<BlockError> for Failed {
    fn from(error: BlockError) -> Self {
        Self::Refused(error)
    }
}

impl Within<'_> {
    /// What `plan` leaves, if it does not reach beyond the section, and has the same nodes become read-only or
    /// writable.
    fn check(&self, graph: &Graph, plan: &Plan) -> Result<Graph, Failed> {
        let now = to_be_drained(graph, plan)?;
        let beyond = !self.drained.covers(&now)
            || plan.flushed.iter().any(|node| !self.plan.flushed.contains(node))
            || plan.moves.iter().any(|moved| !self.plan.moves.contains(moved));
        if beyond { Err(Failed::Beyond) } else { Ok(now.after) }
    }
}

/// What no request must pass while the plan takes place: the old child of each edge that is redirected or taken away,
/// the holder of each that is new, and the nodes whose attributes or options change. Not what comes or goes itself. And
/// what a backend gets as its root: a request of that backend may be under way, and must not come into what another
/// owner has drained.
fn to_be_drained(before: &Graph, plan: &Plan) -> Result<ToBeDrained, BlockError> {
    let after = before.apply(&plan.edits)?;
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
    let changed = before.changed_edges(&after);
    let backends = changed.iter().filter_map(|EdgeKey { parent, name }| match parent {
        Parent::Backend(backend) => before.child(*parent, name).is_none().then_some(*backend),
        _ => None,
    });
    let backends = backends.collect();
    let edges = changed.into_iter().filter_map(touched);
    let reopened = plan.options.iter().map(|(node, _)| *node);
    let others =
        reopened.chain(plan.drained.iter().chain(&plan.disowned).chain(&plan.flushed).copied());
    let nodes: BTreeSet<NodeId> = edges.chain(before.changed_nodes(&after)).chain(others).collect();
    let turns = Turns::of(before, &after);
    Ok(ToBeDrained { nodes: nodes.into_iter().collect(), turns, after, backends })
}
