//! Reduced searches against plain ones: the same traces, the same final states, each trace once. And searches that are
//! told other footprints than there were.

use std::collections::BTreeMap;

use blockyard_sim::{
    Chooser, DepthFirst, Event, Exploration, Explorer, Granularity, Limits, Outcome, Pick,
    Reduction, Setup, Summary, Traced, Verdict, Watched, World, run_once,
};
use blockyard_sync::door::Access;

use super::Small;
use super::programs::{Tasks, of_tasks, setup_of};

/// So many executions a search is given.
pub const CAP: u64 = 20_000;

/// What the searches of one program agreed on.
pub struct Compared {
    /// Different traces.
    pub traces: usize,
    /// Executions of the plain search.
    pub plain: u64,
    /// Executions that were given up, by reduction.
    pub blocked: BTreeMap<&'static str, u64>,
}

/// Searches the program of these tasks, plainly and in each reduced way, and compares the traces with what they led
/// to. None if plain search does not come to an end.
///
/// # Errors
/// How a reduced search differs.
pub fn compare(
    number: u64,
    tasks: &Tasks,
    granularity: Granularity,
    reductions: &[(&'static str, Reduction)],
) -> Result<Option<Compared>, String> {
    let small = of_tasks(tasks.clone());
    let setup = Setup { granularity, ..setup_of(number, tasks) };
    let plain = search(&small, &setup, Reduction::Plain);
    let all = match plain.verdict {
        Verdict::Clean { exhausted: true } => plain.summary.traces,
        Verdict::Clean { exhausted: false } => return Ok(None),
        verdict => return Err(format!("plain search: {verdict:?}")),
    };
    let mut blocked = BTreeMap::new();
    for &(name, reduction) in reductions {
        let Exploration { verdict, summary } = search(&small, &setup, reduction);
        if verdict != (Verdict::Clean { exhausted: true }) {
            return Err(format!("{name}: {verdict:?}"));
        }
        let found = &summary.traces;
        let complete = summary.executions - summary.blocked;
        let missing = all.difference(found).count();
        let strange = found.difference(&all).count();
        let again = complete - found.len() as u64;
        if (missing, strange, again) != (0, 0, 0) {
            let all = all.len();
            return Err(format!(
                "{name}: of {all} traces {missing} missing, {strange} strange, {again} again"
            ));
        }
        blocked.insert(name, summary.blocked);
    }
    let plain = plain.summary.executions;
    Ok(Some(Compared { traces: all.len(), plain, blocked }))
}

fn search(small: &Small, setup: &Setup, reduction: Reduction) -> Exploration {
    let limits = Limits { executions: CAP, ..Limits::default() };
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(small, setup.clone(), limits, &mut go_on);
    explorer.keep_traces = true;
    explorer.depth_first(reduction)
}

/// A program on which the searches still differ, and how, from which no operation can be left out.
pub fn smallest(
    number: u64,
    mut tasks: Tasks,
    granularity: Granularity,
    reductions: &[(&'static str, Reduction)],
) -> (Tasks, String) {
    let mut message = compare(number, &tasks, granularity, reductions).err().unwrap_or_default();
    'smaller: loop {
        for (task, operations) in tasks.iter().enumerate() {
            for operation in 0..operations.len() {
                let mut smaller = tasks.clone();
                smaller[task].remove(operation);
                if let Err(differs) = compare(number, &smaller, granularity, reductions) {
                    (tasks, message) = (smaller, differs);
                    continue 'smaller;
                }
            }
        }
        return (tasks, message);
    }
}

/// Appends what a search is told instead of an access.
pub type Tell = dyn Fn(&Access, &mut Vec<Access>);

/// A search that is told other footprints than those that the steps had.
struct Told<'a> {
    search: &'a mut DepthFirst,
    tell: &'a Tell,
}

impl Chooser for Told<'_> {
    fn pick(&mut self, world: &World, enabled: &[Event]) -> Pick {
        self.search.pick(world, enabled)
    }

    fn ran(&mut self, world: &World, event: Event, accesses: &[Access]) {
        let mut told = Vec::new();
        accesses.iter().for_each(|access| (self.tell)(access, &mut told));
        self.search.ran(world, event, &told);
    }
}

/// What a search meets: of each trace, with what it led to, one execution in words. Instead of each access of a step
/// the search is told those that `tell` appends; traces are those of the accesses themselves.
pub fn tapes(
    number: u64,
    tasks: &Tasks,
    granularity: Granularity,
    reduction: Reduction,
    tell: &Tell,
) -> BTreeMap<(u64, u64), Vec<String>> {
    let (small, setup) = (of_tasks(tasks.clone()), setup_of(number, tasks));
    let mut world = World::new(&setup.images, setup.budgets, setup.seed);
    world.granularity = granularity;
    let mut search = DepthFirst::new(reduction);
    let mut met = BTreeMap::new();
    for _ in 0..CAP {
        let (mut tape, mut digest) = (Vec::new(), 0);
        let mut watch = |world: &World, watched: Watched<'_>| match watched {
            Watched::Before(event, _) => tape.push(world.describe(event)),
            Watched::End(execution) => digest = execution.digest(world),
            Watched::After(_) => {}
        };
        let mut told = Told { search: &mut search, tell };
        let mut traced = Traced::new(&mut told);
        let report = run_once(&mut world, &small, &mut traced, Limits::default(), &mut watch);
        let trace = traced.hash();
        if report.outcome == Outcome::Ended {
            met.entry((trace, digest)).or_insert(tape);
        }
        if !search.advance() {
            break;
        }
    }
    met
}

/// Tells what happened.
pub fn truly(access: &Access, told: &mut Vec<Access>) {
    told.push(*access);
}
