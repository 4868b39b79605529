//! What each operation does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use blockyard_runtime::Storage;
use blockyard_sync::broadcast::Broadcast;
use blockyard_sync::{RwLock, Semaphore, Shared, door, first_of, mpsc, oneshot};
use blockyard_units::ByteRange;

use super::Operation;
use crate::common::Board;

/// What all tasks share.
pub struct Things {
    board: Arc<Board>,
    rwlock: RwLock<u64>,
    semaphore: Semaphore,
    senders: Vec<mpsc::Sender<u64>>,
    broadcast: Broadcast<u64>,
    knocker: Shared<Option<Waker>>,
}

/// What a task has for itself.
pub struct Own {
    pub index: usize,
    pub receiver: mpsc::Receiver<u64>,
}

impl Things {
    pub fn new(board: Arc<Board>, tasks: usize) -> (Self, Vec<mpsc::Receiver<u64>>) {
        let (senders, receivers) = (0..tasks).map(|_| mpsc::channel(1)).unzip();
        let things = Self {
            board,
            rwlock: RwLock::new(0),
            semaphore: Semaphore::new(2),
            senders,
            broadcast: Broadcast::default(),
            knocker: Shared::new(None),
        };
        (things, receivers)
    }
}

pub async fn operate(things: &Things, own: &mut Own, operation: Operation) {
    use Operation::*;
    let (board, task) = (&things.board, own.index);
    match operation {
        Read(object) => board.saw(task, board.values[object].read(|value| *value)),
        Double(object) => board.values[object].write(|value| *value = *value * 2 + 1),
        Increment(object) => board.values[object].add(|value| *value += 1),
        Give => board.values[2].add(|value| *value += 1),
        Notify => {
            board.values[0].add(|value| *value += 1);
            board.queue.notify_all();
        }
        Close(to) => things.senders[to].close(),
        Publish => things.broadcast.send(&(task as u64)),
        Now => board.saw(task, board.runtime.now_ns()),
        Knock => {
            if let Some(waker) = things.knocker.read(Clone::clone) {
                waker.wake();
            }
        }
        Lock(_) | DropGuard | GiveUpLock | ReadLock | WriteLock | Acquire(_) | TryAcquire(_) => {
            return lock(things, task, operation).await;
        }
        Send(_) | Receive | Listen | Oneshot | SpawnAndJoin => {
            return communicate(things, own, operation).await;
        }
        Sleep(_) | Timeout(_) | LockTimeout(_) | ReceiveTimeout(_) | WriteTimeout(_) | Choose => {
            return operate_on_time(board, own, operation).await;
        }
        DiskRead(_) | DiskWrite(_) | DiskWriteThrough(_) | DiskFlush => {
            return operate_on_disk(board, task, operation).await;
        }
        WaitUntil(_) | Take | Register | AwaitKnocks | Either | EitherTake | EitherLock => {
            return wait(things, task, operation).await;
        }
    }
    // The others wait anyway; these would run together with what follows.
    door::boundary().await;
}

async fn wait(things: &Things, task: usize, operation: Operation) {
    use Operation::*;
    let board = &things.board;
    let set = |value: &u64| *value > 0;
    match operation {
        WaitUntil(object) => board.values[object].wait_until(set).await,
        Take => board.values[2].wait_for(set, |value| *value -= 1).await,
        Register => {
            let ticket = board.queue.register();
            if board.values[0].read(|value| *value == 0) {
                ticket.wait().await;
            }
            board.saw(task, board.values[0].read(|value| *value));
        }
        Either | EitherTake | EitherLock => {
            let other = board.values[usize::from(operation == Either)].wait_until(set);
            let first = match operation {
                Either => first_of(board.values[0].wait_until(set), other).await,
                EitherTake => {
                    first_of(board.values[2].wait_for(set, |value| *value -= 1), other).await
                }
                _ => first_of(async { board.mutexes[0].lock().await.unlock() }, other).await,
            };
            board.saw(task, u64::from(first));
        }
        _ => Knocked { knocker: &things.knocker, knocks: None }.await,
    }
    board.saw(task, 0);
}

/// Ends when it was polled twice after the first time.
struct Knocked<'a> {
    knocker: &'a Shared<Option<Waker>>,
    knocks: Option<u64>,
}

