//! The fair lock for many readers or one writer.

use super::{asked, ended, run_orphans, waits};
use crate::RwLock;

#[test]
fn readers_share_and_a_later_reader_waits_for_the_writer_before_it() {
    let lock = RwLock::new(0);
    let [mut first, mut second] = std::array::from_fn(|_| asked(lock.read()));
    let mut writer = asked(lock.write());
    let mut later = asked(lock.read());
    let readers = [ended(&mut first), ended(&mut second)];
    assert!(waits(&mut writer) && waits(&mut later), "first come, first served");
    let [first, second] = readers;
    first.unlock();
    assert!(waits(&mut writer), "one-writer-or-readers");
    second.unlock();
    let mut written = ended(&mut writer);
    assert!(waits(&mut later), "one-writer-or-readers");
    *written += 1;
    written.unlock();
    let read = ended(&mut later);
    assert_eq!(*read, 1);
    read.unlock();
}

#[test]
fn writers_exclude_each_other() {
    let lock = RwLock::new(0);
    let [mut first, mut second] = std::array::from_fn(|_| asked(lock.write()));
    let held = ended(&mut first);
    assert!(waits(&mut second), "one-writer-or-readers");
    held.unlock();
    ended(&mut second).unlock();
}

#[test]
fn dropped_guards_and_turns_come_back() {
    let lock = RwLock::new(0);
    let [mut reader, abandoned] = std::array::from_fn(|_| asked(lock.read()));
    let mut writer = asked(lock.write());
    let mut last = asked(lock.read());
    drop(ended(&mut reader));
    drop(abandoned);
    assert!(waits(&mut writer));
    let mut orphans = Vec::new();
    assert_eq!(run_orphans(&mut orphans), 1, "the guard");
    assert!(waits(&mut writer));
    assert_eq!(run_orphans(&mut orphans), 1, "the turn");
    let mut written = ended(&mut writer);
    *written = 5;
    drop(written);
    assert!(waits(&mut last));
    assert_eq!(run_orphans(&mut orphans), 1);
    let read = ended(&mut last);
    assert_eq!(*read, 5, "no-change-is-lost");
    read.unlock();
}
