//! Options as texts, and what is said about them; in both forms.

use alloc::format;
use alloc::string::{String, ToString};

use super::{Blockdev, Child, DRIVERS, Kind};
use crate::parse_options;

fn parse(text: &str) -> Result<Blockdev, String> {
    let options = parse_options(text).expect(text);
    let members = options.value.into_dict().expect("the root is an object");
    Blockdev::parse(members, options.mode).map_err(|error| error.to_string())
}

fn check_error(text: &str, expected: &str) {
    assert_eq!(parse(text).err().as_deref(), Some(expected), "for {text}");
}

/// A node `a` without children, and more.
fn null(more: &str) -> String {
    format!("driver=null-co,node-name=a,size=1M,{more}")
}

#[test]
fn every_driver_is_read_in_both_forms() {
    for text in [
        "driver=file,node-name=a,filename=x,,y",
        "driver=memory,node-name=a,size=64K",
        "driver=raw,node-name=a,file=b",
        "driver=raw,node-name=a,file.driver=raw,file.file.driver=null-co,file.file.size=512",
        "driver=throttle,node-name=a,file=b,limits.bps-total=1M,limits.iops-total=0x10",
        r#"{"driver":"memory","node-name":"a","size":65536}"#,
        r#"{"driver":"throttle","node-name":"a","file":"b","limits":{"iops-total":16}}"#,
        r#"{"driver":"raw","node-name":"a","file":{"driver":"null-co","size":512}}"#,
    ] {
        assert_eq!(parse(text).map(|node| node.name), Ok(Some("a".into())), "for {text}");
    }
}

#[test]
fn errors_name_the_whole_key() {
    check_error("node-name=a", "driver: missing");
    check_error("driver=null-co,size=1", "node-name: missing");
    check_error("driver=null-co,node-name=a", "size: missing");
    check_error("driver=raw,node-name=a", "file: missing");
    check_error("driver=throttle,node-name=a,file.driver=raw", "file.file: missing");
    check_error("driver=null-co,node-name=1a,size=1", "node-name: invalid node-name '1a'");
    let drivers = format!("expected one of {}", DRIVERS.join(", "));
    check_error("driver=foo,node-name=a", &format!("driver: {drivers}, found 'foo'"));
    let unknown = "driver=raw,node-name=a,file.driver=foo";
    check_error(unknown, &format!("file.driver: {drivers}, found 'foo'"));
    let deep = "driver=raw,node-name=a,file.driver=raw,file.file.driver=null-co,file.file.siez=1";
    check_error(deep, "file.file.siez: unexpected; the known key is size");
    check_error(
        r#"{"driver":"raw","node-name":"a","file":{"driver":"null-co","size":"1K"}}"#,
        "file.size: expected a number, found '1K'",
    );
    check_error(
        r#"{"driver":"null-co","node-name":"a","size":1,"read-only":"on"}"#,
        "read-only: expected true or false, found 'on'",
    );
}

#[test]
fn what_is_done_anyway_may_be_asked_for() {
    for option in ["read-only=on", "cache.direct=off", "cache.no-flush=off,cache.direct=off"] {
        assert_eq!(parse(&null(option)).map(drop), Ok(()), "for {option}");
    }
    let all = r#"{"driver":"null-co","node-name":"a","size":1,"read-only":true,"auto-read-only":false,
        "discard":"unmap","detect-zeroes":"off","cache":{"direct":false,"no-flush":false},
        "force-share":false}"#;
    assert_eq!(parse(all).map(drop), Ok(()));
}

#[test]
fn what_is_not_implemented_is_refused_by_its_key() {
    let said = "cache.no-flush: not implemented yet; only 'off' is";
    check_error(&null("cache.no-flush=on"), said);
    let child = "driver=raw,node-name=a,file.driver=null-co,file.size=1,file.cache.no-flush=on";
    check_error(child, &format!("file.{said}"));
}

