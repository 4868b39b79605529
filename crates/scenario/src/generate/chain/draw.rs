//! Chains from numbers. The smallest numbers make the simplest plan.

use super::{ChainJob, ChainPlan, ChainStep, JobKind, LayerPlan};
use crate::generate::bitmaps;
use crate::generate::draw::{Source, guest_step};

/// Nodes that a job may be about.
const NODES: u32 = 8;

impl ChainPlan {
    pub(in crate::generate) fn draw(source: &mut Source<'_>) -> Self {
        let sectors = source.one_of(&[2, 4, 4, 8]);
        let layers = source.one_of(&[1, 2, 2, 3, 3, 4, 5]);
        let short = if source.one_in(4) { source.below(8).into() } else { 0 };
        let layers = source.list(layers, layer);
        let guests = source.one_of(&[1, 1, 2, 2, 3]);
        let guests = source.list(guests, |source| {
            let steps = 1 + source.index(4);
            source.list(steps, |source| guest_step(source, 1))
        });
        let operators = source.one_of(&[3, 3, 4, 4, 2, 5]);
        let operators = source.list(operators, |source| {
            let jobs = source.one_of(&[1, 1, 1, 2]);
            source.list(jobs, job)
        });
        let admin = source.one_of(&[0, 0, 1, 2, 4]);
        let admin = source.list(admin, step);
        let bitmaps = bitmaps::draw(source);
        let faults = u32::from(source.one_in(2));
        let crashes = u32::from(!source.one_in(4));
        Self { sectors, layers, short, guests, operators, admin, bitmaps, faults, crashes }
    }
}

fn bits(source: &mut Source<'_>) -> u8 {
    u8::try_from(source.below(256)).expect("below-256")
}

fn layer(source: &mut Source<'_>) -> LayerPlan {
    LayerPlan {
        large: source.one_in(3),
        short: if source.one_in(4) { source.below(8).into() } else { 0 },
        written: bits(source),
        discarded: if source.one_in(4) { bits(source) } else { 0 },
    }
}

fn job(source: &mut Source<'_>) -> ChainJob {
    ChainJob {
        kind: kind(source),
        pauses: source.one_in(4),
        cancels: source.one_in(6),
        finalize: source.one_in(6),
        dismiss: source.one_in(6),
        stops: source.one_in(4),
    }
}

fn maybe_index(source: &mut Source<'_>, one_in: u32) -> Option<usize> {
    (!source.one_in(one_in)).then(|| source.index(NODES))
}

fn kind(source: &mut Source<'_>) -> JobKind {
    match source.below(12) {
        0..3 => JobKind::Stream {
            into: source.index(NODES),
            down: maybe_index(source, 3),
            included: source.one_in(2),
        },
        3..6 => JobKind::Commit { top: maybe_index(source, 3), down: maybe_index(source, 3) },
        6 | 7 => JobKind::Mirror { image: source.one_in(2), active: source.one_in(2) },
        8 | 9 => {
            let of = if source.one_in(4) { Some(source.index(NODES)) } else { None };
            JobKind::Full { image: source.one_in(2), of }
        }
        10 => JobKind::Fleecing { sector: source.below(8).into() },
        _ => JobKind::Incremental { granularity: source.below(4) },
    }
}

fn step(source: &mut Source<'_>) -> ChainStep {
    match source.below(10) {
        0..4 => ChainStep::Snapshot { large: source.one_in(3) },
        4 | 5 => ChainStep::Reopen(source.index(NODES)),
        6 => ChainStep::Delete(source.index(NODES)),
        7 => ChainStep::Query,
        8 => ChainStep::StandStill,
        _ => ChainStep::CopyOnRead { over: source.index(NODES), on: !source.one_in(3) },
    }
}
