//! What the drivers that store, or seem to, do with bytes.

use blockyard_block::{Backend, BlockError, Write, WriteFlags, WriteKind};
use blockyard_drivers::{Memory, Null, Raw};
use blockyard_runtime::{IoBuffer, IoErrorKind};
use blockyard_sim::{Budgets, Verdict};
use blockyard_units::ByteRange;

use crate::bench::{Bench, FAULTLESS, LEN, Link, Test, bytes, explore, file, throttle};

/// A chain that shows the bytes `bytes(1, LEN)` and keeps what is written.
type Chain = fn(&Bench) -> Vec<Link>;

const STORING: [Chain; 4] = [
    |_| vec![("memory", Box::new(Memory::new(LEN, Some(bytes(1, LEN)))))],
    |bench| vec![file(bench)],
    |bench| vec![("raw", Box::new(Raw)), file(bench)],
    |bench| vec![throttle(0, 0), ("raw", Box::new(Raw)), file(bench)],
];

fn check(test: &Test, budgets: Budgets) {
    let exploration = explore(test, budgets);
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
}

async fn expect(backend: &Backend, model: &[u8]) {
    let read = backend.read(ByteRange::new(0, LEN)).await.expect("no fault is budgeted");
    assert!(*read == *model, "the node shows what was written");
}

/// Writes, each over parts of those before, ends and odd places included.
fn writes() -> Vec<Write> {
    let ranges = [(0, 1024), (512, 1024), (1, 1), (LEN - 3, 3), (700, 2000), (0, 0), (LEN, 0)];
    let data = ranges
        .iter()
        .enumerate()
        .map(|(index, (offset, len))| Write::data(*offset, bytes(17 * (index as u8 + 2), *len)));
    let more = [
        Write::zeroes(ByteRange::new(100, 900)),
        Write::data(500, bytes(211, 100)),
        Write::discard(ByteRange::new(550, 1500)),
    ];
    data.chain(more).collect()
}

#[test]
fn what_is_written_is_read_back_through_every_storing_chain() {
    for chain in STORING {
        let test = Test::new(move |bench| async move {
            let (backend, _) = bench.chain(chain(&bench)).await.expect("the chain is fine");
            assert_eq!(backend.len().expect("there is a root").0, LEN);
            let mut model = bytes(1, LEN).to_vec();
            expect(&backend, &model).await;
            for write in writes() {
                let range = write.range.start() as usize..write.range.end() as usize;
                let data = write.bytes().await.expect("it is at hand");
                model[range].copy_from_slice(&data);
                backend.write(write).await.expect("no fault is budgeted");
                expect(&backend, &model).await;
            }
            backend.flush().await.expect("no fault is budgeted");
        });
        check(&test, FAULTLESS);
    }
}

#[test]
fn null_reads_zeroes_whatever_is_written() {
    check(
        &Test::new(|bench| async move {
            let null: Link = ("null-co", Box::new(Null::new(LEN)));
            let (backend, _) = bench.chain(vec![null]).await.expect("the chain is fine");
            for write in writes() {
                backend.write(write).await.expect("null never fails");
            }
            backend.flush().await.expect("null never fails");
            expect(&backend, &IoBuffer::zeroes(LEN as usize)).await;
        }),
        FAULTLESS,
    );
}

#[test]
fn memory_without_enough_fill_is_zero_behind_it() {
    check(
        &Test::new(|bench| async move {
            let memory: Link = ("memory", Box::new(Memory::new(LEN, Some(bytes(9, 10)))));
            let (backend, _) = bench.chain(vec![memory]).await.expect("the chain is fine");
            let mut model = vec![0; LEN as usize];
            model[..10].copy_from_slice(&bytes(9, 10));
            expect(&backend, &model).await;
        }),
        FAULTLESS,
    );
}

