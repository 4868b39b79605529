//! The table of states, as a picture.

use crate::status::{Status, picture};

#[test]
fn the_table_looks_like_its_picture() {
    assert_eq!(picture(), include_str!("status.txt"), "\n{}", picture());
}

#[test]
fn every_state_but_the_first_is_reached_and_every_one_but_the_last_is_left() {
    for status in Status::ALL {
        let reached = Status::ALL.iter().any(|from| from.successors().contains(status));
        assert_eq!(reached, *status != Status::Undefined, "{status}");
        assert_eq!(status.successors().is_empty(), *status == Status::Null, "{status}");
    }
}
