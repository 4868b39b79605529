//! A scenario played in turns, on one block layer or on two at once: nobody begins before everything has come to rest.
//!
//! Whose turn it is is drawn from a seed, and is the same on every side. So what happens has one outcome, and two
//! layers that mean the same show the same: after each step replies, events, nodes, edges, bitmaps and jobs are
//! compared, and at the end what guests can read.
//!
//! Invariant `one-order`: events are compared in their order, but for those of different jobs, which have none.
//! Not for: what only a schedule shows. That is explored in the simulated world.

mod actor;
mod chains;
mod compare;
mod expected;
mod look;
mod settle;
mod side;

use blockyard_units::ByteRange;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

pub use chains::chains;
pub use compare::Difference;
pub use expected::{EXPECTED, Expected};
pub use side::{Broken, Deed, Reply, Side, Told};

use crate::request::{Asked, Request};
use crate::script::Script;
use crate::steps::{Expect, Step};
use actor::{Actor, Next};
use look::{Look, look};
use settle::Jobs;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Played {
    /// Steps that somebody did.
    pub steps: u64,
    /// Events that each side told.
    pub events: u64,
    /// Where the sides do not agree.
    pub differences: Vec<Difference>,
    /// The first reply, in the setup or later, that the scenario does not expect.
    pub unexpected: Option<String>,
    /// Actors that wait for events which nobody will tell.
    pub waiting: Vec<String>,
    /// What can be seen of the first side at the end, in lines.
    pub seen: Vec<String>,
}

impl Played {
    /// Whether it went as the scenario says, and as everybody agrees.
    pub fn is_clean(&self) -> bool {
        let fine = |difference: &Difference| difference.expected.is_some();
        self.unexpected.is_none() && self.waiting.is_empty() && self.differences.iter().all(fine)
    }
}

/// The longest read in one request.
const PIECE: u64 = 1 << 20;

/// Sides, and what has come of a script so far.
struct Turns<'a, 's> {
    sides: &'a mut [Box<dyn Side + 's>],
    jobs: Vec<Jobs>,
    /// What was seen of each side last.
    looks: Vec<Look>,
    random: ChaCha8Rng,
    played: Played,
    /// What was done does not mean the same any more.
    apart: bool,
}

/// The same, said of a step.
fn at(step: &str, broken: Broken) -> Broken {
    match broken {
        Broken::Failed(side, why) => Broken::Failed(side, format!("{step}: {why}")),
        Broken::Interrupted => broken,
    }
}

/// The first step of a script that a side cannot do, and why.
pub fn refused(script: &Script, side: &dyn Side) -> Option<String> {
    let setup = [("setup".to_string(), script.setup.clone())];
    for (actor, steps) in setup.iter().chain(&script.actors) {
        for (index, step) in steps.iter().enumerate() {
            let mut found = None;
            step.visit_all(&mut |step| {
                let why = Turns::deed(step, 0).and_then(|deed| side.refuses(&deed));
                found = found.take().or(why);
            });
            if let Some(why) = found {
                let (name, number) = (side.name(), index + 1);
                return Some(format!("{actor}, step {number}: not on {name}: {why}"));
            }
        }
    }
    None
}

/// The devices that a script makes.
pub fn devices(script: &Script) -> Vec<String> {
    let mut devices = Vec::new();
    script.each_step(&mut |step| {
        if let Step::Device { id, .. } = step {
            devices.push(id.clone());
        }
    });
    devices
}

