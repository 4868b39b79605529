//! A scenario being played in a world.

use std::collections::BTreeMap;
use std::sync::Arc;

use blockyard_block::{Backend, BlockLayer};
use blockyard_graph::{Parent, ROOT};
use blockyard_models::{Durability, EndState, GuestRegister, Progress, Violation, data};
use blockyard_qmp::{Monitor, Subscriber};
use blockyard_runtime::IoBuffer;
use blockyard_sync::door::Kind;
use blockyard_sync::door::world::Quiet;
use blockyard_sync::{Event, Shared};
use blockyard_units::{BackendId, ByteRange, Design, StoredBitmaps};

use crate::actors::Actor;
use crate::bitmaps::Bitmaps;
use crate::checks::Checks;
use crate::durable::{self, PowerLosses};
use crate::figures::Figures;
use crate::refused::Defined;
use crate::script::Script;
use crate::steps::{DiskSpec, Step};
use crate::tally::{Counts, JOBS_AT_ONCE, LAYERS, POWER_LOSSES, Tally};
use crate::told::Told;
use crate::world::World;
use crate::written::{GuestWrite, Writes};

/// A guest device: a backend, and the models that say what reads may return and what is promised to last.
pub(crate) struct Device {
    pub backend: Backend,
    data: Arc<Data>,
}

/// What devices on one disk have in common.
struct Data {
    /// The backend that came first; it tells disks apart.
    first: BackendId,
    /// Orders invocations and responses of overlapping requests: an invocation reads, a response adds.
    order: Shared<()>,
    models: Quiet<Models>,
}

/// By name.
pub(crate) type Devices = Quiet<BTreeMap<String, Arc<Device>>>;

pub(crate) struct Models {
    pub register: GuestRegister,
    pub durability: Durability,
    /// What is written was forgotten when it began.
    pub forgets: bool,
    requests: u64,
}

/// What a device was at one moment.
#[derive(Clone)]
pub(crate) struct AsItWas {
    pub register: GuestRegister,
    /// The number of its last request.
    pub requests: u64,
}

/// How far the guest load has come.
#[derive(Default)]
pub(crate) struct Load {
    pub writes: Shared<u64>,
    /// Its last write has ended.
    pub ended: Event,
}

/// A scenario being played.
pub struct Stage {
    pub(crate) script: Arc<Script>,
    pub(crate) design: Design,
    pub(crate) world: Arc<dyn World>,
    pub(crate) monitor: Monitor,
    pub(crate) checks: Arc<Checks>,
    pub(crate) devices: Arc<Devices>,
    pub(crate) load: Option<Load>,
    /// The setup is done.
    ready: Event,
    /// Actors still at work.
    pub(crate) at_work: Shared<u64>,
    /// Guest writes under way.
    pub(crate) writes: Writes,
    pub(crate) tally: Arc<Tally>,
    pub(crate) told: Arc<Told>,
    pub(crate) defined: Defined,
    /// No guest request begins any more.
    pub(crate) hold: Arc<Event>,
}

/// How a run ended, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The graph.
    pub graph: String,
    /// Guest writes of the load, if there was one.
    pub load_writes: u64,
}

