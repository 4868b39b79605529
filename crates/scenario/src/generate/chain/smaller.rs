//! Simpler chains: what shrinking tries.

use super::{ChainJob, ChainPlan, JobKind, LayerPlan};
use crate::generate::smaller::{shorter, without};

impl ChainPlan {
    pub(in crate::generate) fn simpler_by_one(&self) -> Vec<Self> {
        let whole = || self.clone();
        let mut plans = Vec::new();
        plans.extend(without(&self.operators).map(|operators| Self { operators, ..whole() }));
        plans.extend(without(&self.guests).map(|guests| Self { guests, ..whole() }));
        plans.extend(without(&self.admin).map(|admin| Self { admin, ..whole() }));
        plans.extend(without(&self.bitmaps).map(|bitmaps| Self { bitmaps, ..whole() }));
        for (index, changes) in self.bitmaps.iter().enumerate().filter(|(_, all)| all.len() > 1) {
            plans.extend(without(changes).map(|changes| {
                let mut plan = whole();
                plan.bitmaps[index] = changes;
                plan
            }));
        }
        if self.faults > 0 {
            plans.push(Self { faults: self.faults - 1, ..whole() });
        }
        if self.crashes > 0 {
            plans.push(Self { crashes: self.crashes - 1, ..whole() });
        }
        for (index, jobs) in self.operators.iter().enumerate() {
            plans.extend(without(jobs).chain(plainer_jobs(jobs)).map(|jobs| {
                let mut plan = whole();
                plan.operators[index] = jobs;
                plan
            }));
        }
        plans.extend(without(&self.layers).map(|layers| Self { layers, ..whole() }));
        for (index, layer) in self.layers.iter().enumerate() {
            plans.extend(plainer_layers(*layer).map(|layer| {
                let mut plan = whole();
                plan.layers[index] = layer;
                plan
            }));
        }
        for (index, steps) in self.guests.iter().enumerate() {
            plans.extend(without(steps).chain(shorter(steps)).map(|steps| {
                let mut plan = whole();
                plan.guests[index] = steps;
                plan
            }));
        }
        if self.short > 0 {
            plans.push(Self { short: 0, ..whole() });
        }
        if self.sectors > 1 {
            plans.push(Self { sectors: self.sectors / 2, ..whole() });
        }
        plans
    }
}

fn plainer_layers(layer: LayerPlan) -> impl Iterator<Item = LayerPlan> {
    let fewer = |bits: u8| bits & bits.saturating_sub(1);
    let plainer = [
        LayerPlan { large: false, ..layer },
        LayerPlan { short: 0, ..layer },
        LayerPlan { discarded: 0, ..layer },
        LayerPlan { written: 0, ..layer },
        LayerPlan { discarded: fewer(layer.discarded), ..layer },
        LayerPlan { written: fewer(layer.written), ..layer },
    ];
    plainer.into_iter().filter(move |plainer| *plainer != layer)
}

fn plainer_jobs(jobs: &[ChainJob]) -> impl Iterator<Item = Vec<ChainJob>> + '_ {
    jobs.iter().enumerate().flat_map(move |(index, job)| {
        let plainer = [
            ChainJob { pauses: false, ..*job },
            ChainJob { cancels: false, ..*job },
            ChainJob { finalize: false, ..*job },
            ChainJob { dismiss: false, ..*job },
            ChainJob { stops: false, ..*job },
        ];
        let kinds = plainer_kinds(job.kind).into_iter().map(|kind| ChainJob { kind, ..*job });
        let plainer = plainer.into_iter().chain(kinds).filter(move |plainer| plainer != job);
        plainer.map(move |plainer| {
            let mut jobs = jobs.to_vec();
            jobs[index] = plainer;
            jobs
        })
    })
}

fn plainer_kinds(kind: JobKind) -> Vec<JobKind> {
    match kind {
        JobKind::Stream { into, down, included } => {
            let down = down.filter(|_| included);
            vec![JobKind::Stream { into, down, included: false }]
        }
        JobKind::Commit { top, .. } => {
            vec![JobKind::Commit { top, down: None }, JobKind::Commit { top: None, down: None }]
        }
        JobKind::Mirror { below, image, .. } => {
            vec![
                JobKind::Mirror { below, image, active: false },
                JobKind::Mirror { below, image: false, active: false },
                JobKind::Mirror { below: false, image: false, active: false },
            ]
        }
        JobKind::Full { image, .. } => {
            vec![JobKind::Full { image, of: None }, JobKind::Full { image: false, of: None }]
        }
        JobKind::Fleecing { .. } => vec![JobKind::Fleecing { sector: 0 }],
        JobKind::Incremental { .. } => {
            vec![JobKind::Incremental { granularity: 0 }, JobKind::Full { image: false, of: None }]
        }
    }
}