/// Plays a script on every side, with turns drawn from a seed.
///
/// # Errors
/// A side does not answer, or the user has seen enough.
pub fn play(
    script: &Script,
    sides: &mut [Box<dyn Side + '_>],
    seed: u64,
) -> Result<Played, Broken> {
    let (jobs, looks) = sides.iter().map(|_| (Jobs::default(), Look::new())).unzip();
    let random = ChaCha8Rng::seed_from_u64(seed);
    let mut turns = Turns { sides, jobs, looks, random, played: Played::default(), apart: false };
    let mut actors: Vec<Actor> = Vec::new();
    for (index, (name, steps)) in script.actors.iter().enumerate() {
        actors.push(Actor::new(index as u64 + 1, name, steps));
    }
    let mut setup = [Actor::new(0, "setup", &script.setup)];
    turns.run(&mut setup)?;
    if turns.goes_on() {
        turns.run(&mut actors)?;
        let keepers = script.keepers();
        let waits = |actor: &&Actor| !keepers.contains(&actor.name.as_str());
        let waiting = actors.iter().filter(waits).filter_map(Actor::waits_for);
        turns.played.waiting = waiting.collect();
    }
    if !turns.apart {
        turns.compare_contents()?;
    }
    turns.played.seen = turns.looks[0].iter().map(|(what, is)| format!("{what}: {is}")).collect();
    Ok(turns.played)
}

impl Turns<'_, '_> {
    fn goes_on(&self) -> bool {
        !self.apart && self.played.unexpected.is_none()
    }

    fn below(&mut self, end: usize) -> usize {
        ((u64::from(self.random.next_u32()) * end as u64) >> 32) as usize
    }

    /// Until nobody can go on.
    fn run(&mut self, actors: &mut [Actor]) -> Result<(), Broken> {
        while self.goes_on() {
            let able = actors
                .iter_mut()
                .enumerate()
                .filter_map(|(index, actor)| actor.is_able().then_some(index));
            let able: Vec<usize> = able.collect();
            if able.is_empty() {
                return Ok(());
            }
            let turn = able[self.below(able.len())];
            let chosen = |end| self.below(end);
            let Next::Do(step) = actors[turn].next(chosen) else { continue };
            self.step(actors, turn, &step)?;
        }
        Ok(())
    }

    fn step(&mut self, actors: &mut [Actor], turn: usize, step: &Step) -> Result<(), Broken> {
        let actor = &mut actors[turn];
        let Some(deed) = Self::deed(step, actor.tag(step)) else { return Ok(()) };
        let what = format!("{}: {}", actor.name, compare::words(&deed));
        let mut replies = Vec::new();
        for side in self.sides.iter_mut() {
            let reply = side.play(&deed).map_err(|broken| at(&what, broken))?;
            if let Some(why) = expected::cannot(&reply) {
                return Err(Broken::Failed(
                    side.name(),
                    format!("{what}: cannot be played: {why}"),
                ));
            }
            replies.push(reply);
        }
        self.played.steps += 1;
        self.compare_replies(&what, &replies);
        if let (Deed::Execute { command, arguments }, Reply::Done(_)) = (&deed, &replies[0]) {
            self.jobs.iter_mut().for_each(|jobs| jobs.note(command, arguments));
        }
        let told = self.come_to_rest(&what).map_err(|broken| at(&what, broken))?;
        for actor in actors.iter_mut() {
            actor.hear(&told);
        }
        let expect = match step {
            Step::Execute { expect, .. } | Step::Device { expect, .. } => *expect,
            // What guests ask may fail.
            _ => Expect::Any,
        };
        match (replies[0].is_done(), expect) {
            (true, Expect::Ok | Expect::Any | Expect::OrEnd)
            | (false, Expect::Error | Expect::Any) => {}
            (false, Expect::OrEnd) => actors[turn].end(),
            (..) => {
                let message = format!("{what}: {}", replies[0]);
                self.played.unexpected.get_or_insert(message);
            }
        }
        Ok(())
    }

    /// What a step does to a side; nothing if it is between the actors.
    fn deed(step: &Step, tag: u64) -> Option<Deed<'_>> {
        Some(match step {
            Step::Execute { command, arguments, .. } => Deed::Execute { command, arguments },
            Step::Device { id, node, resizes, policies, .. } => {
                let reports = *policies == Default::default();
                Deed::Attach { id, node, resizes: *resizes, reports }
            }
            Step::Request { device, asked } => {
                let writes = matches!(asked.kind, Request::Write | Request::Compressed);
                let data = match (writes, tag) {
                    (false, _) | (_, 0) => Vec::new(),
                    _ => crate::stage::guest_data(tag, asked.range).to_vec(),
                };
                Deed::Request { device, asked: *asked, data }
            }
            Step::Flush { device } => Deed::Flush { device },
            Step::Wait { .. }
            | Step::WaitLoad { .. }
            | Step::Either { .. }
            | Step::Always { .. }
            // The graph is compared as a whole.
            | Step::CheckPath { .. } => return None,
        })
    }

    /// Waits until nothing happens any more, and compares what was told and what is there; what the first side told.
    fn come_to_rest(&mut self, what: &str) -> Result<Vec<Told>, Broken> {
        let mut told = Vec::new();
        for (index, side) in self.sides.iter_mut().enumerate() {
            self.jobs[index].settle(&mut **side)?;
            told.push(side.events());
            self.looks[index] = look(&mut **side)?;
        }
        self.played.events += told[0].len() as u64;
        self.compare_events(what, &told);
        self.compare_looks(what);
        Ok(told.swap_remove(0))
    }

    /// What guests can read.
    fn compare_contents(&mut self) -> Result<(), Broken> {
        let devices = self.sides[0].devices()?;
        for (device, (_, len)) in devices {
            let mut at = 0;
            while at < len {
                let range = ByteRange::new(at, PIECE.min(len - at));
                let asked = Asked::plain(Request::Read, range);
                let deed = Deed::Request { device: &device, asked, data: Vec::new() };
                let replies = self.sides.iter_mut().map(|side| side.play(&deed));
                let replies = replies.collect::<Result<Vec<_>, _>>()?;
                self.compare_replies(&format!("in the end: {}", compare::words(&deed)), &replies);
                at = range.end();
            }
        }
        Ok(())
    }
}
