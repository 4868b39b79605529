//! Texts and what becomes of them.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::parse_json;
use crate::value::{Dict, Value};

fn check(text: &str, expected: Value) {
    assert_eq!(parse_json(text), Ok(expected), "for {text}");
}

fn check_error(text: &str, expected: &str) {
    let error = parse_json(text).expect_err(text);
    assert_eq!(error.to_string(), expected, "for {text}");
}

#[test]
fn numbers_keep_their_kind_and_never_wrap() {
    check("0", Value::Int(0));
    check("-1", Value::Int(-1));
    check("9223372036854775807", Value::Int(i64::MAX));
    check("-9223372036854775808", Value::Int(i64::MIN));
    check("9223372036854775808", Value::Uint(1 << 63));
    check("18446744073709551615", Value::Uint(u64::MAX));
    check("18446744073709551616", Value::Float(18_446_744_073_709_551_616.0));
    check("-9223372036854775809", Value::Float(-9_223_372_036_854_775_809.0));
    check("1.0", Value::Float(1.0));
    check("1e3", Value::Float(1000.0));
}

#[test]
fn objects_keep_their_order_and_lists_theirs() {
    let inner: Dict = [("z", Value::Null), ("a", Value::Bool(true))].into_iter().collect();
    let list = Value::List(Vec::from([inner.into(), "x".into()]));
    check(r#" { "l" : [ { "z" : null, "a" : true }, "x" ] } "#, {
        let outer: Dict = [("l", list)].into_iter().collect();
        outer.into()
    });
    let text = r#"{"z":1,"a":[],"m":{}}"#;
    assert_eq!(parse_json(text).expect(text).to_string(), text);
}

#[test]
fn strings_unescape() {
    check(r#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#, "a\"\\/\u{8}\u{c}\n\r\té😀".into());
    check_error(r#""\ud800""#, "line 1, column 8: unexpected end of hex escape");
}

#[test]
fn errors_carry_line_and_column() {
    check_error("", "line 1, column 0: EOF while parsing a value");
    check_error("{\n  \"a\": x}", "line 2, column 8: expected value");
    check_error("{} {}", "line 1, column 4: trailing characters");
    check_error("[1,]", "line 1, column 4: trailing comma");
    check_error("{'a':1}", "line 1, column 2: key must be a string");
    check_error("{\"a\":1,\n\"a\":2}", "line 2, column 3: key 'a' appears twice");
    check_error(r#"{"x":{"b c":1,"b c":1}}"#, "line 1, column 19: key 'b c' appears twice");
    check_error("1e999", "line 1, column 5: number out of range");
    check_error("NaN", "line 1, column 1: expected value");
    check_error(&"[".repeat(200), "line 1, column 128: recursion limit exceeded");
}
