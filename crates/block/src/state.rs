//! What is published: the graph, its nodes, the drained sections, and which jobs are parked.
//!
//! A trusted type. Footprints are ranges of keys: one key for each edge (of its holder's and its own name: a
//! collision only adds dependence), and four for what is looked at as a whole. A publication writes the edges that
//! it changes, and the version; whoever looks at more than single edges reads the version.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_graph::{Graph, Parent, ROOT};
use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_units::{BackendId, JobId, NodeId};

use crate::drain::Owner;
use crate::links::Links;
use crate::node::Node;
use crate::recording::Bitmaps;

/// The key of the drained sections.
pub(crate) const SECTIONS: u64 = 1 << 63;
/// The key of the jobs' activity.
pub(crate) const JOBS: u64 = SECTIONS + 1;
/// The key of the graph as a whole.
pub(crate) const VERSION: u64 = SECTIONS + 2;
/// The key of the nodes that are being opened.
pub(crate) const OPENING: u64 = SECTIONS + 3;
/// One past the last key.
pub(crate) const END: u64 = SECTIONS + 4;

/// The key of an edge.
pub(crate) fn edge_key(holder: u64, name: &str) -> u64 {
    fold(holder, name) >> 1
}

/// What all edges of a holder have in common.
pub(crate) fn holder_key(parent: Parent, name: &str) -> u64 {
    let kind = match parent {
        Parent::Node(_) => 1,
        Parent::Backend(_) => 2,
        Parent::Job(_) => 3,
    };
    fold(kind, name)
}

fn fold(seed: u64, text: &str) -> u64 {
    text.bytes().fold(seed ^ 0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(5)
    })
}

/// A key as a footprint.
pub(crate) fn key(kind: Kind, key: u64) -> (Kind, u64, u64) {
    (kind, key, key + 1)
}

pub(crate) struct Section {
    pub number: u64,
    pub owner: Owner,
    pub nodes: Vec<NodeId>,
    /// Nodes whose drivers were told.
    pub covered: Vec<Arc<Node>>,
    /// Nodes below those, whose drivers were told that it is above them.
    pub below: Vec<Arc<Node>>,
    /// The backends and jobs above it when it began: it holds them to its end, wherever its owner's edits lead them.
    pub held: Vec<Parent>,
    /// For a mutant: it holds no others.
    pub forgets: bool,
    /// For a mutant: it waits for no jobs.
    pub skips_jobs: bool,
}

impl Section {
    fn seen_by_waits(&self) -> Self {
        let (nodes, held) = (self.nodes.clone(), self.held.clone());
        Self { nodes, held, covered: Vec::new(), below: Vec::new(), ..*self }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    Running,
    Parked,
}

/// What a backend has.
#[derive(Clone)]
pub(crate) struct OfBackend {
    /// Its requests in flight.
    pub in_flight: Arc<Shared<u64>>,
    pub bitmaps: Arc<Bitmaps>,
}

#[derive(Default)]
pub(crate) struct State {
    pub graph: Graph,
    /// Of the graph.
    pub links: Links,
    pub version: u64,
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Of these, and of those that are to be, what nobody but their like may lead to yet.
    pub opening: BTreeSet<NodeId>,
    pub backends: BTreeMap<BackendId, OfBackend>,
    pub sections: Vec<Section>,
    pub jobs: BTreeMap<JobId, Activity>,
    pub section_numbers: u64,
}

impl State {
    /// What waits look at: the graph, the sections and the jobs.
    pub fn seen_by_waits(&self) -> Self {
        let sections = self.sections.iter().map(Section::seen_by_waits).collect();
        let (graph, jobs) = (self.graph.clone(), self.jobs.clone());
        Self { graph, sections, jobs, ..Self::default() }
    }

    /// Whether `parent` must not begin requests, because somebody else than `owner` has drained what it reaches. Of
    /// two sections the older goes first: its owner is not held up by the younger.
    pub fn quiesced(&self, parent: Parent, owner: Option<Owner>) -> bool {
        for section in &self.sections {
            if Some(section.owner) == owner {
                return false;
            }
            let reaches = |node: &NodeId| self.graph.reaches(parent, *node);
            let comes_later = !section.forgets && section.nodes.iter().any(reaches);
            if section.held.contains(&parent) || comes_later {
                return true;
            }
        }
        false
    }

    /// Nodes that a section over `nodes` covers, by id: they and everything above them.
    pub fn covered(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let mut covered = self.graph.ancestors_of_any(nodes);
        covered.sort();
        covered
    }

    /// Nodes that requests in flight in those `covered` by a section may be in, and that it does not cover.
    pub fn below(&self, covered: &[NodeId]) -> Vec<NodeId> {
        let mut below = self.graph.descendants_of_any(covered);
        below.retain(|node| covered.binary_search(node).is_err());
        below.sort();
        below
    }

    /// Backends and jobs that reach `nodes`.
    pub fn above(&self, nodes: &[NodeId]) -> Vec<Parent> {
        let backends = self.graph.backends().map(|(id, _)| Parent::Backend(id));
        let jobs = self.graph.jobs().map(|(id, _)| Parent::Job(id));
        let reaches = |parent: &Parent| nodes.iter().any(|node| self.graph.reaches(*parent, *node));
        backends.chain(jobs).filter(reaches).collect()
    }

    /// Whether section `number` has to wait: for an older one of another owner that covers a node of its own, or for
    /// a job that is not parked.
    pub fn section_waits(&self, number: u64) -> bool {
        let Some(section) = self.sections.iter().find(|section| section.number == number) else {
            return false;
        };
        let covered = self.covered(&section.nodes);
        let older = self.sections.iter().take_while(|other| other.number != number);
        let overlaps = |other: &Section| {
            let theirs = self.covered(&other.nodes);
            other.owner != section.owner
                && theirs.iter().any(|node| covered.binary_search(node).is_ok())
        };
        older.into_iter().any(overlaps) || !section.skips_jobs && self.job_runs(section)
    }

    fn job_runs(&self, section: &Section) -> bool {
        self.jobs.iter().any(|(job, activity)| {
            let reaches = |node: &NodeId| self.graph.reaches(Parent::Job(*job), *node);
            *activity == Activity::Running
                && section.owner != Owner::Job(*job)
                && section.nodes.iter().any(reaches)
        })
    }

    /// Backends that reach `nodes`.
    pub fn backends_above(&self, nodes: &[NodeId]) -> Vec<Arc<Shared<u64>>> {
        let reaches = |backend: &BackendId| {
            nodes.iter().any(|node| self.graph.reaches(Parent::Backend(*backend), *node))
        };
        let above = self.backends.iter().filter(|(backend, _)| reaches(backend));
        above.map(|(_, backend)| backend.in_flight.clone()).collect()
    }

    /// The bitmaps of the backends whose root this node is, or has its bytes.
    pub fn bitmaps_above(&self, node: NodeId) -> Vec<Arc<Bitmaps>> {
        let main = |id: &NodeId| {
            let main = self.nodes.get(id)?.driver().main_child()?;
            self.graph.child(Parent::Node(*id), main)
        };
        let shows = |backend: &BackendId| {
            let root = self.graph.child(Parent::Backend(*backend), ROOT);
            core::iter::successors(root, main).any(|below| below == node)
        };
        let showing = self.backends.iter().filter(|(backend, _)| shows(backend));
        showing.map(|(_, backend)| backend.bitmaps.clone()).collect()
    }
}
