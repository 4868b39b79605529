//! What a throttle does with time and order.

use std::sync::Arc;

use blockyard_block::{Backend, BlockDriver, BlockError, Io, Owner, ReadFlags, Write};
use blockyard_drivers::{Null, Raw};
use blockyard_runtime::{BoxFuture, IoBuffer, JoinHandle};
use blockyard_sim::Verdict;
use blockyard_sync::{Shared, first_of, sometimes};
use blockyard_units::{ByteLen, ByteRange, NodeId};

use crate::bench::{Bench, FAULTLESS, LEN, Link, Test, explore, throttle, walk};

const SECOND_NS: u64 = 1_000_000_000;

fn null() -> Link {
    ("null-co", Box::new(Null::new(1 << 40)))
}

/// Requests of all accounted kinds, `len` bytes each, from three tasks, until a minute is over; how
/// many ended.
async fn for_a_minute(bench: &Bench, backend: &Backend, len: u64) -> u64 {
    let request = |index: u64| {
        let (backend, runtime) = (backend.clone(), bench.runtime.clone());
        let range = ByteRange::new(index * len, len);
        let requests = async move {
            let mut count = 0;
            loop {
                let result = match count % 3 {
                    0 => backend.write(Write::zeroes(range)).await,
                    1 => backend.read(range).await.map(drop),
                    _ => backend.write(Write::discard(range)).await,
                };
                result.expect("null never fails");
                if runtime.now_ns() >= 60 * SECOND_NS {
                    return count;
                }
                count += 1;
            }
        };
        bench.runtime.spawn(format!("t{index}"), requests)
    };
    let tasks: Vec<JoinHandle<u64>> = (0..3).map(request).collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.join().await;
    }
    sum
}

#[test]
fn a_throttle_holds_its_rate_within_a_hundredth_over_a_minute() {
    // Bytes a second, requests a second, bytes of a request, requests expected in a minute.
    let cases = [
        (1 << 20, 0, 4096, 60 * 256),
        (1 << 20, 0, 5000, 60 * 1024 * 1024 / 5000),
        (0, 50, 1 << 20, 3000),
        (10_000, 100, 1000, 600),
        (1 << 30, 7, 512, 420),
    ];
    for (bps, iops, len, expected) in cases {
        let test = Test::new(move |bench| async move {
            let links = vec![throttle(bps, iops), null()];
            let (backend, _) = bench.chain(links).await.expect("the chain is fine");
            let count = for_a_minute(&bench, &backend, len).await;
            let slack = expected / 100;
            let fits = (expected - slack..=expected + slack).contains(&count);
            assert!(fits, "{bps} B/s, {iops}/s: {count} requests instead of {expected}");
        });
        walk(&test, 1);
    }
}

#[test]
fn a_flush_is_not_accounted_and_does_not_wait() {
    let test = Test::new(|bench| async move {
        let (backend, _) =
            bench.chain(vec![throttle(0, 1), null()]).await.expect("the chain is fine");
        backend.read(ByteRange::new(0, 1)).await.expect("null never fails");
        for _ in 0..100 {
            backend.flush().await.expect("null never fails");
        }
        assert_eq!(bench.runtime.now_ns(), 0);
        backend.read(ByteRange::new(0, 1)).await.expect("null never fails");
        assert_eq!(bench.runtime.now_ns(), SECOND_NS * 9 / 10);
    });
    walk(&test, 1);
}

/// Offsets, in the order in which they came by.
type Seen = Arc<Shared<Vec<u64>>>;

/// Notes the offset of each write that comes by, and passes it on if there is something below.
struct Probe {
    seen: Seen,
    bottom: bool,
}

impl BlockDriver for Probe {
    fn len(&self, _io: &Io) -> ByteLen {
        ByteLen(LEN)
    }

    fn read<'a>(
        &'a self,
        _io: &'a Io,
        range: ByteRange,
        _flags: ReadFlags,
    ) -> BoxFuture<'a, Result<IoBuffer, BlockError>> {
        Box::pin(async move { Ok(IoBuffer::zeroes(range.len().as_usize())) })
    }

    fn write<'a>(&'a self, io: &'a Io, write: Write) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async move {
            self.seen.write(|seen| seen.push(write.range.start()));
            if self.bottom { Ok(()) } else { io.write("file", write).await }
        })
    }

    fn flush<'a>(&'a self, _io: &'a Io) -> BoxFuture<'a, Result<(), BlockError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A throttle of a byte a second between two probes, its bucket filled for an hour.
struct Parked {
    bench: Arc<Bench>,
    backend: Backend,
    /// The probe above, the throttle, the probe below.
    nodes: Vec<NodeId>,
    arrived: Seen,
    passed: Seen,
}

impl Parked {
    async fn new(bench: Arc<Bench>) -> Self {
        let (arrived, passed) = (Seen::default(), Seen::default());
        let probe = |seen: &Seen, bottom| Box::new(Probe { seen: seen.clone(), bottom });
        let links: Vec<Link> = vec![
            ("raw", probe(&arrived, false)),
            throttle(1, 0),
            ("null-co", probe(&passed, true)),
        ];
        let (backend, nodes) = bench.chain(links).await.expect("the chain is fine");
        let this = Self { bench, backend, nodes, arrived, passed };
        this.backend.write(Write::zeroes(ByteRange::new(0, 3600))).await.expect("never fails");
        this
    }

