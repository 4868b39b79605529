//! Tests.

use super::*;

fn job(status: &str) -> EndState {
    EndState { jobs: Vec::from([("m0".into(), status.into())]), ..EndState::default() }
}

#[test]
fn a_run_may_end_with_concluded_jobs_only() {
    let idle = EndState { in_flight: Vec::from([("src".into(), 0)]), ..EndState::default() };
    for end in [EndState::default(), idle, job("concluded"), job("null")] {
        assert_eq!(Progress::check(&end), Ok(()));
    }
}

#[test]
fn everything_left_over_is_named() {
    let end = EndState {
        in_flight: Vec::from([("src".into(), 2)]),
        sections: Vec::from(["pivot of m0".into()]),
        parked: 1,
        unfinished: Vec::from(["actor guest".into()]),
        ..job("ready")
    };
    let violation = Progress::check(&end).expect_err("all is left over");
    assert_eq!(
        violation.message,
        "at the end node src has 2 in flight; drained section pivot of m0 holds; \
         1 guest requests are parked; actor guest can never run again; job m0 is ready"
    );
    for status in ["running", "paused", "pending", "aborting"] {
        assert!(Progress::check(&job(status)).is_err(), "{status}");
    }
}
