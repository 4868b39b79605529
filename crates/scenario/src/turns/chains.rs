//! Which disk an image was used over, where a scenario says so: the image need not.

use std::collections::BTreeMap;

use blockyard_qmp::{Dict, Value};

use crate::bitmaps::actions_of;
use crate::script::Script;
use crate::steps::Step;

#[derive(Default)]
struct Chains {
    /// The lowest disk below each node.
    disks: BTreeMap<String, String>,
    /// By the disks of overlays.
    below: BTreeMap<String, String>,
}

/// Each image's disk, and that of its backing node.
pub fn chains(script: &Script) -> BTreeMap<String, String> {
    let mut chains = Chains::default();
    script.each_step(&mut |step| {
        if let Step::Execute { command, arguments, .. } = step {
            chains.command(command, arguments);
            actions_of(command, arguments).for_each(|(kind, data)| chains.command(&kind, &data));
        }
    });
    chains.below
}

impl Chains {
    fn command(&mut self, command: &str, arguments: &Dict) {
        let disk = |key: &str| self.disks.get(arguments.get(key)?.as_str()?).cloned();
        match command {
            "blockdev-add" => {
                self.node(&Value::Dict(arguments.clone()));
            }
            "blockdev-snapshot" => {
                if let (Some(overlay), Some(node)) = (disk("overlay"), disk("node")) {
                    self.below.insert(overlay, node);
                }
            }
            _ => {}
        }
    }

    /// A node that is defined or named; its disk.
    fn node(&mut self, node: &Value) -> Option<String> {
        let options = match node {
            Value::Str(name) => return self.disks.get(name).cloned(),
            node => node.as_dict()?,
        };
        let disk = match options.get("file") {
            Some(file) => self.node(file)?,
            None => options.get("filename")?.as_str()?.to_string(),
        };
        if let Some(name) = options.get("node-name").and_then(Value::as_str) {
            self.disks.insert(name.into(), disk.clone());
        }
        if let Some(backing) = options.get("backing").and_then(|backing| self.node(backing)) {
            self.below.insert(disk.clone(), backing);
        }
        Some(disk)
    }
}
