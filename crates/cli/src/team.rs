//! Threads that search one tree of executions, each with a world of its own.
//!
//! What is to be done lies in a pool of work items. Whoever has nothing to do takes one from there; whoever is at work
//! puts some of its own there when others wait. At times all leave what they are at in the pool, at the end of an
//! execution: then the pool is the search, and is kept in a checkpoint.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blockyard_sim::{
    Checkpoint, Exploration, Ran, Reduction, Runs, Searcher, Summary, Tree, Verdict, WorkItem,
};

use crate::args::Strategy;
use crate::checkpoint::{Keeper, Left};
use crate::explore::Search;
use crate::failure::Failure;
use crate::progress::{Interrupt, Progress};

/// How often it is looked whether somebody pressed Ctrl-C, or a checkpoint is due.
const LOOK: Duration = Duration::from_millis(20);
/// Sequences still to be explored are dropped link by link: as deep as executions are long.
const STACK_BYTES: usize = 64 << 20;

/// See the module.
pub(crate) struct Team<'a> {
    search: &'a Search<'a>,
    tree: Tree,
    pool: Mutex<Pool>,
    changed: Condvar,
    /// Executions begun by all, in earlier processes too.
    begun: AtomicU64,
    /// More wait for work than there are items.
    hungry: AtomicBool,
    /// Nobody is to begin another execution.
    halt: AtomicBool,
}

#[derive(Default)]
struct Pool {
    items: Vec<WorkItem>,
    /// How many are at work on an item.
    busy: usize,
    waiting: usize,
    order: Order,
    /// Of all that is not at work.
    total: Summary,
    broken: Vec<Verdict>,
    panicked: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Work,
    /// Leave everything in the pool, and wait.
    Pause,
    /// Leave everything in the pool, and go.
    Stop,
}

impl<'a> Team<'a> {
    /// A search that begins.
    pub fn new(search: &'a Search<'a>) -> Self {
        let reduction = match search.strategy {
            Strategy::Dfs => Reduction::Plain,
            Strategy::Sleep => Reduction::SleepSets,
            _ => Reduction::Optimal,
        };
        let pool = Pool { items: vec![WorkItem::whole()], ..Pool::default() };
        Self::of(search, Tree::new(reduction), pool)
    }

