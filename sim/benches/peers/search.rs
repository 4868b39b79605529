//! Our searches.

use blockyard_sim::{
    Budgets, Exploration, Explorer, Limits, Program, Reduction, Setup, Summary, Verdict,
};

use crate::figure::Figure;

/// So many executions a search is given.
const MOST: u64 = 200_000;

/// A world without disks.
pub fn bare() -> Setup {
    Setup { images: Vec::new(), budgets: Budgets::NONE, ..Setup::default() }
}

/// Explores from the beginning, at most so many executions.
pub fn explore(
    program: &dyn Program,
    setup: &Setup,
    most: u64,
    how: impl FnOnce(&mut Explorer<'_>) -> Exploration,
) -> Exploration {
    let limits = Limits { executions: most, ..Limits::default() };
    let mut go_on = |_: &Summary| true;
    how(&mut Explorer::new(program, setup.clone(), limits, &mut go_on))
}

/// How many executions the reduced search takes to see everything.
pub fn exhaust(program: &dyn Program, setup: &Setup) -> Figure {
    let exploration =
        explore(program, setup, MOST, |explorer| explorer.depth_first(Reduction::Optimal));
    let exhausted = exploration.verdict == Verdict::Clean { exhausted: true };
    let summary = clean(exploration);
    Figure { blocked: summary.blocked, ..Figure::executions(summary.executions, !exhausted) }
}

/// How many executions the reduced search takes to find what is wrong.
pub fn find(program: &dyn Program, setup: &Setup) -> (u64, bool) {
    let Exploration { verdict, summary } =
        explore(program, setup, MOST, |explorer| explorer.depth_first(Reduction::Optimal));
    (summary.executions, matches!(verdict, Verdict::Violated { .. }))
}

/// What was run, if nothing was wrong.
pub fn clean(exploration: Exploration) -> Summary {
    match exploration.verdict {
        Verdict::Clean { .. } | Verdict::Interrupted => exploration.summary,
        Verdict::Violated { finding, .. } => panic!("{finding:?}"),
    }
}
