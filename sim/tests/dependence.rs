//! Each rule of dependence is needed: a search that is not told of it misses something of a generated program.

mod common;

use blockyard_sim::{DURABILITY, Granularity, READINESS, Reduction, clock};
use blockyard_sync::door::{Access, Kind};
use common::compare::{Tell, tapes, truly};
use common::programs::{Operation, Tasks, generate};

/// So many programs are tried at most.
const PROGRAMS: u64 = 600;

const REDUCTIONS: [Reduction; 2] = [Reduction::SourceSets, Reduction::Optimal];

/// How much of what plain search meets a reduced one misses, told as `tell` says.
fn missed(number: u64, tasks: &Tasks, reduction: Reduction, tell: &Tell) -> usize {
    let all = tapes(number, tasks, Granularity::Await, Reduction::Plain, &truly);
    let found = tapes(number, tasks, Granularity::Await, reduction, tell);
    all.keys().filter(|met| !found.contains_key(met)).count()
}

/// Tries programs with such operations until a search that is told what `tell` says has missed something. One that
/// is told the truth misses nothing of the same programs.
fn check_needed(concerned: fn(Operation) -> bool, tell: &Tell) {
    for reduction in REDUCTIONS {
        let needed = (0..PROGRAMS).any(|number| {
            let tasks = generate(number);
            if !tasks.iter().flatten().any(|operation| concerned(*operation)) {
                return false;
            }
            assert_eq!(missed(number, &tasks, reduction, &truly), 0, "{number} {tasks:?}");
            missed(number, &tasks, reduction, tell) > 0
        });
        assert!(needed, "{reduction:?} misses nothing");
    }
}

/// Tells of all accesses but some.
fn all_but(hidden: impl Fn(&Access) -> bool) -> impl Fn(&Access, &mut Vec<Access>) {
    move |access, told| told.extend(Some(*access).filter(|access| !hidden(access)))
}

#[test]
fn reads_depend_on_writes() {
    check_needed(
        |operation| matches!(operation, Operation::Read(_)),
        &all_but(|access| access.kind == Kind::Read),
    );
}

#[test]
fn reads_depend_on_adds() {
    // Of an add the object's shadow is told, which is written where the object is written, and is not read.
    let tell = |access: &Access, told: &mut Vec<Access>| {
        let mut shadow = *access;
        shadow.object.index ^= 1 << 31;
        match access.kind {
            Kind::Read => told.push(*access),
            Kind::Write => told.extend([*access, shadow]),
            Kind::Add => told.push(shadow),
        }
    };
    check_needed(|operation| matches!(operation, Operation::Increment(_)), &tell);
}

#[test]
fn ranges_that_overlap_depend_on_each_other() {
    // Each range becomes one unit of its own.
    let tell = |access: &Access, told: &mut Vec<Access>| {
        let unit = access.from.wrapping_mul(0x9E37_79B9) ^ access.to >> 1;
        told.push(Access { from: unit, to: unit + 1, ..*access });
    };
    check_needed(|operation| matches!(operation, Operation::DiskWrite(_)), &tell);
}

#[test]
fn polls_depend_on_wakes() {
    check_needed(
        |operation| operation == Operation::Knock,
        &all_but(|access| access.object.creator == READINESS),
    );
}

#[test]
fn timers_depend_on_each_other() {
    check_needed(
        |operation| matches!(operation, Operation::Sleep(_)),
        &all_but(|access| access.object == clock(access.kind).object),
    );
}

#[test]
fn flushes_depend_on_completions() {
    check_needed(
        |operation| operation == Operation::DiskFlush,
        &all_but(|access| access.object.creator == DURABILITY),
    );
}
