//! Disk requests, where faults, power losses and what these leave are choices like any other.

use blockyard_sim::{Budgets, DiskImage, Families, Family, Setup};

use crate::figure::{Figure, Row, Target};
use crate::machine::seconds;
use crate::recovering::{ATOM, RECORDS, eight_writers, log};
use crate::search::exhaust;

/// So many sectors recovery reads.
const READS: u64 = 3;

fn setup(sectors: u64, faults: u32, crashes: u32) -> Setup {
    let image = DiskImage::new("a", vec![0; (sectors * ATOM) as usize]);
    let budgets = Budgets { faults, families: Families::NONE.with(Family::Eio), crashes };
    Setup { images: vec![image], budgets, ..Setup::default() }
}

fn writers(faults: u32, crashes: u32) -> Figure {
    exhaust(&eight_writers(READS, false), &setup(8, faults, crashes))
}

fn recovery() -> Figure {
    exhaust(&log(), &setup(2 * RECORDS, 0, 1))
}

fn time_of_recovery() -> Figure {
    let began = seconds();
    let figure = recovery();
    Figure { value: (seconds() - began) * 1e3, ..figure }
}

pub const ROWS: &[Row] = &[
    Row {
        name: "writers",
        what: "8 tasks write a sector each: executions",
        target: Target::Exactly(1),
        sides: [None, None, Some(|| writers(0, 0))],
    },
    Row {
        name: "writers-fault",
        what: "the same with at most one EIO: executions",
        target: Target::Exactly(9),
        sides: [None, None, Some(|| writers(1, 0))],
    },
    Row {
        name: "writers-crash",
        what: "and one crash; recovery's 3 reads may fail too: executions",
        // The target counts the faults of writers only. One of the reads fails and the others see 2² states: 3·2² more.
        target: Target::AtMost(9 + 9 * (1 << READS)),
        sides: [None, None, Some(|| writers(1, 1))],
    },
    Row {
        name: "log",
        what: "a log of 100 records, recovered: executions, 1 without a crash",
        target: Target::Exactly(1 + 201),
        sides: [None, None, Some(recovery)],
    },
    Row {
        name: "log-time",
        what: "the same: time",
        target: Target::InMs(100),
        sides: [None, None, Some(time_of_recovery)],
    },
];
