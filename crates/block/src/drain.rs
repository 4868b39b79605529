//! Drained sections.
//!
//! A section names nodes and has an owner. Beginning one lists it; from then on nobody else's requests enter what is
//! above its nodes. It holds once everything begun before has ended. Of two sections that cover a node in common the
//! older goes first; one inside another of its owner's own is as old as that. So two owners never wait for each other,
//! unless each holds a section and begins one that reaches beyond it into the other's.
//!
//! Invariant `sections-end`: a section that is dropped without being ended is ended by a task of its own.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_graph::Parent;
use blockyard_sync::door::{self, Kind};
use blockyard_sync::{Shared, note, sometimes};
use blockyard_units::{BackendId, Id, JobId, Mutant, NodeId};
use tracing::{Instrument, debug_span};

use crate::layer::BlockLayer;
use crate::node::Node;
use crate::state::{Activity, END, SECTIONS, Section, State, VERSION, key};

/// Who holds a drained section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// A job.
    Job(JobId),
    /// A command, by an id of its own.
    Command(Id),
}

impl Owner {
    /// A new owner, for one command.
    pub fn command() -> Self {
        Self::Command(door::new_object())
    }
}

/// A drained section that holds. End it by name.
#[must_use = "a drained section is to be ended"]
pub struct Drained {
    layer: BlockLayer,
    number: u64,
    ended: bool,
}

impl BlockLayer {
    /// Begins a drained section over `nodes` and waits until it holds. Its owner, if a job, counts as parked until
    /// then.
    ///
    /// # Yields
    /// Always. When it returns, requests that were in flight have ended, and the graph may have changed.
    pub async fn drain(&self, owner: Owner, nodes: &[NodeId]) -> Drained {
        self.drain_and_hold(owner, nodes, &[]).await
    }

    /// The same, and these backends begin nothing either, though they may not reach the nodes yet.
    pub(crate) async fn drain_and_hold(
        &self,
        owner: Owner,
        nodes: &[NodeId],
        backends: &[BackendId],
    ) -> Drained {
        let span = debug_span!("drain", ?owner);
        self.drain_in_span(owner, nodes, backends).instrument(span).await
    }

    async fn drain_in_span(
        &self,
        owner: Owner,
        nodes: &[NodeId],
        backends: &[BackendId],
    ) -> Drained {
        let number = self.list_section(owner, nodes, backends);
        let drained = Drained { layer: self.clone(), number, ended: false };
        let listed = nodes.to_vec();
        loop {
            let free = move |state: &State| !state.section_waits(number);
            let wait =
                self.state().trusted_wait(Kind::Read, SECTIONS, END, free, |_: &mut State| ());
            wait.await;
            for in_flight in self.backends_of(&listed, backends) {
                in_flight.wait_until(|count| *count == 0).await;
            }
            if self.is_quiet(number, &listed, backends) {
                break;
            }
        }
        if let Owner::Job(job) = owner {
            self.state().trusted([key(Kind::Write, crate::state::JOBS)], |state| {
                state.jobs.insert(job, Activity::Running);
            });
        }
        let covered =
            self.state().trusted([key(Kind::Read, VERSION)], |state| state.covered(&listed));
        note!("drained");
        self.observer().section_begins(number, owner, &covered);
        drained
    }

