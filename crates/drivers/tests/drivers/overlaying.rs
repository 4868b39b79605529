//! What is seen through an overlay, and what becomes of requests that meet in one cluster.

use blockyard_block::{Backend, Requester, Truncate, Write, WriteKind};
use blockyard_drivers::Overlay;
use blockyard_graph::Permissions;
use blockyard_runtime::IoBuffer;
use blockyard_sim::{Budgets, Verdict};
use blockyard_sync::sometimes;
use blockyard_units::{ByteLen, ByteRange};

use crate::bench::{Bench, FAULTLESS, LEN, Link, Test, bytes, explore, file};

pub const CLUSTER: u64 = 1024;

pub fn overlay(len: Option<u64>) -> Link {
    ("overlay", Box::new(Overlay::new(len, CLUSTER)))
}

/// How many executions there were, all of them right; every one of `marks` happened.
pub fn check(test: &Test, marks: &[&str]) -> u64 {
    let exploration = explore(test, FAULTLESS);
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
    for mark in marks {
        assert!(exploration.summary.marks.contains(*mark), "never came to '{mark}'");
    }
    exploration.summary.executions
}

pub async fn read(backend: &Backend, offset: u64, len: u64) -> IoBuffer {
    backend.read(ByteRange::new(offset, len)).await.expect("no fault is budgeted")
}

pub async fn all(bench: &Bench, backend: &Backend, writes: Vec<Write>) {
    let begin = |(index, write): (usize, Write)| {
        let backend = backend.clone();
        bench.runtime.spawn(format!("w{index}"), async move { backend.write(write).await })
    };
    let written: Vec<_> = writes.into_iter().enumerate().map(begin).collect();
    for write in written {
        write.join().await.expect("no fault is budgeted");
    }
}

#[test]
fn requests_that_meet_in_a_cluster_lose_nothing_of_each_other() {
    let test = Test::new(|bench| async move {
        let links = vec![overlay(None), file(&bench)];
        let (backend, _) = bench.chain(links).await.expect("the chain is fine");
        let writes = vec![
            Write::data(100, bytes(50, 200)),
            Write::data(500, bytes(90, 100)),
            Write::zeroes(ByteRange::new(700, 50)),
        ];
        all(&bench, &backend, writes).await;
        let mut model = bytes(1, LEN).to_vec();
        model[100..300].copy_from_slice(&bytes(50, 200));
        model[500..600].copy_from_slice(&bytes(90, 100));
        model[700..750].fill(0);
        assert!(*read(&backend, 0, LEN).await == *model, "each has its bytes");
        let below = bench.disk.observe_quietly(|below| *below == *bytes(1, LEN));
        assert!(below, "nothing is written to what is below");
    });
    assert!(check(&test, &[]) > 1, "they meet in more than one order");
}

#[test]
fn a_read_beside_a_write_sees_each_byte_before_or_after_it() {
    let test = Test::new(|bench| async move {
        let links = vec![overlay(None), file(&bench)];
        let (backend, _) = bench.chain(links).await.expect("the chain is fine");
        let (old, new) = (bytes(1, 2048), bytes(77, 100));
        let reader = backend.clone();
        let seen = bench.runtime.spawn("reader", async move { read(&reader, 0, 2048).await });
        all(&bench, &backend, vec![Write::data(1000, new.clone())]).await;
        let seen = seen.join().await;
        for at in 0..2048 {
            let after = if (1000..1100).contains(&at) { new[at - 1000] } else { old[at] };
            assert!(seen[at] == old[at] || seen[at] == after, "at {at}");
        }
        sometimes!(seen[1000] == new[0], "after it");
        sometimes!(seen[1000] == old[1000], "before it");
    });
    check(&test, &["after it", "before it"]);
}

#[test]
fn a_write_that_cannot_copy_the_rest_changes_nothing() {
    let test = Test::new(|bench| async move {
        let links = vec![overlay(None), file(&bench)];
        let (backend, _) = bench.chain(links).await.expect("the chain is fine");
        let written = backend.write(Write::data(100, bytes(50, 1500))).await;
        sometimes!(written.is_err(), "the rest could not be read");
        let Ok(seen) = backend.read(ByteRange::new(0, LEN)).await else { return };
        let mut model = bytes(1, LEN).to_vec();
        if written.is_ok() {
            model[100..1600].copy_from_slice(&bytes(50, 1500));
        }
        assert!(*seen == *model, "all of it or nothing");
    });
    let exploration = explore(&test, Budgets { faults: 1, ..Budgets::NONE });
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
    assert!(exploration.summary.marks.contains("the rest could not be read"));
}

