//! What the models are told of a change of length: what is behind the new end may be gone from the command on, and is
//! when it has been carried out. What is added reads as zeroes, as if it had been cut off before.

use std::sync::Arc;

use blockyard_graph::{Parent, ROOT};
use blockyard_models::WriteKind;
use blockyard_qmp::{Dict, Mode, Size, Value, take};
use blockyard_units::ByteRange;

use crate::stage::{Device, FAR, Models, Stage};

/// A `block_resize` under way.
pub(crate) struct Resizing {
    range: ByteRange,
    /// Who sees it, and the number of the request that stands for it there.
    seen: Vec<(Arc<Device>, u64)>,
}

impl Resizing {
    /// Before the command is carried out, if it is one.
    pub fn begin(stage: &Stage, command: &str, arguments: &Dict) -> Option<Self> {
        if command != "block_resize" {
            return None;
        }
        let size = take::<Size>(&mut arguments.clone(), "size", Mode::Strings).ok()?;
        let range = ByteRange::between(size.0.min(FAR), FAR);
        let graph = stage.monitor.layer().graph();
        let text = |key: &str| arguments.get(key).and_then(Value::as_str);
        let root =
            |device: &str| graph.child(Parent::Backend(graph.backend_by_name(device)?), ROOT);
        let node = text("node-name").and_then(|name| graph.node_by_name(name));
        let node = node.or_else(|| text("device").and_then(root))?;
        let devices: Vec<Arc<Device>> = stage.devices.with(|all| all.values().cloned().collect());
        let reaches = |device: &Arc<Device>| {
            let top = graph.child(Parent::Backend(device.backend.id()), ROOT);
            top.is_some_and(|top| graph.descendants(top).contains(&node))
        };
        let mut seen: Vec<Arc<Device>> = Vec::new();
        for device in devices.into_iter().filter(reaches) {
            if !seen.iter().any(|other| other.shares(&device)) {
                seen.push(device);
            }
        }
        let see = |device: Arc<Device>| {
            let number = device.invoke(&[range], |Models { register, durability, .. }, number| {
                register.invoke_write_zeroes(number, range);
                let (tag, kind, step) = (0, WriteKind::Discard, stage.world.step());
                durability.begin_write(number, range, tag, kind, step);
            });
            (device, number)
        };
        Some(Self { range, seen: seen.into_iter().map(see).collect() })
    }

    /// When it has been carried out, or was refused.
    pub fn end(self, stage: &Stage, well: bool) {
        for (device, number) in self.seen {
            let verdict =
                device.respond(&[self.range], |Models { register, durability, .. }| {
                    durability.end(number, well, stage.world.step());
                    register.respond_write(number, well)
                });
            stage.checks.judge(verdict);
        }
    }
}
