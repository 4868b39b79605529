//! Lazy power losses leave what power losses at every moment leave.

mod common;

use std::collections::BTreeSet;

use blockyard_sim::{
    Budgets, Cache, Explorer, Limits, RandomWalk, Reduction, Setup, Summary, Verdict, World,
    swap_check,
};
use common::crashing::{Crashing, Ended, Era, LENGTHS, Op, images};
use common::eager::Eager;

fn setup_of(eras: &[Era], (cache, torn): (Cache, bool)) -> Setup {
    let crashes = u32::try_from(eras.len() - 1).expect("eras are few");
    let images = images(&LENGTHS.map(|len| vec![0; len]), cache, torn);
    Setup { images, budgets: Budgets { crashes, ..Budgets::NONE }, ..Setup::default() }
}

fn explore(
    eras: &[Era],
    policy: (Cache, bool),
    reduction: Reduction,
) -> (BTreeSet<Ended>, Summary) {
    let program = Crashing::new(eras.to_vec());
    let setup = setup_of(eras, policy);
    let limits = Limits { executions: 2_000_000, ..Limits::default() };
    let mut go_on = |_: &Summary| true;
    let exploration = Explorer::new(&program, setup, limits, &mut go_on).depth_first(reduction);
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true }, "{eras:?}");
    (program.ended.with(std::mem::take), exploration.summary)
}

/// Compares what the lazy search sees with what there is: nothing else; and all, where of ends that differ only in what
/// was acknowledged the greatest stand for all. The executions of both.
#[track_caller]
fn compare(eras: &[Era], policy: (Cache, bool), reduction: Reduction) -> (usize, u64) {
    let (lazy, summary) = explore(eras, policy, reduction);
    let mut eager = Eager::new(eras, policy.0, policy.1);
    let all = eager.outcomes(0, &LENGTHS.map(|len| vec![0; len]).to_vec());
    for ended in &lazy {
        assert!(all.contains(ended), "{eras:?}, {policy:?}, {reduction:?}: cannot be: {ended:?}");
    }
    for ended in &all {
        let stands = |other: &&Ended| {
            (other.era, &other.reads) == (ended.era, &ended.reads)
                && other.acks.is_superset(&ended.acks)
        };
        let found = lazy.iter().any(|other| stands(&other));
        assert!(found, "{eras:?}, {policy:?}, {reduction:?}: missing: {ended:?}");
    }
    (eager.schedules, summary.executions)
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % below
    }

    fn place(&mut self) -> (usize, u64, u64) {
        let disk = usize::from(self.roll(4) == 0);
        let (offset, len) = match self.roll(6) {
            0 | 1 => (0, 512),
            2 => (512, 512),
            3 => (0, 1024),
            4 => (256 * self.roll(4), 256),
            _ => (256, 512),
        };
        if disk == 1 { (1, offset % 512, len.min(512 - offset % 512)) } else { (0, offset, len) }
    }

    fn op(&mut self, reads: u64) -> Op {
        let (disk, offset, len) = self.place();
        if self.roll(10) < reads {
            return Op::Read { disk, offset, len };
        }
        match self.roll(10) {
            0..=4 => Op::Write { disk, offset, len, fua: self.roll(5) == 0 },
            5..=7 => Op::Flush { disk },
            8 => Op::Tell,
            _ => Op::Hear,
        }
    }

    fn era(&mut self, tasks: &[usize], reads: u64) -> Era {
        tasks.iter().map(|ops| (0..*ops).map(|_| self.op(reads)).collect()).collect()
    }
}

/// Small programs, mostly with one power loss.
fn generate(number: u64) -> Vec<Era> {
    let mut dice = Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66);
    let _ = [(); 9].map(|()| dice.roll(2));
    match number % 4 {
        0 => vec![dice.era(&[3, 1], 0), dice.era(&[1, 2], 9)],
        1 => vec![dice.era(&[2, 2], 1), dice.era(&[3], 8)],
        2 => vec![dice.era(&[4], 0), dice.era(&[1, 1], 9)],
        _ => vec![dice.era(&[1, 1], 0), dice.era(&[2, 1], 4), dice.era(&[2], 9)],
    }
}

fn check(numbers: std::ops::Range<u64>, policy: (Cache, bool), reduction: Reduction) {
    let (mut eagerly, mut lazily) = (0, 0);
    for number in numbers {
        let (eager, lazy) = compare(&generate(number), policy, reduction);
        (eagerly, lazily) = (eagerly + eager, lazily + lazy);
    }
    let (disks, torn) = (policy.0.word(), if policy.1 { ", torn" } else { "" });
    println!("{disks}{torn}, {reduction:?}: {eagerly} schedules, {lazily} executions");
}

const REDUCTIONS: [Reduction; 3] =
    [Reduction::Optimal, Reduction::SourceSets, Reduction::SleepSets];

