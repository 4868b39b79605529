//! Waits and locks of the door: none is lost, none lets two in. The planted bugs are the usual ones: to
//! look before one is registered, and to look and take in two passages.

use std::sync::Arc;

use blockyard_loom_tests::{block_on, explore, explore_finds, join, two_inside};
use blockyard_sync::{Mutex, Shared, WaitQueue, oneshot};
use loom::thread;

#[test]
fn a_wait_sees_the_write_that_makes_its_guard_true() {
    explore(|| {
        let flag = Arc::new(Shared::new(false));
        let writer = thread::spawn({
            let flag = flag.clone();
            move || flag.write(|flag| *flag = true)
        });
        block_on(flag.wait_until(|flag| *flag));
        assert!(flag.read(|flag| *flag));
        join(writer);
    });
}

#[test]
fn a_wait_sees_the_last_of_two_writes_that_make_its_guard_true_together() {
    explore(|| {
        let count = Arc::new(Shared::new(0));
        let add = || {
            let count = count.clone();
            thread::spawn(move || count.add(|count| *count += 1))
        };
        let writers = [add(), add()];
        block_on(count.wait_until(|count| *count == 2));
        writers.into_iter().for_each(join);
    });
}

#[test]
fn two_waits_share_out_what_two_writes_provide() {
    explore(|| {
        let tokens = Arc::new(Shared::new(0_usize));
        let take = {
            let tokens = tokens.clone();
            move || block_on(tokens.wait_for(|tokens| *tokens > 0, |tokens| *tokens -= 1))
        };
        let taker = thread::spawn(take.clone());
        let provider = thread::spawn({
            let tokens = tokens.clone();
            move || (0..2).for_each(|_| tokens.add(|tokens| *tokens += 1))
        });
        take();
        join(taker);
        join(provider);
        assert_eq!(tokens.read(|tokens| *tokens), 0, "a-token-is-taken-once");
    });
}

#[test]
fn what_is_sent_is_received() {
    explore(|| {
        let (sender, receiver) = oneshot();
        let sender = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver.receive()), 7);
        join(sender);
    });
}

/// One thread sets a flag and notifies; the other registers and looks, in the order that `look_first`
/// says, and waits if it saw nothing.
fn notified_once(look_first: bool) {
    let state = Arc::new((Shared::new(false), WaitQueue::default()));
    let setter = thread::spawn({
        let state = state.clone();
        move || {
            state.0.write(|flag| *flag = true);
            state.1.notify_all();
        }
    });
    let (flag, queue) = &*state;
    let is_set = || flag.read(|flag| *flag);
    let seen = look_first && is_set();
    let ticket = queue.register();
    if !seen && (look_first || !is_set()) {
        block_on(ticket.wait());
    }
    join(setter);
}

#[test]
fn a_notification_after_the_registration_is_not_lost() {
    explore(|| notified_once(false));
}

#[test]
fn planted_look_before_registration_loses_the_notification() {
    explore_finds("deadlock", || notified_once(true));
}

#[test]
fn a_mutex_has_one_owner() {
    explore(|| {
        two_inside(Mutex::new(()), |mutex, inside| {
            let guard = block_on(mutex.lock());
            inside();
            guard.unlock();
        });
    });
}

#[test]
fn a_mutex_hands_over_what_its_last_owner_left() {
    explore(|| {
        let mutex = Arc::new(Mutex::new(0));
        let add = {
            let mutex = mutex.clone();
            move || {
                let mut guard = block_on(mutex.lock());
                *guard += 1;
                guard.unlock();
            }
        };
        let other = thread::spawn(add.clone());
        add();
        join(other);
        let guard = block_on(mutex.lock());
        assert_eq!(*guard, 2, "no-change-is-lost");
        guard.unlock();
    });
}

#[test]
fn planted_lock_that_looks_and_takes_in_two_passages_lets_two_in() {
    explore_finds("one-owner", || {
        two_inside(Shared::new(false), |taken, inside| {
            block_on(taken.wait_until(|taken| !*taken));
            taken.write(|taken| *taken = true);
            inside();
            taken.write(|taken| *taken = false);
        });
    });
}
