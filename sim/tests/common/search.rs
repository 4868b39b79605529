//! Plain search beside the reduced ones.

use std::collections::BTreeSet;

use blockyard_sim::{Budgets, Exploration, Explorer, Limits, Program, Reduction, Verdict};

use super::setup;

/// Explores up to `most` executions, keeping the traces.
pub fn explore(
    program: &dyn Program,
    reduction: Reduction,
    budgets: Budgets,
    most: u64,
) -> Exploration {
    let limits = Limits { executions: most, ..Limits::default() };
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let mut explorer = Explorer::new(program, setup(budgets), limits, &mut go_on);
    explorer.keep_traces = true;
    explorer.depth_first(reduction)
}

fn states(exploration: &Exploration) -> BTreeSet<u64> {
    exploration.summary.traces.iter().map(|(_, state)| *state).collect()
}

/// How many traces plain search sees, if it exhausts the program within `most` executions; the other searches must see
/// the same, each once.
pub fn compare(name: &str, program: &dyn Program, budgets: Budgets, most: u64) -> Option<usize> {
    let plain = explore(program, Reduction::Plain, budgets, most);
    if plain.verdict != (Verdict::Clean { exhausted: true }) {
        assert_eq!(plain.verdict, Verdict::Clean { exhausted: false }, "{name}");
        return None;
    }
    for reduction in [Reduction::SleepSets, Reduction::SourceSets, Reduction::Optimal] {
        let reduced = explore(program, reduction, budgets, most);
        let (found, all) = (&reduced.summary.traces, &plain.summary.traces);
        let what = format!("{name}, {budgets:?}, {reduction:?}");
        assert_eq!(reduced.verdict, plain.verdict, "{what}");
        assert_eq!(states(&reduced), states(&plain), "{what}");
        assert!(found == all, "{what}: {} of {} traces", found.len(), all.len());
        let complete = reduced.summary.executions - reduced.summary.blocked;
        assert_eq!(complete, found.len() as u64, "{what}: each trace once");
    }
    Some(plain.summary.traces.len())
}
