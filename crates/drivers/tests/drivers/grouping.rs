//! What throttles of one group do to each other.

use std::sync::Arc;

use blockyard_block::{Backend, Owner, Write};
use blockyard_drivers::{Null, Rate, Rates, Throttle, ThrottleGroup, ThrottleLimits, Throttling};
use blockyard_graph::Permissions;
use blockyard_runtime::JoinHandle;
use blockyard_sim::Verdict;
use blockyard_units::{ByteRange, Design, Mutant, NodeId};

use crate::bench::{Bench, FAULTLESS, Link, Test, explore, total, walk};

const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60 * SECOND_NS;

fn bps(average: u64) -> ThrottleLimits {
    ThrottleLimits { bps: total(average), ..ThrottleLimits::default() }
}

fn group(limits: ThrottleLimits, design: Design) -> Arc<ThrottleGroup> {
    Arc::new(ThrottleGroup::new(limits, design))
}

/// A device over a throttle of the group, and the throttle.
async fn member(bench: &Bench, group: &Arc<ThrottleGroup>, device: &str) -> (Backend, NodeId) {
    let links: Vec<Link> = vec![
        ("throttle", Box::new(Throttle::new(Throttling::Group(group.clone())))),
        ("null-co", Box::new(Null::new(1 << 40))),
    ];
    let required = Permissions::ALL.difference(Permissions::RESIZE);
    let (backend, nodes) = bench.chain_of(device, required, links).await.expect("it is fine");
    (backend, nodes[0])
}

#[derive(Clone, Copy)]
enum Does {
    Reads,
    Writes,
}

/// Requests of `len` bytes, one after the other, until a minute is over; how many ended.
fn for_a_minute(bench: &Bench, backend: &Backend, does: Does, len: u64) -> JoinHandle<u64> {
    let (backend, runtime) = (backend.clone(), bench.runtime.clone());
    bench.runtime.spawn("guest", async move {
        let mut count = 0;
        let range = ByteRange::new(0, len);
        loop {
            match does {
                Does::Reads => backend.read(range).await.map(drop),
                Does::Writes => backend.write(Write::zeroes(range)).await,
            }
            .expect("null never fails");
            if runtime.now_ns() >= MINUTE_NS {
                return count;
            }
            count += 1;
        }
    })
}

fn assert_near(found: u64, expected: u64, hundredths: u64) {
    let slack = expected * hundredths / 100;
    let fits = (expected - slack..=expected + slack).contains(&found);
    assert!(fits, "{found} instead of {expected}");
}

#[test]
fn a_group_holds_its_rate_and_shares_it_however_many_ask_on_one_side() {
    // Four guests on one device against one on another, and a device where nobody does anything.
    let test = Test::new(|bench| async move {
        let group = group(bps(1 << 20), Design::default());
        let (one, _) = member(&bench, &group, "disk0").await;
        let (two, _) = member(&bench, &group, "disk1").await;
        let (_idle, _) = member(&bench, &group, "disk2").await;
        let of_one: Vec<_> =
            (0..4).map(|_| for_a_minute(&bench, &one, Does::Writes, 4096)).collect();
        let of_two = for_a_minute(&bench, &two, Does::Writes, 4096);
        let mut sum = 0;
        for guest in of_one {
            sum += guest.join().await;
        }
        let other = of_two.join().await;
        assert_near(sum + other, 60 * 256, 1);
        assert_near(sum, 30 * 256, 5);
    });
    walk(&test, 1);
}

#[test]
fn reads_and_writes_are_held_to_limits_of_their_own() {
    let test = Test::new(|bench| async move {
        let rate = |average| Rate { average, ..Rate::default() };
        let bps = Rates { read: rate(1 << 20), write: rate(1 << 18), ..Rates::default() };
        let group = group(ThrottleLimits { bps, ..ThrottleLimits::default() }, Design::default());
        let (one, _) = member(&bench, &group, "disk0").await;
        let (two, _) = member(&bench, &group, "disk1").await;
        let reads = [&one, &two].map(|of| for_a_minute(&bench, of, Does::Reads, 4096));
        let writes = [&one, &two].map(|of| for_a_minute(&bench, of, Does::Writes, 4096));
        for (tasks, expected) in [(reads, 30 * 256), (writes, 30 * 64)] {
            for task in tasks {
                assert_near(task.join().await, expected, 5);
            }
        }
    });
    walk(&test, 1);
}

