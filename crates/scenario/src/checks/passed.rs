//! How high devices' disks are stacked, and what jobs and snapshots were about that took place below.

use std::iter::successors;

use blockyard_drivers::shown_children;
use blockyard_graph::{Graph, Parent, ROOT, Role};
use blockyard_units::NodeId;

use super::{State, child_by};
use crate::tally::{PIVOT_BELOW, SNAPSHOT_BELOW};

/// The most layers that a device's disk has.
pub(super) fn layers(graph: &Graph) -> u64 {
    let below = |id: &NodeId| {
        let shown = shown_children(graph, *id).first().copied();
        let shown = shown.or_else(|| child_by(graph, *id, Role::Primary));
        shown.or_else(|| child_by(graph, *id, Role::Cow))
    };
    let is_over =
        |id: &NodeId| graph.children(Parent::Node(*id)).any(|edge| edge.roles.contains(Role::Cow));
    let of = |backend| {
        let root = graph.child(Parent::Backend(backend), ROOT)?;
        Some(1 + successors(Some(root), below).filter(is_over).count() as u64)
    };
    graph.backends().filter_map(|(id, _)| of(id)).max().unwrap_or(0)
}

/// Notes the pairs of filters, one over the other, below which a snapshot was taken or a mirror has pivoted.
pub(super) fn note(state: &mut State, what: &str, before: &Graph, after: &Graph) {
    let gone = |name: &str| after.job_by_name(name).is_none() && state.full.contains(name);
    let what = match what {
        "pivot" if before.jobs().any(|(_, name)| gone(name)) => PIVOT_BELOW,
        "blockdev-snapshot" | "x-blockdev-snapshot-stack" => SNAPSHOT_BELOW,
        _ => return,
    };
    let driver = |id| before.node(id).map_or("", |node| node.driver);
    for edge in before.changed_edges(after) {
        let Some(place) = before.child(edge.parent, &edge.name) else { continue };
        let mut above = before.ancestors(place);
        above.retain(|id| *id != place);
        for upper in &above {
            for lower in shown_children(before, *upper).into_iter().filter(|id| above.contains(id))
            {
                state.passed.insert(format!("{what} {} over {}", driver(*upper), driver(lower)));
            }
        }
    }
}
