//! The bounded channel.

use super::{asked, ended, run_orphans, waits};
use crate::mpsc::channel;

#[test]
fn senders_wait_for_room_in_the_order_of_asking() {
    let (sender, mut receiver) = channel(1);
    let other = sender.clone();
    let mut sends = [asked(sender.send(1)), asked(other.send(2)), asked(sender.send(3))];
    assert_eq!(ended(&mut sends[0]), Ok(()));
    assert!(waits(&mut sends[2]) && waits(&mut sends[1]), "bounded");
    assert_eq!(ended(&mut asked(receiver.receive())), Some(1));
    assert!(waits(&mut sends[2]), "first come, first served");
    assert_eq!(ended(&mut sends[1]), Ok(()));
    assert_eq!(ended(&mut asked(receiver.receive())), Some(2));
    assert_eq!(ended(&mut sends[2]), Ok(()));
}

#[test]
fn receiver_waits_for_a_message() {
    let (sender, mut receiver) = channel(2);
    let mut received = asked(receiver.receive());
    assert!(waits(&mut received));
    assert_eq!(ended(&mut asked(sender.send(7))), Ok(()));
    assert_eq!(ended(&mut received), Some(7));
}

#[test]
fn closing_lets_what_was_sent_arrive_and_gives_the_rest_back() {
    for by_receiver in [true, false] {
        let (sender, mut receiver) = channel(1);
        assert_eq!(ended(&mut asked(sender.send(1))), Ok(()));
        let mut waiting = asked(sender.send(2));
        if by_receiver {
            receiver.close()
        } else {
            sender.close()
        }
        assert_eq!(ended(&mut waiting), Err(2));
        assert_eq!(ended(&mut asked(sender.send(3))), Err(3));
        assert_eq!(ended(&mut asked(receiver.receive())), Some(1));
        assert_eq!(ended(&mut asked(receiver.receive())), None);
    }
}

#[test]
fn receiver_that_waits_is_told_of_the_end() {
    let (sender, mut receiver) = channel::<u8>(1);
    let mut received = asked(receiver.receive());
    sender.close();
    assert_eq!(ended(&mut received), None);
}

#[test]
fn dropped_send_and_dropped_receive_leave_no_message_lost_and_pass_the_turn_on() {
    let (sender, mut receiver) = channel(1);
    assert_eq!(ended(&mut asked(sender.send(1))), Ok(()));
    let abandoned = asked(sender.send(2));
    let mut last = asked(sender.send(3));
    drop(abandoned);
    drop(asked(receiver.receive()));
    assert_eq!(ended(&mut asked(receiver.receive())), Some(1));
    assert!(waits(&mut last));
    let mut orphans = Vec::new();
    assert_eq!(run_orphans(&mut orphans) + run_orphans(&mut orphans), 1, "the turn");
    assert_eq!(ended(&mut last), Ok(()));
    assert_eq!(ended(&mut asked(receiver.receive())), Some(3));
}
