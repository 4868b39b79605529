//! Texts and what becomes of them, as JSON or as the error.

use alloc::format;
use alloc::string::{String, ToString};

use super::{MAX_DEPTH, MAX_FRAGMENT_LEN, merge, parse_keyval};
use crate::parse_options;
use crate::value::Dict;

mod traditional;

fn check_implied(text: &str, implied_key: Option<&str>, expected: &str) {
    let result = match parse_keyval(text, implied_key) {
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(result, expected, "for '{text}' with implied key {implied_key:?}");
}

fn check(text: &str, expected: &str) {
    check_implied(text, None, expected);
}

#[test]
fn pairs_make_members_and_dots_nest() {
    check("", "{}");
    check("a=b,c=d", r#"{"a":"b","c":"d"}"#);
    check("b=1,a=2", r#"{"b":"1","a":"2"}"#);
    check("file.driver=file,file.filename=x", r#"{"file":{"driver":"file","filename":"x"}}"#);
    check("a.b.c=1,d=2,a.b.e=3", r#"{"a":{"b":{"c":"1","e":"3"}},"d":"2"}"#);
    check("x-y_Z9=on", r#"{"x-y_Z9":"on"}"#);
    check("a=", r#"{"a":""}"#);
    check("a=b=c", r#"{"a":"b=c"}"#);
    check("a= b ", r#"{"a":" b "}"#);
    check("a=é.\"", r#"{"a":"é.\""}"#);
}

#[test]
fn doubled_comma_is_one_inside_a_value_and_one_at_the_end_is_ignored() {
    check("a=b,,c", r#"{"a":"b,c"}"#);
    check("a=,,", r#"{"a":","}"#);
    check("a=,,,,", r#"{"a":",,"}"#);
    check("a=b,", r#"{"a":"b"}"#);
    check("a=b,,", r#"{"a":"b,"}"#);
    check("a=b,,,", r#"{"a":"b,"}"#);
    check("a=b,,,c=d", r#"{"a":"b,","c":"d"}"#);
    check("a=b,,c=d", r#"{"a":"b,c=d"}"#);
}

#[test]
fn last_value_of_a_repeated_key_wins_in_the_first_place() {
    check("a=1,b=2,a=3", r#"{"a":"3","b":"2"}"#);
    check("a.b=1,a.c=2,a.b=3", r#"{"a":{"b":"3","c":"2"}}"#);
    check("a.1=x,a.0=y,a.1=z", r#"{"a":["y","z"]}"#);
    check("a.1=x,a.00=y,a.0=z", r#"{"a":["z","x"]}"#);
}

#[test]
fn malformed_keys_are_errors_that_name_the_key() {
    check("=b", "empty key at byte 0");
    check(",", "empty key at byte 0");
    check("a=b,=d", "empty key at byte 4");
    check("a", "a: expected '=' and a value");
    check("a=b,c", "c: expected '=' and a value");
    check("a,b=c", "a: expected '=' and a value");
    check(".a=b", ".a: empty name beside a dot");
    check("a.=b", "a.: empty name beside a dot");
    check("a..b=c", "a..b: empty name beside a dot");
    let rule = "is no name: names start with a letter and hold letters, digits, - and _";
    for (key, fragment) in [
        ("1a", "1a"),
        ("a.1b", "1b"),
        ("-a", "-a"),
        ("_a", "_a"),
        ("a b", "a b"),
        ("a.b!", "b!"),
        ("é", "é"),
        ("a[0]", "a[0]"),
    ] {
        check(&format!("{key}=x"), &format!("{key}: '{fragment}' {rule}"));
    }
}

#[test]
fn downstream_prefix_may_hold_dots() {
    check("__com.example_a=1", r#"{"__com.example_a":"1"}"#);
    check("a.__com.example_b.c=1", r#"{"a":{"__com.example_b":{"c":"1"}}}"#);
    check("__org.x-y_drop.0=1", r#"{"__org.x-y_drop":["1"]}"#);
    let rule = "is no name: names start with a letter and hold letters, digits, - and _";
    for (key, fragment) in
        [("__com.example", "__com"), ("___a", "___a"), ("__a_1", "__a_1"), ("__com.a_", "__com.a_")]
    {
        check(&format!("{key}=x"), &format!("{key}: '{fragment}' {rule}"));
    }
}

#[test]
fn names_and_depth_have_a_limit() {
    let longest = "a".repeat(MAX_FRAGMENT_LEN);
    check(&format!("{longest}.b=1"), &format!(r#"{{"{longest}":{{"b":"1"}}}}"#));
    check(&format!("b.a{longest}=1"), &format!("b.a{longest}: a name is longer than 127 bytes"));
    let deepest = ["a"; MAX_DEPTH].join(".");
    let (open, close) = (r#"{"a":"#.repeat(MAX_DEPTH), "}".repeat(MAX_DEPTH));
    check(&format!("{deepest}=1"), &format!(r#"{open}"1"{close}"#));
    check(&format!("{deepest}.a=1"), &format!("{deepest}.a: more than 127 names"));
}

#[test]
fn deepest_keyval_is_json_that_can_be_read() {
    let value = parse_keyval(&format!("{}=1", ["a"; MAX_DEPTH].join(".")), None).unwrap();
    assert_eq!(crate::parse_json(&value.to_string()), Ok(value));
}

#[test]
fn first_value_goes_under_the_implied_key() {
    let check = |text, expected| check_implied(text, Some("driver"), expected);
    check("", "{}");
    check("qcow2", r#"{"driver":"qcow2"}"#);
    check("qcow2,", r#"{"driver":"qcow2"}"#);
    check("qcow2,a=b", r#"{"driver":"qcow2","a":"b"}"#);
    check("a,,b,c=d", r#"{"driver":"a,b","c":"d"}"#);
    check("a=b", r#"{"a":"b"}"#);
    check("raw,driver=qcow2", r#"{"driver":"qcow2"}"#);
    check("a=b,qcow2", "qcow2: expected '=' and a value");
    check("=b", "empty key at byte 0");
    check(",", "empty key at byte 0");
    check(",a=b", "empty key at byte 0");
    check_implied("x", Some("file.filename"), r#"{"file":{"filename":"x"}}"#);
}

#[test]
fn digits_make_lists_in_any_order() {
    check("a.0=x", r#"{"a":["x"]}"#);
    check("a.2=z,a.0=x,a.1=y", r#"{"a":["x","y","z"]}"#);
    check("a.0.b=x,a.1.b=y,a.0.c=z", r#"{"a":[{"b":"x","c":"z"},{"b":"y"}]}"#);
    check("a.0.1=y,a.0.0=x", r#"{"a":[["x","y"]]}"#);
    check("a.1=x", "a.0: missing, though the list goes on after it");
    check("a.0=x,a.2=y", "a.1: missing, though the list goes on after it");
    check("b.a.0.3=x", "b.a.0.0: missing, though the list goes on after it");
    check("a.4294967295=x", "a.0: missing, though the list goes on after it");
    check("a.4294967296=x", "a.4294967296: the index is too large");
    check("0=x", "0: the outermost level is no list");
    check("0.a=x", "0.a: the outermost level is no list");
}

#[test]
fn one_key_is_one_shape() {
    check("a=1,a.b=2", "a: used as a value and as an object");
    check("a.b=2,a=1", "a: used as an object and as a value");
    check("a=1,a.0=2", "a: used as a value and as a list");
    check("a.0=1,a.b=2", "a: used as a list and as an object");
    check("x.a.b=1,x.a.0=2", "x.a: used as an object and as a list");
    check("a.0.b=1,a.0=2", "a.0: used as an object and as a value");
}

#[test]
fn merge_takes_each_key_from_the_later() {
    fn dict(text: &str) -> Dict {
        parse_options(text).expect(text).value.into_dict().expect("the root is an object")
    }
    fn check(earlier: &str, later: &str, expected: &str) {
        let result: String = match merge(dict(earlier), dict(later)) {
            Ok(merged) => merged.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(result, expected, "for '{earlier}' under '{later}'");
    }
    check("a=1,b=2", "b=3,c=4", r#"{"a":"1","b":"3","c":"4"}"#);
    check("a=1", "", r#"{"a":"1"}"#);
    check("", "a=1", r#"{"a":"1"}"#);
    check("a=1", r#"{"a":true}"#, r#"{"a":true}"#);
    check(r#"{"a":null}"#, "a=1", r#"{"a":"1"}"#);
    // Objects: per key, at every level.
    check("a.b=1,a.c=2", "a.c=3,a.d=4", r#"{"a":{"b":"1","c":"3","d":"4"}}"#);
    check("a.b.c=1,a.b.d=2", "a.b.d=3,e=4", r#"{"a":{"b":{"c":"1","d":"3"}},"e":"4"}"#);
    check("a.b=1", r#"{"a":{}}"#, r#"{"a":{"b":"1"}}"#);
    // Lists: the later elements after the earlier.
    check("a.0=x", "a.0=y,a.1=z", r#"{"a":["x","y","z"]}"#);
    check("a.0.b=x", "a.0.b=y", r#"{"a":[{"b":"x"},{"b":"y"}]}"#);
    check("a.0=x,a.1=y", r#"{"a":[]}"#, r#"{"a":["x","y"]}"#);
    check("o.l.0=x,o.m=1", "o.l.0=y", r#"{"o":{"l":["x","y"],"m":"1"}}"#);
    // One key is one shape.
    check("a.b=1", "a=2", "a: used as an object and as a value");
    check("a=2", "a.b=1", "a: used as a value and as an object");
    check("x.a=1", "x.a.b=2", "x.a: used as a value and as an object");
    check("a.0=1", "a.b=2", "a: used as a list and as an object");
    check("a.b=2", "a.0=1", "a: used as an object and as a list");
    check("a.0=1", "a=2", "a: used as a list and as a value");
    check("a=2", "a.0=1", "a: used as a value and as a list");
}
