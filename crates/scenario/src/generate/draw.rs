//! Plans from numbers. The smallest numbers make the simplest plan, so a source that runs dry ends soon.

use blockyard_block::{ErrorPolicies, OnError};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::{
    Action, AdminStep, Alignment, Away, Back, DebugRule, DevicePlan, DiskPlan, End, Filter,
    GuestStep, How, Medium, MirrorPlan, Pause, Place, Plan, Reopened, StreamPlan, bitmaps,
};
use crate::request::Request;

/// Where numbers come from: asked for one below its argument, which is not zero.
pub(super) struct Source<'s>(pub &'s mut dyn FnMut(u32) -> u32);

impl Source<'_> {
    pub fn below(&mut self, end: u32) -> u32 {
        (self.0)(end).min(end - 1)
    }

    pub fn index(&mut self, end: u32) -> usize {
        self.below(end) as usize
    }

    /// One time in so many.
    pub fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == count - 1
    }

    /// One of these; the first is the simplest.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len() as u32)]
    }

    pub fn list<T>(&mut self, count: usize, mut item: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..count).map(|_| item(self)).collect()
    }
}

/// Numbers of this seed: the same everywhere.
pub(super) fn numbers(seed: u64) -> impl FnMut(u32) -> u32 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Multiply-shift: even to one part in 2^32 over the small numbers here.
    move |end| ((u64::from(random.next_u32()) * u64::from(end)) >> 32) as u32
}

impl Plan {
    /// The plan that these numbers stand for. `below` is asked for a number below its argument, which is not zero.
    pub fn draw(below: &mut dyn FnMut(u32) -> u32) -> Self {
        let mut source = Source(below);
        let devices = 1 + usize::from(source.one_in(5));
        let mut devices = source.list(devices, device);
        let (faults, crashes) = (u32::from(source.one_in(4)), u32::from(source.one_in(4)));
        // Last: so plans without bitmaps are what they were before there were any.
        devices.iter_mut().for_each(|device| device.bitmaps = bitmaps::draw(&mut source));
        let mirrors = devices.iter_mut().flat_map(|device| &mut device.mirrors);
        mirrors.for_each(|mirror| mirror.streams = stream(&mut source));
        Self { devices, faults, crashes }
    }
}

fn device(source: &mut Source<'_>) -> DevicePlan {
    let chunks = source.one_of(&[1, 2, 3, 4]);
    let disk = disk(source);
    let filters = source.one_of(&[0, 0, 1, 1, 2]);
    let mut filters = source.list(filters, filter);
    let policies = policies(source, &mut filters);
    let mirrors = source.one_of(&[1, 1, 0, 2, 0]);
    let mirrors = source.list(mirrors, mirror);
    let twin = source.one_in(4).then(|| source.index(3));
    let resizes = source.one_in(4);
    let guests = source.one_of(&[1, 2, 2, 3]);
    let guests = source.list(guests, |source| {
        let steps = 1 + source.index(4);
        source.list(steps, |source| guest_step(source, chunks))
    });
    let admin = source.one_of(&[0, 1, 2, 4, 6, 8]);
    let admin = source.list(admin, |source| admin_step(source, chunks));
    let bitmaps = Vec::new();
    DevicePlan { chunks, disk, twin, policies, filters, resizes, guests, mirrors, admin, bitmaps }
}

fn disk(source: &mut Source<'_>) -> DiskPlan {
    let medium = match source.below(12) {
        0..8 => Medium::File,
        8 => Medium::Memory,
        9 => Medium::Null,
        _ => Medium::Overlay { chain: source.index(3), small: source.one_in(2) },
    };
    DiskPlan {
        medium,
        alignment: alignment(source),
        short: source.one_of(&[0, 0, 1, 7]),
        spare: source.one_of(&[0, 0, 1, 3]),
    }
}

fn alignment(source: &mut Source<'_>) -> Alignment {
    let [byte, sector] = [Alignment::Byte, Alignment::Sector];
    source.one_of(&[byte, byte, byte, sector, Alignment::Page, Alignment::Most])
}

fn filter(source: &mut Source<'_>) -> Filter {
    let limited = Filter::Throttle { limited: true };
    let kind = source.index(9);
    let rule = |source: &mut Source<'_>| match source.below(8) {
        0 => DebugRule::Nothing,
        1 | 2 => DebugRule::Once(source.index(16)),
        3 | 4 => DebugRule::Always(source.index(8)),
        _ => DebugRule::Break(source.index(8)),
    };
    match kind {
        0 | 1 => Filter::Throttle { limited: false },
        2 | 3 => Filter::Raw,
        4 => limited,
        5 | 6 => Filter::CopyOnRead,
        _ => Filter::Blkdebug(rule(source)),
    }
}

/// One that is of use where requests fail: mostly there is something that lets one fail.
fn policies(source: &mut Source<'_>, filters: &mut Vec<Filter>) -> ErrorPolicies {
    if !source.one_in(2) {
        return ErrorPolicies::default();
    }
    if !source.one_in(6) {
        let rule = match source.one_of(&[true, true, false]) {
            true => DebugRule::Each(source.one_in(2)),
            false => DebugRule::Once(source.index(16)),
        };
        filters.push(Filter::Blkdebug(rule));
    }
    let policy = |source: &mut Source<'_>| {
        source.one_of(&[OnError::Report, OnError::Ignore, OnError::Stop, OnError::Enospc])
    };
    ErrorPolicies { read: policy(source), write: policy(source) }
}

