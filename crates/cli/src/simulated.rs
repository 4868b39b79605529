//! A scenario as a program of the simulated world.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockyard_models::{Violation, data};
use blockyard_qmp::Files;
use blockyard_runtime::{IoBuffer, Runtime, Storage};
use blockyard_scenario::{Contents, Script, Stage};
use blockyard_sim::{
    Budgets, DiskImage, Execution, Finding, Program, Setup, SimDisk, SimHandle, World,
};
use blockyard_units::{ByteLen, ByteRange, Design};

/// A scenario under a design.
pub struct ScenarioProgram {
    /// The scenario.
    pub script: Arc<Script>,
    /// The decisions.
    pub design: Design,
}

/// The world that a scenario needs.
pub fn setup_of(script: &Script, faults: u32, seed: u64) -> Setup {
    let image = |(name, spec): (&String, &blockyard_scenario::DiskSpec)| {
        let mut bytes = vec![0; spec.size as usize];
        data::fill_pattern(spec.fill_tag, ByteRange::new(0, spec.size), &mut bytes);
        DiskImage { name: name.clone(), bytes: IoBuffer::from(bytes), atom: ByteLen(512) }
    };
    let images = script.disks.iter().map(image).collect();
    Setup { images, budgets: Budgets { faults, ..Budgets::NONE }, seed, ..Setup::default() }
}

struct Simulated {
    handle: SimHandle,
    disks: Arc<BTreeMap<String, SimDisk>>,
}

struct SimulatedFiles(Arc<BTreeMap<String, SimDisk>>);

impl Files for SimulatedFiles {
    fn open(&self, filename: &str, _read_only: bool) -> Result<Arc<dyn Storage>, String> {
        match self.0.get(filename) {
            Some(disk) => Ok(Arc::new(disk.clone())),
            None => Err(format!("there is no disk '{filename}'")),
        }
    }
}

impl blockyard_scenario::World for Simulated {
    fn runtime(&self) -> Runtime {
        self.handle.runtime()
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(SimulatedFiles(self.disks.clone()))
    }

    fn report(&self, property: &str, message: String) {
        self.handle.report(Finding { property: property.into(), message });
    }

    fn compare(
        &self,
        (a, b): (&str, &str),
        len: ByteLen,
        judge: &dyn Fn(Contents<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let (Some(a), Some(b)) = (self.disks.get(a), self.disks.get(b)) else { return Ok(()) };
        let len = len.as_usize();
        if a.name() == b.name() {
            return a.observe(|bytes| judge((&bytes[..len], &bytes[..len])));
        }
        a.observe_both(b, |a, b| judge((&a[..len], &b[..len.min(b.len())])))
    }
}

struct Run(Arc<Stage>);

impl Program for ScenarioProgram {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let named = |name: &String| Some((name.clone(), world.disk(name)?));
        let disks = Arc::new(self.script.disks.keys().filter_map(named).collect());
        let simulated = Arc::new(Simulated { handle: world.handle(), disks });
        let (script, design) = (self.script.clone(), self.design);
        Box::new(Run(world.begin(|_| Stage::start(script, design, simulated, false))))
    }
}

impl Execution for Run {
    fn judge(&self, world: &World) -> Option<Finding> {
        let unfinished = world.unfinished().into_iter().map(String::from).collect();
        let violation = self.0.judge(unfinished).err()?;
        let property = violation.property.word().into();
        Some(Finding { property, message: violation.message })
    }

    fn digest(&self, world: &World) -> u64 {
        let graph = self.0.monitor().layer().graph().describe();
        let mut hasher = blake3::Hasher::new();
        hasher.update(graph.as_bytes());
        world.disk_digests().iter().for_each(|digest| {
            hasher.update(&digest.to_le_bytes());
        });
        let bytes = hasher.finalize();
        u64::from_le_bytes(bytes.as_bytes()[..8].try_into().expect("a-hash-has-8-bytes"))
    }
}
