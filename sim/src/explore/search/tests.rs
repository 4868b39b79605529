//! What programs seldom show: several at one place.

use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_sync::door::{Access, Kind};
use blockyard_units::Id;

use super::place::{Place, Todo};
use super::wakeup::{Seen, Wakeup};
use super::{Event, Reduction};
use crate::event::Action;

/// A step of this process that writes the one object there is.
fn step(process: u32) -> Seen {
    let event = Event { path: process, action: Action::Poll, process };
    let object = Id { creator: 1, index: 0 };
    Seen { event, accesses: Arc::from([Access::whole(object, Kind::Write)]) }
}

#[test]
fn a_sequence_asked_for_while_an_event_is_entered_is_explored_behind_it() {
    let enabled: Vec<Event> = (1..=3).map(|process| step(process).event).collect();
    let place = Place::entering(step(1).event, Todo::Sequences(Wakeup::default()));
    place.with(|place| {
        place.insert_sequence(&[], Vec::from([step(2), step(1)]));
        place.insert_sequence(&[], Vec::from([step(1), step(3)]));
        assert!(place.enter(&enabled, &[]).is_none(), "one-enters-at-a-time");
        place.ran(&[], step(1), Reduction::Optimal);
        let (event, guide, elders) = place.enter(&enabled, &[]).expect("one of them is new");
        assert_eq!((event, elders), (step(2).event, 1));
        let events: Vec<Event> = guide.walk().iter().map(|(_, seen)| seen.event).collect();
        assert_eq!(events, [step(1).event]);
        place.ran(&[], step(2), Reduction::Optimal);
        assert!(place.enter(&enabled, &[]).is_none(), "the other begins with what was explored");
    });
}

#[test]
fn a_wakeup_tree_is_the_same_after_a_walk() {
    let mut tree = Wakeup::default();
    for sequence in [&[1, 2, 3][..], &[1, 3, 2], &[2, 1], &[3], &[2, 3, 1]] {
        tree.insert(sequence.iter().map(|process| step(*process)).collect());
    }
    let walk = |tree: &Wakeup| -> Vec<(usize, Seen)> {
        tree.walk().into_iter().map(|(depth, seen)| (depth, seen.clone())).collect()
    };
    let shape = |tree: &Wakeup| -> Vec<(usize, Event)> {
        tree.walk().into_iter().map(|(depth, seen)| (depth, seen.event)).collect()
    };
    let again = Wakeup::from_walk(walk(&tree)).expect("it was walked so");
    assert_eq!(shape(&again), shape(&tree));
    assert!(shape(&tree).len() > 8, "{:?}", shape(&tree));
    assert!(Wakeup::from_walk(Vec::from([(1, step(1)), (0, step(2))])).is_none());
}
