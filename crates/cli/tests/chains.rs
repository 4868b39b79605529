//! Chains of layers and the jobs that make them shorter, and layers side by side: what they promise is exhausted.

mod common;

use common::{blockyard_json, check_exhausted, folder};

#[test]
fn the_commit_scenarios_exhaust_clean() {
    for node in ["commit=filter", "commit=bare"] {
        for scenario in ["commit-active", "commit-bitmap", "commit-grow", "commit-refused"] {
            check_exhausted(scenario, &["--design", node, "--faults", "1"]);
        }
        check_exhausted("commit-grow-image", &["--design", node]);
        check_exhausted("commit-intermediate", &["--design", node]);
        check_exhausted("commit-durable", &["--design", node, "--crashes", "1"]);
    }
    check_exhausted("commit-filters", &["--design", "commit=bare"]);
}

#[test]
fn a_filter_above_what_is_committed_stays_if_the_commit_has_one() {
    check_exhausted("commit-keeps-filter", &["--faults", "1"]);
    let bare = ["explore", "commit-keeps-filter", "--design", "commit=bare"];
    let (status, found) = blockyard_json(&folder("bare-commit"), &bare);
    assert_eq!((status, &found["property"]), (1, &"script".into()), "{found}");
    let message = found["message"].as_str().expect("there is one");
    assert!(message.contains("blockdev-del was to fail"), "{found}");
}

#[test]
fn nobody_uses_an_image_that_is_still_being_opened() {
    check_exhausted("qcow2-held-unopened", &[]);
}

#[test]
fn writes_of_one_cluster_that_meet_leave_what_each_has_written() {
    check_exhausted("qcow2-compress", &["--crashes", "1"]);
    for scenario in ["qcow2-kept-space", "qcow2-subclusters"] {
        check_exhausted(scenario, &["--faults", "1", "--crashes", "1"]);
    }
}

#[test]
fn a_dedup_image_keeps_what_guests_wrote_whatever_fails_and_whenever_power_is_lost() {
    let all = [
        "again",
        "flush",
        "no-space",
        "part",
        "read-pinned",
        "reuse",
        "shared",
        "waits-for-reader",
    ];
    for scenario in all.map(|name| format!("dedup-{name}")) {
        check_exhausted(&scenario, &["--faults", "1", "--crashes", "1"]);
    }
}

#[test]
fn drives_that_share_a_rate_and_children_that_vote_end_clean() {
    for scenario in ["quorum-children", "quorum-flush-fails", "quorum-votes", "throttle-group"] {
        check_exhausted(scenario, &["--faults", "1"]);
    }
    for scenario in ["blklogwrites-drained", "blkverify-overlapping-writes"] {
        check_exhausted(scenario, &["--crashes", "1"]);
    }
    for scenario in ["luks-snapshot", "preallocate-growing"] {
        check_exhausted(scenario, &["--faults", "1", "--crashes", "1"]);
    }
    for scenario in ["preallocate-cut", "quorum-fifo"] {
        check_exhausted(scenario, &["--faults", "2"]);
    }
    for scenario in ["quorum-bad-child", "quorum-promises", "quorum-snapshot"] {
        check_exhausted(scenario, &["--faults", "1", "--crashes", "1"]);
    }
}

#[test]
fn the_stream_scenarios_exhaust_clean() {
    for scenario in
        ["stream-overlaps-commit", "stream-short-layer-discard", "stream-to-base", "stream-whole"]
    {
        check_exhausted(scenario, &["--faults", "1"]);
    }
    check_exhausted("stream-closing", &[]);
    check_exhausted("stream-durable", &["--crashes", "1"]);
    check_exhausted("stream-beside-commit", &["--faults", "1"]);
    check_exhausted("stream-beside-commit", &["--design", "commit=bare"]);
}
