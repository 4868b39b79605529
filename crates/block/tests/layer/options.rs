//! The options that every node has: what they make of requests.

use blockyard_block::{OnLost, Write, WriteFlags};
use blockyard_graph::{DetectZeroes, Discard, Edit, NodeAttributes, NodeOptions};
use blockyard_runtime::IoBuffer;
use blockyard_units::ByteRange;

use crate::bench::{FAULTLESS, Test, check, read_log, write};

/// What the driver is asked for when a guest does each of [`requests`], under these options.
const CASES: [(Discard, DetectZeroes, [&str; 5]); 5] = {
    use Discard::{Ignore, Unmap};
    const DATA: &str = "write n";
    const ZEROES: &str = "write-zeroes n";
    const UNMAPS: &str = "unmapping write-zeroes n";
    const DISCARD: &str = "discard n";
    [
        (Ignore, DetectZeroes::Off, [DATA, DATA, ZEROES, ZEROES, ""]),
        (Unmap, DetectZeroes::Off, [DATA, DATA, ZEROES, UNMAPS, DISCARD]),
        (Ignore, DetectZeroes::On, [DATA, ZEROES, ZEROES, ZEROES, ""]),
        (Unmap, DetectZeroes::On, [DATA, ZEROES, ZEROES, UNMAPS, DISCARD]),
        (Unmap, DetectZeroes::Unmap, [DATA, UNMAPS, ZEROES, UNMAPS, DISCARD]),
    ]
};

fn requests() -> [Write; 5] {
    let range = ByteRange::new(512, 512);
    let flags = WriteFlags { may_unmap: true, ..WriteFlags::default() };
    [
        write(1, 7),
        Write::data(512, IoBuffer::zeroes(512)),
        Write::zeroes(range),
        Write { flags, ..Write::zeroes(range) },
        Write::discard(range),
    ]
}

#[test]
fn discards_and_zeroes_reach_the_driver_as_the_options_say() {
    let test = Test::new(|bench| async move {
        let (backend, node) = bench.device("n").await;
        for (discard, detect_zeroes, asked) in CASES {
            let before = bench.layer.graph().node(node).cloned().expect("it is there");
            let options = NodeOptions { discard, detect_zeroes, ..before.options };
            let attributes = NodeAttributes { options, ..before };
            let edit = Edit::SetAttributes { id: node, attributes };
            bench.publish(&[edit], &[], OnLost::Fail).await.expect("it may change");
            for (request, asked) in requests().into_iter().zip(asked) {
                bench.log.with(Vec::clear);
                backend.write(request).await.expect("no fault is budgeted");
                let said = format!("{discard:?}, detects {detect_zeroes:?}");
                assert_eq!(read_log(&bench.log).concat(), asked, "{said}");
            }
        }
    });
    check("options", &test, FAULTLESS, &[]);
}

/// What is left undone has no place either.
#[test]
fn an_ignored_discard_behind_the_end_is_an_error_all_the_same() {
    let test = Test::new(|bench| async move {
        let (backend, node) = bench.device("n").await;
        let before = bench.layer.graph().node(node).cloned().expect("it is there");
        let attributes = NodeAttributes { options: NodeOptions::default(), ..before };
        let edit = Edit::SetAttributes { id: node, attributes };
        bench.publish(&[edit], &[], OnLost::Fail).await.expect("it may change");
        let behind = Write::discard(ByteRange::new(1 << 20, 512));
        assert!(backend.write(behind).await.is_err());
    });
    check("behind", &test, FAULTLESS, &[]);
}