#[test]
fn a_range_that_passes_the_end_is_refused_and_changes_nothing() {
    for chain in STORING {
        let test = Test::new(move |bench| async move {
            let (backend, _) = bench.chain(chain(&bench)).await.expect("the chain is fine");
            let range = ByteRange::new(LEN - 1, 2);
            let refused = [
                backend.read(range).await.map(drop),
                backend.write(Write::data(LEN - 1, bytes(7, 2))).await,
                backend.write(Write::zeroes(range)).await,
                backend.write(Write::discard(ByteRange::new(LEN, 1))).await,
            ];
            for result in refused {
                assert!(matches!(result, Err(BlockError::Invalid(_))), "{result:?}");
            }
            expect(&backend, &bytes(1, LEN)).await;
        });
        check(&test, FAULTLESS);
    }
}

#[test]
fn a_disk_error_names_the_node_that_met_it_and_its_range() {
    let test = Test::new(|bench| async move {
        let raw: Link = ("raw", Box::new(Raw));
        let links = vec![throttle(0, 0), raw, file(&bench)];
        let (backend, _) = bench.chain(links).await.expect("the chain is fine");
        let range = ByteRange::new(512, 100);
        let met = |error| {
            let kind = IoErrorKind::Io;
            assert_eq!(error, BlockError::Io { kind, node: "file".into(), range });
        };
        let wrote = backend.write(Write::data(512, bytes(77, 100))).await.map_err(met);
        blockyard_sync::sometimes!(wrote.is_err(), "a write failed");
        // The one fault is used up, or comes here.
        let read = backend.read(range).await.map_err(met);
        blockyard_sync::sometimes!(read.is_err(), "a read failed");
        assert!(wrote.is_ok() || read.is_ok(), "one fault is budgeted");
        let (new, old) = (Ok(bytes(77, 100)), Ok(bytes(1, LEN).slice(512..612)));
        blockyard_sync::sometimes!(wrote.is_err() && read == new, "a failed write had its effect");
        let allowed = read.is_err() || read == new || (wrote.is_err() && read == old);
        assert!(allowed, "a failed write has happened or not, a good one has");
    });
    let exploration = explore(&test, Budgets { faults: 1, ..Budgets::NONE });
    assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
    assert_eq!(
        Vec::from_iter(exploration.summary.marks),
        ["a failed write had its effect", "a read failed", "a write failed"]
    );
}

#[test]
fn unchanged_and_durable_writes_pass_through_raw_and_throttle() {
    check(
        &Test::new(|bench| async move {
            let links = vec![throttle(0, 0), ("raw", Box::new(Raw) as _), file(&bench)];
            let (backend, _) = bench.chain(links).await.expect("the chain is fine");
            let flags =
                WriteFlags { fua: true, serialising: true, unchanged: true, ..Default::default() };
            let kind = WriteKind::Data(bytes(5, 64));
            let range = ByteRange::new(64, 64);
            backend.write(Write { kind, range, flags }).await.expect("no fault is budgeted");
            let read = backend.read(range).await.expect("no fault is budgeted");
            assert_eq!(*read, *bytes(5, 64));
        }),
        FAULTLESS,
    );
}

#[test]
fn memory_writes_without_a_common_byte_commute_and_overlapping_ones_do_not() {
    let executions = |step: u64| {
        let test = Test::new(move |bench| async move {
            let memory: Link = ("memory", Box::new(Memory::new(LEN, None)));
            let (backend, _) = bench.chain(vec![memory]).await.expect("the chain is fine");
            let write = |index: u64| {
                let backend = backend.clone();
                let write = Write::data(index * step, bytes(index as u8, 512));
                let written = async move { backend.write(write).await };
                bench.runtime.spawn(format!("w{index}"), written)
            };
            let written: Vec<_> = (0..3).map(write).collect();
            for write in written {
                write.join().await.expect("memory never fails");
            }
        });
        let exploration = explore(&test, FAULTLESS);
        assert_eq!(exploration.verdict, Verdict::Clean { exhausted: true });
        exploration.summary.executions
    };
    assert!(executions(512) < executions(511));
}
