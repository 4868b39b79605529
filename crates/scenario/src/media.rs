//! Which disks somebody has used: one that nobody has holds what it was filled with, so whoever is led there may be
//! told what to find.
//!
//! Not for: disks that come back. What they hold by then is not known.

use std::collections::BTreeSet;

use blockyard_graph::{Graph, Parent};

use crate::checks::base_of;

/// The lowest nodes that a device or a job has used, by name.
#[derive(Default)]
pub(crate) struct Media(BTreeSet<String>);

impl Media {
    /// After a publication: the devices that lead to a node which nobody has used before, each with its name.
    pub fn change(&mut self, before: &Graph, after: &Graph) -> Vec<(String, String)> {
        let lowest = |graph: &Graph, id| {
            let root = graph.child(Parent::Backend(id), "root")?;
            graph.node(base_of(graph, root)).map(|node| node.name.clone())
        };
        let roots = after.backends().filter_map(|(id, name)| Some((id, name, lowest(after, id)?)));
        let roots: Vec<_> = roots.collect();
        let is_new = |id, disk| !self.0.contains(disk) && lowest(before, id).as_ref() != Some(disk);
        let new = roots.iter().filter(|(id, _, disk)| is_new(*id, disk));
        let new = new.map(|(_, device, disk)| (device.to_string(), disk.clone())).collect();
        let held = after.jobs().flat_map(|(id, _)| after.children(Parent::Job(id)));
        let below = held.flat_map(|edge| after.descendants(edge.child));
        let names = below.filter_map(|id| after.node(id)).map(|node| node.name.clone());
        self.0.extend(roots.into_iter().map(|(.., disk)| disk).chain(names));
        new
    }
}
