//! Requests that fail, stop and are cut, as the rules of a blkdebug node say.

use blockyard_block::{
    Backend, BlockError, DebugEvent, Io, Limits, Owner, ReadFlags, Requester, Write,
};
use blockyard_drivers::{Blkdebug, DebugLimits, InjectError, IoType, Memory, Raw, SetState};
use blockyard_runtime::IoErrorKind;
use blockyard_units::ByteRange;

use crate::bench::{Bench, LEN, Link, Test, bytes};
use crate::copying::formatted;
use crate::overlaying::{check, read};

fn memory() -> Link {
    ("memory", Box::new(Memory::new(LEN, Some(bytes(1, LEN)))))
}

fn inject(event: DebugEvent) -> InjectError {
    InjectError {
        event,
        state: None,
        io_type: None,
        error: Some(IoErrorKind::Io),
        offset: None,
        once: false,
        immediately: false,
    }
}

fn blkdebug(limits: DebugLimits, injections: &[InjectError], set_states: &[SetState]) -> Link {
    let driver = Blkdebug::new("blkdebug", limits, injections.to_vec(), set_states.to_vec());
    ("blkdebug", Box::new(driver))
}

const WHOLE: DebugLimits = DebugLimits {
    align: None,
    max_transfer: None,
    opt_write_zero: None,
    max_write_zero: None,
    opt_discard: None,
    max_discard: None,
};

fn failed<T: std::fmt::Debug>(result: Result<T, BlockError>) -> IoErrorKind {
    match result.expect_err("it is injected") {
        BlockError::Io { kind, node, .. } if node == "blkdebug" => kind,
        other => panic!("blkdebug names itself: {other}"),
    }
}

async fn device(bench: &Bench, link: Link) -> Backend {
    bench.chain(vec![link, memory()]).await.expect("the chain is fine").0
}

#[test]
fn an_error_hits_its_kind_and_place_and_once_if_so_told() {
    let test = Test::new(|bench| async move {
        let rule = InjectError {
            io_type: Some(IoType::Write),
            error: Some(IoErrorKind::NoSpace),
            offset: Some(1024),
            once: true,
            ..inject(DebugEvent::PWRITEV)
        };
        let backend = device(&bench, blkdebug(WHOLE, &[rule], &[])).await;
        backend.write(Write::data(0, bytes(5, 1024))).await.expect("another place");
        read(&backend, 1024, 512).await;
        backend.write(Write::zeroes(ByteRange::new(1024, 512))).await.expect("another kind");
        let write = Write::data(512, bytes(5, 1024));
        assert_eq!(failed(backend.write(write.clone()).await), IoErrorKind::NoSpace);
        backend.write(write).await.expect("once");
    });
    check(&test, &[]);
}

#[test]
fn rules_hold_in_their_state_and_until_another_event_begins_others() {
    let test = Test::new(|bench| async move {
        let second = InjectError { state: Some(2), ..inject(DebugEvent::WRITE_AIO) };
        let reads = InjectError { io_type: Some(IoType::Read), ..inject(DebugEvent::FLUSH_TO_OS) };
        let state = SetState { event: DebugEvent::PWRITEV_DONE, state: Some(1), new_state: 2 };
        let backend = device(&bench, blkdebug(WHOLE, &[second, reads], &[state])).await;
        let write = Write::data(0, bytes(5, 512));
        backend.write(write.clone()).await.expect("the state is 1");
        failed(backend.write(write.clone()).await);
        failed(backend.read(ByteRange::new(0, 1)).await);
        failed(backend.write(Write::discard(ByteRange::new(0, 1))).await);
        // From the event of the other rule on there is only that.
        backend.flush().await.expect("only reads fail now");
        failed(backend.read(ByteRange::new(0, 1)).await);
        backend.write(Write::discard(ByteRange::new(0, 1))).await.expect("only reads fail now");
        failed(backend.write(write).await);
    });
    check(&test, &[]);
}

#[test]
fn an_error_from_the_beginning_and_one_of_a_block_status() {
    let test = Test::new(|bench| async move {
        let status = InjectError { io_type: Some(IoType::BlockStatus), ..inject(DebugEvent::NONE) };
        let shield = InjectError {
            io_type: Some(IoType::Write),
            error: None,
            offset: Some(0),
            ..inject(DebugEvent::NONE)
        };
        let rules = [status, shield, inject(DebugEvent::NONE)];
        let backend = device(&bench, blkdebug(WHOLE, &rules, &[])).await;
        failed(backend.block_status(ByteRange::new(0, 1)).await);
        failed(backend.read(ByteRange::new(0, 1)).await);
        backend.write(Write::data(0, bytes(5, 512))).await.expect("an earlier rule says so");
        failed(backend.flush().await);
    });
    check(&test, &[]);
}

