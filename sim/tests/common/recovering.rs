//! Programs over one disk that recover, and are judged by what they recovered.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use blockyard_runtime::{IoBuffer, Runtime, Storage};
use blockyard_sim::{Execution, Finding, Program, Recovery, SimDisk, SimHandle, World};
use blockyard_sync::door::world::Quiet;
use blockyard_units::ByteRange;

pub const ATOM: u64 = 512;
/// What the tasks of a program and of its recovery share with their judge: no memory, only observations.
#[derive(Default)]
pub struct Observed {
    /// (what was acknowledged, in which step)
    pub acknowledged: Vec<(u64, u32)>,
    pub recovered: Option<u64>,
    pub sum: u64,
}

/// What tasks are given.
#[derive(Clone)]
pub struct Tools {
    pub disk: SimDisk,
    pub handle: SimHandle,
    pub observed: Arc<Quiet<Observed>>,
}

impl Tools {
    pub async fn write(&self, atom: u64, byte: u64) {
        let data = IoBuffer::from(vec![byte as u8; ATOM as usize]);
        // A failed write is nobody's concern here.
        let _ = self.disk.write(atom * ATOM, data, false).await;
    }

    pub async fn flush(&self) {
        self.disk.flush().await.expect("flushes succeed");
    }

    /// The first byte of an atom, all of whose bytes are the same.
    pub async fn read(&self, atom: u64) -> u64 {
        let bytes = self.disk.read(ByteRange::new(atom * ATOM, ATOM)).await;
        bytes.map_or(0, |bytes| u64::from(bytes[0]))
    }

    pub fn acknowledge(&self, what: u64) {
        let step = self.handle.observe_step();
        self.observed.with(|observed| observed.acknowledged.push((what, step)));
    }
}

type Body = Rc<dyn Fn(&Runtime, Tools)>;
type Demand = Rc<dyn Fn(u64, &[u64]) -> Result<(), String>>;

/// A program, its recovery, and what is demanded of what was recovered, given what had been acknowledged.
#[derive(Clone)]
pub struct Recovering {
    main: Body,
    recovery: Body,
    demand: Demand,
    pub ends: Rc<Quiet<BTreeSet<u64>>>,
}

impl Recovering {
    pub fn new(
        main: impl Fn(&Runtime, Tools) + 'static,
        recovery: impl Fn(&Runtime, Tools) + 'static,
    ) -> Self {
        let demand = Rc::new(|_, _: &[u64]| Ok(()));
        Self { main: Rc::new(main), recovery: Rc::new(recovery), demand, ends: Rc::default() }
    }

    pub fn demanding(self, demand: impl Fn(u64, &[u64]) -> Result<(), String> + 'static) -> Self {
        Self { demand: Rc::new(demand), ..self }
    }
}

struct Run {
    program: Recovering,
    tools: Tools,
    recovers: bool,
}

impl Program for Recovering {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let disk = world.disk("a").expect("there is one disk");
        let tools = Tools { disk, handle: world.handle(), observed: Arc::default() };
        world.begin(|runtime| (self.main)(runtime, tools.clone()));
        Box::new(Run { program: self.clone(), tools, recovers: false })
    }
}

impl Execution for Run {
    fn judge(&self, world: &World) -> Option<Finding> {
        let finding = |property: &str, message| Finding { property: property.into(), message };
        if !world.unfinished().is_empty() {
            return Some(finding("progress", "a task never ended".into()));
        }
        if !self.recovers {
            return None;
        }
        let cut = world.cut();
        let (recovered, acknowledged) = self.tools.observed.with(|observed| {
            let known = observed.acknowledged.iter().filter(|(_, step)| cut.contains(*step));
            let known: Vec<u64> = known.map(|(what, _)| *what).collect();
            (observed.recovered.unwrap_or(observed.sum), known)
        });
        self.program.ends.with(|ends| ends.insert(recovered));
        let judged = (self.program.demand)(recovered, &acknowledged);
        judged.err().map(|message| finding("durability", message))
    }

    fn digest(&self, _world: &World) -> u64 {
        self.tools.observed.with(|observed| observed.recovered.map_or(observed.sum, |r| r + 1000))
    }

    fn recovery(&self) -> Option<Recovery<'_>> {
        Some(Box::new(|world| {
            self.tools.observed.with(|observed| (observed.recovered, observed.sum) = (None, 0));
            world.begin(|runtime| (self.program.recovery)(runtime, self.tools.clone()));
            let (program, tools) = (self.program.clone(), self.tools.clone());
            Box::new(Run { program, tools, recovers: true })
        }))
    }
}

/// Eight tasks write a sector each; recovery reads the first ones, one after the other or each by a task.
pub fn eight_writers(reads: u64, at_once: bool) -> Recovering {
    let main = |runtime: &Runtime, tools: Tools| {
        for index in 0..8 {
            let tools = tools.clone();
            let writer = async move { tools.write(index, index + 1).await };
            drop(runtime.spawn(format!("t{index}"), writer));
        }
    };
    let recovery = move |runtime: &Runtime, tools: Tools| {
        let (readers, each) = if at_once { (reads, 1) } else { (1, reads) };
        for reader in 0..readers {
            let tools = tools.clone();
            drop(runtime.spawn(format!("recovery{reader}"), async move {
                for atom in reader..reader + each {
                    let sum = tools.read(atom).await << (8 * atom);
                    tools.observed.with(|observed| observed.sum += sum);
                }
            }));
        }
    };
    Recovering::new(main, recovery)
}

pub const RECORDS: u64 = 100;

/// A log of records, each a header and a body; recovery reads until something is not what it should be.
pub fn log() -> Recovering {
    let main = |runtime: &Runtime, tools: Tools| {
        drop(runtime.spawn("writer", async move {
            for record in 0..RECORDS {
                let data = IoBuffer::from(vec![record as u8 + 1; 2 * ATOM as usize]);
                let written = tools.disk.write(2 * record * ATOM, data, false).await;
                written.expect("no fault is budgeted");
            }
        }));
    };
    let recovery = |runtime: &Runtime, tools: Tools| {
        drop(runtime.spawn("recovery", async move {
            for atom in 0..2 * RECORDS {
                if tools.read(atom).await != atom / 2 + 1 {
                    break;
                }
                tools.observed.with(|observed| observed.sum += 1);
            }
        }));
    };
    Recovering::new(main, recovery)
}
