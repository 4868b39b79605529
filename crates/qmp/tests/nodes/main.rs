//! Nodes of each driver by `blockdev-add`, and the commands that only some of them have.

mod bench;
mod dedups;
mod quorums;
mod verifying;

use blockyard_block::{Backend, Requester, Write};
use blockyard_qmp::check_command;
use blockyard_runtime::IoErrorKind;
use blockyard_units::ByteRange;

use bench::{Bench, check, parse};

const KIB: u64 = 1024;

async fn attach(bench: &Bench, id: &str, node: &str) -> Backend {
    bench.monitor.attach_device(id, node, false).await.expect("the node allows it")
}

fn ones(offset: u64, len: u64) -> Write {
    Write::data(offset, vec![1; len as usize].into())
}

async fn read(backend: &Backend, offset: u64, len: u64) -> Vec<u8> {
    let data = backend.read(ByteRange::new(offset, len)).await;
    data.expect("nothing is injected").to_vec()
}

/// How many layers below `node` the byte at `offset` is.
async fn depth(bench: &Bench, backend: &Backend, node: &str, offset: u64) -> u32 {
    let layer = bench.monitor.layer();
    let node = layer.node(node).expect("it is there").id();
    let requester = Requester::Backend(backend.id());
    let above = layer.status_above(requester, node, None, ByteRange::new(offset, 1)).await;
    above.expect("nothing is injected").depth
}

