//! Messages to everyone who listens.

use super::{asked, ended, recorded, run_orphans, waits};
use crate::broadcast::Broadcast;
use crate::door::Kind;

#[test]
fn everyone_receives_every_later_message_in_order() {
    let broadcast = Broadcast::default();
    broadcast.send(&0);
    let mut early = broadcast.subscribe();
    let mut waiting = asked(early.receive());
    assert!(waits(&mut waiting));
    broadcast.send(&1);
    assert_eq!(ended(&mut waiting), 1);
    drop(waiting);
    let mut late = broadcast.subscribe();
    for message in [2, 3] {
        broadcast.send(&message);
    }
    for message in [2, 3] {
        assert_eq!(ended(&mut asked(early.receive())), message);
        assert_eq!(ended(&mut asked(late.receive())), message);
    }
    early.unsubscribe();
    late.unsubscribe();
}

#[test]
fn dropped_receive_takes_nothing() {
    let broadcast = Broadcast::default();
    let mut subscriber = broadcast.subscribe();
    broadcast.send(&1);
    drop(asked(subscriber.receive()));
    assert_eq!(ended(&mut asked(subscriber.receive())), 1);
    subscriber.unsubscribe();
}

#[test]
fn sending_reads_the_list_and_writes_each_mailbox() {
    let broadcast = Broadcast::default();
    let kinds = || {
        let log = recorded(|| broadcast.send(&1));
        log.accesses.iter().map(|access| access.kind).collect::<Vec<_>>()
    };
    let dropped = broadcast.subscribe();
    let unsubscribed = broadcast.subscribe();
    assert_eq!(kinds(), [Kind::Read, Kind::Write, Kind::Write]);
    unsubscribed.unsubscribe();
    assert_eq!(kinds(), [Kind::Read, Kind::Write]);
    let mut log = recorded(|| drop(dropped));
    assert!(log.accesses.is_empty(), "drop-is-silent");
    assert_eq!(run_orphans(&mut log.orphans), 1);
    assert_eq!(kinds(), [Kind::Read]);
}
