//! What a run measured, where a world has a clock for it: how long guests waited, what they moved, how long jobs took
//! until they were in sync, and how much a backup by the dirty bitmaps would copy.
//!
//! Not for: anything that is judged. While a run goes on it leaves no footprint.

use std::collections::BTreeMap;

use blockyard_block::{Bitmaps, BlockLayer};
use blockyard_jobs::JobEvent;
use blockyard_sync::door::world::Quiet;

use crate::request::{Asked, Request};

/// Of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// What was done for guests, by device.
    pub devices: BTreeMap<String, Served>,
    /// Block jobs that can be in sync, or have not come so far, by name.
    pub jobs: BTreeMap<String, Convergence>,
    /// The guest load has made all the writes that it makes at most.
    pub load_is_over: bool,
    /// Bytes that the dirty bitmaps of nodes and devices have marked now; none if there are no bitmaps.
    pub marked: Option<u64>,
}

/// What was done for guests of a device, as far as it went well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// How long each request took, in the order in which they ended.
    pub took_ns: Vec<u64>,
    /// Bytes.
    pub read: u64,
    /// Bytes.
    pub written: u64,
}

/// How a job came to be in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convergence {
    /// When it began.
    began_ns: u64,
    /// How long it took from its beginning, if it was in sync before the load had come to its end.
    pub took_ns: Option<u64>,
}

/// Those of a run that goes on.
#[derive(Default)]
pub(crate) struct Measuring(Quiet<Figures>);

impl Measuring {
    /// So far.
    pub fn figures(&self, layer: &BlockLayer) -> Figures {
        let figures = self.0.with(|figures| figures.clone());
        Figures { marked: marked(layer), ..figures }
    }

    /// A guest's request has ended well. `asked`: none for a flush.
    pub fn served(&self, device: &str, asked: Option<&Asked>, took_ns: u64) {
        self.0.with(|figures| {
            let served = figures.devices.entry(device.into()).or_default();
            served.took_ns.push(took_ns);
            let Some(asked) = asked else { return };
            let bytes = asked.range.len().0;
            match asked.kind {
                Request::Read => served.read += bytes,
                Request::Write | Request::Compressed | Request::Zeroes | Request::Copy => {
                    served.written += bytes;
                }
                Request::Discard | Request::Status => {}
            }
        });
    }

    /// The load makes no more writes.
    pub fn load_is_over(&self) {
        self.0.with(|figures| figures.load_is_over = true);
    }

    /// Something happened to a job.
    pub fn job(&self, name: &str, event: &JobEvent, now_ns: u64) {
        self.0.with(|figures| {
            let over = figures.load_is_over;
            let job = figures.jobs.entry(name.into());
            let job = job.or_insert(Convergence { began_ns: now_ns, took_ns: None });
            match event {
                JobEvent::Ready if !over => {
                    job.took_ns.get_or_insert(now_ns.saturating_sub(job.began_ns));
                }
                // It is of a kind that has nothing to be in sync with, or was in sync too late.
                JobEvent::Completed(_) if job.took_ns.is_none() && !over => {
                    figures.jobs.remove(name);
                }
                _ => {}
            }
        });
    }
}

fn marked(layer: &BlockLayer) -> Option<u64> {
    let mut marked = None;
    let mut look = |bitmaps: &Bitmaps| {
        bitmaps.each(|bitmap| *marked.get_or_insert(0) += bitmap.bits().dirty_bytes().0);
    };
    let graph = layer.graph();
    let nodes = graph.nodes().filter_map(|(id, _)| layer.node_by_id(id));
    nodes.for_each(|node| look(node.bitmaps()));
    let devices = graph.backends().filter_map(|(id, _)| layer.device_bitmaps(id));
    devices.for_each(|bitmaps| look(&bitmaps));
    marked
}