#[test]
fn options_of_every_node_have_types() {
    for (option, said) in [
        ("read-only=1", "read-only: expected on, off, yes, no, true or false, found '1'"),
        ("discard=on", "discard: expected one of ignore, unmap, found 'on'"),
        ("detect-zeroes=yes", "detect-zeroes: expected one of off, on, unmap, found 'yes'"),
        ("cache=none", "cache: expected an object, found 'none'"),
        ("cache.writeback=on", "cache.writeback: unexpected; known keys are direct, no-flush"),
        ("cache.direct=x", "cache.direct: expected on, off, yes, no, true or false, found 'x'"),
        ("force-share.a=x", "force-share: expected true or false, found an object"),
    ] {
        check_error(&null(option), said);
    }
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let unmap = "detect-zeroes: 'unmap' is possible only with discard 'unmap'";
    check_error(&null("detect-zeroes=unmap"), unmap);
    check_error(&null("detect-zeroes=unmap,discard=ignore"), unmap);
    assert_eq!(parse(&null("detect-zeroes=unmap,discard=unmap")).map(drop), Ok(()));
    let shared = "force-share: only a read-only node can be shared so; 'read-only' is to be on";
    check_error(&null("force-share=on"), shared);
    assert_eq!(parse(&null("force-share=on,read-only=on")).map(drop), Ok(()));
    let child =
        "driver=raw,node-name=a,file.driver=null-co,file.size=1,read-only=on,force-share=on";
    check_error(&format!("{child},file.read-only=off"), &format!("file.{shared}"));
}

#[test]
fn what_a_child_defined_in_place_has_from_its_parent() {
    use blockyard_graph::{DetectZeroes, Discard};
    let parsed = |more: &str| {
        let text = format!("driver=raw,node-name=a,file.driver=null-co,file.size=1{more}");
        let node = parse(&text).expect(&text);
        let Kind::Raw { file: Child::Defined(child) } = node.kind else { panic!("{text}") };
        (node.general.options, child.general.options)
    };
    let (node, child) = parsed("");
    assert_eq!((node.discard, child.discard), (Discard::Ignore, Discard::Unmap));
    let (node, child) = parsed(",discard=unmap,file.discard=ignore,detect-zeroes=unmap");
    assert_eq!((node.discard, child.discard), (Discard::Unmap, Discard::Ignore));
    assert_eq!((node.detect_zeroes, child.detect_zeroes), (DetectZeroes::Unmap, DetectZeroes::Off));
    let (node, child) = parsed(",auto-read-only=on,read-only=on,force-share=on");
    assert!(node.auto_read_only && child.auto_read_only && child.force_share);
}

#[test]
fn a_file_past_the_page_cache_is_asked_for_by_itself_or_by_its_parent() {
    for (options, expected) in [
        ("", (false, false, None)),
        (",file.cache.direct=on,file.cache.no-flush=on", (true, true, None)),
        (",cache.direct=on,file.aio=io_uring", (true, false, Some("io_uring"))),
        (",cache.direct=on,file.cache.direct=off", (false, false, None)),
        (",file.cache.no-flush=on,file.aio=threads", (false, true, Some("threads"))),
    ] {
        let text = format!("driver=raw,node-name=a,file.driver=file,file.filename=x{options}");
        let node = parse(&text).expect(&text);
        let Kind::Raw { file: Child::Defined(child) } = &node.kind else { panic!("{text}") };
        let Kind::File { cache, aio, .. } = &child.kind else { panic!("{text}") };
        let aio = aio.map(|aio| aio.word());
        assert_eq!((cache.direct, cache.no_flush, aio), expected, "for {text}");
    }
    let native = "driver=file,node-name=a,filename=x,aio=native";
    check_error(native, "aio: expected one of threads, io_uring, found 'native'");
}

#[test]
fn a_child_defined_in_place_is_read_only_as_its_parent_is() {
    for (options, expected) in [
        ("", (false, false)),
        (",read-only=on", (true, true)),
        (",read-only=on,file.read-only=off", (true, false)),
        (",file.read-only=on", (false, true)),
    ] {
        let text = format!("driver=raw,node-name=a,file.driver=null-co,file.size=1{options}");
        let node = parse(&text).expect(&text);
        let Kind::Raw { file: Child::Defined(child) } = &node.kind else { panic!("{text}") };
        assert_eq!((node.general.read_only, child.general.read_only), expected, "for {text}");
    }
}
