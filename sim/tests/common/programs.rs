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
    /// Waits until the value is not zero, which a child sees to.
    WaitUntil(usize),
    /// Takes one from a value that a child adds one to: the guard of another's wait may turn false again.
    Take(usize),
    Lock(usize),
    /// Registers, looks at the value, and waits for a notification if it is zero; a child changes it and notifies.
    Register(usize),
    Oneshot(usize),
    SpawnAndJoin(usize),
    Sleep(u64),
    /// Waits until the value is not zero or the time has passed.
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

/// The tasks for a number: mostly three that read and write, with one other operation among them; some with a disk.
pub fn generate(number: u64) -> Tasks {
    let mut dice = Dice(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678);
    if number % 6 == 5 {
        return (0..2)
            .map(|_| (0..1 + dice.roll(2)).map(|_| on_disk(&mut dice)).collect())
            .collect();
    }
    let plain = |dice: &mut Dice| (0..2).map(|_| plain(dice)).collect();
    let mut tasks: Tasks = (0..3).map(|_| plain(&mut dice)).collect();
    let (task, place) = (dice.roll(3) as usize, dice.roll(2) as usize);
    tasks[task][place] = special(&mut dice);
    tasks
}

fn plain(dice: &mut Dice) -> Operation {
    let object = usize::from(dice.roll(16) == 0);
    match dice.roll(8) {
        0 | 1 => Operation::Read(object),
        2 => Operation::Increment(object),
        _ => Operation::Double(object),
    }
}

fn special(dice: &mut Dice) -> Operation {
    use Operation::*;
    match dice.roll(11) {
        0 => WaitUntil(0),
        1 => Take(0),
        2 => Lock(0),
        3 => Register(0),
        4 => Oneshot(0),
        5 => SpawnAndJoin(0),
        6 => Sleep(1),
        7 => Timeout(0),
        8 => Choose,
        9 => on_disk(dice),
        _ => plain(dice),
    }
}

fn on_disk(dice: &mut Dice) -> Operation {
    let offset = 256 * dice.roll(4);
    match dice.roll(5) {
        0 | 1 => Operation::DiskRead(offset),
        2 | 3 => Operation::DiskWrite(offset),
        _ => Operation::DiskFlush,
    }
}

/// The program of these tasks.
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
}

async fn operate(board: &Arc<Board>, task: usize, operation: Operation) {
    use Operation::*;
    match operation {
        Read(object) => board.saw(task, board.values[object].read(|value| *value)),
        Double(object) => board.values[object].write(|value| *value = *value * 2 + 1),
        Increment(object) => board.values[object].add(|value| *value += 1),
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
    let set = |value: &u64| *value > 0;
    match operation {
        WaitUntil(object) => {
            help(board, move |board| board.values[object].add(|value| *value += 1));
            board.values[object].wait_until(set).await;
        }
        Take(object) => {
            let value = &board.values[2 + object];
            help(board, move |board| board.values[2 + object].add(|value| *value += 1));
            value.wait_for(set, |value| *value -= 1).await;
        }
        Register(object) => {
            help(board, move |board| {
                board.values[object].add(|value| *value += 1);
                board.queue.notify_all();
            });
            let ticket = board.queue.register();
            if board.values[object].read(|value| *value == 0) {
                ticket.wait().await;
            }
            board.saw(task, board.values[object].read(|value| *value));
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

fn help(board: &Arc<Board>, act: impl FnOnce(&Board) + Send + 'static) {
    let shared = board.clone();
    drop(board.runtime.spawn("helper", async move { act(&shared) }));
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
            let set = board.values[object].wait_until(|value| *value > 0);
            board.saw(task, u64::from(first_of(set, runtime.sleep(2)).await));
        }
        _ => board.saw(task, u64::from(runtime.choose(2).await)),
    }
}

async fn operate_on_disk(board: &Arc<Board>, task: usize, operation: Operation) {
    let disk = &board.disks[0];
    match operation {
        Operation::DiskRead(offset) => {
            let read = disk.read(ByteRange::new(offset, 512)).await;
            board.saw(
                task,
                read.map_or(99, |bytes| u64::from(bytes[0]) * 9 + u64::from(bytes[511])),
            );
        }
        Operation::DiskWrite(offset) => {
            let written = disk.write(offset, vec![task as u8 + 1; 512].into(), false).await;
            board.saw(task, u64::from(written.is_ok()));
        }
        _ => board.saw(task, u64::from(disk.flush().await.is_ok())),
    }
}
