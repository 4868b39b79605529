//! A scenario as a program of the simulated world.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockyard_models::Violation;
use blockyard_qmp::{Files, Opening};
use blockyard_runtime::{Runtime, Storage};
use blockyard_scenario::{
    Contents, Count, DiskLatency, DiskSpec, PowerLoss, PowerLosses, Script, Stage,
};
use blockyard_sim::{
    self as sim, Budgets, Counts, DiskImage, Execution, Finding, Latency, Left, Program, Setup,
    SimDisk, SimHandle, Time, World,
};
use blockyard_sync::Shared;
use blockyard_units::{ByteLen, ByteRange, Design};

/// A scenario under a design.
pub struct ScenarioProgram {
    /// The scenario.
    pub script: Arc<Script>,
    /// The decisions.
    pub design: Design,
}

/// The world that a scenario asks for.
pub fn setup_of(script: &Script, seed: u64) -> Setup {
    let image = |(name, spec): (&String, &DiskSpec)| {
        let bytes = spec.bytes(ByteRange::new(0, spec.size));
        let (capacity, alignment) = (ByteLen(spec.capacity), spec.alignment);
        let latency = latency(&spec.latency);
        DiskImage { capacity, alignment, latency, ..DiskImage::new(name, bytes) }
    };
    let images = script.disks.iter().map(image).collect();
    let Script { faults, crashes, .. } = *script;
    let budgets = Budgets { faults, crashes, ..Budgets::NONE };
    Setup { images, budgets, seed, ..Setup::default() }
}

/// What a scenario does not say of a disk is as it is with most.
fn latency(said: &DiskLatency) -> Latency {
    let DiskLatency { read_ns, write_ns, flush_ns, jitter_ns, bandwidth } = *said;
    let most = Latency::default();
    Latency {
        read_ns: read_ns.unwrap_or(most.read_ns),
        write_ns: write_ns.unwrap_or(most.write_ns),
        flush_ns: flush_ns.unwrap_or(most.flush_ns),
        jitter_ns: jitter_ns.unwrap_or(most.jitter_ns),
        bandwidth: bandwidth.unwrap_or(most.bandwidth),
    }
}

pub(crate) struct Simulated {
    handle: SimHandle,
    time: Time,
    may_lose_power: bool,
    disks: Arc<BTreeMap<String, SimDisk>>,
    /// The disks that are not there yet.
    absent: Vec<String>,
}

struct SimulatedFiles {
    disks: Arc<BTreeMap<String, SimDisk>>,
    /// The files that are not there until they are made, and whether they are. That is durable at once.
    made: BTreeMap<String, Shared<bool>>,
}

impl Files for SimulatedFiles {
    fn open(&self, filename: &str, _opening: Opening) -> Result<Arc<dyn Storage>, String> {
        match self.disks.get(filename) {
            Some(_) if self.made.get(filename).is_some_and(|made| !made.read(|made| *made)) => {
                Err(format!("{filename}: no such file"))
            }
            Some(disk) => Ok(Arc::new(disk.clone())),
            None => Err(format!("there is no disk '{filename}'")),
        }
    }

    fn create(&self, filename: &str) -> Result<Arc<dyn Storage>, String> {
        let disk = self.disks.get(filename);
        let disk = disk.ok_or_else(|| format!("there is no disk '{filename}'"))?;
        if let Some(made) = self.made.get(filename) {
            made.write(|made| *made = true);
        }
        Ok(Arc::new(disk.clone()))
    }
}

impl blockyard_scenario::World for Simulated {
    fn runtime(&self) -> Runtime {
        self.handle.runtime()
    }

    fn files(&self) -> Arc<dyn Files> {
        let made = self.absent.iter().map(|name| (name.clone(), Shared::new(false))).collect();
        Arc::new(SimulatedFiles { disks: self.disks.clone(), made })
    }

    fn report(&self, property: &str, message: String) {
        self.handle.report(Finding { property: property.into(), message });
    }

    fn spare_requests(&self, on: bool) {
        self.handle.spare_requests(on);
    }

    fn observed_ns(&self) -> Option<u64> {
        (self.time == Time::Timed).then(|| self.handle.observe_now_ns())
    }

    fn may_lose_power(&self) -> bool {
        self.may_lose_power
    }

    fn damaged(&self) -> bool {
        self.disks.values().any(SimDisk::is_damaged)
    }

    fn step(&self) -> u32 {
        self.handle.observe_step()
    }