    /// A search that was put down.
    ///
    /// # Errors
    /// If it cannot be taken up.
    pub fn resuming(search: &'a Search<'a>, left: Left) -> Result<Self, Failure> {
        let Left { checkpoint, summary } = left;
        let tree = Tree::of(&checkpoint);
        let program = search.spec.program();
        let runs = Runs { program: &program, limits: search.limits, keep_traces: false };
        let items = Searcher::new(runs, &search.spec.setup(0), &tree).items(&checkpoint);
        let items = items.map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Self::of(search, tree, Pool { items, total: summary, ..Pool::default() }))
    }

    fn of(search: &'a Search<'a>, tree: Tree, pool: Pool) -> Self {
        let begun = AtomicU64::new(pool.total.executions);
        let (changed, hungry, halt) = Default::default();
        Self { search, tree, pool: Mutex::new(pool), changed, begun, hungry, halt }
    }

    /// What is left to do, and what was done; nobody may be at work.
    pub fn left(&self) -> Left {
        let pool = self.lock();
        Left { checkpoint: self.checkpoint(&pool), summary: pool.total.clone() }
    }

    fn checkpoint(&self, pool: &Pool) -> Checkpoint {
        self.tree.checkpoint(&pool.items)
    }

    /// Searches until nothing is left to do, something is broken, the limit is reached, or somebody interrupts.
    ///
    /// # Errors
    /// If there are not so many threads.
    pub fn run(
        &self,
        interrupt: &Interrupt,
        progress: &Progress,
        keeper: Option<&mut Keeper<'_>>,
    ) -> Result<Exploration, Failure> {
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for _ in 0..self.search.threads {
                let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
                match builder.spawn_scoped(scope, || self.work()) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        self.order(&mut self.lock(), Order::Stop);
                        return Err(Failure::usage(format!(
                            "--threads: so many cannot be started: {error}"
                        )));
                    }
                }
            }
            self.watch(interrupt, progress, keeper);
            for thread in threads {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            }
            Ok(self.exploration(interrupt))
        })
    }

    fn exploration(&self, interrupt: &Interrupt) -> Exploration {
        let mut pool = self.lock();
        let key = |verdict: &Verdict| match verdict {
            Verdict::Violated { tape, .. } => {
                (tape.len(), tape.iter().map(|line| line.event.clone()).collect::<Vec<_>>())
            }
            _ => (usize::MAX, Vec::new()),
        };
        let broken = std::mem::take(&mut pool.broken).into_iter().min_by_key(key);
        let verdict = broken.unwrap_or_else(|| {
            let exhausted = pool.items.is_empty();
            if interrupt.is_set() && !exhausted {
                Verdict::Interrupted
            } else {
                Verdict::Clean { exhausted }
            }
        });
        Exploration { verdict, summary: pool.total.clone() }
    }

    /// Sees to it that all stop and pause when they should, until the end.
    fn watch(
        &self,
        interrupt: &Interrupt,
        progress: &Progress,
        mut keeper: Option<&mut Keeper<'_>>,
    ) {
        let mut pool = self.lock();
        let before = pool.total.executions;
        while !pool.panicked
            && (pool.busy > 0 || pool.order != Order::Stop && !pool.items.is_empty())
        {
            let waited = self.changed.wait_timeout(pool, LOOK);
            pool = waited.unwrap_or_else(PoisonError::into_inner).0;
            let begun = self.begun.load(Ordering::Relaxed);
            progress.show_now(begun, begun - before);
            if interrupt.is_set() {
                self.order(&mut pool, Order::Stop);
            }
            let Some(keeper) = keeper.as_deref_mut() else { continue };
            if pool.order == Order::Work && keeper.is_due() {
                self.order(&mut pool, Order::Pause);
            }
            if pool.order == Order::Pause && pool.busy == 0 {
                let summary = pool.total.clone();
                let left = Left { checkpoint: self.checkpoint(&pool), summary };
                self.order(&mut pool, Order::Work);
                drop(pool);
                keeper.keep(&left);
                pool = self.lock();
            }
        }
        // Those who wait for work look up.
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, pool: &mut Pool, order: Order) {
        pool.order = order;
        self.halt.store(order != Order::Work, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// What one thread does.
    fn work(&self) {
        let guard = Panicking(self);
        let program = self.search.spec.program();
        let runs = Runs { program: &program, limits: self.search.limits, keep_traces: false };
        let mut searcher = Searcher::new(runs, &self.search.spec.setup(0), &self.tree);
        while let Some(item) = self.take() {
            searcher.adopt(item);
            let left = self.pursue(&mut searcher);
            let mut pool = self.lock();
            pool.items.extend(left);
            pool.total.add(std::mem::take(&mut searcher.summary));
            pool.busy -= 1;
            self.tell(&pool);
        }
        drop(guard);
    }

    /// An item from the pool, once there is one; none if there will not be any.
    fn take(&self) -> Option<WorkItem> {
        let mut pool = self.lock();
        loop {
            if pool.order == Order::Stop {
                return None;
            }
            if pool.order == Order::Work {
                if let Some(item) = pool.items.pop() {
                    pool.busy += 1;
                    self.tell(&pool);
                    return Some(item);
                }
                if pool.busy == 0 {
                    return None;
                }
            }
            pool.waiting += 1;
            self.tell(&pool);
            pool = self.changed.wait(pool).unwrap_or_else(PoisonError::into_inner);
            pool.waiting -= 1;
        }
    }

    /// Works on what the searcher adopted; what is left of it when it had to stop.
    fn pursue(&self, searcher: &mut Searcher<'_>) -> Option<WorkItem> {
        loop {
            if self.halt.load(Ordering::Relaxed) {
                return Some(searcher.leave());
            }
            if !self.may_begin() {
                self.order(&mut self.lock(), Order::Stop);
                return Some(searcher.leave());
            }
            match searcher.run() {
                Ran::On => {}
                Ran::Done => return None,
                Ran::Broken(verdict) => {
                    let mut pool = self.lock();
                    pool.broken.push(verdict);
                    self.order(&mut pool, Order::Stop);
                    return None;
                }
            }
            if self.hungry.load(Ordering::Relaxed)
                && let Some(item) = searcher.offer()
            {
                let mut pool = self.lock();
                pool.items.push(item);
                self.tell(&pool);
            }
        }
    }

    /// Counts an execution, unless there have been enough.
    fn may_begin(&self) -> bool {
        let (limit, order) = (self.search.limits.executions, Ordering::Relaxed);
        let next = |begun: u64| (begun < limit).then_some(begun + 1);
        self.begun.fetch_update(order, order, next).is_ok()
    }

    fn tell(&self, pool: &Pool) {
        self.hungry.store(pool.waiting > pool.items.len(), Ordering::Relaxed);
        self.changed.notify_all();
    }
}

/// If the thread panics, which is a mistake of ours, nobody waits for it.
struct Panicking<'a>(&'a Team<'a>);

impl Drop for Panicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut pool = self.0.lock();
            pool.panicked = true;
            self.0.order(&mut pool, Order::Stop);
        }
    }
}
