//! The traditional form: what differs from dotted keys, and what does not.

use alloc::string::ToString;

use crate::parse_qemu_opts;

fn check_implied(text: &str, implied_key: Option<&str>, expected: &str) {
    let result = match parse_qemu_opts(text, implied_key) {
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(result, expected, "for '{text}' with implied key {implied_key:?}");
}

fn check(text: &str, expected: &str) {
    check_implied(text, None, expected);
}

#[test]
fn a_key_alone_is_on_and_with_no_before_it_off() {
    check("foo", r#"{"foo":"on"}"#);
    check("nofoo", r#"{"foo":"off"}"#);
    check("a=1,foo,nobar,b=2", r#"{"a":"1","foo":"on","bar":"off","b":"2"}"#);
    check("foo,", r#"{"foo":"on"}"#);
    check("cache.direct,nocache.no-flush", r#"{"cache":{"direct":"on","no-flush":"off"}}"#);
    // Whatever the word: only a value makes these two letters a part of the name.
    check("node-name", r#"{"de-name":"off"}"#);
    check("node-name=x", r#"{"node-name":"x"}"#);
    check("no", "empty key at byte 0");
    check("foo,,bar", "empty key at byte 4");
}

#[test]
fn a_repeated_key_is_a_list_in_order() {
    check("a=1,b=2,a=3", r#"{"a":["1","3"],"b":"2"}"#);
    check("a,a=x,noa", r#"{"a":["on","x","off"]}"#);
    check("o.a=1,o.a=2", r#"{"o":{"a":["1","2"]}}"#);
    check("l.0=1,l.1=2,l.0=3", r#"{"l":[["1","3"],"2"]}"#);
    check("a=1,a=2,a.b=3", "a: used as a value and as an object");
    check("a=1,a=2,a.0=3", "a: used as a value and as a list");
}

#[test]
fn the_rest_is_as_in_dotted_keys() {
    check("", "{}");
    check("a=b,,c,d=e", r#"{"a":"b,c","d":"e"}"#);
    check("file.driver=file,file.filename=x", r#"{"file":{"driver":"file","filename":"x"}}"#);
    check("a=,b=1,", r#"{"a":"","b":"1"}"#);
    check("=x", "empty key at byte 0");
    check("a=1,=x", "empty key at byte 4");
    check(
        "1a=x",
        "1a: '1a' is no name: names start with a letter and hold letters, digits, - and _",
    );
    check("l.1=x", "l.0: missing, though the list goes on after it");
}

#[test]
fn first_value_goes_under_the_implied_key() {
    let check = |text, expected| check_implied(text, Some("driver"), expected);
    check("raw,a", r#"{"driver":"raw","a":"on"}"#);
    check("noraw", r#"{"driver":"noraw"}"#);
    check("a,,b,c", r#"{"driver":"a,b","c":"on"}"#);
    check("a=b,raw", r#"{"a":"b","raw":"on"}"#);
    check("raw,driver=qcow2", r#"{"driver":["raw","qcow2"]}"#);
    check(",a", "empty key at byte 0");
}