    fn compare(
        &self,
        (a, b): (&str, &str),
        len: ByteLen,
        judge: &dyn Fn(Contents<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let (Some(a), Some(b)) = (self.disks.get(a), self.disks.get(b)) else { return Ok(()) };
        // It may have become shorter.
        let len = len.as_usize();
        if a.name() == b.name() {
            let judge = |bytes: &[u8]| judge((bytes, bytes));
            return a.observe(|bytes| judge(&bytes[..len.min(bytes.len())]));
        }
        a.observe_both(b, |a, b| judge((&a[..len.min(a.len())], &b[..len.min(b.len())])))
    }
}

/// The power losses of a simulated run.
struct Losses(sim::PowerLosses);

impl PowerLosses for Losses {
    type Left = Left;

    fn left(&self, disk: &str) -> Vec<Left> {
        self.0.left(disk)
    }

    fn is_settled(&self, left: &Left) -> bool {
        self.0.is_settled(left)
    }

    fn are_behind(&self, step: u32) -> bool {
        self.0.are_behind(step)
    }

    fn bytes<'a>(&self, left: &'a Left) -> (ByteRange, &'a [u8]) {
        (left.range, &left.bytes)
    }

    fn latest(&self, left: &[&Left]) -> Option<PowerLoss> {
        let cut = self.0.cut(left)?;
        let when = match cut.first_undone() {
            Some(step) => format!("power was lost before step {}", step + 1),
            None => "power was lost after the last step".into(),
        };
        Some(PowerLoss { happened: Box::new(move |step| cut.contains(step)), when })
    }
}

/// A scenario being played.
pub(crate) struct Run(pub Arc<Stage>);

impl ScenarioProgram {
    /// Plays it, with the guest load where the time goes by.
    pub(crate) fn stage(&self, world: &mut World) -> (Arc<Stage>, Arc<Simulated>) {
        let time = world.time;
        let named = |name: &String| Some((name.clone(), world.disk(name)?));
        let disks = Arc::new(self.script.disks.keys().filter_map(named).collect());
        let may_lose_power = world.budgets().crashes > 0;
        let absent = self.script.disks.iter().filter(|(_, disk)| !disk.is_there());
        let absent = absent.map(|(name, _)| name.clone()).collect();
        let handle = world.handle();
        let simulated = Arc::new(Simulated { handle, time, may_lose_power, disks, absent });
        let (script, design) = (self.script.clone(), self.design);
        let with_load = time == Time::Timed;
        let stage = world.begin(|_| Stage::start(script, design, simulated.clone(), with_load));
        (stage, simulated)
    }
}

impl Program for ScenarioProgram {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        Box::new(Run(self.stage(world).0))
    }
}

impl Execution for Run {
    fn judge(&self, world: &World) -> Option<Finding> {
        let unfinished = world.unfinished().into_iter().map(String::from).collect();
        let judged = self.0.judge(unfinished).and_then(|_| match world.budgets().crashes {
            0 => Ok(()),
            _ => self.0.judge_power_losses(&Losses(world.power_losses())),
        });
        let violation = judged.err()?;
        let property = violation.property.word().into();
        Some(Finding { property, message: violation.message })
    }

    fn counts(&self) -> Counts {
        let counts = self.0.counts().into_iter();
        let numbers = |Count { tried, succeeded, in_flight }| [tried, succeeded, in_flight];
        counts.map(|(name, count)| (name, numbers(count))).collect()
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

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use blockyard_scenario::BUILTIN;
    use blockyard_sim::{Explorer, Limits};
    use blockyard_sync::door::world::Quiet;

    use super::*;

    struct Watched(ScenarioProgram, Quiet<Vec<Weak<Simulated>>>);

    impl Program for Watched {
        fn start(&self, world: &mut World) -> Box<dyn Execution> {
            let (stage, simulated) = self.0.stage(world);
            self.1.with(|worlds| worlds.push(Arc::downgrade(&simulated)));
            Box::new(Run(stage))
        }
    }

    #[test]
    fn a_run_that_is_over_leaves_nothing_in_memory() {
        for (name, text) in BUILTIN {
            let script =
                Script::compile(text, &BTreeMap::new()).expect("it comes with the program");
            let setup = setup_of(&script, 0);
            let program = ScenarioProgram { script: Arc::new(script), design: Design::default() };
            let program = Watched(program, Quiet::default());
            let mut go_on = |_: &sim::Summary| true;
            Explorer::new(&program, setup, Limits::default(), &mut go_on).random(0..5);
            program.1.with(|worlds| {
                let left = worlds.iter().filter(|world| world.strong_count() > 0).count();
                assert!(worlds.len() >= 5 && left == 0, "{name}: {left} of {}", worlds.len());
            });
        }
    }
}
