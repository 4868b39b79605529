//! The block graph as an immutable value: nodes, edges, backends and jobs; which permissions each
//! edge takes and shares; edit lists that derive the next value.
//!
//! [`Graph`] is the value, [`Edit`] what may be done to one, [`Refused`] why not. An edit list is
//! applied raw, in order, and judged once, on its final value: so an intermediate step may hold
//! what no graph may.
//!
//! Invariants, recomputed from scratch by [`Graph::check_invariants`]:
//! - `graph-is-acyclic`: no node reaches itself over an edge;
//! - `no-edge-dangles`: parent and child of each edge are there;
//! - `node-names-are-unique`, `backend-names-are-unique`, `job-names-are-unique`;
//! - `edge-permissions-agree`: no edge requires what another edge to the same child does not share;
//! - `edge-permissions-follow-policy`: what an edge requires and shares is what its policy makes of
//!   its parent;
//! - `read-only-nodes-are-not-written`: nor are inactive ones;
//! - `node-ids-are-never-reused`: not in any value derived from one that had the node;
//! - `parents-precede-children` in the stored topological order; `parts-are-sorted` in the tables.
//!
//! Not for: anything that waits, locks, or knows what a request is. All of it is pure.
//!
//! Source: the permissions and roles of QEMU's block graph, as its documentation and its tests
//! describe them.
//! Differs: edges are judged on the final value of a list only, never while the list is under way;
//! a backend or a job is a parent beside the nodes and has no permissions besides those of its
//! edges.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod describe;
mod draft;
mod edit;
mod graph;
mod invariants;
mod judge;
mod options;
mod parts;
mod permissions;
mod refused;
mod walk;

#[cfg(test)]
mod tests;

pub use edit::Edit;
pub use graph::Graph;
pub use options::{DetectZeroes, Discard, NodeOptions};
pub use parts::{Edge, EdgeKey, EdgePolicy, NodeAttributes, NodeKind, Parent, ROOT, Role, Roles};
pub use permissions::Permissions;
pub use refused::{Refused, RefusedKind};
