//! Groups of throttles as objects, and the throttles that are in them.

use crate::bench::{Bench, Test, check_alone};

const GROUP: &str = r#"{"qom-type":"throttle-group","id":"g","limits":{"bps-total":1024}}"#;

fn object(rest: &str) -> String {
    format!(r#"{{"qom-type":"throttle-group","id":"h"{rest}}}"#)
}

fn throttle(rest: &str) -> String {
    let file = r#"{"driver":"null-co","node-name":"below","size":4096}"#;
    format!(r#"{{"driver":"throttle","node-name":"top","file":{file},{rest}}}"#)
}

fn reopened(rest: &str) -> String {
    format!(r#"{{"options":[{{"driver":"throttle","node-name":"top","file":"below"{rest}}}]}}"#)
}

/// The member of the group's limits that is named, as it is shown.
async fn limit(bench: &Bench, id: &str, key: &str) -> String {
    let get = format!(r#"{{"path":"{id}","property":"limits"}}"#);
    let limits = bench.execute("qom-get", &get).await.expect("it is told").into_dict();
    limits.expect("limits are an object").get(key).expect("all are there").to_string()
}

#[test]
fn a_group_is_refused_by_what_is_wrong_with_it() {
    let test = Test::new(|bench| async move {
        for (rest, said) in [
            (r#","limits":{"bps":1}"#, "limits.bps: unexpected"),
            (r#","limits":{"bps-total":1,"bps-read":1}"#, "limits: bps-total is not for use"),
            (r#","limits":{"iops-read-max":1}"#, "iops-read-max: the limit itself is missing"),
            (r#","limits":{"iops-size":512}"#, "iops-size: a limit of requests is missing"),
            (r#","x-bps-total":1"#, "x-bps-total: unexpected"),
            (r#","data":"secret""#, "data: unexpected"),
        ] {
            bench.refused("object-add", &object(rest), &[said]).await;
        }
        bench.done("object-add", GROUP).await;
        bench.refused("object-add", GROUP, &["there is an object 'g' already"]).await;
        let both = throttle(r#""throttle-group":"g","limits":{}"#);
        bench.refused("blockdev-add", &both, &["throttle-group: not beside 'limits'"]).await;
        let missing = throttle(r#""throttle-group":"h""#);
        bench.refused("blockdev-add", &missing, &["there is no throttle group 'h'"]).await;
        let secret = r#"{"qom-type":"secret","id":"s","data":"hunter2"}"#;
        bench.done("object-add", secret).await;
        let secret = throttle(r#""throttle-group":"s""#);
        bench.refused("blockdev-add", &secret, &["there is no throttle group 's'"]).await;
    });
    check_alone("groups-refused", &test);
}

#[test]
fn limits_are_told_and_change_where_they_are_said() {
    let test = Test::new(|bench| async move {
        bench.done("object-add", GROUP).await;
        assert_eq!(limit(&bench, "g", "bps-total").await, "1024");
        assert_eq!(limit(&bench, "/objects/g", "bps-total-max-length").await, "1");
        let set = |value: &str| format!(r#"{{"path":"g","property":"limits","value":{value}}}"#);
        bench.done("qom-set", &set(r#"{"iops-total":7,"bps-total":2048}"#)).await;
        bench.done("qom-set", &set(r#"{"iops-size":512}"#)).await;
        for (key, value) in [("bps-total", "2048"), ("iops-total", "7"), ("iops-size", "512")] {
            assert_eq!(limit(&bench, "g", key).await, value, "{key}");
        }
        let beside = set(r#"{"bps-read":1}"#);
        bench.refused("qom-set", &beside, &["value.limits: bps-total is not for use"]).await;
        assert_eq!(limit(&bench, "g", "bps-read").await, "0");
        bench.refused("qom-set", &set(r#"{"bps":1}"#), &["value.bps: unexpected"]).await;
        let other = r#"{"path":"g","property":"name"}"#;
        bench.refused("qom-get", other, &["object 'g' has no property 'name'"]).await;
        let missing = r#"{"path":"h","property":"limits"}"#;
        bench.refused("qom-get", missing, &["path: there is no object 'h'"]).await;
        let secret = r#"{"qom-type":"secret","id":"s","data":"hunter2"}"#;
        bench.done("object-add", secret).await;
        let data = r#"{"path":"s","property":"data"}"#;
        bench.refused("qom-get", data, &["object 's' has no property 'data'"]).await;
    });
    check_alone("groups-told", &test);
}

#[test]
fn a_group_stays_while_a_node_is_in_it() {
    let test = Test::new(|bench| async move {
        bench.done("object-add", GROUP).await;
        bench.done("object-add", &object("")).await;
        bench.done("blockdev-add", &throttle(r#""throttle-group":"g""#)).await;
        let in_it = ["node 'top' is in the group 'g'"];
        bench.refused("object-del", r#"{"id":"g"}"#, &in_it).await;
        bench.done("blockdev-reopen", &reopened(r#","throttle-group":"h""#)).await;
        bench.done("object-del", r#"{"id":"g"}"#).await;
        bench.refused("object-del", r#"{"id":"h"}"#, &["node 'top' is in the group 'h'"]).await;
        let gone = reopened(r#","throttle-group":"g""#);
        bench.refused("blockdev-reopen", &gone, &["there is no throttle group 'g'"]).await;
        bench.done("blockdev-reopen", &reopened(r#","limits":{"bps-total":5}"#)).await;
        bench.done("object-del", r#"{"id":"h"}"#).await;
        bench.done("object-add", GROUP).await;
        bench.done("blockdev-reopen", &reopened(r#","throttle-group":"g""#)).await;
        bench.done("blockdev-del", r#"{"node-name":"top"}"#).await;
        bench.done("object-del", r#"{"id":"g"}"#).await;
    });
    check_alone("groups-stay", &test);
}
