//! What a tree promises without any text.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::{Dict, Value};

#[test]
fn dict_keeps_the_place_of_a_replaced_member() {
    let mut dict: Dict = [("b", 1_i64), ("a", 2)].into_iter().collect();
    assert_eq!(dict.insert("b", 3_i64), Some(Value::Int(1)));
    assert_eq!(dict.insert("c", true), None);
    assert_eq!(dict.to_string(), r#"{"b":3,"a":2,"c":true}"#);
    assert_eq!(dict.remove("a"), Some(Value::Int(2)));
    assert_eq!(dict.remove("a"), None);
    *dict.get_mut("c").expect("c was inserted") = Value::Null;
    assert_eq!(dict.to_string(), r#"{"b":3,"c":null}"#);
    assert_eq!((dict.len(), dict.is_empty(), dict.contains_key("c")), (2, false, true));
}

#[test]
fn dicts_are_equal_in_any_order_and_lists_are_not() {
    let one: Dict = [("a", 1_i64), ("b", 2)].into_iter().collect();
    let two: Dict = [("b", 2_i64), ("a", 1)].into_iter().collect();
    let more: Dict = [("b", 2_i64), ("a", 1), ("c", 3)].into_iter().collect();
    assert_eq!(one, two);
    assert_ne!(one, more);
    assert_ne!(more, one);
    let list = |numbers: [i64; 2]| Value::List(numbers.into_iter().map(Value::Int).collect());
    assert_ne!(list([1, 2]), list([2, 1]));
}

#[test]
fn equal_integers_are_equal_values() {
    assert_eq!(Value::from(5_u64), Value::Int(5));
    assert_eq!(Value::from(u64::MAX), Value::Uint(u64::MAX));
    assert_eq!(Value::from(1_u64 << 63).as_u64(), Some(1 << 63));
    assert_eq!(Value::Int(-1).as_u64(), None);
    assert_eq!(Value::Uint(u64::MAX).as_i64(), None);
}

#[test]
fn display_escapes_and_tells_floats_from_integers() {
    let check = |value: Value, expected: &str| assert_eq!(value.to_string(), expected);
    check("a\"b\\c\n\r\t\u{1}é/".into(), r#""a\"b\\c\n\r\t\u0001é/""#);
    check(1.0.into(), "1.0");
    check(1e300.into(), "1e300");
    check((-0.0).into(), "-0.0");
    check(f64::NAN.into(), "null");
    check(f64::INFINITY.into(), "null");
    check(Value::List(Vec::new()), "[]");
    check(Dict::new().into(), "{}");
}
