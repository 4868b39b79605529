//! Small programs made from a number: two or three tasks that share data, locks, channels, timers, a disk.

mod generate;
mod operate;

use std::sync::Arc;

use blockyard_sim::{Budgets, DiskImage, Families, Family, Granularity, Setup};

use super::{Small, program, task};
pub use generate::generate;
use operate::{Own, Things};

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read(usize),
    Double(usize),
    Increment(usize),
    /// Waits until the value is not zero.
    WaitUntil(usize),
    /// Adds one to a value from which others take.
    Give,
    /// Waits until there is something to take: the guard of another's wait may turn false again.
    Take,
    Lock(usize),
    /// Locks, and drops the guard instead of unlocking.
    DropGuard,
    /// Asks for the lock and goes away before its turn.
    GiveUpLock,
    ReadLock,
    WriteLock,
    Acquire(u64),
    TryAcquire(u64),
    /// Sends to the task with this number, which receives.
    Send(usize),
    Receive,
    /// Closes the channel of the task with this number.
    Close(usize),
    /// Subscribes and waits for one message.
    Listen,
    Publish,
    /// Waits until one of two values is not zero.
    Either,
    /// Waits until there is something to take or a value is not zero.
    EitherTake,
    /// Waits for the lock or until a value is not zero.
    EitherLock,
    /// Registers, looks at the value, and waits for a notification if it is zero.
    Register,
    /// Changes the value and notifies.
    Notify,
    Oneshot,
    SpawnAndJoin,
    /// Waits to be woken twice by others, who hold its waker.
    AwaitKnocks,
    Knock,
    Now,
    Sleep(u64),
    /// Waits until the value is not zero or the time has passed.
    Timeout(u64),
    /// Waits for the lock or until the time has passed.
    LockTimeout(u64),
    /// Waits for a message or until the time has passed.
    ReceiveTimeout(u64),
    /// Writes to the disk, or until the time has passed; the request goes on.
    WriteTimeout(u64),
    Choose,
    DiskRead(u64),
    DiskWrite(u64),
    DiskWriteThrough(u64),
    DiskFlush,
}

/// The operations of each task.
pub type Tasks = Vec<Vec<Operation>>;

impl Operation {
    /// What it is counted as.
    pub fn primitive(self) -> &'static str {
        use Operation::*;
        match self {
            Read(_) | Double(_) | Increment(_) | WaitUntil(_) | Give | Take => "counter",
            Lock(_) | DropGuard => "mutex",
            Either | EitherTake | EitherLock => "either",
            GiveUpLock | Timeout(_) | LockTimeout(_) | ReceiveTimeout(_) | WriteTimeout(_) => {
                "cancellation"
            }
            ReadLock | WriteLock => "rwlock",
            Acquire(_) | TryAcquire(_) => "semaphore",
            Send(_) | Receive | Close(_) => "channel",
            Listen | Publish => "broadcast",
            Register | Notify => "notification",
            Oneshot => "oneshot",
            SpawnAndJoin => "join",
            AwaitKnocks | Knock => "waker",
            Now | Sleep(_) => "timer",
            Choose => "choice",
            DiskRead(_) | DiskWrite(_) | DiskWriteThrough(_) => "disk",
            DiskFlush => "flush",
        }
    }

    fn on_disk(self) -> bool {
        matches!(self, Self::WriteTimeout(_)) || matches!(self.primitive(), "disk" | "flush")
    }
}

/// How many disk requests of this number's program may go wrong, and how.
fn faults_of(number: u64) -> Budgets {
    let families = match number % 6 {
        0 => Families::DEFAULT,
        3 => Families::NONE.with(Family::Flush),
        _ => return Budgets::NONE,
    };
    Budgets { faults: 1, families, ..Budgets::NONE }
}

/// What the tasks of this number run in: with a disk if they use one.
pub fn setup_of(number: u64, tasks: &Tasks) -> Setup {
    let on_disk = tasks.iter().flatten().any(|operation| operation.on_disk());
    if !on_disk {
        return Setup::default();
    }
    let image = DiskImage::new("a", vec![0; 1536]);
    Setup { images: vec![image], budgets: faults_of(number), ..Setup::default() }
}

/// The tasks for a number, so few that plain search can exhaust them by door, too.
pub fn generate_for(number: u64, granularity: Granularity) -> Tasks {
    let mut tasks = generate(number);
    let operations: usize = tasks.iter().map(Vec::len).sum();
    if granularity == Granularity::Door && operations > 5 {
        tasks.iter_mut().for_each(|task| task.truncate(2));
    }
    tasks
}

/// The program of these tasks. Some wait for ever.
pub fn of_tasks(tasks: Tasks) -> Small {
    let small = program(move |runtime, board| {
        let (things, receivers) = Things::new(board, tasks.len());
        let things = Arc::new(things);
        for ((index, operations), receiver) in tasks.iter().enumerate().zip(receivers) {
            if operations.is_empty() {
                continue;
            }
            let (things, operations) = (things.clone(), operations.clone());
            task(runtime, &format!("t{index}"), async move {
                let mut own = Own { index, receiver };
                for operation in operations {
                    operate::operate(&things, &mut own, operation).await;
                }
            });
        }
    });
    small.hanging()
}
