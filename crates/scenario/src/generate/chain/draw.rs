//! Chains from numbers. The smallest numbers make the simplest plan.

use super::{ChainJob, ChainPlan, ChainStep, JobKind, LayerPlan};
use crate::generate::bitmaps;
use crate::generate::draw::{Source, guest_step};

/// Nodes that a job may be about.
const NODES: u32 = 8;

impl ChainPlan {
    pub(in crate::generate) fn draw(source: &mut Source<'_>) -> Self {
        let sectors = source.one_of(&[2, 4, 4, 8]);
        let layers = source.one_of(&[2, 3, 3, 4, 4, 5, 1, 0]);
        let short = if source.one_in(4) { source.below(8).into() } else { 0 };
        let layers = source.list(layers, layer);
        let guests = source.one_of(&[1, 1, 2, 2, 3]);
        let guests = source.list(guests, |source| {
            let steps = 1 + source.index(4);
            source.list(steps, |source| guest_step(source, 1))
        });
        // Of those at the device itself only one can be at work; so most are about what is below it.
        let (first, rest) = (source.one_of(&[1, 1, 2]), source.one_of(&[1, 2, 2, 3]));
        let at_device = source.list(first, |source| {
            let jobs = source.one_of(&[1, 1, 2]);
            source.list(jobs, |source| job(source, at_device))
        });
        let lower = layers.len() as u32;
        let below = source.list(rest, |source| {
            let jobs = source.one_of(&[1, 2]);
            source.list(jobs, |source| job(source, |source| below_device(source, lower)))
        });
        let operators = at_device.into_iter().chain(below).collect();
        let admin = source.one_of(&[0, 0, 1, 2, 4]);
        let admin = source.list(admin, step);
        let bitmaps = bitmaps::draw(source);
        let faults = u32::from(source.one_in(2));
        let crashes = u32::from(!source.one_in(4));
        let stack = Vec::new();
        Self { sectors, layers, stack, short, guests, operators, admin, bitmaps, faults, crashes }
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

fn job(source: &mut Source<'_>, kind: impl FnOnce(&mut Source<'_>) -> JobKind) -> ChainJob {
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

fn stream(source: &mut Source<'_>, into: usize) -> JobKind {
    JobKind::Stream { into, down: maybe_index(source, 3), included: source.one_in(2) }
}

fn at_device(source: &mut Source<'_>) -> JobKind {
    match source.below(8) {
        0 | 1 => {
            let (image, active) = (source.one_in(2), source.one_in(2));
            JobKind::Mirror { below: false, image, active }
        }
        2 => JobKind::Full { image: source.one_in(2), of: None },
        3 => JobKind::Fleecing { sector: source.below(8).into() },
        4 | 5 => JobKind::Incremental { granularity: source.below(4) },
        6 => JobKind::Commit { top: None, down: maybe_index(source, 3) },
        _ => {
            let into = source.index(NODES);
            stream(source, into)
        }
    }
}

/// There are so many images.
fn below_device(source: &mut Source<'_>, images: u32) -> JobKind {
    let image = 1 + source.index(images.saturating_sub(1).max(1));
    match source.below(8) {
        0..3 => stream(source, image),
        3..7 => JobKind::Commit { top: Some(image), down: maybe_index(source, 2) },
        _ => JobKind::Full { image: source.one_in(2), of: Some(image) },
    }
}

fn step(source: &mut Source<'_>) -> ChainStep {
    match source.below(10) {
        0..4 => ChainStep::Snapshot { large: source.one_in(3), below: false },
        4 | 5 => ChainStep::Reopen(source.index(NODES)),
        6 => ChainStep::Delete(source.index(NODES)),
        7 => ChainStep::Query,
        8 => ChainStep::StandStill,
        _ => ChainStep::CopyOnRead { over: source.index(NODES), on: !source.one_in(3) },
    }
}