#[test]
fn lazy_power_losses_leave_what_eager_ones_leave() {
    for (reduction, first) in REDUCTIONS.into_iter().zip([0, 40, 60]) {
        check(first..first + 40, (Cache::Volatile, false), reduction);
    }
}

#[test]
fn every_kind_of_disk_loses_what_it_may_lose() {
    for cache in Cache::ALL {
        for torn in [false, true] {
            check(80..96, (*cache, torn), Reduction::Optimal);
        }
    }
}

const fn write(disk: usize, offset: u64, len: u64) -> Op {
    Op::Write { disk, offset, len, fua: false }
}

const fn read(disk: usize, offset: u64, len: u64) -> Op {
    Op::Read { disk, offset, len }
}

#[test]
fn cases_that_are_easily_overlooked() {
    use Op::{Hear, Tell};
    let flush = Op::Flush { disk: 0 };
    let all = vec![vec![read(0, 0, 1024), read(1, 0, 512)]];
    let cases: [(&str, Vec<Era>); 7] = [
        (
            "on an ordered disk either of two concurrent writes may be the first",
            vec![vec![vec![write(0, 0, 512)], vec![write(0, 512, 512)]], all.clone()],
        ),
        (
            "either of two halves of an atom may be the first",
            vec![vec![vec![write(0, 0, 256)], vec![write(0, 256, 256)]], all.clone()],
        ),
        (
            "a flush covers what its submitter heard of, on its own disk",
            vec![
                vec![
                    vec![write(0, 0, 512), write(1, 0, 512), Tell],
                    vec![Hear, flush, write(0, 512, 512)],
                ],
                all.clone(),
            ],
        ),
        (
            "a read that was submitted early may find what a later write of recovery replaced",
            vec![
                vec![vec![write(0, 0, 512)]],
                vec![vec![Hear, write(0, 0, 512)], vec![Tell, read(0, 0, 512)]],
            ],
        ),
        (
            "recovery replaces what nobody looked at, and power is lost again",
            vec![
                vec![vec![write(0, 0, 512), write(0, 0, 512)]],
                vec![vec![write(0, 0, 512), flush], vec![write(0, 512, 512)]],
                all.clone(),
            ],
        ),
        (
            "two readers ask for what a flush links",
            vec![
                vec![vec![write(0, 0, 512), flush, write(0, 512, 512), Tell]],
                vec![vec![read(0, 512, 512)], vec![read(0, 0, 512)]],
            ],
        ),
        (
            "a part of an atom is written over what nobody looked at",
            vec![
                vec![vec![write(0, 0, 512), flush, write(0, 0, 512)]],
                vec![vec![write(0, 128, 256)], vec![write(0, 512, 512)]],
                all.clone(),
            ],
        ),
    ];
    for (what, eras) in cases {
        for cache in Cache::ALL {
            for torn in [false, true] {
                for reduction in REDUCTIONS {
                    let (_, lazy) = compare(&eras, (*cache, torn), reduction);
                    let torn = if torn { ", torn" } else { "" };
                    println!("{what}, {}{torn}, {reduction:?}: {lazy} executions", cache.word());
                }
            }
        }
    }
}

/// Programs too large for looking at every schedule.
fn generate_larger(number: u64) -> Vec<Era> {
    let mut dice = Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x0BAD_5EED);
    let _ = [(); 9].map(|()| dice.roll(2));
    vec![dice.era(&[4, 4, 4], 1), dice.era(&[3, 3], 5), dice.era(&[4, 2], 8)]
}

#[test]
fn every_choice_leaves_another_for_what_is_read_later() {
    for number in 0..40 {
        for cache in Cache::ALL {
            let eras = generate_larger(number);
            let program = Crashing::new(eras.clone());
            let setup = setup_of(&eras, (*cache, number % 2 == 0));
            let mut go_on = |_: &Summary| true;
            let mut explorer = Explorer::new(&program, setup, Limits::default(), &mut go_on);
            // Where nothing were permitted the world would panic, which is a finding.
            assert_eq!(explorer.random(0..100).verdict, Verdict::Clean { exhausted: false });
        }
    }
}

#[test]
fn independent_steps_of_programs_that_lose_power_commute() {
    let mut swapped = 0;
    for number in 0..120 {
        let eras = if number % 2 == 0 { generate(number) } else { generate_larger(number) };
        let policy = (Cache::ALL[number as usize / 2 % 4], number % 3 == 0);
        let Setup { images, budgets, seed, .. } = setup_of(&eras, policy);
        let mut world = World::new(&images, budgets, seed);
        let program = Crashing::new(eras);
        for seed in 0..10 {
            let mut walk = RandomWalk::new(seed);
            let checked = swap_check(&mut world, &program, &mut walk, Limits::default());
            swapped += checked.unwrap_or_else(|finding| {
                panic!("{number}, {seed}: {finding:?} {:?}", program.eras)
            });
        }
    }
    assert!(swapped > 1000, "only {swapped} pairs were swapped");
}