impl Stage {
    /// Builds the layer and starts the actors. Called in the world's own first step. `with_load`: run the guest load
    /// too, if the scenario has one.
    pub fn start(
        script: Arc<Script>,
        design: Design,
        world: Arc<dyn World>,
        with_load: bool,
    ) -> Arc<Self> {
        let hold = Arc::new(Event::default());
        let devices = Arc::new(Devices::default());
        let follow = design.bitmaps == StoredBitmaps::Follow;
        let bitmaps = Bitmaps::new(script.bitmap_owners(), follow);
        let disks = script.disks.clone();
        let checks = Checks::new(world.clone(), hold.clone(), disks, devices.clone(), bitmaps);
        let checks = Arc::new(checks);
        let layer = BlockLayer::new(world.runtime(), design, checks.clone());
        let monitor = Monitor::new(layer, world.files(), checks.clone());
        let tally = Arc::new(Tally::default());
        let told = Arc::new(Told {
            hub: monitor.events().clone(),
            checks: checks.clone(),
            devices: devices.clone(),
            tally: tally.clone(),
            state: Quiet::default(),
        });
        monitor.layer().set_events(told.clone());
        let stage = Arc::new(Self {
            design,
            world,
            monitor,
            checks,
            devices,
            load: (with_load && script.load.is_some()).then(Load::default),
            ready: Event::default(),
            at_work: Shared::new((script.actors.len() - script.keepers().len()) as u64),
            writes: Writes::default(),
            tally,
            told,
            defined: Defined::by(&script),
            hold,
            script,
        });
        stage.spawn_actors();
        stage
    }

    fn spawn_actors(self: &Arc<Self>) {
        let runtime = self.world.runtime();
        let setup = Actor::new(self.clone(), 0, "setup", &self.script.setup);
        let stage = self.clone();
        drop(runtime.spawn("setup", async move {
            stage.world.spare_requests(true);
            let done = setup.run(&stage.script.setup).await;
            stage.world.spare_requests(false);
            // A setup that fails has been reported, and nobody begins.
            if done {
                stage.ready.set();
            }
        }));
        for (index, (name, steps)) in self.script.actors.iter().enumerate() {
            let actor = Actor::new(self.clone(), index as u64 + 1, name, steps);
            let stage = self.clone();
            drop(runtime.spawn(name.clone(), async move {
                stage.ready.wait().await;
                let (name, steps) = &stage.script.actors[index];
                actor.run(steps).await;
                if !stage.script.keepers().contains(&name.as_str()) {
                    stage.at_work.add(|left| *left -= 1);
                }
            }));
        }
        if self.load.is_some() {
            let stage = self.clone();
            drop(runtime.spawn("load", async move {
                stage.ready.wait().await;
                if let Some(load) = &stage.load {
                    crate::guest::run_load(&stage, load).await;
                    load.ended.set();
                }
            }));
        }
    }

    /// Whether a mirror has pivoted.
    pub fn has_pivoted(&self) -> bool {
        self.checks.has_pivoted()
    }

    /// The disks of the full mirror that has pivoted, if one has: source and target.
    pub fn mirrored(&self) -> Option<(String, String)> {
        self.checks.mirrored()
    }

    /// An actor's last acknowledged write that began after the pivot, and the disk that its device leads to; none if
    /// another write may have changed the same place after it.
    pub fn last_write(&self) -> Option<(GuestWrite, String)> {
        let write = self.writes.last()?;
        let graph = self.monitor.layer().graph();
        let root = graph.child(Parent::Backend(self.device(&write.device).backend.id()), ROOT)?;
        let disk = self.checks.filename_below(&graph, root)?;
        Some((write, disk))
    }

    /// What was measured so far, where the world has a clock for it; to be asked when nothing can happen any more.
    pub fn figures(&self) -> Figures {
        self.checks.figures.figures(self.monitor.layer())
    }

    /// What was tried, and how often it succeeded.
    pub fn counts(&self) -> Counts {
        let (jobs, layers) = self.checks.most();
        let power_losses = u64::from(self.script.crashes);
        for (number, what) in [(jobs, JOBS_AT_ONCE), (layers, LAYERS), (power_losses, POWER_LOSSES)]
        {
            self.tally.had(format!("{number} {what}"));
        }
        self.checks.passed().into_iter().for_each(|passed| self.tally.had(passed));
        self.tally.counts()
    }

    /// The monitor, for looking at the graph.
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Guest writes that the load has completed.
    pub fn load_writes(&self) -> u64 {
        self.load.as_ref().map_or(0, |load| load.writes.read(|writes| *writes))
    }

