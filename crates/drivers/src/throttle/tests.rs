//! The arithmetic of the bucket, and which limits fit together.

use super::bucket::Bucket;
use super::{Rate, Rates, ThrottleLimits};

const SECOND_NS: u64 = 1_000_000_000;

fn bucket(average: u64) -> Bucket {
    Bucket::new(Rate { average, ..Rate::default() }, 0)
}

#[test]
fn an_empty_bucket_takes_any_one_request() {
    let mut bucket = bucket(10);
    assert_eq!(bucket.wait_ns(0), 0);
    bucket.fill(0, 1_000);
    assert_eq!(bucket.wait_ns(0), 100 * SECOND_NS - SECOND_NS / 10);
    assert_eq!(bucket.wait_ns(100 * SECOND_NS), 0);
}

#[test]
fn a_wait_is_rounded_up_and_is_enough() {
    for rate in [1, 3, 7, 999_999_999, 1_000_000_007, 999_999_999_999_999] {
        let mut bucket = bucket(rate);
        bucket.fill(5, rate);
        bucket.fill(5, 1);
        let wait_ns = bucket.wait_ns(5);
        assert!(wait_ns > 0, "rate {rate}");
        assert!(
            bucket.wait_ns(5 + wait_ns - 1) > 0,
            "rate {rate}: one nanosecond less is too early"
        );
        assert_eq!(bucket.wait_ns(5 + wait_ns), 0, "rate {rate}");
    }
}

#[test]
fn a_bucket_never_leaks_below_empty_and_time_never_runs_back() {
    let mut bucket = bucket(100);
    assert_eq!(bucket.wait_ns(1_000 * SECOND_NS), 0);
    bucket.fill(1_000 * SECOND_NS, 20);
    assert_eq!(bucket.wait_ns(1_000 * SECOND_NS), SECOND_NS / 10);
    assert_eq!(bucket.wait_ns(0), SECOND_NS / 10);
}

#[test]
fn without_a_rate_nobody_waits() {
    let mut bucket = bucket(0);
    bucket.fill(0, u64::MAX);
    assert_eq!(bucket.wait_ns(0), 0);
}

#[test]
fn a_burst_passes_at_once_and_then_the_average_holds() {
    let mut bucket = Bucket::new(Rate { average: 10, max: 50, length: 1 }, 0);
    bucket.fill(0, 50);
    assert_eq!(bucket.wait_ns(0), 0, "the bucket holds a second of the burst");
    bucket.fill(0, 1);
    assert_eq!(bucket.wait_ns(0), SECOND_NS / 10);
}

#[test]
fn a_long_burst_holds_its_own_rate() {
    let mut bucket = Bucket::new(Rate { average: 10, max: 100, length: 3 }, 0);
    let mut now_ns = 0;
    let mut passed = 0;
    while now_ns < 10 * SECOND_NS {
        now_ns += bucket.wait_ns(now_ns);
        bucket.fill(now_ns, 1);
        passed += 1;
        let bursting = now_ns < 3 * SECOND_NS;
        let most = if bursting { 11 + now_ns / (SECOND_NS / 100) } else { 420 };
        assert!(passed <= most, "{passed} after {now_ns} ns");
    }
    // Three seconds of the burst, and what has leaked since the beginning.
    assert!((395..=405).contains(&passed), "{passed}");
}

#[test]
fn limits_that_do_not_fit_together_are_refused() {
    let rate = |average, max, length| Rate { average, max, length };
    let bps = |total| ThrottleLimits {
        bps: Rates { total, ..Rates::default() },
        ..ThrottleLimits::default()
    };
    let cases = [
        (bps(rate(0, 5, 1)), "bps-total-max: the limit itself is missing"),
        (bps(rate(6, 5, 1)), "bps-total-max: less than the limit itself"),
        (bps(rate(6, 8, 0)), "bps-total-max-length: at least 1 second"),
        (bps(rate(6, 0, 2)), "bps-total-max-length: the burst itself is missing"),
        (bps(rate(1_000_000_000_000_001, 0, 1)), "bps-total: no more than 1000000000000000"),
        (bps(rate(1, 1 << 40, 1 << 40)), "bps-total-max-length: a burst of more than"),
        (ThrottleLimits { iops_size: 512, ..bps(rate(1, 0, 1)) }, "iops-size: a limit of requests"),
    ];
    for (limits, said) in cases {
        let found = limits.check().expect_err(said);
        assert!(found.contains(said), "{found}, not: {said}");
    }
    let (total, read) = (rate(5, 0, 1), rate(3, 0, 1));
    let mixed = Rates { total, read, ..Rates::default() };
    let mixed = ThrottleLimits { iops: mixed, ..ThrottleLimits::default() };
    let said = "iops-total is not for use beside iops-read and iops-write";
    assert_eq!(mixed.check(), Err(said.into()));
    assert_eq!(bps(rate(5, 5, 60)).check(), Ok(()));
    assert_eq!(ThrottleLimits::default().check(), Ok(()));
}

#[test]
fn a_long_request_counts_as_several() {
    let limits = ThrottleLimits { iops_size: 4096, ..ThrottleLimits::default() };
    let counted = [0, 1, 4096, 4097, 65536].map(|len| limits.requests(len));
    assert_eq!(counted, [1, 1, 1, 2, 16]);
    assert_eq!(ThrottleLimits::default().requests(1 << 30), 1);
}
