//! The fair lock.

use super::{asked, ended, run_orphans, waits};
use crate::Mutex;

#[test]
fn mutex_serves_in_the_order_of_asking() {
    let mutex = Mutex::new(0);
    let [mut first, mut second, mut third] = std::array::from_fn(|_| asked(mutex.lock()));
    assert!(waits(&mut third) && waits(&mut second));
    let guard = ended(&mut first);
    assert!(waits(&mut second), "one-owner");
    guard.unlock();
    assert!(waits(&mut third));
    let mut guard = ended(&mut second);
    *guard += 1;
    guard.unlock();
    let guard = ended(&mut third);
    assert_eq!(*guard, 1);
    guard.unlock();
}

#[test]
fn dropped_guard_unlocks_when_its_bequest_runs() {
    let mutex = Mutex::new(());
    let [mut first, mut second] = std::array::from_fn(|_| asked(mutex.lock()));
    drop(ended(&mut first));
    assert!(waits(&mut second));
    assert_eq!(run_orphans(&mut Vec::new()), 1);
    ended(&mut second).unlock();
}

#[test]
fn turn_of_a_dropped_lock_is_passed_on() {
    let mutex = Mutex::new(());
    let [first, mut second] = std::array::from_fn(|_| asked(mutex.lock()));
    drop(first);
    assert!(waits(&mut second));
    let mut orphans = Vec::new();
    assert_eq!(run_orphans(&mut orphans), 0, "waits-end-the-step");
    assert_eq!(run_orphans(&mut orphans), 1);
    ended(&mut second).unlock();
}

#[test]
fn turn_of_a_dropped_lock_is_passed_on_only_when_it_comes() {
    let mutex = Mutex::new(());
    let [mut first, abandoned, mut last] = std::array::from_fn(|_| asked(mutex.lock()));
    drop(abandoned);
    let mut orphans = Vec::new();
    assert_eq!(run_orphans(&mut orphans) + run_orphans(&mut orphans), 0, "turns-are-kept");
    ended(&mut first).unlock();
    assert!(waits(&mut last));
    assert_eq!(run_orphans(&mut orphans), 1);
    ended(&mut last).unlock();
}