#[test]
fn writes_to_clusters_of_their_own_commute() {
    let executions = |step: u64| {
        let test = Test::new(move |bench| async move {
            let (backend, _) =
                bench.chain(vec![overlay(Some(LEN))]).await.expect("the chain is fine");
            let write = |index: u64| Write::data(index * step, bytes(index as u8, 512));
            all(&bench, &backend, (0..3).map(write).collect()).await;
        });
        check(&test, &[])
    };
    assert!(executions(CLUSTER) < executions(CLUSTER / 2));
}

#[test]
fn neither_discards_nor_longer_ends_bring_back_what_is_below() {
    let test = Test::new(|bench| async move {
        let links = vec![overlay(Some(3000)), file(&bench)];
        let (backend, ids) =
            bench.chain_for(Permissions::ALL, links).await.expect("the chain is fine");
        let truncate = |len| Write::truncate(Truncate { len: ByteLen(len), ..DEFAULT });
        let write = async |write| backend.write(write).await.expect("no fault is budgeted");
        write(Write::data(0, bytes(5, 2048))).await;
        write(Write::discard(ByteRange::new(0, 1500))).await;
        let mut model = bytes(1, 3000).to_vec();
        model[..1024].fill(0);
        model[1024..2048].copy_from_slice(&bytes(5, 2048)[1024..]);
        assert!(*read(&backend, 0, 3000).await == *model, "a discard shows zeroes or what was");
        write(truncate(1100)).await;
        write(truncate(4096)).await;
        model.truncate(1100);
        model.resize(4096, 0);
        assert!(*read(&backend, 0, 4096).await == *model, "what is added is zeroes");
        // And so for those that follow the chain themselves.
        let layer = &bench.layer;
        for (offset, depth, zero) in [(0, 1, true), (1024, 1, false), (2048, 1, true)] {
            let range = ByteRange::new(offset, CLUSTER);
            let asked = layer.status_above(Requester::Backend(backend.id()), ids[0], None, range);
            let above = asked.await.expect("no fault is budgeted");
            assert_eq!((above.depth, above.extent.zero), (depth, zero), "at {offset}");
        }
    });
    check(&test, &[]);
}

const DEFAULT: Truncate =
    Truncate { len: ByteLen(0), preallocation: blockyard_block::Preallocation::Off };

#[test]
fn who_only_writes_may_write_a_part_of_a_cluster() {
    let test = Test::new(|bench| async move {
        let links = vec![overlay(None), file(&bench)];
        let (backend, _) =
            bench.chain_for(Permissions::WRITE, links).await.expect("the chain is fine");
        backend.write(Write::data(10, bytes(5, 10))).await.expect("no fault is budgeted");
    });
    check(&test, &[]);
}

#[test]
fn what_is_below_shows_where_nothing_was_written_and_zeroes_behind_its_end() {
    let test = Test::new(|bench| async move {
        let links = vec![overlay(Some(6000)), file(&bench)];
        let (backend, ids) = bench.chain(links).await.expect("the chain is fine");
        let kind = WriteKind::Compressed(bytes(5, 200));
        let write = Write::new(kind, ByteRange::new(4000, 200));
        backend.write(write).await.expect("no fault is budgeted");
        let mut model = bytes(1, LEN).to_vec();
        model.resize(6000, 0);
        model[4000..4200].copy_from_slice(&bytes(5, 200));
        assert!(*read(&backend, 0, 6000).await == *model);
        let requester = Requester::Backend(backend.id());
        let depth = async |offset| {
            let range = ByteRange::new(offset, CLUSTER);
            let above = bench.layer.status_above(requester, ids[0], None, range).await;
            above.expect("no fault is budgeted").depth
        };
        assert_eq!((depth(0).await, depth(3072).await, depth(4096).await), (2, 1, 1));
    });
    check(&test, &[]);
}
