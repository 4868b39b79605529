//! Which node has taken another's place, with the data that were seen there: as a graph shows it, before and after.
//!
//! An overlay that goes above a node does, for who led to the node; and the target of a mirror, or a commit, that
//! pivots. Not for: edges that somebody redirects by hand, of which nobody knows that they show the same data.

use std::collections::BTreeSet;

use blockyard_graph::{Graph, Parent, Role};
use blockyard_units::NodeId;

use crate::checks::{child_by, mirror_ends};

/// Each such node, and which has taken its place.
pub(crate) fn places_taken(
    what: &str,
    before: &Graph,
    after: &Graph,
) -> BTreeSet<(NodeId, NodeId)> {
    let mut taken = overlaid(before, after);
    if what == "pivot" {
        taken.extend(mirrored(before, after));
    }
    taken
}

fn overlaid(before: &Graph, after: &Graph) -> BTreeSet<(NodeId, NodeId)> {
    // The overlay that has `node` below it, under filters and raw nodes or none.
    let over = |graph: &Graph, top, node| {
        let shown = |id: &NodeId| match graph.node(*id)?.driver {
            "raw" => child_by(graph, *id, Role::Data),
            _ => child_by(graph, *id, Role::Filtered),
        };
        let overlay = std::iter::successors(Some(top), shown).last()?;
        let below = |id: &NodeId| child_by(graph, *id, Role::Cow);
        std::iter::successors(below(&overlay), below).any(|at| at == node).then_some(overlay)
    };
    let changed = before.changed_edges(after);
    let led = changed.iter().filter_map(|edge| {
        let child = |graph: &Graph| graph.child(edge.parent, &edge.name);
        Some((child(before)?, child(after)?))
    });
    let taken = led.filter_map(|(old, new)| {
        let overlay = over(after, new, old)?;
        over(before, new, old).is_none().then_some((old, overlay))
    });
    taken.collect()
}

fn mirrored(before: &Graph, after: &Graph) -> BTreeSet<(NodeId, NodeId)> {
    let gone = before.jobs().filter(|(_, name)| after.job_by_name(name).is_none());
    let ends = gone.filter_map(|(job, _)| {
        let ends = mirror_ends(before, job);
        let mut source = before.child(ends, "file")?;
        while let Some(below) = child_by(before, source, Role::Filtered) {
            source = below;
        }
        Some((source, before.child(ends, "target")?))
    });
    // One that is cancelled in sync leaves its target to nobody.
    let is_led_to = |(_, target): &(NodeId, NodeId)| {
        after.parents(*target).any(|edge| !matches!(edge.parent, Parent::Job(_)))
    };
    ends.filter(is_led_to).collect()
}
