//! `blkverify` and `compress` by `blockdev-add` and `blockdev-reopen`.

use blockyard_block::{Write, WriteKind};
use blockyard_qmp::{Dict, Value};
use blockyard_runtime::IoErrorKind;
use blockyard_units::ByteRange;

use super::bench::{Bench, check};
use super::{attach, ones, read};

/// blkverify `both` over memory nodes `a` and `b`.
async fn add(bench: &Bench) {
    for child in ["a", "b"] {
        bench.run("blockdev-add", &format!("driver=memory,node-name={child},size=4k")).await;
    }
    bench.run("blockdev-add", "driver=blkverify,node-name=both,raw=a,test=b").await;
}

#[test]
fn every_kind_of_write_reaches_both_children() {
    check(|bench| async move {
        add(&bench).await;
        let device = attach(&bench, "disk0", "both").await;
        let told = bench.monitor.events().subscribe(vec!["X_BLKVERIFY_MISMATCH".into()]);
        let whole = ByteRange::new(0, 512);
        let writes = [ones(100, 1000), Write::zeroes(whole), Write::discard(whole)];
        for write in writes {
            device.write(write).await.expect("memory does not fail");
            read(&device, 0, 2048).await;
        }
        device.flush().await.expect("memory does not fail");
        let same = read(&device, 512, 588).await;
        assert_eq!(same, [1; 588]);
        let compressed = Write::new(WriteKind::Compressed(vec![2; 512].into()), whole);
        device.write(compressed).await.expect_err("the child test does not compress");
        assert!(told.take().is_empty(), "raw was not asked");
        assert_eq!(read(&device, 0, 512).await, [0; 512]);
    });
}

#[test]
fn a_difference_fails_the_read_and_says_where_it_begins() {
    check(|bench| async move {
        for child in ["a", "b"] {
            bench.run("blockdev-add", &format!("driver=memory,node-name={child},size=4k")).await;
        }
        let below = attach(&bench, "below", "b").await;
        below.write(ones(700, 4)).await.expect("memory does not fail");
        bench.run("blockdev-remove-medium", "id=below").await;
        bench.run("blockdev-add", "driver=blkverify,node-name=both,raw=a,test=b").await;
        let device = attach(&bench, "disk0", "both").await;
        let told = bench.monitor.events().subscribe(vec!["X_BLKVERIFY_MISMATCH".into()]);
        assert_eq!(read(&device, 0, 700).await, [0; 700], "there they agree");
        let failed = device.read(ByteRange::new(512, 512)).await.expect_err("they differ");
        assert_eq!(failed.io_kind(), Some(IoErrorKind::Io));
        let place = [("offset", Value::from(700_u64)), ("length", Value::from(324_u64))];
        let data = Dict::from_iter([("node-name", "both".into())].into_iter().chain(place));
        let events = told.take();
        assert!(events.len() == 1 && events[0].is("X_BLKVERIFY_MISMATCH", &data));
    });
}

#[test]
fn children_that_cannot_be_are_refused() {
    check(|bench| async move {
        for (name, size) in [("a", "4k"), ("b", "8k")] {
            bench.run("blockdev-add", &format!("driver=memory,node-name={name},size={size}")).await;
        }
        let cases = [
            (
                "driver=blkverify,node-name=n,raw=a,test=b",
                "node 'n': raw has 4096 and test 8192 bytes; they must be as long",
            ),
            (
                "driver=compress,node-name=n,file=a",
                "node 'n': its child cannot compress; a qcow2 image can, if it is neither encrypted nor \
                 has an external data file",
            ),
        ];
        for (options, said) in cases {
            let refused = bench.execute("blockdev-add", options).await.expect_err("it cannot be");
            assert_eq!(refused.desc, said);
            assert!(bench.monitor.layer().node("n").is_err(), "it is not there");
        }
    });
}

#[test]
fn compress_and_blkverify_are_reopened_as_any_filter() {
    check(|bench| async move {
        add(&bench).await;
        let overlay = r#"{"driver": "overlay", "node-name": "o", "size": 4096, "backing": null}"#;
        bench.run("blockdev-add", overlay).await;
        bench.run("blockdev-add", "driver=compress,node-name=cmp,file=o").await;
        let again = [
            r#"{"driver": "blkverify", "node-name": "both", "raw": "a", "test": "b", "read-only": true}"#,
            r#"{"driver": "compress", "node-name": "cmp", "file": "o", "discard": "unmap"}"#,
        ];
        for options in again {
            bench.run("blockdev-reopen", &format!(r#"{{"options": [{options}]}}"#)).await;
        }
        let device = attach(&bench, "disk0", "cmp").await;
        device.write(ones(100, 300)).await.expect("memory does not fail");
        assert_eq!(read(&device, 99, 3).await, [0, 1, 1]);
    });
}