#[test]
fn a_long_request_counts_as_several() {
    let test = Test::new(|bench| async move {
        let limits =
            ThrottleLimits { iops: total(100), iops_size: 4096, ..ThrottleLimits::default() };
        let group = group(limits, Design::default());
        let (one, _) = member(&bench, &group, "disk0").await;
        let count = for_a_minute(&bench, &one, Does::Reads, 4 * 4096).join().await;
        assert_near(count, 60 * 25, 1);
    });
    walk(&test, 1);
}

/// A write on each of two devices waits; the throttle below the first is drained, and its write is
/// to pass before any time does.
fn drained_beside_another(design: Design) -> Test {
    Test::new(move |bench| async move {
        let group = group(bps(1), design);
        let (one, drained) = member(&bench, &group, "disk0").await;
        let (two, _) = member(&bench, &group, "disk1").await;
        let hour = Write::zeroes(ByteRange::new(0, 3600));
        two.write(hour).await.expect("null never fails");
        let write = |of: &Backend| {
            let of = of.clone();
            bench.runtime.spawn("write", async move {
                of.write(Write::zeroes(ByteRange::new(0, 1))).await.expect("null never fails");
            })
        };
        let (second, first) = (write(&two), write(&one));
        while bench.requests.of(drained).is_empty() {
            blockyard_sync::door::boundary().await;
        }
        bench.layer.drain(Owner::command(), &[drained]).await.end();
        assert_eq!(bench.runtime.now_ns(), 0, "a drained section waits for no clock");
        first.join().await;
        second.join().await;
        assert!(bench.runtime.now_ns() > 3599 * SECOND_NS, "the other one has waited");
    })
}

#[test]
fn a_drained_member_waits_for_no_other() {
    (0..50).for_each(|seed| walk(&drained_beside_another(Design::default()), seed));
}

#[test]
#[should_panic(expected = "a drained section waits for no clock")]
fn a_drained_member_that_waits_for_others_is_noticed() {
    let mut design = Design::default();
    let mutant = Mutant::ThrottleDrainedMemberWaitsForOthers;
    design.set_mutant(mutant).expect("tests are built with mutants");
    (0..50).for_each(|seed| walk(&drained_beside_another(design), seed));
}

#[test]
fn limits_that_change_hold_for_who_waits_already() {
    let test = Test::new(|bench| async move {
        let group = group(bps(1), Design::default());
        let (one, _) = member(&bench, &group, "disk0").await;
        let hour = Write::zeroes(ByteRange::new(0, 3600));
        one.write(hour.clone()).await.expect("null never fails");
        let waits = bench.runtime.spawn("write", async move {
            one.write(hour).await.expect("null never fails");
        });
        bench.runtime.sleep(SECOND_NS).await;
        group.set_limits(bps(10), &bench.runtime);
        waits.join().await;
        assert_eq!(bench.runtime.now_ns(), SECOND_NS, "new buckets are empty");
        assert_eq!(group.limits(), bps(10));
    });
    (0..20).for_each(|seed| walk(&test, seed));
}

#[test]
fn every_order_of_two_members_and_a_drain_ends_clean() {
    let test = Test::new(|bench| async move {
        let group = group(bps(512), Design::default());
        let (one, drained) = member(&bench, &group, "disk0").await;
        let (two, _) = member(&bench, &group, "disk1").await;
        one.write(Write::zeroes(ByteRange::new(0, 512))).await.expect("null never fails");
        let tasks: Vec<_> = [one, two]
            .into_iter()
            .map(|of| {
                bench.runtime.spawn("write", async move {
                    let write = Write::zeroes(ByteRange::new(0, 512));
                    of.write(write).await.expect("null never fails");
                })
            })
            .collect();
        bench.layer.drain(Owner::command(), &[drained]).await.end();
        for task in tasks {
            task.join().await;
        }
    });
    assert_eq!(explore(&test, FAULTLESS).verdict, Verdict::Clean { exhausted: true });
}
