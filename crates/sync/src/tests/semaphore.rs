//! Permits.

use super::{asked, ended, recorded, run_orphans, waits};
use crate::Semaphore;
use crate::door::Kind;

#[test]
fn small_request_behind_a_large_one_waits_for_it() {
    let semaphore = Semaphore::new(2);
    let [mut one, mut two] = [1, 2].map(|count| asked(semaphore.acquire(count)));
    let mut last = asked(semaphore.acquire(1));
    let held = ended(&mut one);
    assert!(waits(&mut two) && waits(&mut last), "first come, first served");
    held.release();
    assert!(waits(&mut last));
    let held = ended(&mut two);
    assert!(waits(&mut last), "permits-are-kept");
    held.release();
    ended(&mut last).release();
    semaphore.try_acquire(2).expect("permits-are-kept").release();
}

#[test]
fn try_overtakes_nobody_and_takes_no_more_than_there_is() {
    let semaphore = Semaphore::new(2);
    let held = semaphore.try_acquire(1).expect("it is free");
    assert!(semaphore.try_acquire(2).is_none());
    let mut waiting = asked(semaphore.acquire(2));
    assert!(semaphore.try_acquire(1).is_none(), "somebody waits");
    held.release();
    assert!(semaphore.try_acquire(1).is_none(), "somebody waits");
    ended(&mut waiting).release();
    semaphore.try_acquire(2).expect("permits-are-kept").release();
}

#[test]
fn dropped_permit_and_dropped_turn_come_back() {
    let semaphore = Semaphore::new(1);
    let held = semaphore.try_acquire(1).expect("it is free");
    let abandoned = asked(semaphore.acquire(1));
    let mut last = asked(semaphore.acquire(1));
    drop(abandoned);
    drop(held);
    let mut orphans = Vec::new();
    assert_eq!(run_orphans(&mut orphans), 1, "the permit");
    assert!(waits(&mut last));
    assert_eq!(run_orphans(&mut orphans), 1, "the turn");
    ended(&mut last).release();
}

#[test]
fn failed_try_only_reads() {
    let semaphore = Semaphore::new(1);
    let mut kinds = [true, false].map(|succeeds| {
        let log = recorded(|| assert_eq!(semaphore.try_acquire(1).is_some(), succeeds));
        assert_eq!(log.orphans.len(), usize::from(succeeds), "the permit was dropped");
        log.accesses.iter().map(|access| access.kind).collect::<Vec<_>>()
    });
    kinds.sort();
    assert_eq!(kinds, [vec![Kind::Read, Kind::Read], vec![Kind::Read, Kind::Read, Kind::Write]]);
}
