//! What has changed on a disk is dirty in each bitmap of it that recorded all along. This looks at bytes alone, and
//! knows nothing of who wrote what, nor what was said to leave which view as it is.

use std::collections::BTreeSet;

use blockyard_models::{Property, Violation};
use blockyard_qmp::{Dict, Value};
use blockyard_units::ByteRange;

use crate::bitmaps::actions_of;
use crate::script::Script;
use crate::stage::Stage;
use crate::steps::Step;

/// What may make a bitmap lack what has changed.
const LOSES: [&str; 4] = ["add", "clear", "disable", "remove"];

/// The bitmaps that a command adds, or may make lack something; and whether it adds them.
fn named(command: &str, arguments: &Dict) -> Vec<((String, String), bool)> {
    let single = [(String::from(command), arguments.clone())];
    let all = single.into_iter().chain(actions_of(command, arguments));
    let bitmap = |(kind, data): (String, Dict)| {
        let kind = kind.strip_prefix("block-dirty-bitmap-")?;
        let text = |key| data.get(key).and_then(Value::as_str).map(String::from);
        let records = kind == "add" && data.get("disabled").is_none();
        LOSES.contains(&kind).then_some(((text("node")?, text("name")?), records))
    };
    all.filter_map(bitmap).collect()
}

/// The names of the bitmaps that backups have to do with.
fn saved_by(command: &str, arguments: &Dict) -> Vec<String> {
    let single = [(String::from(command), arguments.clone())];
    let all = single.into_iter().chain(actions_of(command, arguments));
    let backups = all.filter(|(kind, _)| kind == "blockdev-backup");
    let bitmap = |(_, data): (String, Dict)| Some(data.get("bitmap")?.as_str()?.into());
    backups.filter_map(bitmap).collect()
}

/// The bitmaps that record from the setup on, by node and name: nobody changes them or the length of a disk.
fn recording_all_along(script: &Script) -> BTreeSet<(String, String)> {
    let (mut added, mut seen, mut resizes) = (BTreeSet::new(), BTreeSet::new(), false);
    let mut saved = BTreeSet::new();
    script.each_step(&mut |step| {
        let Step::Execute { command, arguments, .. } = step else { return };
        resizes |= command == "block_resize";
        saved.extend(saved_by(command, arguments));
        for (bitmap, records) in named(command, arguments) {
            if !seen.insert(bitmap.clone()) || !records {
                added.remove(&bitmap);
            } else {
                added.insert(bitmap);
            }
        }
    });
    let in_setup = |bitmap: &(String, String)| {
        script.setup.iter().any(|step| match step {
            Step::Execute { command, arguments, .. } => {
                named(command, arguments).iter().any(|(named, _)| named == bitmap)
            }
            _ => false,
        })
    };
    added.retain(|bitmap| in_setup(bitmap) && !resizes && !saved.contains(&bitmap.1));
    added
}

impl Stage {
    /// At the end.
    ///
    /// # Errors
    /// A bitmap that lacks a byte which is another than at the beginning.
    pub(crate) fn judge_changed(&self) -> Result<(), Violation> {
        let layer = self.monitor.layer();
        let graph = layer.graph();
        for (node, name) in recording_all_along(&self.script) {
            let found = graph.node_by_name(&node).and_then(|id| layer.node_by_id(id));
            let Some(found) = found else { continue };
            let is_disk = graph.node(found.id()).is_some_and(|node| node.driver == "file");
            let bits = found.bitmaps().look_at(&name, |bitmap| Ok(bitmap.bits().clone()));
            let (true, Ok(bits), Some(disk)) =
                (is_disk, bits, self.checks.fill_below(&graph, found.id()))
            else {
                continue;
            };
            let before = disk.bytes(ByteRange::new(0, disk.size));
            self.checks.look_below(&graph, found.id(), &|now| {
                let is_lacking = |offset: &usize| {
                    let was = before.get(*offset).copied().unwrap_or_default();
                    was != now[*offset] && !bits.dirty_in(ByteRange::new(*offset as u64, 1))
                };
                let Some(offset) = (0..now.len()).find(is_lacking) else { return Ok(()) };
                let message =
                    format!("bitmap {name} of node {node} lacks byte {offset}: it has changed");
                Err(Violation { property: Property::BitmapSoundness, message })
            })?;
        }
        Ok(())
    }
}
