//! Where each device's data are, as whoever looks at the disks after a power loss has to know.

use blockyard_graph::{Graph, Parent, ROOT, Role};
use blockyard_units::{BackendId, NodeId};

use super::{State, child_by, disk_below, ends_job, mirror_ends};
use crate::durable::{Led, Root};

/// Notes where each device leads to now. A pivot is acknowledged by its job's end.
pub(super) fn note(state: &mut State, step: u32, what: &str, (before, graph): (&Graph, &Graph)) {
    let gone = |name: &str| ends_job(what) && graph.job_by_name(name).is_none();
    // Several may end in one publication: a device's is the one whose filter it was above.
    let pivots = |device| {
        let above = |job| match before.child(mirror_ends(before, job), "file") {
            Some(source) => before.reaches(Parent::Backend(device), source),
            None => false,
        };
        let mut gone = before.jobs().filter(|(_, name)| gone(name));
        gone.find(|(job, _)| above(*job)).map(|(_, name)| name)
    };
    for (id, device) in graph.backends() {
        let Some(node) = graph.child(Parent::Backend(id), ROOT) else { continue };
        let Some(root) = root_below(state, graph, node) else {
            // What is written there now is lost with the power, and may be.
            state.roots.insert(device.into(), Vec::new());
            continue;
        };
        let (led, now) = (switch_with_witness(state, graph, id), Some(step));
        let Some(roots) = state.roots.get_mut(device) else {
            state.roots.insert(device.into(), vec![Led::to(root, now)]);
            continue;
        };
        match (&**roots, led) {
            ([], _) => {}
            // Until it has taken place the witness says so, also if it never does.
            ([.., before, Led { witness: Some(_), .. }], _) if before.root == root => {}
            ([.., last], Some(led)) if last.root == root => roots.push(led),
            ([.., last], _) if last.root == root => {}
            ([.., Led { witness: None, .. }], _) if pivots(id).is_some() => {
                roots.push(Led::to(root, None));
                let job = pivots(id).unwrap_or_default();
                state.switched.entry(job.into()).or_default().push(device.into());
            }
            // A snapshot: whoever knows of it looks at the overlay from now on.
            ([.., last], _) if root.is_over(&last.root) => roots.push(Led::to(root, now)),
            _ => roots.clear(),
        }
    }
}

/// Where what is written to `node` is kept, if it outlives the power.
fn root_below(state: &State, graph: &Graph, node: NodeId) -> Option<Root> {
    let attributes = graph.node(node)?;
    if attributes.driver == "luks" {
        let child = |name| graph.child(Parent::Node(node), name);
        let header = state.filenames.get(&disk_below(graph, child("header")?)?)?;
        let key = state.disks.get(header)?.luks_key?;
        return root_below(state, graph, child("file")?)?.encrypted(key);
    }
    if let Some(child) = child_by(graph, node, Role::Primary) {
        return root_below(state, graph, child);
    }
    if let Some(threshold) = state.thresholds.get(&attributes.name) {
        let children = graph.children(Parent::Node(node));
        let places = children.map(|edge| root_below(state, graph, edge.child));
        let places = places.collect::<Option<Vec<_>>>()?;
        // With fewer than that what is old may win.
        let wins = *threshold as usize * 2 > places.len();
        return wins.then_some(Root::Votes { places, threshold: *threshold });
    }
    let image = graph.children(Parent::Node(node)).find(|edge| edge.roles.contains(Role::Metadata));
    let Some(image) = image else {
        return state.filenames.get(&attributes.name).cloned().map(Root::Disk);
    };
    if let Some(data) = graph.child(Parent::Node(node), "data") {
        let below = |child| root_below(state, graph, child);
        return below(image.child)?.of_dedup(below(data)?);
    }
    if graph.child(Parent::Node(node), "data-file").is_some() {
        // Two disks, and what is below them: that is not judged after a power loss.
        return None;
    }
    let disk = state.filenames.get(&disk_below(graph, image.child)?)?.clone();
    let backing = match child_by(graph, node, Role::Cow) {
        Some(backing) => Some(Box::new(root_below(state, graph, backing)?)),
        None => None,
    };
    Some(Root::Image { disk, backing })
}

/// Where a job with a witness is to lead this device.
fn switch_with_witness(state: &State, graph: &Graph, device: BackendId) -> Option<Led> {
    graph.jobs().find_map(|(job, _)| {
        let witness = graph.child(Parent::Job(job), "witness")?;
        let held = |name| graph.child(mirror_ends(graph, job), name);
        let (source, target) = (held("file")?, held("target")?);
        let root = root_below(state, graph, target)?;
        let witness = state.filenames.get(&disk_below(graph, witness)?)?.clone();
        let is_above = graph.reaches(Parent::Backend(device), source);
        is_above.then_some(Led { root, acknowledged: None, witness: Some(witness) })
    })
}
