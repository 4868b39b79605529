//! Streams of generated scenarios, and what is committed beside them.

use serde_json::{Value, json};

use super::render::{Device, SECTOR, execute};
use super::{Medium, StreamPlan};

impl Device<'_> {
    /// What is below its disk's overlay, the highest first.
    fn layers(&self) -> Vec<String> {
        let Medium::Overlay { chain, .. } = self.plan.disk.medium else { return Vec::new() };
        let disk = self.nodes().swap_remove(0);
        let overlays = (0..chain % 3).rev().map(|index| format!("{disk}o{index}"));
        overlays.chain([format!("{disk}b")]).collect()
    }

    /// Whether the lower ones of its layers are committed while the upper ones are streamed.
    pub fn commits_beside(&self) -> bool {
        self.layers().len() == 3 && self.streams().is_some_and(|stream| stream.beside_commit)
    }

    /// The arguments of a stream, made of those of a mirror.
    pub fn stream(&self, stream: StreamPlan, mut arguments: Value) -> Value {
        for only in ["target", "sync", "granularity"] {
            arguments.as_object_mut().map(|arguments| arguments.remove(only));
        }
        let layers = self.layers();
        let count = layers.len() + 1;
        let (layer, included) = (stream.down % count, stream.down / count % 2 == 1);
        if self.commits_beside() {
            arguments["bottom"] = json!(layers[0]);
        } else if let Some(layer) = layer.checked_sub(1).and_then(|layer| layers.get(layer)) {
            arguments[if included { "bottom" } else { "base-node" }] = json!(layer);
        }
        arguments
    }

    /// Who commits what is below that.
    pub fn committer(&self) -> Option<(String, Vec<Value>)> {
        if !self.commits_beside() {
            return None;
        }
        let (number, layers) = (self.number, self.layers());
        let job = format!("c{number}");
        let commit = json!({
            "job-id": job,
            "device": layers[1],
            "base-node": layers[2],
            "granularity": SECTOR,
            "filter-node-name": format!("cf{number}"),
        });
        let ended = json!({ "wait": "JOB_STATUS_CHANGE", "data": { "id": job, "status": "null" } });
        Some((format!("committer{number}"), vec![execute("block-commit", commit), ended]))
    }
}
