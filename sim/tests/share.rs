//! Searches that share a tree, and searches that are put down and taken up again, see what one search sees.

mod common;

use blockyard_sim::{
    Checkpoint, Explorer, Limits, Program, Ran, Reduction, Runs, Searcher, Setup, Summary, Tree,
    Verdict, WorkItem,
};
use common::programs::{Tasks, generate, of_tasks, setup_of};

/// How many generated programs are searched.
const PROGRAMS: u64 = 120;
/// So many executions a search is given.
const CAP: u64 = 1_000;

const REDUCTIONS: [Reduction; 4] =
    [Reduction::Plain, Reduction::SleepSets, Reduction::SourceSets, Reduction::Optimal];

/// What one search sees, if it comes to an end.
fn alone(program: &dyn Program, setup: &Setup, reduction: Reduction) -> Option<Summary> {
    let limits = Limits { executions: CAP, ..Limits::default() };
    let mut go_on = |_: &Summary| true;
    let mut explorer = Explorer::new(program, setup.clone(), limits, &mut go_on);
    explorer.keep_traces = true;
    let exploration = explorer.depth_first(reduction);
    (exploration.verdict == Verdict::Clean { exhausted: true }).then_some(exploration.summary)
}

/// Even to what matters here.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Several searchers of one tree, who take turns as the dice say.
struct Together<'p> {
    runs: Runs<'p>,
    setup: &'p Setup,
    tree: Tree,
    searchers: Vec<(Searcher<'p>, bool)>,
    /// Nobody is at work on these.
    items: Vec<WorkItem>,
    dice: Dice,
}

impl<'p> Together<'p> {
    fn new(program: &'p dyn Program, setup: &'p Setup, reduction: Reduction) -> Self {
        let runs = Runs { program, limits: Limits::default(), keep_traces: true };
        let items = vec![WorkItem::whole()];
        let (tree, dice) = (Tree::new(reduction), Dice(0));
        Self { runs, setup, tree, searchers: Vec::new(), items, dice }
    }

    fn with(mut self, searchers: u64, seed: u64) -> Self {
        let searcher = |_| (Searcher::new(self.runs, self.setup, &self.tree), false);
        self.searchers = (0..searchers).map(searcher).collect();
        self.dice = Dice(seed);
        self
    }

    /// One runs one execution; false if nothing is left to do.
    fn turn(&mut self) -> bool {
        let index = self.dice.roll(self.searchers.len() as u64) as usize;
        let several = self.searchers.len() > 1;
        let has_work = self.searchers.iter().any(|(_, busy)| *busy);
        let (searcher, busy) = &mut self.searchers[index];
        if !*busy {
            if self.items.is_empty() {
                return has_work;
            }
            let item = self.dice.roll(self.items.len() as u64) as usize;
            searcher.adopt(self.items.swap_remove(item));
            *busy = true;
        }
        match searcher.run() {
            Ran::On => {}
            Ran::Done => *busy = false,
            Ran::Broken(verdict) => panic!("{verdict:?}"),
        }
        // At times much is given away, and lies about: what others find out meanwhile has to wait.
        let offers = if *busy && several { self.dice.roll(5) } else { 0 };
        for _ in 1..offers {
            self.items.extend(searcher.offer());
        }
        true
    }

    fn summary(&mut self) -> Summary {
        let mut total = Summary::default();
        self.searchers.iter_mut().for_each(|(s, _)| total.add(std::mem::take(&mut s.summary)));
        total
    }

    /// What is left, as text.
    fn put_down(&mut self) -> String {
        for (searcher, _) in self.searchers.iter_mut().filter(|(_, busy)| *busy) {
            self.items.push(searcher.leave());
        }
        let checkpoint = self.tree.checkpoint(&self.items);
        serde_json::to_string(&checkpoint).expect("a checkpoint is data")
    }

    /// By others, who number paths themselves.
    fn take_up(&mut self, text: &str) {
        let checkpoint: Checkpoint = serde_json::from_str(text).expect("it was written so");
        self.tree = Tree::of(&checkpoint);
        let mut reader = Searcher::new(self.runs, self.setup, &self.tree);
        self.items = reader.items(&checkpoint).unwrap_or_else(|error| panic!("{error}: {text}"));
        let searcher = |_| (Searcher::new(self.runs, self.setup, &self.tree), false);
        self.searchers = (0..self.searchers.len()).map(searcher).collect();
    }
}

/// Generated programs that `alone` exhausts under every reduction.
fn each_program(mut check: impl FnMut(u64, &Tasks, &dyn Program, &Setup, Reduction, &Summary)) {
    let mut searched = 0;
    for number in 0..PROGRAMS {
        let tasks = generate(number);
        let (small, setup) = (of_tasks(tasks.clone()), setup_of(number, &tasks));
        for reduction in REDUCTIONS {
            let Some(summary) = alone(&small, &setup, reduction) else { continue };
            searched += u64::from(summary.traces.len() > 5);
            check(number, &tasks, &small, &setup, reduction, &summary);
        }
    }
    assert!(searched > PROGRAMS, "only {searched} searches were large enough to share");
}

#[test]
fn searchers_of_one_tree_see_each_trace_once() {
    each_program(|number, tasks, program, setup, reduction, alone| {
        for searchers in 2..=4 {
            let seed = number * 31 + searchers;
            let together = Together::new(program, setup, reduction);
            let mut together = together.with(searchers, seed);
            while together.turn() {}
            let summary = together.summary();
            let what = format!("{number} {tasks:?}, {reduction:?}, {searchers} searchers");
            check_same(&what, &summary, alone);
            if reduction == Reduction::Plain {
                assert_eq!(summary.executions, alone.executions, "{what}");
            } else {
                let complete = summary.executions - summary.blocked;
                assert_eq!(complete, summary.traces.len() as u64, "{what}: each once");
            }
        }
    });
}

fn check_same(what: &str, summary: &Summary, alone: &Summary) {
    let missing = alone.traces.difference(&summary.traces).count();
    let strange = summary.traces.difference(&alone.traces).count();
    let all = alone.traces.len();
    assert_eq!((missing, strange), (0, 0), "{what}: missing and strange, of {all}");
    assert_eq!(summary.marks, alone.marks, "{what}");
}

#[test]
fn a_search_that_is_put_down_and_taken_up_adds_up_to_one_that_is_not() {
    each_program(|number, tasks, program, setup, reduction, alone| {
        let every = 1 + number % 7;
        let mut search = Together::new(program, setup, reduction).with(1, number);
        let mut total = Summary::default();
        let mut turns = 0;
        while search.turn() {
            turns += 1;
            if turns % every == 0 {
                total.add(search.summary());
                let text = search.put_down();
                search.take_up(&text);
            }
        }
        total.add(search.summary());
        assert_eq!(&total, alone, "{number} {tasks:?}, {reduction:?}, every {every}");
    });
}

#[test]
fn searchers_of_one_tree_that_are_put_down_and_taken_up_see_each_trace_once() {
    each_program(|number, tasks, program, setup, reduction, alone| {
        let mut together = Together::new(program, setup, reduction).with(3, number);
        let mut total = Summary::default();
        let mut turns = 0;
        while together.turn() {
            turns += 1;
            if turns % 5 == 0 {
                total.add(together.summary());
                let text = together.put_down();
                together.take_up(&text);
            }
        }
        total.add(together.summary());
        check_same(&format!("{number} {tasks:?}, {reduction:?}"), &total, alone);
        let complete = total.executions - total.blocked;
        let expected = alone.executions - alone.blocked;
        assert_eq!(complete, expected, "{number} {tasks:?}, {reduction:?}: each once");
    });
}