impl Future for Knocked<'_> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.knocks {
            None => {
                self.knocker.write(|waker| *waker = Some(context.waker().clone()));
                self.knocks = Some(0);
            }
            Some(0) => self.knocks = Some(1),
            Some(_) => {
                self.knocker.write(|waker| *waker = None);
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

async fn lock(things: &Things, task: usize, operation: Operation) {
    use Operation::*;
    let board = &things.board;
    match operation {
        Lock(object) => {
            let mut guard = board.mutexes[object].lock().await;
            *guard += 1;
            board.saw(task, *guard);
            door::boundary().await;
            guard.unlock();
        }
        DropGuard => {
            let guard = board.mutexes[0].lock().await;
            board.saw(task, *guard);
        }
        GiveUpLock => {
            let mut asked = Box::pin(board.mutexes[0].lock());
            let mut once = |context: &mut Context<'_>| asked.as_mut().poll(context).is_pending();
            assert!(std::future::poll_fn(|context| Poll::Ready(once(context))).await);
            door::boundary().await;
        }
        ReadLock => {
            let guard = things.rwlock.read().await;
            board.saw(task, *guard);
            door::boundary().await;
            guard.unlock();
        }
        WriteLock => {
            let mut guard = things.rwlock.write().await;
            *guard += 1;
            board.saw(task, *guard);
            guard.unlock();
        }
        Acquire(count) => {
            let permit = things.semaphore.acquire(count).await;
            board.saw(task, 0);
            door::boundary().await;
            permit.release();
        }
        TryAcquire(count) => {
            let permit = things.semaphore.try_acquire(count);
            board.saw(task, u64::from(permit.is_some()));
            door::boundary().await;
            if let Some(permit) = permit {
                permit.release();
            }
        }
        _ => unreachable!("every-operation-is-somewhere"),
    }
}

async fn communicate(things: &Things, own: &mut Own, operation: Operation) {
    let (board, task) = (&things.board, own.index);
    let (runtime, other) = (&board.runtime, board.clone());
    let saw = match operation {
        Operation::Send(to) => u64::from(things.senders[to].send(task as u64).await.is_ok()),
        Operation::Receive => own.receiver.receive().await.unwrap_or(9),
        Operation::Listen => {
            let mut subscriber = things.broadcast.subscribe();
            let message = subscriber.receive().await;
            subscriber.unsubscribe();
            message
        }
        Operation::Oneshot => {
            let (sender, receiver) = oneshot();
            drop(runtime.spawn("sender", async move {
                sender.send(other.values[0].read(|value| *value));
            }));
            receiver.receive().await
        }
        _ => {
            let child = runtime.spawn("child", async move {
                other.values[0].write(|value| {
                    *value += 1;
                    *value
                })
            });
            child.join().await
        }
    };
    board.saw(task, saw);
}

async fn operate_on_time(board: &Board, own: &mut Own, operation: Operation) {
    let (runtime, task) = (&board.runtime, own.index);
    let saw = match operation {
        Operation::Sleep(duration_ns) => {
            runtime.sleep(duration_ns).await;
            runtime.now_ns()
        }
        Operation::Timeout(duration_ns) => {
            let set = board.values[0].wait_until(|value| *value > 0);
            u64::from(first_of(set, runtime.sleep(duration_ns)).await)
        }
        Operation::LockTimeout(duration_ns) => {
            let locked = async { board.mutexes[0].lock().await.unlock() };
            u64::from(first_of(locked, runtime.sleep(duration_ns)).await)
        }
        Operation::ReceiveTimeout(duration_ns) => {
            let received = async {
                let message = own.receiver.receive().await;
                board.saw(task, message.unwrap_or(9));
            };
            u64::from(first_of(received, runtime.sleep(duration_ns)).await)
        }
        Operation::WriteTimeout(duration_ns) => {
            let written = board.disks[0].write(0, vec![9; 512].into(), false);
            let written = async { board.saw(task, u64::from(written.await.is_ok())) };
            u64::from(first_of(written, runtime.sleep(duration_ns)).await)
        }
        _ => u64::from(runtime.choose(2).await),
    };
    board.saw(task, saw);
}

async fn operate_on_disk(board: &Board, task: usize, operation: Operation) {
    let disk = &board.disks[0];
    let data = || vec![task as u8 + 1; 512].into();
    let saw = match operation {
        Operation::DiskRead(offset) => {
            let read = disk.read(ByteRange::new(offset, 512)).await;
            read.map_or(99, |bytes| u64::from(bytes[0]) * 9 + u64::from(bytes[511]))
        }
        Operation::DiskWrite(offset) => u64::from(disk.write(offset, data(), false).await.is_ok()),
        Operation::DiskWriteThrough(offset) => {
            u64::from(disk.write(offset, data(), true).await.is_ok())
        }
        _ => u64::from(disk.flush().await.is_ok()),
    };
    board.saw(task, saw);
}
