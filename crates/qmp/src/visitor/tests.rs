//! Trees into types; the tables that both modes share are given as JSON and as dotted keys.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Debug;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Mode, Size, VisitError, take, visit};
use crate::value::{Dict, Reference, ReferenceOrNull, Value};
use crate::{Options, parse_options};

mod structs;
mod traditional;

/// One option `v` of type `T`, in either form.
#[derive(Debug, Deserialize)]
struct One<T> {
    v: T,
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, VisitError> {
    let options = parse_options(text).expect(text);
    options.visit::<One<T>>().map(|one| one.v)
}

fn check<T: DeserializeOwned + Debug + PartialEq>(text: &str, expected: T) {
    assert_eq!(read::<T>(text), Ok(expected), "for {text}");
}

fn check_error<T: DeserializeOwned + Debug>(text: &str, expected: &str) {
    let error = read::<T>(text).expect_err(text);
    assert_eq!(error.to_string(), expected, "for {text}");
}

#[test]
fn bool_has_six_spellings() {
    for (text, expected) in [
        ("on", true),
        ("yes", true),
        ("true", true),
        ("off", false),
        ("no", false),
        ("false", false),
    ] {
        check(&alloc::format!("v={text}"), expected);
        check_error::<bool>(
            &alloc::format!(r#"{{"v":"{text}"}}"#),
            &alloc::format!("v: expected true or false, found '{text}'"),
        );
    }
    for text in ["", "1", "ON", "y", "n", "maybe", "on "] {
        check_error::<bool>(
            &alloc::format!("v={text}"),
            &alloc::format!("v: expected on, off, yes, no, true or false, found '{text}'"),
        );
    }
    check(r#"{"v":true}"#, true);
    check_error::<bool>(r#"{"v":1}"#, "v: expected true or false, found 1");
    check_error::<bool>("v.a=1", "v: expected true or false, found an object");
}

#[test]
fn numbers_are_decimal_hex_or_octal_in_full_range() {
    check("v=0", 0_u64);
    check("v=18446744073709551615", u64::MAX);
    check("v=0xffffffffffffffff", u64::MAX);
    check("v=0XfF", 255_u8);
    check("v=01777777777777777777777", u64::MAX);
    check("v=010", 8_i32);
    check("v=-0x10", -16_i32);
    check("v=9223372036854775807", i64::MAX);
    check("v=-9223372036854775808", i64::MIN);
    check("v=-128", i8::MIN);
    check(r#"{"v":18446744073709551615}"#, u64::MAX);
    check(r#"{"v":-9223372036854775808}"#, i64::MIN);
    check(r#"{"v":65535}"#, u16::MAX);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let u64_range = "a number from 0 to 18446744073709551615";
    for (text, found) in [
        ("v=18446744073709551616", "'18446744073709551616'"),
        ("v=0x10000000000000000", "'0x10000000000000000'"),
        ("v=-1", "'-1'"),
        (r#"{"v":-1}"#, "-1"),
    ] {
        check_error::<u64>(text, &alloc::format!("v: expected {u64_range}, found {found}"));
    }
    let long = "9".repeat(60);
    check_error::<u64>(
        &alloc::format!("v={long}"),
        &alloc::format!("v: expected {u64_range}, found '{long}'"),
    );
    check_error::<i8>("v=128", "v: expected a number from -128 to 127, found '128'");
    check_error::<i8>("v=-129", "v: expected a number from -128 to 127, found '-129'");
    check_error::<u32>(
        r#"{"v":4294967296}"#,
        "v: expected a number from 0 to 4294967295, found 4294967296",
    );
    check_error::<i64>(
        r#"{"v":9223372036854775808}"#,
        "v: expected a number from -9223372036854775808 to 9223372036854775807, \
         found 9223372036854775808",
    );
}

#[test]
fn junk_is_no_number() {
    for text in ["", " 1", "1 ", "abc", "08", "0x", "0xg", "1k", "+1", "--1", "-", "1e3", "0b1"] {
        check_error::<u64>(
            &alloc::format!("v={text}"),
            &alloc::format!("v: expected a number, found '{text}'"),
        );
    }
    check_error::<u64>("v=1.5", "v: expected a whole number, found '1.5'");
    check_error::<u64>(r#"{"v":1.5}"#, "v: expected a whole number, found 1.5");
    check_error::<u64>(
        r#"{"v":18446744073709551616}"#,
        "v: expected a whole number, found 1.8446744073709552e19",
    );
    check_error::<u64>(r#"{"v":"1"}"#, "v: expected a number, found '1'");
    check_error::<u64>(r#"{"v":null}"#, "v: expected a number, found null");
    check_error::<u64>(r#"{"v":true}"#, "v: expected a number, found true");
    check_error::<u64>("v.0=1", "v: expected a number, found a list");
}

#[test]
fn floats_take_whole_numbers_too() {
    check("v=1.5", 1.5_f64);
    check("v=-1e3", -1000.0_f64);
    check("v=7", 7.0_f64);
    check(r#"{"v":1.5}"#, 1.5_f64);
    check(r#"{"v":7}"#, 7.0_f64);
    for text in ["inf", "NaN", "1e999", "", "1.5x"] {
        check_error::<f64>(
            &alloc::format!("v={text}"),
            &alloc::format!("v: expected a number, found '{text}'"),
        );
    }
    check_error::<f64>(r#"{"v":"1.5"}"#, "v: expected a number, found '1.5'");
}

#[test]
fn sizes_have_suffixes_and_exact_fractions() {
    for (text, expected) in [
        ("0", 0),
        ("512", 512),
        ("010", 10),
        ("0x1B", 27),
        ("1b", 1),
        ("1B", 1),
        ("8k", 8 << 10),
        ("8K", 8 << 10),
        ("3M", 3 << 20),
        ("3m", 3 << 20),
        ("4G", 4 << 30),
        ("5T", 5 << 40),
        ("6P", 6 << 50),
        ("7E", 7 << 60),
        ("1.5G", 3 << 29),
        (".5k", 512),
        ("1.k", 1024),
        ("2.0", 2),
        ("0.1K", 102),
        ("12.345M", 12_944_670),
        ("1.0000000000000000001E", 1 << 60),
        ("15.99999999999999999999999999999E", u64::MAX),
        ("18446744073709551615", u64::MAX),
        ("0xffffffffffffffff", u64::MAX),
        ("16777215.99999999999999999999999T", u64::MAX),
    ] {
        check(&alloc::format!("v={text}"), Size(expected));
    }
    check(r#"{"v":18446744073709551615}"#, Size(u64::MAX));
    check(r#"{"v":512}"#, Size(512));
    check(r#"{"v":512}"#, Some(Size(512)));
}

#[test]
fn sizes_refuse_junk_and_what_64_bits_cannot_hold() {
    let junk = "a size such as 512, 64K or 1.5G";
    for text in
        ["", "K", ".", ".K", "-1", "+1", " 1", "1KB", "1KiB", "1X", "1 K", "1.5.5M", "0x", "0x1G"]
    {
        check_error::<Size>(
            &alloc::format!("v={text}"),
            &alloc::format!("v: expected {junk}, found '{text}'"),
        );
    }
    for text in
        ["18446744073709551616", "0x10000000000000000", "16E", "16384P", "99999999999999999999K"]
    {
        check_error::<Size>(
            &alloc::format!("v={text}"),
            &alloc::format!("v: expected a size below 2^64, found '{text}'"),
        );
    }
    check_error::<Size>("v=1.5", "v: expected a whole number of bytes, found '1.5'");
    check_error::<Size>("v=1.5B", "v: expected a whole number of bytes, found '1.5B'");
    check_error::<Size>(r#"{"v":"1K"}"#, "v: expected a number, found '1K'");
    check_error::<Size>(r#"{"v":1.0}"#, "v: expected a whole number, found 1.0");
    check_error::<Size>(
        r#"{"v":-1}"#,
        "v: expected a number from 0 to 18446744073709551615, found -1",
    );
}

#[test]
fn size_is_a_plain_number_to_other_serde_formats() {
    assert_eq!(serde_json::from_str::<Size>("4096").ok(), Some(Size(4096)));
    assert_eq!(serde_json::to_string(&Size(4096)).ok().as_deref(), Some("4096"));
}

#[test]
fn untyped_members_keep_strings() {
    check("v=1", Value::from("1"));
    check("v.a=on,v.b.0=2", {
        let list = Value::List(Vec::from([Value::from("2")]));
        let members: Dict = [("a", Value::from("on")), ("b", list)].into_iter().collect();
        Value::Dict(members)
    });
    check(r#"{"v":null}"#, Some(Value::Null));
    check("v.a=1", [("a", "1")].into_iter().collect::<Dict>());
    check_error::<Dict>("v=1", "v: expected an object, found '1'");
}

#[test]
fn optional_members_may_be_absent_at_any_level() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        a: Option<u8>,
        b: Option<Vec<u8>>,
    }
    check("v.a=1", Inner { a: Some(1), b: None });
    check("v.b.0=1", Inner { a: None, b: Some(Vec::from([1])) });
    check(r#"{"v":{}}"#, Inner { a: None, b: None });
    check(r#"{"v":{"b":[]}}"#, Inner { a: None, b: Some(Vec::new()) });
    check_error::<Inner>(r#"{"v":{"a":null}}"#, "v.a: expected a number, found null");
    check_error::<Inner>("v.b.0=x", "v.b.0: expected a number, found 'x'");
    assert_eq!(parse_options("").expect("nothing").visit(), Ok(Inner { a: None, b: None }));
}

#[test]
fn alternates_see_a_string_in_dotted_keys_whatever_it_spells() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(u64),
        Text(String),
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum NumberOrObject {
        Number(u64),
        Object(Dict),
    }
    check(r#"{"v":1}"#, NumberOrText::Number(1));
    check(r#"{"v":"1"}"#, NumberOrText::Text("1".into()));
    check("v=1", NumberOrText::Text("1".into()));
    check(r#"{"v":1}"#, NumberOrObject::Number(1));
    let error = read::<NumberOrObject>("v=1").expect_err("a string is no number here");
    assert_eq!(error.path(), "v");
    check("v.a=1", NumberOrObject::Object([("a", "1")].into_iter().collect()));
}

#[test]
fn references_are_told_apart_by_kind() {
    let definition: Dict = [("driver", "file")].into_iter().collect();
    check("v=disk0", Reference::Name("disk0".into()));
    check("v=1", Reference::Name("1".into()));
    check(r#"{"v":"disk0"}"#, Reference::Name("disk0".into()));
    check("v.driver=file", Reference::Definition(definition.clone()));
    check(r#"{"v":{"driver":"file"}}"#, Reference::Definition(definition.clone()));
    check_error::<Reference>(r#"{"v":1}"#, "v: expected a name or an object, found 1");
    check_error::<Reference>(r#"{"v":null}"#, "v: expected a name or an object, found null");
    check_error::<Reference>("v=", "v: expected a name or an object, found ''");
    check_error::<Reference>("v.0=a", "v: expected a name or an object, found a list");

    check(r#"{"v":null}"#, Some(ReferenceOrNull::Null));
    check("v=", ReferenceOrNull::Null);
    check("v=disk0", ReferenceOrNull::Reference(Reference::Name("disk0".into())));
    check("v.driver=file", ReferenceOrNull::Reference(Reference::Definition(definition)));
    check_error::<ReferenceOrNull>(
        r#"{"v":false}"#,
        "v: expected a name, an object or null, found false",
    );
}
