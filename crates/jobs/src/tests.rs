//! The table of states, as a picture; rates.

use crate::pace::Pace;
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

#[test]
fn what_is_done_is_paid_for_by_the_rate_and_nothing_is_saved_up() {
    let now = |seconds: u64| move || seconds * 1_000_000_000;
    let mut pace = Pace::new(4096);
    assert_eq!(pace.wait_ns(now(0)), 0);
    pace.spend(4096, now(10));
    pace.spend(2048, now(10));
    assert_eq!(pace.wait_ns(now(10)), 1_500_000_000);
    assert_eq!(pace.wait_ns(now(12)), 0);
    pace.spend(4096, now(20));
    assert_eq!(pace.wait_ns(now(20)), 1_000_000_000);
    let mut unlimited = Pace::new(0);
    unlimited.spend(u64::MAX, || unreachable!("nobody asks for the time"));
    assert_eq!(unlimited.wait_ns(|| unreachable!("nobody asks for the time")), 0);
    let mut slow = Pace::new(1);
    slow.spend(u64::MAX, now(1));
    assert_eq!(slow.until_ns, u64::MAX);
}
