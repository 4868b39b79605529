//! Disk requests whose faults are choices like any other.

use blockyard_runtime::{IoBuffer, Runtime, Storage};
use blockyard_sim::{Budgets, DiskImage, Execution, Finding, Program, Setup, World};
use blockyard_units::ByteLen;

use crate::figure::{Figure, Row, Target};
use crate::search::exhaust;

const SECTOR: u64 = 512;
const WRITERS: u64 = 8;

/// Eight tasks write a sector each.
struct Writers;

impl Program for Writers {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let disk = world.disk("disk").expect("the setup has it");
        world.begin(|runtime: &Runtime| {
            for index in 0..WRITERS {
                let disk = disk.clone();
                drop(runtime.spawn("writer", async move {
                    let data = IoBuffer::from(vec![index as u8 + 1; SECTOR as usize]);
                    // Whether it failed is nobody's concern here.
                    let _ = disk.write(index * SECTOR, data, false).await;
                }));
            }
        });
        Box::new(Writers)
    }
}

impl Execution for Writers {
    fn judge(&self, world: &World) -> Option<Finding> {
        let unfinished = world.unfinished().first()?.to_string();
        Some(Finding { property: "progress".into(), message: unfinished })
    }

    fn digest(&self, world: &World) -> u64 {
        world.disk_digests()[0]
    }
}

fn writers(faults: u32) -> Figure {
    let bytes = IoBuffer::zeroes((WRITERS * SECTOR) as usize);
    let image = DiskImage { name: "disk".into(), bytes, atom: ByteLen(SECTOR) };
    let budgets = Budgets { faults, ..Budgets::NONE };
    exhaust(&Writers, &Setup { images: vec![image], budgets, seed: 0 })
}

pub const ROWS: &[Row] = &[
    Row {
        name: "writers",
        what: "8 tasks write a sector each: executions",
        target: Target::Exactly(1),
        sides: [None, None, Some(|| writers(0))],
    },
    Row {
        name: "writers-fault",
        what: "the same with at most one EIO: executions",
        target: Target::Exactly(9),
        sides: [None, None, Some(|| writers(1))],
    },
];
