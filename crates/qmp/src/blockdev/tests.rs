//! Options as texts, and what is said about them; in both forms.

use alloc::format;
use alloc::string::{String, ToString};

use super::{Blockdev, Child, Kind};
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
    let drivers = "expected one of blkdebug, copy-on-read, file, luks, memory, null-co, overlay, raw, throttle";
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
    for option in [
        "read-only=on",
        "auto-read-only=off",
        "discard=unmap",
        "detect-zeroes=off",
        "cache.direct=off",
        "cache.no-flush=off,cache.direct=off",
        "force-share=off",
    ] {
        assert_eq!(parse(&null(option)).map(drop), Ok(()), "for {option}");
    }
    let all = r#"{"driver":"null-co","node-name":"a","size":1,"read-only":true,"auto-read-only":false,
        "discard":"unmap","detect-zeroes":"off","cache":{"direct":false,"no-flush":false},
        "force-share":false}"#;
    assert_eq!(parse(all).map(drop), Ok(()));
}

#[test]
fn what_is_not_implemented_is_refused_by_its_key() {
    for (option, key, done) in [
        ("auto-read-only=on", "auto-read-only", "off"),
        ("discard=ignore", "discard", "unmap"),
        ("detect-zeroes=on", "detect-zeroes", "off"),
        ("detect-zeroes=unmap", "detect-zeroes", "off"),
        ("cache.direct=on", "cache.direct", "off"),
        ("cache.no-flush=on", "cache.no-flush", "off"),
        ("force-share=on", "force-share", "off"),
    ] {
        let said = format!("{key}: not implemented yet; only '{done}' is");
        check_error(&null(option), &said);
        let child = format!("driver=raw,node-name=a,file.driver=null-co,file.size=1,file.{option}");
        check_error(&child, &format!("file.{said}"));
    }
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
        assert_eq!((node.read_only, child.read_only), expected, "for {text}");
    }
}
