//! What a driver gets of a request: pieces that it takes, and other ways for what it does not.

use blockyard_block::{Counted, Histogram, Limits, Write, WriteFlags};
use blockyard_runtime::IoErrorKind;
use blockyard_units::ByteRange;

use crate::bench::{FAULTLESS, LEN, Manner, ONE_FAULT, PLAIN, Test, check, read_log, write};

/// What reaches the driver of `asked`, and how it ends.
fn reaches(
    name: &str,
    manner: Manner,
    asked: Write,
    expected: &'static [&'static str],
    ends: bool,
) {
    let test = Test::new(move |bench| {
        let asked = asked.clone();
        async move {
            let (backend, _) = bench.device_with("n", manner).await;
            let result = backend.write(asked).await;
            let expected: Vec<String> = expected.iter().map(|what| format!("{what} n")).collect();
            assert_eq!(read_log(&bench.log), expected);
            match result {
                Err(error) => assert!(!ends && error.io_kind() == Some(IoErrorKind::Unsupported)),
                Ok(()) => assert!(ends),
            }
        }
    });
    check(name, &test, FAULTLESS, &[]);
}

fn zeroes(flags: WriteFlags) -> Write {
    Write { flags, ..Write::zeroes(ByteRange::new(0, 1024)) }
}

#[test]
fn a_driver_gets_what_it_takes_and_zeroes_go_another_way_where_it_does_not() {
    let short = Limits { max_transfer: 512, max_discard: 512, ..Limits::NONE };
    let coarse = Limits { request_alignment: 512, ..Limits::NONE };
    let (with, with_out) = (PLAIN, Manner { zeroes: false, ..PLAIN });
    let limited = |limits| Manner { limits, ..PLAIN };
    let (plain, whole) = (WriteFlags::default(), Write::discard(ByteRange::new(0, 1500)));
    let data = Write::data(100, vec![7; 1200].into());
    let no_fallback = WriteFlags { no_fallback: true, ..plain };
    reaches("zeroes", with, zeroes(plain), &["write-zeroes"], true);
    reaches("zeroes as data", with_out, zeroes(plain), &["write"], true);
    reaches("zeroes or nothing", with_out, zeroes(no_fallback), &[], false);
    reaches("discard or nothing", with_out, whole.clone(), &[], true);
    reaches("discards", limited(short), whole.clone(), &["discard", "discard", "discard"], true);
    reaches("whole blocks", limited(coarse), whole, &["discard"], true);
    reaches("pieces", limited(short), data.clone(), &["write", "write", "write"], true);
    reaches("with the rest of its blocks", limited(coarse), data, &["write"], true);
    let odd = Write::zeroes(ByteRange::new(100, 1200));
    reaches("ends as data", limited(coarse), odd, &["write", "write-zeroes", "write"], true);
}

#[test]
fn fua_that_a_driver_does_not_have_is_a_flush_for_every_kind() {
    let fua = WriteFlags { fua: true, ..WriteFlags::default() };
    let none = Limits { fua: false, fua_zeroes: false, ..Limits::NONE };
    let of_data = Limits { fua_zeroes: false, ..Limits::NONE };
    let manner = |limits, zeroes| Manner { limits, zeroes, ..PLAIN };
    let data = Write { flags: fua, ..write(0, 7) };
    reaches("has it", PLAIN, data.clone(), &["write"], true);
    reaches("has it not", manner(none, true), data, &["write", "flush"], true);
    let both = &["write-zeroes", "flush"];
    reaches("not for zeroes", manner(of_data, true), zeroes(fua), both, true);
    reaches("for zeroes as data", manner(of_data, false), zeroes(fua), &["write"], true);
    reaches("not even so", manner(none, false), zeroes(fua), &["write", "flush"], true);
}

#[test]
fn requests_are_counted_at_their_end_and_a_threshold_is_told_once() {
    let test = Test::new(|bench| async move {
        let (backend, node) = bench.device("n").await;
        let node = bench.layer.node_by_id(node).expect("it is there");
        let boundaries = vec![1, 1000];
        let histogram = Histogram::new(boundaries).expect("they rise");
        node.set_histograms(vec![(Counted::Write, histogram)]);
        node.set_write_threshold(1024);
        let first = backend.write(write(1, 7)).await.is_ok();
        assert_eq!(node.write_threshold(), 1024, "it ends at the threshold");
        let second = backend.write(write(2, 8)).await.is_ok();
        assert_eq!(node.write_threshold(), if second { 0 } else { 1024 });
        let failed = u64::from(!first) + u64::from(!second);
        let read = backend.read(ByteRange::new(0, LEN)).await;
        backend.flush().await.expect("this one never fails");
        let stats = node.stats();
        let writes = stats.of(Counted::Write);
        assert_eq!((writes.operations, writes.bytes), (2 - failed, 512 * (2 - failed)));
        assert_eq!(writes.failed, failed);
        let counted: u64 = writes.histogram.iter().flat_map(|histogram| &histogram.bins).sum();
        assert_eq!(counted, 2);
        assert_eq!(stats.of(Counted::Read).operations, u64::from(read.is_ok()));
        assert_eq!(stats.of(Counted::Flush).operations, 1);
        let highest = if second { 1536 } else { 1024 * u64::from(first) };
        assert_eq!(stats.write_highest_offset, highest, "only what ended well");
        let outside = backend.write(Write::zeroes(ByteRange::new(LEN, 1))).await;
        assert!(outside.is_err());
    });
    check("counted", &test, ONE_FAULT, &[]);
}
