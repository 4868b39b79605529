//! Which operations a number stands for.
//!
//! A program is made of motifs: operations of several tasks that have to do with each other. Its size is bounded by the
//! number of ways to interleave its steps, so that plain search can exhaust it.

use super::{Operation, Tasks, faults_of};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % below
    }

    fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.roll(among.len() as u64) as usize]
    }
}

/// The tasks for a number.
pub fn generate(number: u64) -> Tasks {
    let mut dice = Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678);
    let count = 2 + dice.pick(&[0, 1, 1]);
    let mut tasks: Tasks = vec![Vec::new(); count];
    let limit = 700 * (1 + dice.roll(3));
    let mut grow = |dice: &mut Dice, which: u64| {
        let mut larger = tasks.clone();
        motif(which, dice, &mut larger);
        if interleavings(&larger, faults_of(number).faults > 0) <= limit {
            tasks = larger;
        }
    };
    // Every motif in turn, so that each is frequent; what goes with it is left to the dice, and filled up with data.
    grow(&mut dice, number % MOTIFS);
    for _ in 0..dice.roll(3) {
        let which = dice.roll(MOTIFS);
        grow(&mut dice, which);
    }
    for _ in 0..8 {
        grow(&mut dice, DATA);
    }
    tasks
}

const MOTIFS: u64 = 17;

/// One operation on data, by itself.
const DATA: u64 = 0;

fn motif(which: u64, dice: &mut Dice, tasks: &mut Tasks) {
    use Operation::*;
    let count = tasks.len();
    // Three tasks, of which two are the same if there are only two.
    let first = dice.roll(count as u64) as usize;
    let [a, b, c] = [first, (first + 1) % count, (first + 2) % count];
    let mut put = |dice: &mut Dice, task: usize, operation: Operation| {
        let place = dice.roll(tasks[task].len() as u64 + 1) as usize;
        tasks[task].insert(place, operation);
    };
    if which == DATA {
        let operation = on_data(dice);
        return put(dice, a, operation);
    }
    let with = match which {
        1 => [Lock(0), dice.pick(&[Lock(0), DropGuard, Lock(1)])],
        2 => [ReadLock, dice.pick(&[WriteLock, WriteLock, ReadLock])],
        3 => [Acquire(1 + dice.roll(2)), dice.pick(&[Acquire(2), TryAcquire(1), TryAcquire(2)])],
        4 => [Receive, dice.pick(&[Send(a), Send(a), Close(a)])],
        5 => [Listen, Publish],
        6 => [Register, Notify],
        7 => [dice.pick(&[Oneshot, SpawnAndJoin]), on_data(dice)],
        8 => [SpawnAndJoin, on_data(dice)],
        9 => [AwaitKnocks, Knock],
        10 => [Sleep(1 + dice.roll(2)), dice.pick(&[Sleep(1), Sleep(2), Sleep(3), Now])],
        11 => match dice.roll(5) {
            0 => [GiveUpLock, Lock(0)],
            1 => [LockTimeout(1 + dice.roll(2)), Lock(0)],
            2 => [ReceiveTimeout(1 + dice.roll(2)), Send(a)],
            3 => [WriteTimeout(1), dice.pick(&[DiskRead(0), DiskWrite(256), Sleep(2)])],
            _ => [Timeout(1 + dice.roll(2)), dice.pick(&[Increment(0), Double(0), Sleep(1)])],
        },
        12 => [Choose, on_data(dice)],
        13 => [on_disk(dice), on_disk(dice)],
        14 => [dice.pick(&[DiskWrite(0), DiskWriteThrough(256)]), DiskFlush],
        15 => dice.pick(&[[Either, Double(0)], [EitherTake, Give], [EitherLock, Lock(0)]]),
        _ => match dice.roll(4) {
            0 => [Take, Give],
            _ => [WaitUntil(0), dice.pick(&[Increment(0), Double(0)])],
        },
    };
    put(dice, a, with[0]);
    put(dice, b, with[1]);
    let third = match which {
        3 => Acquire(1),
        4 => dice.pick(&[Send(a), Receive]),
        5 => dice.pick(&[Publish, Listen]),
        9 => Knock,
        15 => Double(usize::from(with[0] == Either)),
        _ => return,
    };
    put(dice, c, third);
}

fn on_data(dice: &mut Dice) -> Operation {
    let object = usize::from(dice.roll(32) == 0);
    match dice.roll(8) {
        0 | 1 => Operation::Read(object),
        2 => Operation::Increment(object),
        _ => Operation::Double(object),
    }
}

fn on_disk(dice: &mut Dice) -> Operation {
    let offset = 256 * dice.roll(5);
    match dice.roll(5) {
        0 | 1 => Operation::DiskRead(offset),
        2 | 3 => Operation::DiskWrite(offset),
        _ => Operation::DiskFlush,
    }
}

/// In how many ways the tasks' steps can follow each other, about.
fn interleavings(tasks: &Tasks, may_fail: bool) -> u64 {
    let (mut ways, mut steps) = (1, 0);
    for operations in tasks.iter().filter(|operations| !operations.is_empty()) {
        let own = 1 + operations.iter().map(|operation| length(*operation)).sum::<u64>();
        for step in 1..=own {
            steps += 1;
            ways = ways * steps / step;
        }
    }
    let doubled = |operation: &&Operation| {
        **operation == Operation::Choose || may_fail && operation.on_disk()
    };
    ways << tasks.iter().flatten().filter(doubled).count()
}

/// How many steps a task takes longer by it.
fn length(operation: Operation) -> u64 {
    use Operation::*;
    match operation {
        WriteTimeout(_) => 4,
        DiskRead(_) | DiskWrite(_) | DiskWriteThrough(_) | DiskFlush => 3,
        Lock(_) | ReadLock | Acquire(_) | DropGuard | GiveUpLock | Oneshot | SpawnAndJoin => 2,
        EitherLock | AwaitKnocks | Sleep(_) | Timeout(_) | LockTimeout(_) | ReceiveTimeout(_)
        | Choose => 2,
        _ => 1,
    }
}
