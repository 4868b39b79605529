//! Small programs over the door.
#![allow(dead_code, unused_imports)] // each test file uses a part

pub mod compare;
pub mod crashing;
pub mod eager;
pub mod planted;
pub mod programs;
pub mod recovering;
pub mod search;
pub mod sectors;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use blockyard_runtime::Runtime;
use blockyard_sim::{
    Budgets, DiskImage, Execution, Exploration, Explorer, Finding, Limits, Program, Reduction,
    Setup, SimDisk, Verdict, World,
};
use blockyard_sync::Shared;
use blockyard_sync::door::world::Quiet;

pub const FAULTLESS: Budgets = Budgets::NONE;

/// What the tasks of a small program share, and what they saw.
pub struct Board {
    pub runtime: Runtime,
    pub values: Vec<Shared<u64>>,
    pub mutexes: Vec<blockyard_sync::Mutex<u64>>,
    pub queue: blockyard_sync::WaitQueue,
    pub disks: Vec<SimDisk>,
    /// Indexed by task: a task's own observations, folded into one number.
    pub seen: Vec<Shared<u64>>,
}

impl Board {
    /// Notes what task `task` observed.
    pub fn saw(&self, task: usize, value: u64) {
        self.seen[task].write(|seen| *seen = seen.wrapping_mul(31).wrapping_add(value + 1));
    }

    /// The first values, at the end.
    pub fn first_values<const COUNT: usize>(&self) -> [u64; COUNT] {
        std::array::from_fn(|index| self.values[index].read(|value| *value))
    }
}

type Body = Box<dyn Fn(&Runtime, Arc<Board>)>;
type Check = Rc<dyn Fn(&Board) -> Result<(), String>>;

/// A program that spawns tasks over a [`Board`]; its end is judged by `check`.
pub struct Small {
    body: Body,
    check: Check,
    may_hang: bool,
}

/// A program whose tasks must all end.
pub fn program(body: impl Fn(&Runtime, Arc<Board>) + 'static) -> Small {
    Small { body: Box::new(body), check: Rc::new(|_| Ok(())), may_hang: false }
}

impl Small {
    /// Judged at its end by `check`.
    pub fn checked(self, check: impl Fn(&Board) -> Result<(), String> + 'static) -> Self {
        Self { check: Rc::new(check), ..self }
    }

    /// A task that waits for ever is an end like others.
    pub fn hanging(self) -> Self {
        Self { may_hang: true, ..self }
    }
}

struct Run {
    board: Arc<Board>,
    check: Check,
    may_hang: bool,
}

/// Every other one tells the search what it was: both kinds are waited for.
fn value(index: usize) -> Shared<u64> {
    if index.is_multiple_of(2) { Shared::remembered(0, u64::clone) } else { Shared::new(0) }
}

impl Program for Small {
    fn start(&self, world: &mut World) -> Box<dyn Execution> {
        let disks = ["a", "b"].iter().filter_map(|name| world.disk(name)).collect();
        let board = world.begin(|runtime| {
            let board = Arc::new(Board {
                runtime: runtime.clone(),
                values: (0..8).map(value).collect(),
                mutexes: (0..4).map(|_| blockyard_sync::Mutex::new(0)).collect(),
                queue: Default::default(),
                disks,
                seen: (0..8).map(|_| Shared::new(0)).collect(),
            });
            (self.body)(runtime, board.clone());
            board
        });
        Box::new(Run { board, check: self.check.clone(), may_hang: self.may_hang })
    }
}

impl Execution for Run {
    fn judge(&self, world: &World) -> Option<Finding> {
        let unfinished = world.unfinished();
        if !unfinished.is_empty() && !self.may_hang {
            let message = format!("never ended: {}", unfinished.join(", "));
            return Some(Finding { property: "progress".into(), message });
        }
        let broken = (self.check)(&self.board).err();
        broken.map(|message| Finding { property: "check".into(), message })
    }

    fn digest(&self, world: &World) -> u64 {
        let numbers = self.board.values.iter().chain(&self.board.seen);
        let numbers = numbers.map(|number| number.read(|n| *n));
        let hung = world.unfinished().into_iter().flat_map(|name| name.bytes().map(u64::from));
        let mut digest = 0u64;
        for number in numbers.chain(hung) {
            digest = digest.wrapping_mul(0x1_0000_01b3).wrapping_add(number);
        }
        world.disk_digests().iter().fold(digest, |d, hash| d.rotate_left(7) ^ hash)
    }
}

pub fn setup(budgets: Budgets) -> Setup {
    let image = |name: &str| DiskImage::new(name, vec![0; 4096]);
    Setup { images: vec![image("a"), image("b")], budgets, ..Setup::default() }
}

/// Explores a program to its end, keeping the traces.
pub fn explore(program: &Small, reduction: Reduction, budgets: Budgets) -> Exploration {
    let limits = Limits { executions: 20_000, ..Limits::default() };
    let mut go_on = |_: &blockyard_sim::Summary| true;
    let mut explorer = Explorer::new(program, setup(budgets), limits, &mut go_on);
    explorer.keep_traces = true;
    explorer.depth_first(reduction)
}

/// What `look` sees at the end of every execution; both searches must see the same.
pub fn outcomes<T: Ord + std::fmt::Debug + 'static>(
    small: Small,
    look: impl Fn(&Board) -> T + 'static,
) -> BTreeSet<T> {
    let seen: Rc<Quiet<BTreeSet<T>>> = Rc::default();
    let seeing = seen.clone();
    let small = small.checked(move |board| {
        seeing.with(|seen| seen.insert(look(board)));
        Ok(())
    });
    let [plain, reduced] = [Reduction::Plain, Reduction::SourceSets].map(|reduction| {
        let exploration = explore(&small, reduction, FAULTLESS);
        assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true }, "{reduction:?}");
        seen.with(std::mem::take)
    });
    assert_eq!(plain, reduced);
    plain
}

/// Spawns one task.
pub fn task<F>(runtime: &Runtime, name: &str, body: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    drop(runtime.spawn(name.to_owned(), body));
}
