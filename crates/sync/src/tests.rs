//! Tests of the door and the primitives, polled by hand.

mod broadcast;
mod mpsc;
mod mutex;
mod rarely;
mod rwlock;
mod semaphore;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::door::{self, Access, Kind, Orphan, Reason, StepLog, world};
use crate::{Event, Shared, WaitQueue, first_of, oneshot};

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Asks for something that is waited for: the first poll.
fn asked<'a, F: Future + 'a>(future: F) -> Pin<Box<dyn Future<Output = F::Output> + 'a>> {
    let mut future = Box::pin(future);
    assert!(poll(future.as_mut()).is_pending(), "waits-end-the-step");
    future
}

/// What a future that must have ended came to.
fn ended<T>(future: &mut Pin<Box<dyn Future<Output = T> + '_>>) -> T {
    match poll(future.as_mut()) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

fn waits<T>(future: &mut Pin<Box<dyn Future<Output = T> + '_>>) -> bool {
    poll(future.as_mut()).is_pending()
}

/// Runs what was bequeathed, as far as it goes; how many came to an end.
fn run_orphans(orphans: &mut Vec<Orphan>) -> usize {
    orphans.extend(door::take_orphans());
    let before = orphans.len();
    orphans.retain_mut(|orphan| poll(orphan.as_mut()).is_pending());
    before - orphans.len()
}

/// Counts how often it was called.
#[derive(Default)]
struct Bell(AtomicU64);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The waker of a world's task 7.
struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        world::wake(7);
    }
}

/// The first step of task 7.
const FIRST: world::Step =
    world::Step { number: 0, task: 7, stream: 0, next_object: 0, record: true, remember: false };

/// What `step` did, if a world had it done as the first step of task 7.
fn recorded(step: impl FnOnce()) -> StepLog {
    let mut log = StepLog::default();
    world::begin(FIRST);
    step();
    world::end(&mut log);
    log
}

#[test]
fn dropped_wait_is_woken_no_more() {
    let value = Shared::new(0);
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let mut wait = Box::pin(value.wait_until(|value| *value > 0));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    value.write(|value| *value = 1);
    assert_eq!(bell.0.load(Ordering::Relaxed), 1);
    drop(wait);
    value.write(|value| *value = 2);
    assert_eq!(bell.0.load(Ordering::Relaxed), 1);
}

#[test]
fn wait_ends_the_step_even_if_its_guard_holds() {
    let value = Shared::new(1);
    let mut wait = pin!(value.wait_for(|value| *value > 0, |value| *value -= 1));
    assert!(poll(wait.as_mut()).is_pending());
    assert!(poll(wait.as_mut()).is_ready());
    assert_eq!(value.read(|value| *value), 0);
}

#[test]
fn guard_that_fell_again_is_waited_for_again() {
    let value = Shared::new(1);
    let mut wait = pin!(value.wait_until(|value| *value > 0));
    assert!(poll(wait.as_mut()).is_pending());
    value.write(|value| *value = 0);
    assert!(poll(wait.as_mut()).is_pending());
    value.write(|value| *value = 1);
    assert!(poll(wait.as_mut()).is_ready());
}

#[test]
fn oneshot_carries_one_value_and_waits_for_ever_without_sender() {
    let (sender, receiver) = oneshot();
    let mut received = pin!(receiver.receive());
    assert!(poll(received.as_mut()).is_pending());
    sender.send(5);
    assert_eq!(poll(received.as_mut()), Poll::Ready(5));

    let (sender, receiver) = oneshot::<u8>();
    drop(sender);
    let mut received = pin!(receiver.receive());
    assert!(poll(received.as_mut()).is_pending());
    assert!(poll(received.as_mut()).is_pending());
}

#[test]
fn event_stays_set_and_queue_wakes_only_the_registered() {
    let event = Event::default();
    event.set();
    let mut set = pin!(event.wait());
    assert!(event.is_set() && poll(set.as_mut()).is_pending() && poll(set.as_mut()).is_ready());

    let queue = WaitQueue::default();
    let mut early = pin!(queue.register().wait());
    queue.notify_all();
    let mut late = pin!(queue.register().wait());
    assert!(poll(early.as_mut()).is_pending() && poll(late.as_mut()).is_pending());
    assert!(poll(early.as_mut()).is_ready() && poll(late.as_mut()).is_pending());
}

#[test]
fn first_of_does_not_move_b_once_a_has_ended() {
    let (a, polls) = (Event::default(), AtomicU64::new(0));
    let b = std::future::poll_fn(|_| {
        polls.fetch_add(1, Ordering::Relaxed);
        Poll::Pending
    });
    let mut first = pin!(first_of(a.wait(), b));
    assert!(poll(first.as_mut()).is_pending());
    a.set();
    assert_eq!(poll(first.as_mut()), Poll::Ready(true));
    assert_eq!(polls.load(Ordering::Relaxed), 1);
}

#[test]
fn shut_door_records_nothing() {
    let value = Shared::new(0);
    value.write(|value| *value += 1);
    world::wake(3);
    door::mark("nobody sees this");
    let log = recorded(|| ());
    assert!(log.accesses.is_empty() && log.wakes.is_empty() && log.marks.is_empty());
}

#[test]
fn open_door_records_passages_guards_and_new_objects() {
    let mut object = None;
    let log = recorded(|| {
        let value = Shared::new(0);
        value.read(|_| ());
        value.add(|value| *value += 1);
        let mut wait = pin!(value.wait_until(|value| *value > 0));
        let waker = Waker::from(Arc::new(Task));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
        object = Some(door::new_object());
    });
    let object = object.expect("the step ran");
    assert_eq!((object.creator, object.index), (7, 1));
    let first = blockyard_units::Id { creator: 7, index: 0 };
    let passages = [Kind::Read, Kind::Add, Kind::Read].map(|kind| Access::whole(first, kind));
    assert_eq!(log.accesses, passages);
    assert_eq!(log.guards, [passages[2]]);
    assert_eq!(log.wakes.len(), 2);
    assert_eq!(log.wakes[0].reason, Reason::Guard(passages[2]));
    assert_eq!(log.wakes[1].reason, Reason::Fell(passages[2]));
}

#[test]
fn adds_commute_with_adds_and_reads_with_reads_only() {
    let conflict = |a: Kind, b: Kind| a.conflicts(b);
    assert!(!conflict(Kind::Read, Kind::Read) && !conflict(Kind::Add, Kind::Add));
    for (a, b) in [(Kind::Read, Kind::Add), (Kind::Read, Kind::Write), (Kind::Add, Kind::Write)] {
        assert!(conflict(a, b) && conflict(b, a), "{a:?} {b:?}");
    }
    assert!(conflict(Kind::Write, Kind::Write));
    let object = door::new_object();
    let write = |from, to| Access { object, kind: Kind::Write, from, to };
    assert!(!write(0, 5).conflicts(&write(5, 9)) && write(0, 6).conflicts(&write(5, 9)));
}

/// Bequeaths another of its kind when it is dropped, `0` times over.
struct Heir(u32);

impl Drop for Heir {
    fn drop(&mut self) {
        if let Some(rest) = self.0.checked_sub(1) {
            let heir = Heir(rest);
            door::bequeath(Box::pin(async move { drop(heir) }));
        }
    }
}

#[test]
fn nothing_bequeathed_survives_the_end_of_a_world() {
    world::begin(FIRST);
    drop(Heir(4));
    world::abandon();
    assert!(door::take_orphans().is_empty());
    assert!(recorded(|| ()).orphans.is_empty());
}