    /// Waits until every actor has come to its end, and the load then to its own.
    ///
    /// # Yields
    /// Always.
    pub async fn wait_actors(&self) {
        self.at_work.wait_until(|left| *left == 0).await;
        if let Some(load) = &self.load {
            load.ended.wait().await;
        }
    }

    /// Judges the end, when nothing can happen any more. `unfinished`: tasks that wait for ever.
    ///
    /// # Errors
    /// What is not at rest.
    pub fn judge(&self, mut unfinished: Vec<String>) -> Result<Ended, Violation> {
        let layer = self.monitor.layer();
        let keepers = self.script.keepers();
        unfinished.retain(|task| !keepers.contains(&task.as_str()));
        let over = |(_, status): &(String, String)| status == "null" || status == "concluded";
        let jobs = self.checks.unfinished_jobs().into_iter().filter(|job| !over(job)).collect();
        Progress::check(&EndState {
            in_flight: layer.in_flight(),
            sections: layer.open_sections(),
            parked: layer.backend_requests() as usize,
            unfinished,
            jobs,
        })?;
        self.checks.judge_end()?;
        self.told.judge_end(layer)?;
        self.checks.bitmaps.judge(layer)?;
        self.checks.unless_excused(self.checks.backups.judge(&self.checks, &layer.graph()))?;
        self.checks.unless_excused(self.judge_changed())?;
        self.checks.unless_excused(self.judge_contents())?;
        Ok(Ended { graph: layer.graph().describe(), load_writes: self.load_writes() })
    }

    /// Judges whatever power losses may have come before the end.
    ///
    /// # Errors
    /// One that leaves a guest without what it was promised.
    pub fn judge_power_losses(&self, losses: &impl PowerLosses) -> Result<(), Violation> {
        for (id, device) in self.devices.with(|devices| devices.clone()) {
            let roots = self.checks.roots(&id);
            let judge = |models: &mut Models| durable::judge(losses, &roots, &models.durability);
            let judged = device.data.models.with(judge).map(|states| self.tally.judged(states));
            self.checks.unless_excused(judged)?;
            let bitmaps = self.script.recording_bitmaps();
            if self.design.bitmaps == StoredBitmaps::Follow && !bitmaps.is_empty() {
                let judge = |models: &mut Models| {
                    durable::judge_bitmaps(losses, &roots, &models.durability, &bitmaps)
                };
                let judged = device.data.models.with(judge);
                self.checks.unless_excused(judged.map(|states| self.tally.judged(states)))?;
            }
        }
        Ok(())
    }

    /// What each device leads to in the end is what its guest may read there.
    fn judge_contents(&self) -> Result<(), Violation> {
        let graph = self.monitor.layer().graph();
        for device in self.devices.with(|devices| devices.values().cloned().collect::<Vec<_>>()) {
            let Some(root) = graph.child(Parent::Backend(device.backend.id()), ROOT) else {
                continue;
            };
            self.checks.look_below(&graph, root, &|bytes| {
                let whole = ByteRange::new(0, bytes.len() as u64);
                let invoke = |models: &mut Models, read| models.register.invoke_read(read, whole);
                let read = device.invoke(&[whole], invoke);
                device.respond(&[whole], |models| models.register.respond_read(read, bytes))
            })?;
        }
        Ok(())
    }

    pub(crate) fn device(&self, id: &str) -> Arc<Device> {
        let device = self.devices.with(|devices| devices.get(id).cloned());
        device.expect("a script names only devices that its setup makes")
    }

    pub(crate) fn subscribe(&self, steps: &[Step]) -> Option<Arc<Subscriber>> {
        let mut names = Vec::new();
        for step in steps {
            step.visit_all(&mut |step| {
                if let Step::Wait { event, or_end, .. } = step {
                    names.push(event.clone());
                    names.extend(or_end.iter().map(|(name, _)| name.clone()));
                }
            });
        }
        (!names.is_empty()).then(|| self.monitor.events().subscribe(names))
    }
}