#[test]
fn an_overlay_is_as_long_as_what_it_lies_over_or_as_told() {
    check(|bench| async move {
        let add = async |options: &str| bench.run("blockdev-add", options).await;
        add("driver=memory,node-name=base,size=128k").await;
        add(r#"{"driver": "overlay", "node-name": "like", "backing": "base"}"#).await;
        add("driver=overlay,node-name=own,size=1M,cluster-size=512,backing=base").await;
        add(r#"{"driver": "overlay", "node-name": "none", "size": 4096, "backing": null}"#).await;
        add("driver=overlay,node-name=in-place,backing.driver=raw,backing.file.driver=memory,\
             backing.file.size=64k")
        .await;
        let lengths = [("like", 128 * KIB), ("own", KIB * KIB), ("none", 4096)];
        for (node, len) in lengths.into_iter().chain([("in-place", 64 * KIB)]) {
            let device = attach(&bench, &format!("d-{node}"), node).await;
            assert_eq!(device.len().expect("it has a medium").0, len, "{node}");
            device.write(ones(100, 1000)).await.expect("nothing is injected");
            assert_eq!(read(&device, 99, 2).await, [0, 1]);
        }
        let base = attach(&bench, "d-base", "base").await;
        assert_eq!(read(&base, 0, 2048).await, vec![0; 2048], "nothing is written below");
    });
}

#[test]
fn copy_on_read_copies_what_its_bottom_or_one_above_has() {
    check(|bench| async move {
        let add = async |options: &str| bench.run("blockdev-add", options).await;
        add("driver=memory,node-name=base,size=64k").await;
        add("driver=overlay,node-name=mid,cluster-size=4k,backing=base").await;
        let mid = attach(&bench, "below", "mid").await;
        mid.write(ones(0, 4096)).await.expect("nothing is injected");
        add("driver=overlay,node-name=top,cluster-size=4k,backing=mid").await;
        add("driver=copy-on-read,node-name=cor,file=top,bottom=mid").await;
        let device = attach(&bench, "disk0", "cor").await;
        let data = read(&device, 0, 16 * KIB).await;
        assert_eq!((data[4095], data[4096]), (1, 0));
        assert_eq!(depth(&bench, &device, "top", 0).await, 1, "it was in the middle");
        assert_eq!(depth(&bench, &device, "top", 4096).await, 3, "it is below the bottom");
        // Without a bottom, and in the path of the node itself.
        let on = r#"{"node-name": "top", "enable": true}"#;
        bench.run("x-block-set-copy-on-read", on).await;
        read(&device, 4096, 1).await;
        assert_eq!(depth(&bench, &device, "top", 4096).await, 1);
        assert_eq!(depth(&bench, &device, "top", 8192).await, 3);
    });
}

#[test]
fn copy_on_read_needs_a_node_that_can_be_written() {
    check(|bench| async move {
        bench.run("blockdev-add", "driver=memory,node-name=base,size=64k,read-only=on").await;
        let added =
            bench.execute("blockdev-add", "driver=copy-on-read,node-name=cor,file=base").await;
        assert!(added.is_err(), "nothing can be copied up into it");
        bench.run("blockdev-add", "driver=memory,node-name=other,size=64k").await;
        bench.run("blockdev-add", "driver=throttle,node-name=filter,file=other").await;
        for (bottom, message) in
            [("no", "there is no node 'no'"), ("filter", "bottom: 'filter' is a filter")]
        {
            let options = format!("driver=copy-on-read,node-name=cor,file=filter,bottom={bottom}");
            let error = bench.execute("blockdev-add", &options).await.expect_err("it is no bottom");
            assert_eq!(error.desc, message);
        }
    });
}

#[test]
fn blkdebug_fails_stops_and_lets_go_on() {
    check(|bench| async move {
        let options = r#"{"driver": "blkdebug", "node-name": "dbg", "align": 512,
            "image": {"driver": "memory", "size": 65536},
            "inject-error": [{"event": "pwritev", "errno": 28, "sector": 2, "once": true}],
            "set-state": [{"event": "none", "new_state": 2}]}"#;
        bench.run("blockdev-add", options).await;
        let device = attach(&bench, "disk0", "dbg").await;
        let failed = device.write(ones(1024, 10)).await.expect_err("it is injected");
        assert_eq!(failed.io_kind(), Some(IoErrorKind::NoSpace));
        bench.run("x-blkdebug-break", "node=dbg,event=pwritev_done,tag=a").await;
        let early = bench.execute("x-blkdebug-resume", "node=dbg,tag=a").await;
        assert_eq!(early.expect_err("none has").desc, "no request has stopped as 'a' in 'dbg'");
        let writer = device.clone();
        let write = async move { writer.write(ones(1024, 10)).await };
        let written = bench.runtime.spawn("writer", write);
        bench.run("x-blkdebug-wait", "node=dbg,tag=a").await;
        bench.run("x-blkdebug-resume", "node=dbg,tag=a").await;
        written.join().await.expect("once is over");
        bench.run("blockdev-add", "driver=null-co,node-name=plain,size=1k").await;
        let other = bench.execute("x-blkdebug-wait", "node=plain,tag=a").await;
        assert_eq!(other.expect_err("it has none").desc, "node 'plain' is no blkdebug node");
    });
}

#[test]
fn options_that_make_no_sense_are_told() {
    let cases = [
        ("driver=overlay,size=1M,cluster-size=3k", "cluster-size: must be a power of two"),
        ("driver=overlay,size=1M,cluster-size=256", "cluster-size: must be a power of two"),
        ("driver=blkdebug,image=x,config=rules.conf", "config: there are no configuration files"),
        ("driver=blkdebug,image=x,align=3", "align: must be a power of two"),
        ("driver=blkdebug,image=x,align=131072", "align: must be a power of two"),
        ("driver=blkdebug,image=x,align=512,max-transfer=700", "max-transfer: must be a multiple"),
        ("driver=blkdebug,image=x,inject-error.0.event=no", "event: there is no event 'no'"),
        ("driver=blkdebug,image=x,inject-error.0.event=none,inject-error.0.errno=9", "errno: 9 is"),
        ("driver=blkdebug,image=x,take-child-perms.0=write", "take-child-perms"),
        ("driver=file,filename=x,locking=maybe", "locking"),
        ("driver=blkdebug", "image"),
        ("driver=copy-on-read,file=x,base=y", "base"),
    ];
    for (options, message) in cases {
        let (options, mode) = parse(options);
        let refused = check_command("blockdev-add", &options, mode).expect_err("it makes no sense");
        assert!(refused.desc.contains(message), "{}", refused.desc);
    }
}
