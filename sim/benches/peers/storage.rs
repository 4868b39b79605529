//! How fast a whole storage simulation runs on disks alone: three that hold the same, 100 requests of four guests,
//! faults of all families, and then, when faults have ended, a healer that makes the copies agree; every read and the
//! end are checked.

use std::sync::Arc;

use blockyard_runtime::{IoBuffer, Runtime, Storage};
use blockyard_sim::{
    Budgets, DiskImage, Execution, Families, Finding, Limits, Loss, Outcome, Program, RandomWalk,
    Sampling, Setup, SimDisk, SimHandle, World, run_once,
};
use blockyard_sync::Shared;
use blockyard_units::{ByteLen, ByteRange};

use crate::figure::{Figure, Row, Target};
use crate::machine::rate;
use crate::search::{clean, explore};
use crate::stack;

/// Of these many runs each rate is the mean.
const RUNS: u64 = 1_000;
const SECTOR: u64 = 512;
const GUESTS: u64 = 4;
const SECTORS_EACH: u64 = 4;
/// Of each guest; 25 requests: each write goes to the three disks, and a read of one follows the last.
const WRITES: u64 = 8;

/// Writes three copies, and reads one back.
struct Guest {
    number: u64,
    disks: Vec<SimDisk>,
    handle: SimHandle,
    shown: Arc<Shown>,
}

/// What guests tell.
struct Shown {
    /// Of each sector, what all copies hold if no write of it failed.
    expected: Shared<Vec<Option<u8>>>,
    /// Guests that have not ended.
    left: Shared<u64>,
}

impl Guest {
    async fn run(self) {
        let mut requests = 0;
        for round in 0..WRITES {
            let sector = self.number * SECTORS_EACH + round % SECTORS_EACH;
            let byte = (self.number * 40 + round + 1) as u8;
            let data = IoBuffer::from(vec![byte; SECTOR as usize]);
            let mut written = true;
            for disk in &self.disks {
                written &= disk.write(sector * SECTOR, data.clone(), false).await.is_ok();
                requests += 1;
            }
            self.shown.expected.write(|all| all[sector as usize] = written.then_some(byte));
            if round == WRITES - 1 {
                self.check(sector, &self.disks[self.number as usize % 3]).await;
                requests += 1;
            }
        }
        assert_eq!(requests, 25);
        self.shown.left.write(|left| *left -= 1);
    }

    /// What is read is right, or it is our doing that it is not.
    async fn check(&self, sector: u64, disk: &SimDisk) {
        let expected = self.shown.expected.read(|all| all[sector as usize]);
        let range = ByteRange::new(sector * SECTOR, SECTOR);
        let loss = match disk.read(range).await {
            Ok(bytes) if expected.is_none_or(|byte| bytes.iter().all(|b| *b == byte)) => return,
            Ok(_) => Loss::WrongBytes,
            Err(_) => Loss::Error,
        };
        if !disk.excuses(range, loss) {
            let message = format!("{loss:?} in sector {sector} of {}", disk.name());
            self.handle.report(Finding { property: "reads".into(), message });
        }
    }
}

struct Storing;

struct Stored {
    disks: Vec<SimDisk>,
    shown: Arc<Shown>,
}

impl Program for Storing {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let disks: Vec<SimDisk> = ["a", "b", "c"].iter().filter_map(|n| world.disk(n)).collect();
        let whole = ByteRange::new(0, disks[0].len().0);
        world.declare_copies(&[("a", whole), ("b", whole), ("c", whole)]);
        let handle = world.handle();
        let shown = world.begin(|runtime: &Runtime| {
            let expected = Shared::new(vec![Some(0); (GUESTS * SECTORS_EACH) as usize]);
            let shown = Arc::new(Shown { expected, left: Shared::new(GUESTS) });
            for number in 0..GUESTS {
                let (disks, handle) = (disks.clone(), handle.clone());
                let guest = Guest { number, disks, handle, shown: shown.clone() };
                drop(runtime.spawn("guest", guest.run()));
            }
            shown
        });
        Box::new(Stored { disks, shown })
    }
}

impl Execution for Stored {
    fn calm(&self, world: &mut World) {
        world.begin(|runtime| {
            let (disks, shown) = (self.disks.clone(), self.shown.clone());
            let healer = async move {
                // What was stuck goes on first: a copy of what is being written would be an old one.
                shown.left.wait_until(|left| *left == 0).await;
                let range = ByteRange::new(0, GUESTS * SECTORS_EACH * SECTOR);
                let good = disks[0].read(range).await.expect("faults have ended");
                for disk in &disks[1..] {
                    disk.write(0, good.clone(), false).await.expect("faults have ended");
                }
            };
            drop(runtime.spawn("healer", healer));
        });
    }

    fn judge(&self, world: &World) -> Option<Finding> {
        let wrong = |property: &str, message| Some(Finding { property: property.into(), message });
        if !world.unfinished().is_empty() {
            return wrong("drains", world.unfinished().join(", "));
        }
        let expected = self.shown.expected.read(Vec::clone);
        let lost = |bytes: &[u8]| {
            let holds = |(bytes, expected): (&[u8], &Option<u8>)| {
                expected.is_none_or(|byte| bytes[0] == byte)
            };
            bytes.chunks(SECTOR as usize).zip(&expected).position(|sector| !holds(sector))
        };
        for disk in &self.disks {
            if let Some(sector) = disk.observe_quietly(lost) {
                return wrong("keeps", format!("{} has lost sector {sector}", disk.name()));
            }
        }
        None
    }

    fn digest(&self, world: &World) -> u64 {
        world.disk_digests().iter().fold(0, |all, one| all.rotate_left(7) ^ one)
    }
}

fn setup() -> Setup {
    let bytes = IoBuffer::zeroes((GUESTS * SECTORS_EACH * SECTOR) as usize);
    let image =
        |name: &str| DiskImage { atom: ByteLen(SECTOR), ..DiskImage::new(name, bytes.clone()) };
    let images = ["a", "b", "c"].map(image).to_vec();
    let budgets = Budgets { faults: 3, families: Families::ALL, ..Budgets::NONE };
    Setup { images, budgets, ..Setup::default() }
}

/// Runs a second, for each way of drawing them.
fn disks_alone() -> Figure {
    let Setup { images, budgets, seed, .. } = setup();
    let mut world = World::new(&images, budgets, seed);
    let untraced = rate(|| {
        for seed in 0..RUNS {
            let mut walk = RandomWalk::new(seed);
            let limits = Limits::default();
            let report = run_once(&mut world, &Storing, &mut walk, limits, &mut |_, _| ());
            assert_eq!(report.outcome, Outcome::Ended, "seed {seed}");
        }
        RUNS
    });
    let drawn = [Sampling::Random, Sampling::Swarm].map(|strategy| {
        let sample = || {
            clean(explore(&Storing, &setup(), RUNS, |explorer| explorer.sample(strategy, 0..RUNS)))
        };
        (strategy.word().to_owned(), rate(|| sample().executions))
    });
    let mut figure = Figure::mean(drawn);
    figure.parts.push(("random, without traces".to_owned(), untraced));
    figure
}

pub const ROWS: &[Row] = &[
    Row {
        name: "storage",
        what: "storage simulation, disks alone: runs a second",
        target: Target::AtLeast(20_000),
        sides: [None, None, Some(disks_alone)],
    },
    Row {
        name: "storage-stack",
        what: "storage simulation, whole stack: runs a second",
        target: Target::AtLeast(2_000),
        sides: [None, None, Some(stack::simulations)],
    },
];