impl Device {
    /// The first one on its disk, which is filled so.
    pub fn new(backend: Backend, fill: Option<(ByteRange, u64)>, forgets: bool) -> Self {
        let mut register = GuestRegister::new(backend.name());
        let mut durability = Durability::new(backend.name());
        if let Some((range, tag)) = fill {
            register.fill(range, tag);
            durability.fill(range, tag);
        }
        let models = Quiet::new(Models { register, durability, forgets, requests: 0 });
        let (first, order) = (backend.id(), Shared::new(()));
        Self { backend, data: Arc::new(Data { first, order, models }) }
    }

    /// One that shows what another was.
    pub fn that_shows(backend: Backend, was: AsItWas) -> Self {
        let mut durability = Durability::new(backend.name());
        let AsItWas { register, requests } = was;
        for (range, data) in register.contents() {
            durability.fill_with_any(range, data);
        }
        let models = Quiet::new(Models { register, durability, forgets: false, requests });
        let (first, order) = (backend.id(), Shared::new(()));
        Self { backend, data: Arc::new(Data { first, order, models }) }
    }

    /// What its guest may find at this moment.
    pub fn as_it_is(&self) -> AsItWas {
        let everything = footprint(Kind::Write, &[ByteRange::new(0, FAR)]).collect::<Vec<_>>();
        self.data.order.trusted(everything, |()| {
            self.data.models.with(|models| AsItWas {
                register: models.register.as_it_is(),
                requests: models.requests,
            })
        })
    }

    /// One more on this one's disk.
    pub fn beside(&self, backend: Backend) -> Self {
        Self { backend, data: self.data.clone() }
    }

    /// Whether the two are on one disk.
    pub fn shares(&self, other: &Self) -> bool {
        self.data.first == other.data.first
    }

    /// A request over these ranges begins; its number.
    pub fn invoke(&self, ranges: &[ByteRange], invoke: impl FnOnce(&mut Models, u64)) -> u64 {
        self.data.order.trusted(footprint(Kind::Read, ranges), |()| {
            self.data.models.with(|models| {
                models.requests += 1;
                let number = models.requests;
                invoke(models, number);
                number
            })
        })
    }

    /// The end of a request whose order with others does not matter.
    pub fn note(&self, note: impl FnOnce(&mut Models)) {
        self.data.models.with(note);
    }

    /// It was led to a disk that nobody had used before.
    pub fn has_other_medium(&self, disk: &DiskSpec) {
        let (inside, behind) = (ByteRange::new(0, disk.size), ByteRange::between(disk.size, FAR));
        let everything = footprint(Kind::Write, &[ByteRange::new(0, FAR)]).collect::<Vec<_>>();
        self.data.order.trusted(everything, |()| {
            self.data.models.with(|models| {
                models.register.replace_contents(inside, disk.fill_tag);
                models.register.replace_contents(behind, 0);
            });
        });
    }

    /// A request over these ranges ends. With two it is a copy: what it wrote is judged by what is known of its
    /// source by then.
    pub fn respond(
        &self,
        ranges: &[ByteRange],
        respond: impl FnOnce(&mut Models) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let kind = if ranges.len() > 1 { Kind::Write } else { Kind::Add };
        self.data.order.trusted(footprint(kind, ranges), |()| self.data.models.with(respond))
    }
}

/// Behind every disk's end.
pub(crate) const FAR: u64 = 1 << 40;

fn footprint(kind: Kind, ranges: &[ByteRange]) -> impl Iterator<Item = (Kind, u64, u64)> + '_ {
    ranges.iter().map(move |range| (kind, range.start(), range.end()))
}

/// The data of the guest write with this tag.
pub(crate) fn guest_data(tag: u64, range: ByteRange) -> IoBuffer {
    let mut bytes = vec![0; range.len().as_usize()];
    data::fill_pattern(tag, range, &mut bytes);
    bytes.into()
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The layer tells who watches it, and he knows the devices, which lead to the layer.
        drop(self.devices.with(core::mem::take));
        self.monitor.jobs().let_go();
    }
}