pub(super) fn guest_step(source: &mut Source<'_>, chunks: u64) -> GuestStep {
    let kind = match source.below(18) {
        0..5 => Request::Write,
        5..7 => Request::Read,
        7 | 8 => Request::Zeroes,
        9 => Request::Discard,
        10 | 11 => Request::Copy,
        12 => Request::Status,
        13 => Request::Compressed,
        14 | 15 => return GuestStep::Flush,
        16 => return GuestStep::AwaitRunning,
        _ => return GuestStep::AwaitReady,
    };
    let sector = source.below(8 * chunks as u32).into();
    let sectors = source.one_of(&[1, 2, 4, 8, 8, 16]);
    GuestStep::Request { kind, sector, sectors, how: how(source, chunks) }
}

fn how(source: &mut Source<'_>, chunks: u64) -> How {
    if source.one_of(&[true, true, false]) {
        return How { from: source.below(8 * chunks as u32).into(), ..How::default() };
    }
    How {
        skew: source.one_of(&[0, 0, 0, 8, 100, 511]),
        from: source.below(8 * chunks as u32).into(),
        fua: source.one_in(3),
        serialising: source.one_in(4),
        unmap: source.one_in(2),
        no_fallback: source.one_in(3),
        behind: source.one_in(4),
        cancel_after: source.one_in(4).then(|| 1 + source.below(8)),
    }
}

fn mirror(source: &mut Source<'_>) -> MirrorPlan {
    let from = source.one_in(4);
    MirrorPlan {
        source: from.then(|| source.index(3)),
        active: source.one_of(&[Some(false), Some(true), None]),
        full: !source.one_in(8),
        granularity: source.one_of(&[3, 4, 2, 7]),
        buffer: source.one_of(&[1, 2, 16]),
        switches: source.one_of(&[0, 0, 1, 2]),
        alignment: alignment(source),
        pause: source.one_of(&[Pause::Never, Pause::Never, Pause::Running, Pause::Ready]),
        finalize: source.one_in(4),
        dismiss: source.one_in(4),
        back: source.one_in(2),
        in_transaction: source.one_in(4),
        commits: source.one_in(2),
        streams: None,
        end: match source.below(8) {
            0..5 => End::Complete,
            5 => End::Cancel,
            6 => End::CancelByForce,
            _ => End::CancelEarly,
        },
    }
}

fn stream(source: &mut Source<'_>) -> Option<StreamPlan> {
    let streams = source.one_in(2);
    streams.then(|| StreamPlan { down: source.index(8), beside_commit: source.one_in(2) })
}

fn admin_step(source: &mut Source<'_>, chunks: u64) -> AdminStep {
    match source.below(46) {
        0..7 => AdminStep::Insert {
            place: place(source),
            retry: source.one_in(2),
            filter: filter(source),
        },
        7 | 8 => AdminStep::Remove,
        9 | 10 => AdminStep::Delete,
        11 | 12 => AdminStep::Beside {
            over: source.index(6),
            filter: filter(source),
            read_only: source.one_in(3),
        },
        13 | 14 => AdminStep::Redirect { place: place(source), to: source.index(6) },
        15 => AdminStep::Spare,
        16 | 17 => AdminStep::Resize {
            sectors: source.below(16 * chunks as u32).into(),
            by_node: source.one_in(2),
        },
        18 => AdminStep::Query,
        19 if source.one_in(2) => AdminStep::CancelMirror { force: source.one_in(2) },
        19 => AdminStep::PauseMirror,
        20..23 => {
            let count = 1 + source.index(4);
            AdminStep::Transaction(source.list(count, action))
        }
        23..25 => {
            let count = source.one_of(&[1, 1, 2, 3]);
            AdminStep::Reopen(source.list(count, reopened))
        }
        25 => AdminStep::ReopenBacking,
        26..28 => AdminStep::Snapshot { base: source.one_in(2), small: source.one_in(2) },
        28..31 => AdminStep::ChangeMedium {
            away: source.one_of(&[Away::Nothing, Away::Nothing, Away::ReadOnly, Away::Inactive]),
            back: if source.one_in(3) { Back::Other } else { Back::Same(source.index(6)) },
        },
        31 => AdminStep::SetActive { over: source.index(6), all: source.one_in(4) },
        32..35 => AdminStep::StandStill,
        35..37 => AdminStep::Threshold {
            over: source.index(6),
            sectors: source.below(12 * chunks as u32).into(),
        },
        37..39 => AdminStep::Histogram { boundaries: source.index(4), writes: source.one_in(3) },
        39..42 => AdminStep::CopyOnRead { over: source.index(6), on: !source.one_in(3) },
        42 => AdminStep::Secret,
        43 | 44 => AdminStep::Delete,
        _ => AdminStep::Query,
    }
}

fn action(source: &mut Source<'_>) -> Action {
    match source.below(10) {
        0..4 => Action::Insert { place: place(source), filter: filter(source) },
        4 | 5 => Action::Redirect { place: place(source), to: source.index(6) },
        6 | 7 => Action::Snapshot { base: source.one_in(2), small: source.one_in(2) },
        8 => Action::Mirror,
        _ => Action::Abort,
    }
}

fn reopened(source: &mut Source<'_>) -> Reopened {
    Reopened {
        node: source.index(6),
        to: source.index(6),
        read_only: source.one_in(6),
        other: source.one_in(10),
    }
}

fn place(source: &mut Source<'_>) -> Place {
    let places = [Place::Root, Place::OverMirror, Place::OverMirror];
    let below = source.one_in(4);
    if below { Place::Below(source.index(3)) } else { source.one_of(&places) }
}