    /// Starts `count` writes, each of a byte at an offset of its own.
    fn write(&self, count: u64) -> Vec<JoinHandle<()>> {
        let write = |index: u64| {
            let backend = self.backend.clone();
            self.bench.runtime.spawn(format!("w{index}"), async move {
                let write = Write::zeroes(ByteRange::new(index, 1));
                backend.write(write).await.expect("never fails");
            })
        };
        (0..count).map(write).collect()
    }

    /// Begins and ends a drained section over a node.
    async fn drain(&self, node: usize) {
        let drained = self.bench.layer.drain(Owner::command(), &[self.nodes[node]]).await;
        let (arrived, passed) = (self.arrived.read(Vec::len), self.passed.read(Vec::len));
        assert_eq!(arrived, passed, "drained-means-quiet");
        drained.end();
    }

    fn assert_in_order(&self) {
        let (arrived, passed) = (self.arrived.read(Clone::clone), self.passed.read(Clone::clone));
        assert_eq!(arrived, passed, "first-come-first-served");
    }
}

async fn join(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.join().await;
    }
}

#[test]
fn throttled_requests_pass_in_the_order_of_their_arrival() {
    let test = Test::new(|bench| async move {
        let parked = Parked::new(bench).await;
        join(parked.write(8)).await;
        parked.assert_in_order();
        // The first waits until the bucket holds a tenth of a byte, each later one for the byte
        // before it.
        assert_eq!(
            parked.bench.runtime.now_ns(),
            3600 * SECOND_NS + 7 * SECOND_NS - SECOND_NS / 10
        );
    });
    (0..50).for_each(|seed| walk(&test, seed));
}

#[test]
fn a_drained_section_releases_parked_requests_in_order_and_at_once() {
    // The throttle itself, and what is below it.
    for node in [1, 2] {
        let test = Test::new(move |bench| async move {
            let parked = Parked::new(bench).await;
            let writes = parked.write(5);
            while parked.arrived.read(Vec::len) < 6 {
                blockyard_sync::door::boundary().await;
            }
            assert_eq!(parked.passed.read(Vec::len), 1, "five are parked");
            parked.drain(node).await;
            assert_eq!(parked.bench.runtime.now_ns(), 0);
            assert_eq!(parked.passed.read(Vec::len), 6);
            join(writes).await;
            parked.assert_in_order();
            // What was let through is accounted: the next one pays for it.
            join(parked.write(1)).await;
            let now_ns = parked.bench.runtime.now_ns();
            assert_eq!(now_ns, 3605 * SECOND_NS - SECOND_NS / 10);
        });
        (0..50).for_each(|seed| walk(&test, seed));
    }
}

#[test]
fn overlapping_sections_release_until_the_last_one_ends() {
    let test = Test::new(|bench| async move {
        let parked = Arc::new(Parked::new(bench).await);
        let owner = Owner::command();
        let outer = parked.bench.layer.drain(owner, &[parked.nodes[1]]).await;
        let inner = parked.bench.layer.drain(owner, &[parked.nodes[2]]).await;
        outer.end();
        let writes = parked.write(2);
        inner.end();
        let runtime = &parked.bench.runtime;
        let joined = join(writes);
        let early = first_of(joined, runtime.sleep(3599 * SECOND_NS)).await;
        assert!(!early, "with the last section the throttle is back");
        while parked.passed.read(Vec::len) < 3 {
            runtime.sleep(SECOND_NS).await;
        }
        parked.assert_in_order();
    });
    (0..20).for_each(|seed| walk(&test, seed));
}

#[test]
fn every_order_of_throttled_writes_and_a_drain_ends_clean() {
    let test = Test::new(|bench| async move {
        let parked = Arc::new(Parked::new(bench).await);
        let writes = parked.write(2);
        let draining = parked.clone();
        let drain = parked.bench.runtime.spawn("drain", async move { draining.drain(1).await });
        drain.join().await;
        let now_ns = parked.bench.runtime.now_ns();
        sometimes!(now_ns == 0 && parked.passed.read(Vec::len) > 1, "a drain released a write");
        join(writes).await;
        parked.assert_in_order();
    });
    let exploration = explore(&test, FAULTLESS);
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
    let marks = exploration.summary.marks;
    let executions = exploration.summary.executions;
    for mark in ["a throttled request goes on before its time", "a drain released a write"] {
        assert!(marks.contains(mark), "{mark}: not among {marks:?} in {executions} executions");
    }
}

#[test]
fn without_limits_a_throttle_adds_nothing_to_explore() {
    let explored = |link: fn() -> Link| {
        let test = Test::new(move |bench| async move {
            let links = vec![link(), null()];
            let (backend, nodes) = bench.chain(links).await.expect("the chain is fine");
            let write = |index: u64| {
                let backend = backend.clone();
                let write = Write::zeroes(ByteRange::new(0, 1));
                let written = async move { backend.write(write).await.expect("never fails") };
                bench.runtime.spawn(format!("w{index}"), written)
            };
            let sleep = bench.runtime.spawn("sleep", {
                let runtime = bench.runtime.clone();
                async move { runtime.sleep(1).await }
            });
            let writes = (0..2).map(write).collect();
            bench.layer.drain(Owner::command(), &nodes[..1]).await.end();
            join(writes).await;
            sleep.join().await;
        });
        let exploration = explore(&test, FAULTLESS);
        assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
        (exploration.summary.executions, exploration.summary.steps)
    };
    assert_eq!(explored(|| throttle(0, 0)), explored(|| ("raw", Box::new(Raw))));
}
