//! Small programs made from a number: two or three tasks of one to three operations, mostly on the same objects.

use std::sync::Arc;

use blockyard_runtime::{Runtime, Storage};
use blockyard_sync::{door, first_of, oneshot};
use blockyard_units::ByteRange;

use super::{Board, Small, program, task};

/// One operation; the number is the object's.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Read(usize),
    Double(usize),
    Increment(usize),
    /// Waits until the value is odd.
    WaitUntilOdd(usize),
    /// Waits until the value is odd, and makes it even.
    Take(usize),
    Lock(usize),
    /// Registers, looks at the value, and waits for a notification if it is even.
    Register(usize),
    Notify(usize),
    Oneshot(usize),
    SpawnAndJoin(usize),
    Sleep(u64),
    /// Waits until the value is odd or the time has passed.
    Timeout(usize),
    Choose,
    DiskRead(u64),
    DiskWrite(u64),
    DiskFlush,
}

/// The operations of each task.
pub type Tasks = Vec<Vec<Operation>>;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % below
    }
}

/// The tasks for a number.
pub fn generate(number: u64) -> Tasks {
    let mut dice = Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678);
    let tasks = 2 + dice.roll(2);
    let operations = |dice: &mut Dice| (0..2 + dice.roll(2)).map(|_| operation(dice)).collect();
    (0..tasks).map(|_| operations(&mut dice)).collect()
}

fn operation(dice: &mut Dice) -> Operation {
    use Operation::*;
    let object = usize::from(dice.roll(8) == 0);
    let offset = 256 * dice.roll(4);
    match dice.roll(26) {
        0..=2 => Read(object),
        3..=6 => Double(object),
        7..=9 => Increment(object),
        10 => WaitUntilOdd(object),
        11 => Take(object),
        12 | 13 => Lock(object),
        14 => Register(object),
        15 => Notify(object),
        16 => Oneshot(object),
        17 => SpawnAndJoin(object),
        18 => Sleep(1 + object as u64),
        19 => Timeout(object),
        20 => Choose,
        21 | 22 => DiskRead(offset),
        23 | 24 => DiskWrite(offset),
        _ => DiskFlush,
    }
}

/// The program; its tasks may wait for ever.
pub fn of_tasks(tasks: Tasks) -> Small {
    program(move |runtime, board| {
        for (index, operations) in tasks.iter().enumerate() {
            let (board, operations) = (board.clone(), operations.clone());
            task(runtime, &format!("t{index}"), async move {
                for operation in operations {
                    operate(&board, index, operation).await;
                }
            });
        }
    })
    .hanging()
}

async fn operate(board: &Arc<Board>, task: usize, operation: Operation) {
    use Operation::*;
    match operation {
        Read(object) => board.saw(task, board.values[object].read(|value| *value)),
        Double(object) => board.values[object].write(|value| *value = *value * 2 + 1),
        Increment(object) => board.values[object].add(|value| *value += 1),
        Notify(object) => {
            board.values[object].add(|value| *value += 1);
            board.queue.notify_all();
        }
        Sleep(_) | Timeout(_) | Choose => return operate_on_time(board, task, operation).await,
        DiskRead(_) | DiskWrite(_) | DiskFlush => {
            return operate_on_disk(board, task, operation).await;
        }
        _ => return wait(board, task, operation).await,
    }
    // The others wait anyway; these would run together with what follows.
    door::boundary().await;
}

async fn wait(board: &Arc<Board>, task: usize, operation: Operation) {
    use Operation::*;
    let odd = |value: &u64| value % 2 == 1;
    match operation {
        WaitUntilOdd(object) => board.values[object].wait_until(odd).await,
        Take(object) => {
            let took = board.values[object].wait_for(odd, |value| {
                *value += 1;
                *value
            });
            board.saw(task, took.await);
        }
        Register(object) => {
            let ticket = board.queue.register();
            if board.values[object].read(|value| value % 2 == 0) {
                ticket.wait().await;
            }
            board.saw(task, 7);
        }
        Lock(object) => {
            let mut guard = board.mutexes[object].lock().await;
            *guard += 1;
            board.saw(task, *guard);
            door::boundary().await;
            guard.unlock();
        }
        _ => communicate(board, &board.runtime, task, operation).await,
    }
}

async fn communicate(board: &Arc<Board>, runtime: &Runtime, task: usize, operation: Operation) {
    let other = board.clone();
    match operation {
        Operation::Oneshot(object) => {
            let (sender, receiver) = oneshot();
            drop(runtime.spawn("sender", async move {
                sender.send(other.values[object].read(|value| *value));
            }));
            board.saw(task, receiver.receive().await);
        }
        Operation::SpawnAndJoin(object) => {
            let child = runtime.spawn("child", async move {
                other.values[object].write(|value| {
                    *value += 1;
                    *value
                })
            });
            board.saw(task, child.join().await);
        }
        _ => unreachable!("every-operation-is-somewhere"),
    }
}

async fn operate_on_time(board: &Arc<Board>, task: usize, operation: Operation) {
    let runtime = &board.runtime;
    match operation {
        Operation::Sleep(duration_ns) => {
            runtime.sleep(duration_ns).await;
            board.saw(task, runtime.now_ns());
        }
        Operation::Timeout(object) => {
            let odd = board.values[object].wait_until(|value| value % 2 == 1);
            board.saw(task, u64::from(first_of(odd, runtime.sleep(2)).await));
        }
        _ => board.saw(task, u64::from(runtime.choose(2).await)),
    }
}

async fn operate_on_disk(board: &Arc<Board>, task: usize, operation: Operation) {
    let disk = &board.disks[0];
    match operation {
        Operation::DiskRead(offset) => {
            let read = disk.read(ByteRange::new(offset, 512)).await;
            board.saw(task, read.map_or(99, |bytes| u64::from(bytes[0]) * 9 + u64::from(bytes[511])));
        }
        Operation::DiskWrite(offset) => {
            let written = disk.write(offset, vec![task as u8 + 1; 512].into(), false).await;
            board.saw(task, u64::from(written.is_ok()));
        }
        _ => board.saw(task, u64::from(disk.flush().await.is_ok())),
    }
}
