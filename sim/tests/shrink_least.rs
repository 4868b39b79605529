//! Shrinking ends in the least of all failing tapes: plain search, which sees them all, is asked which that is.

mod common;

use std::collections::BTreeMap;

use blockyard_sim::{
    Action, Chooser, Cost, DepthFirst, Event, Execution, Explorer, Finding, Limits, Outcome, Pick,
    Program, Reduction, Setup, Shrunk, Summary, Watched, World, run_once,
};
use blockyard_sync::door::Access;
use common::Small;
use common::programs::{generate, of_tasks, setup_of};

/// How many generated programs are searched.
const PROGRAMS: u64 = 400;
/// Plain executions of a program; those with more are left out.
const CAP: usize = 4_000;

/// A program for which one final state is a failure.
struct Forbidden<'a> {
    program: &'a Small,
    digest: u64,
}

struct Judged {
    execution: Box<dyn Execution>,
    digest: u64,
}

impl Program for Forbidden<'_> {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        Box::new(Judged { execution: self.program.start(world), digest: self.digest })
    }
}

impl Execution for Judged {
    fn judge(&self, world: &World) -> Option<Finding> {
        let message = "the forbidden state".into();
        (self.digest(world) == self.digest).then(|| Finding { property: "end".into(), message })
    }

    fn digest(&self, world: &World) -> u64 {
        self.execution.digest(world)
    }
}

/// What tapes are ordered by: what they cost, then the rank of each choice among those that were possible. The first
/// rank has who goes on, or else the first event.
type Order = (Cost, Vec<usize>);

#[derive(Default)]
struct Measured {
    order: Order,
    current: Option<u32>,
    tape: Vec<String>,
    digest: u64,
}

impl Measured {
    fn before(&mut self, event: Event, enabled: &[Event], words: String) {
        let goes_on = enabled.iter().position(|other| Some(other.path) == self.current);
        let index = enabled.iter().position(|other| other.same(&event)).expect("it is enabled");
        let rank = match goes_on.unwrap_or(0) {
            policy if index == policy => 0,
            policy if index < policy => index + 1,
            _ => index,
        };
        let (cost, ranks) = &mut self.order;
        ranks.push(rank);
        cost.events += 1;
        match event.action {
            Action::Poll => {
                cost.preemptions += u32::from(goes_on.is_some_and(|goes_on| goes_on != index));
                self.current = Some(event.path);
            }
            Action::Effect => {
                cost.operations += 1;
                let bytes = words.rsplit_once('+').and_then(|(_, bytes)| {
                    bytes.split(' ').next().and_then(|bytes| bytes.parse::<u64>().ok())
                });
                cost.bytes += bytes.unwrap_or(0);
            }
            Action::Fault(_) => cost.faults += 1,
            _ => {}
        }
        self.tape.push(words);
    }
}

/// A search that is asked for each choice, as it does not tell what was possible otherwise.
struct Asked<'a>(&'a mut DepthFirst);

impl Chooser for Asked<'_> {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        self.0.pick(world, enabled)
    }

    fn ran(&mut self, world: &World, event: Event, accesses: &[Access]) {
        self.0.ran(world, event, accesses);
    }
}

/// Every execution by its end, nothing if there are too many.
fn executions(program: &Small, setup: &Setup) -> Option<BTreeMap<u64, Vec<Measured>>> {
    let mut world = World::new(&setup.images, setup.budgets, setup.seed);
    let mut search = DepthFirst::new(Reduction::Plain);
    let mut all: BTreeMap<u64, Vec<Measured>> = BTreeMap::new();
    for _ in 0..CAP {
        let mut run = Measured::default();
        let mut watch = |world: &World, watched: Watched<'_>| match watched {
            Watched::Before(event, enabled) => run.before(event, enabled, world.describe(event)),
            Watched::End(execution) => run.digest = execution.digest(world),
            Watched::After(_) => {}
        };
        let limits = Limits::default();
        let report = run_once(&mut world, program, &mut Asked(&mut search), limits, &mut watch);
        assert_eq!(report.outcome, Outcome::Ended);
        all.entry(run.digest).or_default().push(run);
        if !search.advance() {
            return Some(all);
        }
    }
    None
}

fn shrink(program: &dyn Program, setup: &Setup, tape: &[String]) -> Shrunk {
    let limits = Limits { executions: 100_000, ..Limits::default() };
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(program, setup.clone(), limits, &mut go_on);
    let same = |finding: &Finding| finding.property == "end";
    explorer.shrink(tape.to_vec(), &same, limits).expect("the tape fails")
}

#[test]
fn of_generated_programs_every_failure_shrinks_to_the_least_of_its_kind() {
    let mut programs = 0;
    for number in 0..PROGRAMS {
        let tasks = generate(number);
        let (program, setup) = (of_tasks(tasks.clone()), setup_of(number, &tasks));
        let Some(ends) = executions(&program, &setup) else { continue };
        programs += 1;
        // States that few executions end in are those that bugs are like.
        let mut ends: Vec<_> = ends.into_iter().collect();
        ends.sort_by_key(|(_, runs)| runs.len());
        for (digest, mut runs) in ends.into_iter().take(3) {
            runs.sort_by(|a, b| a.order.cmp(&b.order));
            let least = &runs[0];
            let forbidden = Forbidden { program: &program, digest };
            for from in [&runs[runs.len() - 1], &runs[runs.len() / 2]] {
                let shrunk = shrink(&forbidden, &setup, &from.tape);
                let events: Vec<_> = shrunk.tape.iter().map(|line| &line.event).collect();
                let what = format!("program {number}, {tasks:?}, from {:#?}", from.tape);
                assert_eq!(shrunk.cost_after, least.order.0, "{what}");
                assert!(
                    events.iter().copied().eq(&least.tape),
                    "{what}: {events:#?} {:#?}",
                    least.tape
                );
                assert!(shrunk.least && shrunk.minimal, "{what}");
            }
        }
    }
    println!("{programs} programs");
}