#[test]
fn a_write_stops_at_every_point_that_it_comes_by() {
    let test = Test::new(|bench| async move {
        let limits = DebugLimits { align: Some(512), ..WHOLE };
        let backend = device(&bench, blkdebug(limits, &[], &[])).await;
        let node = bench.layer.node("blkdebug").expect("it is there");
        let debugger = node.debugger().expect("it has one");
        let points = [
            DebugEvent::WRITE_AIO,
            DebugEvent::PWRITEV_RMW_HEAD,
            DebugEvent::PWRITEV_RMW_AFTER_HEAD,
            DebugEvent::PWRITEV_RMW_TAIL,
            DebugEvent::PWRITEV_RMW_AFTER_TAIL,
            DebugEvent::PWRITEV,
            DebugEvent::PWRITEV_DONE,
        ];
        points.iter().for_each(|event| debugger.set_breakpoint(*event, event.word().into()));
        assert!(!debugger.resume("pwritev"), "nobody has stopped there yet");
        let writer = backend.clone();
        let write = async move { writer.write(Write::data(500, bytes(7, 600))).await };
        let written = bench.runtime.spawn("writer", write);
        for event in points {
            debugger.wait_stopped(event.word().into()).await;
            // Others pass by.
            let seen = read(&backend, 2048, 1).await;
            assert_eq!(*seen, [bytes(1, LEN)[2048]]);
            assert!(debugger.resume(event.word()), "{}", event.word());
        }
        written.join().await.expect("no fault is budgeted");
        let mut model = bytes(1, LEN).to_vec();
        model[500..1100].copy_from_slice(&bytes(7, 600));
        assert!(*read(&backend, 0, LEN).await == *model);
    });
    check(&test, &["a request stopped at a breakpoint"]);
}

/// Over the node, and over one above it.
#[test]
fn a_drained_section_lets_go_on_who_has_stopped() {
    for drained in 0..2 {
        let test = stopped_and_drained(drained);
        check(&test, &["a request stopped at a breakpoint"]);
    }
}

fn stopped_and_drained(drained: usize) -> Test {
    Test::new(move |bench| async move {
        let raw: Link = ("raw", Box::new(Raw));
        let (backend, ids) = bench
            .chain(vec![raw, blkdebug(WHOLE, &[], &[]), memory()])
            .await
            .expect("the chain is fine");
        let node = bench.layer.node("blkdebug").expect("it is there");
        let debugger = node.debugger().expect("it has one");
        debugger.set_breakpoint(DebugEvent::PWRITEV, "a".into());
        debugger.set_breakpoint(DebugEvent::PWRITEV_DONE, "b".into());
        let writer = backend.clone();
        let write = async move { writer.write(Write::data(0, bytes(7, 600))).await };
        let written = bench.runtime.spawn("writer", write);
        debugger.wait_stopped("a".into()).await;
        // Nor does it stop at the second point, on its way out.
        bench.layer.drain(Owner::command(), &ids[drained..=drained]).await.end();
        written.join().await.expect("no fault is budgeted");
    })
}

#[test]
fn requests_are_cut_as_told() {
    let test = Test::new(|bench| async move {
        let limits = DebugLimits {
            align: Some(512),
            max_transfer: Some(1024),
            max_write_zero: Some(512),
            opt_discard: Some(1024),
            ..WHOLE
        };
        assert!(limits.align <= Some(Limits::MAX_ALIGNMENT));
        let (backend, ids) = bench
            .chain(vec![blkdebug(limits, &[], &[]), memory()])
            .await
            .expect("the chain is fine");
        let below = || bench.requests.of(ids[1]).len();
        read(&backend, 100, 2000).await;
        assert_eq!(below(), 3, "0, 1024 and 2048");
        backend.write(Write::data(512, bytes(5, 2048))).await.expect("no fault is budgeted");
        assert_eq!(below(), 5);
        backend.write(Write::zeroes(ByteRange::new(0, 1536))).await.expect("no fault is budgeted");
        assert_eq!(below(), 8);
        backend.write(Write::discard(ByteRange::new(512, 1024))).await.expect("it is left undone");
        assert_eq!(below(), 8);
        backend.write(Write::discard(ByteRange::new(0, 1024))).await.expect("it is a multiple");
        assert_eq!(below(), 9);
    });
    check(&test, &[]);
}

#[test]
fn a_copy_on_read_that_fails_fails_only_who_wanted_the_copy() {
    for by_filter in [false, true] {
        let test = Test::new(move |bench| async move {
            let rule = InjectError { io_type: Some(IoType::Write), ..inject(DebugEvent::PWRITEV) };
            let storage = vec![blkdebug(WHOLE, &[rule], &[]), memory()];
            let (backend, _) = formatted(&bench, by_filter, storage).await;
            assert_eq!(read(&backend, 10, 100).await, bytes(1, LEN).slice(10..110));
            if by_filter {
                let filter = bench.layer.node("copy-on-read").expect("it is there");
                let requester = Requester::Backend(backend.id());
                let io = Io::of_node(&bench.layer, &filter, requester);
                let flags = ReadFlags { prefetch: true, ..ReadFlags::default() };
                failed(io.read("file", ByteRange::new(10, 100), flags).await);
            }
        });
        check(&test, &["a copy on read failed"]);
    }
}
