//! What hands over in turns or to many: nothing is handed out twice, lost, or told in two orders. The planted bugs do
//! in two passages what belongs into one.

use std::sync::Arc;

use blockyard_loom_tests::{block_on, explore, explore_finds, join, two_inside};
use blockyard_sync::broadcast::{Broadcast, Subscriber};
use blockyard_sync::{RwLock, Semaphore, Shared, mpsc};
use loom::thread;

#[test]
fn a_semaphore_hands_out_no_more_than_it_has() {
    explore(|| {
        two_inside(Semaphore::new(3), |semaphore, inside| {
            let permit = block_on(semaphore.acquire(2));
            inside();
            permit.release();
        });
    });
}

#[test]
fn a_permit_is_tried_for_and_waited_for_by_one_at_a_time() {
    explore(|| {
        two_inside(Semaphore::new(1), |semaphore, inside| {
            let tried = semaphore.try_acquire(1);
            let permit = tried.unwrap_or_else(|| block_on(semaphore.acquire(1)));
            inside();
            permit.release();
        });
    });
}

#[test]
fn planted_try_that_looks_and_takes_in_two_passages_hands_out_too_much() {
    explore_finds("one-owner", || {
        two_inside(Shared::new(1), |free, inside| {
            if free.read(|free| *free > 0) {
                free.write(|free| *free -= 1);
                inside();
                free.write(|free| *free += 1);
            }
        });
    });
}

#[test]
fn writers_exclude_each_other_and_no_change_is_lost() {
    explore(|| {
        let lock = Arc::new(RwLock::new(0));
        let add = {
            let lock = lock.clone();
            move || {
                let mut guard = block_on(lock.write());
                *guard += 1;
                guard.unlock();
            }
        };
        let other = thread::spawn(add.clone());
        add();
        join(other);
        let guard = block_on(lock.read());
        assert_eq!(*guard, 2, "no-change-is-lost");
        guard.unlock();
    });
}

/// A reader looks twice at what a writer changes in between, if it can.
fn looked_at_twice(looks: fn(&RwLock<u64>) -> [u64; 2]) {
    let lock = Arc::new(RwLock::new(0));
    let writer = thread::spawn({
        let lock = lock.clone();
        move || {
            let mut guard = block_on(lock.write());
            *guard += 1;
            guard.unlock();
        }
    });
    let [first, second] = looks(&lock);
    assert_eq!(first, second, "one-writer-or-readers");
    join(writer);
}

#[test]
fn a_reader_sees_no_writer() {
    explore(|| {
        looked_at_twice(|lock| {
            let guard = block_on(lock.read());
            let seen = [*guard, *guard];
            guard.unlock();
            seen
        });
    });
}

#[test]
fn planted_reader_that_unlocks_in_between_sees_a_writer() {
    explore_finds("one-writer-or-readers", || {
        looked_at_twice(|lock| {
            [(); 2].map(|()| {
                let guard = block_on(lock.read());
                let seen = *guard;
                guard.unlock();
                seen
            })
        });
    });
}

#[test]
fn a_full_channel_loses_no_message_and_keeps_their_order() {
    explore(|| {
        let (sender, mut receiver) = mpsc::channel(1);
        let sending = thread::spawn(move || {
            for message in 0..2 {
                block_on(sender.send(message)).expect("nobody closes before");
            }
            sender.close();
        });
        let received = [(); 3].map(|()| block_on(receiver.receive()));
        assert_eq!(received, [Some(0), Some(1), None], "a-message-arrives-once");
        join(sending);
    });
}

#[test]
fn a_sender_that_waits_is_told_of_the_end() {
    explore(|| {
        let (sender, mut receiver) = mpsc::channel(1);
        let sending =
            thread::spawn(move || [0, 1].map(|message| block_on(sender.send(message)).is_ok()));
        receiver.close();
        let mut received = Vec::new();
        let sent = join(sending);
        while let Some(message) = block_on(receiver.receive()) {
            received.push(message);
        }
        let arrived = sent.iter().filter(|sent| **sent).count();
        assert_eq!(received.len(), arrived, "a-message-arrives-once");
    });
}

/// Two threads send; two subscribers must be told in one order.
fn told_in_one_order<B: Send + Sync + 'static>(
    broadcast: B,
    send: fn(&B, u64),
    mut receive: impl FnMut(&B) -> [[u64; 2]; 2],
) {
    let broadcast = Arc::new(broadcast);
    let other = thread::spawn({
        let broadcast = broadcast.clone();
        move || send(&broadcast, 1)
    });
    send(&broadcast, 2);
    join(other);
    let [first, second] = receive(&broadcast);
    assert_eq!(first, second, "told-in-one-order");
    assert_eq!(first[0] + first[1], 3, "a-message-arrives-once");
}

#[test]
fn a_broadcast_is_told_in_one_order() {
    explore(|| {
        let broadcast = Broadcast::default();
        let mut subscribers = [broadcast.subscribe(), broadcast.subscribe()];
        told_in_one_order(
            broadcast,
            |broadcast, message| broadcast.send(&message),
            |_| {
                let mut all =
                    |index: usize| [(); 2].map(|()| block_on(subscribers[index].receive()));
                [all(0), all(1)]
            },
        );
        subscribers.into_iter().for_each(Subscriber::unsubscribe);
    });
}

#[test]
fn planted_broadcast_in_two_passages_is_told_in_two_orders() {
    explore_finds("told-in-one-order", || {
        told_in_one_order(
            [Shared::new(Vec::new()), Shared::new(Vec::new())],
            |mailboxes, message| {
                for mailbox in mailboxes {
                    mailbox.write(|mailbox| mailbox.push(message));
                }
            },
            |mailboxes| mailboxes.each_ref().map(|mailbox| mailbox.read(|all| [all[0], all[1]])),
        );
    });
}
