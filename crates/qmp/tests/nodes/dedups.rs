//! Dedup images: made, added, added anew, and what they refuse.

use blockyard_qmp::{Dict, Value, check_command};
use blockyard_units::{ByteLen, ByteRange};

use super::bench::{Bench, check, parse};
use super::{attach, ones, read};

/// Two memory nodes, `m` and `d`, and an image in them.
async fn made(bench: &Bench, options: &str) -> Dict {
    for node in ["m", "d"] {
        bench.run("blockdev-add", &format!("driver=memory,node-name={node},size=8k")).await;
    }
    let concluded = Dict::from_iter([("status", Value::from("concluded"))]);
    let events = bench.monitor.events().subscribe(vec!["JOB_STATUS_CHANGE".into()]);
    let options =
        format!("job-id=made,options.driver=dedup,options.metadata=m,options.data=d,{options}");
    bench.run("blockdev-create", &options).await;
    events.wait(vec![("JOB_STATUS_CHANGE".into(), concluded)]).await;
    let jobs = bench.execute("query-jobs", "{}").await.expect("there is one");
    let Value::List(jobs) = jobs else { panic!("a list") };
    let job = jobs.into_iter().next().and_then(Value::into_dict).expect("it stays");
    bench.run("job-dismiss", "id=made").await;
    job
}

const ADD: &str = "driver=dedup,node-name=img,metadata=m,data=d";

#[test]
fn an_image_that_was_made_keeps_what_is_written_when_it_is_added_anew() {
    check(|bench| async move {
        let job = made(&bench, "options.size=4k,options.cluster-size=512").await;
        assert_eq!(job.get("error"), None, "{job:?}");
        bench.run("blockdev-add", ADD).await;
        let device = attach(&bench, "disk0", "img").await;
        assert_eq!(device.len().expect("there is a medium").0, 4096);
        device.write(ones(512, 1024)).await.expect("there is space");
        let status = device.block_status(ByteRange::new(0, 4096)).await.expect("nothing fails");
        let extent = status.extent;
        assert!(extent.zero && extent.len == ByteLen(512), "{extent:?}");
        bench.run("blockdev-remove-medium", "id=disk0").await;
        bench.run("blockdev-del", "node-name=img").await;
        bench.run("blockdev-add", ADD).await;
        let device = attach(&bench, "disk1", "img").await;
        let mut model = vec![0; 4096];
        model[512..1536].fill(1);
        assert_eq!(read(&device, 0, 4096).await, model);
    });
}

#[test]
fn an_image_is_not_made_and_not_added_where_that_cannot_be() {
    check(|bench| async move {
        let job = made(&bench, "options.size=4k,options.cluster-size=1000").await;
        let said = job.get("error").and_then(Value::as_str).unwrap_or_default();
        assert!(said.contains("power of two from 512 to 64k, not 1000"), "{said}");
        let error = bench.execute("blockdev-add", ADD).await.expect_err("there is none");
        assert!(error.desc.contains("do not begin with a dedup header"), "{}", error.desc);
    });
    check(|bench| async move {
        made(&bench, "options.size=4k").await;
        let twice = ADD.replace("data=d", "data=m");
        bench.execute("blockdev-add", &twice).await.expect_err("one node cannot be both");
        bench.run("blockdev-add", ADD).await;
        let resized = bench.execute("block_resize", "node-name=img,size=8k").await;
        let error = resized.expect_err("it keeps its size");
        assert!(error.desc.contains("keeps its size"), "{}", error.desc);
    });
}

#[test]
fn both_children_are_needed() {
    for arguments in ["driver=dedup,node-name=img,data=d", "driver=dedup,node-name=img,metadata=m"]
    {
        let (options, mode) = parse(arguments);
        let error = check_command("blockdev-add", &options, mode).expect_err("one is missing");
        assert!(error.desc.contains("data"), "{}", error.desc);
    }
}
