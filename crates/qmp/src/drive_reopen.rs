//! `x-drive-reopen`: completes the mirror that is ready between a device and a node, and has a witness set before the
//! device is led there.
//!
//! As with `job-complete`, the job's end tells how it went. If whether the witness is set is unknown, the job fails,
//! its error says so, and the device has no medium.
//!
//! Source: "job-based mirroring implementation" (qemu-devel, April 2012). Differs: the node is there already, so it is
//! named instead of a file; and QEMU has no such command today.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

use blockyard_block::BlockError;
use blockyard_graph::{Graph, Parent};
use blockyard_jobs::Job;
use blockyard_units::NodeId;
use serde::Deserialize;

use crate::error::QmpError;
use crate::medium::device_named;
use crate::monitor::Monitor;
use crate::nodes::node_named;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DriveReopen {
    device: String,
    target: String,
    witness: String,
}

/// The name of the job that copies what the device shows to `target`: by a filter, or by edges of its own.
fn mirror_between(graph: &Graph, device: Parent, target: NodeId) -> Option<&str> {
    let mut jobs = graph.jobs();
    let is_between = |job| {
        let filter = graph.child(Parent::Job(job), "filter").map(Parent::Node);
        let holder = filter.unwrap_or(Parent::Job(job));
        let source = graph.child(holder, "file");
        graph.child(holder, "target") == Some(target)
            && source.is_some_and(|source| graph.reaches(device, source))
    };
    jobs.find(|(job, _)| is_between(*job)).map(|(_, name)| name)
}

impl Monitor {
    fn mirror_to(&self, arguments: &DriveReopen, graph: &Graph) -> Result<Arc<Job>, QmpError> {
        let DriveReopen { device, target, .. } = arguments;
        let parent = Parent::Backend(device_named(graph, device)?);
        let job = mirror_between(graph, parent, node_named(graph, target)?);
        let missing =
            || BlockError::NotFound(format!("device '{device}' is not mirrored to node {target}"));
        Ok(job.and_then(|job| self.jobs().get(job)).ok_or_else(missing)?)
    }

    pub(crate) async fn drive_reopen(&self, arguments: DriveReopen) -> Result<(), QmpError> {
        let graph = self.layer().graph();
        let witness = node_named(&graph, &arguments.witness)?;
        let job = self.mirror_to(&arguments, &graph)?;
        Ok(job.complete_with_witness(witness).await?)
    }
}