    fn list_section(&self, owner: Owner, nodes: &[NodeId], backends: &[BackendId]) -> u64 {
        let touched = [(Kind::Write, SECTIONS, VERSION), key(Kind::Read, VERSION)];
        let design = self.design();
        let (number, covered, below) = self.state().trusted(touched, |state| {
            state.section_numbers += 1;
            let number = state.section_numbers;
            let ids = state.covered(nodes);
            let found = |ids: &[NodeId]| -> Vec<Arc<Node>> {
                ids.iter().filter_map(|id| state.nodes.get(id).cloned()).collect()
            };
            let (covered, below) = (found(&ids), found(&state.below(&ids)));
            let lets_go = design.is_mutant(Mutant::ChildSwapUndrainsParent);
            let mut held = if lets_go { Vec::new() } else { state.above(nodes) };
            held.extend(backends.iter().copied().map(Parent::Backend));
            let nodes = nodes.to_vec();
            let skips_jobs = design.is_mutant(Mutant::DrainDoesNotWaitForJob);
            let forgets = design.is_mutant(Mutant::DrainForgetsNewParents);
            let (covered_then, below_then) = (covered.clone(), below.clone());
            let section = Section {
                number,
                owner,
                nodes,
                covered: covered_then,
                below: below_then,
                held,
                forgets,
                skips_jobs,
            };
            // Inside one of its owner's own it goes with that one: whoever waits for the outer must not hold it up.
            let inside = |outer: &Section| {
                let reached = state.covered(&outer.nodes);
                outer.owner == owner && ids.iter().all(|id| reached.binary_search(id).is_ok())
            };
            let outer = state.sections.iter().rposition(inside);
            let rank = outer.map_or(state.sections.len(), |index| index + 1);
            let of_a_job =
                |other: &Section| other.owner != owner && matches!(other.owner, Owner::Job(_));
            sometimes!(
                state.sections.iter().any(of_a_job),
                "a drained section is asked for while a job has one"
            );
            state.sections.insert(rank, section);
            if let Owner::Job(job) = owner {
                state.jobs.insert(job, Activity::Parked);
            }
            (number, covered, below)
        });
        note!("drains {}", covered.iter().map(|node| node.name()).collect::<Vec<_>>().join(", "));
        covered.iter().for_each(|node| node.driver().drain_begin());
        below.iter().for_each(|node| node.driver().drain_begin_above());
        number
    }

    /// The counts of the backends that reach `nodes`, and of these.
    fn backends_of(&self, nodes: &[NodeId], backends: &[BackendId]) -> Vec<Arc<Shared<u64>>> {
        if self.design().is_mutant(Mutant::DrainSkipsInFlight) {
            return Vec::new();
        }
        self.state().trusted([key(Kind::Read, VERSION)], |state| {
            let mut counts = state.backends_above(nodes);
            let in_flight = |id: &BackendId| Some(state.backends.get(id)?.in_flight.clone());
            counts.extend(backends.iter().filter_map(in_flight));
            counts
        })
    }

    fn is_quiet(&self, number: u64, nodes: &[NodeId], backends: &[BackendId]) -> bool {
        let waits = self
            .state()
            .trusted([(Kind::Read, SECTIONS, END)], |state| state.section_waits(number));
        !waits && self.backends_of(nodes, backends).iter().all(|count| count.read(|n| *n == 0))
    }

    fn end_section(&self, number: u64) {
        let forgets = self.design().is_mutant(Mutant::DrainEndForgetsParked);
        let borrowed = self.design().is_mutant(Mutant::DrainEndsOnCurrentNode);
        // Told while it still holds: requests begin as soon as it does not.
        self.observer().section_ends(number);
        let (covered, below) = self.state().trusted([key(Kind::Write, SECTIONS)], |state| {
            let own = state.sections.iter().position(|section| section.number == number);
            let last = state.sections.len().checked_sub(1).filter(|_| borrowed);
            let section = state.sections.remove(last.or(own).expect("sections-end-once"));
            let told = (section.covered.clone(), section.below.clone());
            if forgets {
                state.sections.push(section);
            }
            told
        });
        note!("ends the drained section");
        covered.iter().for_each(|node| node.driver().drain_end());
        below.iter().for_each(|node| node.driver().drain_end_above());
    }
}

impl Drained {
    /// Ends the section: what was parked goes on.
    pub fn end(mut self) {
        self.ended = true;
        self.layer.end_section(self.number);
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if !self.ended {
            let (layer, number) = (self.layer.clone(), self.number);
            door::bequeath(Box::pin(async move { layer.end_section(number) }));
        }
    }
}
