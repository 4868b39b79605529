//! Small programs that lose power: eras of tasks over disks, each era the recovery of the one before.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use blockyard_runtime::{Runtime, Storage};
use blockyard_sim::{
    Cache, DiskImage, Execution, Finding, Program, Recovery, SimDisk, SimHandle, World,
};
use blockyard_sync::door::world::Quiet;
use blockyard_sync::{Shared, door};
use blockyard_units::ByteRange;

use super::task;

/// One operation of a task; each takes a poll, and the next poll knows that it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Write {
        disk: usize,
        offset: u64,
        len: u64,
        fua: bool,
    },
    Flush {
        disk: usize,
    },
    Read {
        disk: usize,
        offset: u64,
        len: u64,
    },
    /// Raises a number of the era.
    Tell,
    /// Waits until it is raised.
    Hear,
}

/// The operations of each task.
pub type Era = Vec<Vec<Op>>;

/// What is written in an era by a task's operation.
pub fn fill(era: usize, task: usize, op: usize) -> u8 {
    (era * 64 + task * 8 + op + 1) as u8
}

/// (task, operation, every 128th byte), of reads.
pub type Reads = BTreeSet<(usize, usize, Vec<u8>)>;
/// (era, task, operation), of operations that are known to be done.
pub type Acks = BTreeSet<(usize, usize, usize)>;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    /// The last era.
    pub era: usize,
    /// What was read in it.
    pub reads: Reads,
    /// What had been acknowledged by then, power losses considered.
    pub acks: Acks,
}

/// What the tasks of an era tell their observer; steps are numbers.
#[derive(Default)]
pub struct Seen {
    pub reads: Reads,
    pub acks: Vec<((usize, usize, usize), u32)>,
}

/// Spawns the tasks of an era.
pub fn start(
    runtime: &Runtime,
    handle: &SimHandle,
    disks: &[SimDisk],
    (era, tasks): (usize, &Era),
    seen: &Arc<Quiet<Seen>>,
) {
    let told = Arc::new(Shared::new(0));
    for (index, ops) in tasks.iter().enumerate() {
        let (disks, ops, told) = (disks.to_vec(), ops.clone(), told.clone());
        let (seen, handle) = (seen.clone(), handle.clone());
        task(runtime, &format!("t{index}"), async move {
            for (number, op) in ops.into_iter().enumerate() {
                let read = operate(&disks, &told, op, fill(era, index, number)).await;
                let step = handle.observe_step();
                seen.with(|seen| {
                    seen.reads.extend(read.map(|bytes| (index, number, bytes)));
                    seen.acks.push(((era, index, number), step));
                });
            }
        });
    }
}

async fn operate(disks: &[SimDisk], told: &Shared<u32>, op: Op, fill: u8) -> Option<Vec<u8>> {
    let fine = "no fault is budgeted";
    match op {
        Op::Write { disk, offset, len, fua } => {
            let data = vec![fill; len as usize].into();
            disks[disk].write(offset, data, fua).await.expect(fine);
        }
        Op::Flush { disk } => disks[disk].flush().await.expect(fine),
        Op::Read { disk, offset, len } => {
            let bytes = disks[disk].read(ByteRange::new(offset, len)).await.expect(fine);
            // Writes begin and end at multiples of that.
            return Some(bytes.iter().step_by(128).copied().collect());
        }
        Op::Tell => {
            told.add(|told| *told += 1);
            door::boundary().await;
        }
        Op::Hear => told.wait_until(|told| *told > 0).await,
    }
    None
}

/// Disks `a`, of two atoms, and `b`, of one.
pub const LENGTHS: [usize; 2] = [1024, 512];

pub fn images(contents: &[Vec<u8>], cache: Cache, torn: bool) -> Vec<DiskImage> {
    let image = |(name, bytes): (&str, &Vec<u8>)| {
        let image = DiskImage::new(name, bytes.clone());
        DiskImage { cache, torn, ..image }
    };
    ["a", "b"].into_iter().zip(contents).map(image).collect()
}

pub fn disks(world: &World) -> Vec<SimDisk> {
    ["a", "b"].iter().filter_map(|name| world.disk(name)).collect()
}

/// A program of eras; how each run ends is collected.
#[derive(Clone)]
pub struct Crashing {
    pub eras: Rc<Vec<Era>>,
    pub ended: Rc<Quiet<BTreeSet<Ended>>>,
}

struct Run {
    program: Crashing,
    era: usize,
    seen: Arc<Quiet<Seen>>,
    /// Of earlier eras.
    acks: Vec<((usize, usize, usize), u32)>,
}

impl Crashing {
    pub fn new(eras: Vec<Era>) -> Self {
        Self { eras: Rc::new(eras), ended: Rc::default() }
    }

    fn begin(
        &self,
        world: &mut World,
        era: usize,
        acks: Vec<((usize, usize, usize), u32)>,
    ) -> Box<dyn Execution> {
        let (seen, handle, disks) = (Arc::default(), world.handle(), disks(world));
        world.begin(|runtime| start(runtime, &handle, &disks, (era, &self.eras[era]), &seen));
        Box::new(Run { program: self.clone(), era, seen, acks })
    }
}

impl Program for Crashing {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        self.begin(world, 0, Vec::new())
    }
}

impl Run {
    fn acks(&self) -> Vec<((usize, usize, usize), u32)> {
        [self.acks.clone(), self.seen.with(|seen| seen.acks.clone())].concat()
    }

    fn ended(&self, world: &World) -> Ended {
        let cut = world.cut();
        let acks = self.acks().into_iter().filter(|(_, step)| cut.contains(*step));
        let reads = self.seen.with(|seen| seen.reads.clone());
        Ended { era: self.era, reads, acks: acks.map(|(ack, _)| ack).collect() }
    }
}

impl Execution for Run {
    fn judge(&self, world: &World) -> Option<Finding> {
        let ended = self.ended(world);
        self.program.ended.with(|all| all.insert(ended));
        None
    }

    fn digest(&self, world: &World) -> u64 {
        let text = format!("{:?}", self.ended(world));
        text.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
    }

    fn recovery(&self) -> Option<Recovery<'_>> {
        let next = self.era + 1;
        let recover = move |world: &mut World| self.program.begin(world, next, self.acks());
        (next < self.program.eras.len()).then(|| Box::new(recover) as Recovery<'_>)
    }
}
