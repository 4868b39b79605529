//! Depth-first searchers, any number of which search one tree: each with a world of its own, on any thread. Whoever
//! runs them hands what one offers to another that has nothing left to do.

use alloc::vec::Vec;

use super::explorer::{Summary, Verdict};
use super::runs::Runs;
use super::search::{Checkpoint, DepthFirst, NotRestored, Reduction, WorkItem};
use super::{Outcome, Setup};
use crate::paths::Numbers;
use crate::time::Time;
use crate::world::World;

/// The tree of all executions of one program; clones are the same.
#[derive(Clone)]
pub struct Tree {
    reduction: Reduction,
    paths: Numbers,
}

impl Tree {
    /// A tree of which nothing was searched; its one work item is [`WorkItem::whole`].
    pub fn new(reduction: Reduction) -> Self {
        Self { reduction, paths: Numbers::default() }
    }

    /// The tree of which this is left.
    pub fn of(checkpoint: &Checkpoint) -> Self {
        Self { reduction: checkpoint.reduction, paths: checkpoint.paths() }
    }

    /// What is left to do, if these are all work items: no searcher has any.
    pub fn checkpoint(&self, items: &[WorkItem]) -> Checkpoint {
        Checkpoint::new(self.reduction, &self.paths, items)
    }
}

/// What an execution of a searcher led to.
pub enum Ran {
    /// The next is prepared.
    On,
    /// There is nothing left to do in what it adopted.
    Done,
    /// Something was broken; the search is at its end.
    Broken(Verdict),
}

/// One of those who search a tree.
pub struct Searcher<'p> {
    runs: Runs<'p>,
    world: World,
    search: DepthFirst,
    /// Of its own executions.
    pub summary: Summary,
}

impl<'p> Searcher<'p> {
    /// A searcher that has nothing to do.
    ///
    /// # Panics
    /// `searches-are-untimed`: if requests take time.
    pub fn new(runs: Runs<'p>, setup: &Setup, tree: &Tree) -> Self {
        assert_eq!(setup.time, Time::Untimed, "searches-are-untimed");
        let mut world = setup.world(setup.seed, tree.paths.clone());
        world.remembers = matches!(tree.reduction, Reduction::SourceSets | Reduction::Optimal);
        let mut search = DepthFirst::new(tree.reduction);
        search.traces = runs.keep_traces;
        Self { runs, world, search, summary: Summary::default() }
    }

    /// The work items of a checkpoint of its tree, for anybody who searches it.
    ///
    /// # Errors
    /// If the program is another than then.
    pub fn items(&mut self, checkpoint: &Checkpoint) -> Result<Vec<WorkItem>, NotRestored> {
        let Runs { program, limits, .. } = self.runs;
        checkpoint.items(&mut self.world, program, &mut self.search, limits)
    }

    /// Takes up work.
    ///
    /// # Panics
    /// `one-item-at-a-time`: if it has some.
    pub fn adopt(&mut self, item: WorkItem) {
        self.search.adopt(item);
    }

    /// Runs the next execution of what it adopted.
    pub fn run(&mut self) -> Ran {
        let Self { runs, world, search, summary } = self;
        let (report, choices, digest) = runs.run(world, search, summary);
        if let Some(digest) = digest.filter(|_| report.outcome == Outcome::Ended) {
            summary.traces.insert((search.trace(), digest));
        }
        if let Some(verdict) = runs.judge(world, report, &choices, summary, None) {
            return Ran::Broken(verdict);
        }
        if search.advance() { Ran::On } else { Ran::Done }
    }

    /// Gives away some of its work, if there is some that it has not begun: the shallowest. After [`Ran::On`].
    pub fn offer(&mut self) -> Option<WorkItem> {
        self.search.offer()
    }

    /// Gives away all that it has to do. After [`Ran::On`].
    pub fn leave(&mut self) -> WorkItem {
        self.search.leave()
    }
}
