//! The traditional form, and lists of numbers as ranges in every form.

use super::*;
use crate::visitor::Ranges;

fn read_traditional<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = Options::parse_traditional(text, None).expect(text);
    options.visit::<One<T>>().map(|one| one.v).map_err(|error| error.to_string())
}

fn check_traditional<T: DeserializeOwned + Debug + PartialEq>(
    text: &str,
    expected: Result<T, &str>,
) {
    assert_eq!(read_traditional::<T>(text), expected.map_err(String::from), "for {text}");
}

#[test]
fn of_a_repeated_key_the_last_value_is_read_where_one_is_wanted() {
    check_traditional("v=1,v=2", Ok(2_u8));
    check_traditional("v=x,v=2K", Ok(Size(2048)));
    check_traditional(
        "v=1K,v=x",
        Err::<Size, _>("v: expected a size such as 512, 64K or 1.5G, found 'x'"),
    );
    check_traditional("v=off,v", Ok(true));
    check_traditional("v,nov", Ok(Some(false)));
    check_traditional("v=a,v=b", Ok(String::from("b")));
    check_traditional("v=1,v=1.5", Ok(1.5_f64));
    check_traditional("v.a=1", Err::<u8, _>("v: expected a number, found an object"));
    check_traditional("v", Err::<u8, _>("v: expected a number, found 'on'"));
    // No other mode reads a list so.
    check_error::<u8>("v.0=1,v.1=2", "v: expected a number, found a list");
}

#[test]
fn a_repeated_key_is_a_list_where_one_is_wanted() {
    check_traditional("v=1,v=2", Ok(Vec::from([1_u8, 2])));
    check_traditional("v=1", Ok(Vec::from([1_u8])));
    check_traditional("v=a,,b,v=c", Ok(Vec::from([String::from("a,b"), "c".into()])));
    check_traditional("v=1,v=x", Err::<Vec<u8>, _>("v.1: expected a number, found 'x'"));
    check_traditional("v=1,v=2", Ok(Value::List(Vec::from(["1".into(), "2".into()]))));
    check_error::<Vec<u8>>("v=1", "v: expected a list, found '1'");
}

#[test]
fn ranges_become_their_numbers_in_the_order_given() {
    let numbers = |numbers: &[u64]| Ranges(Vec::from(numbers));
    for (text, expected) in [
        ("0-3,,7", &[0, 1, 2, 3, 7][..]),
        ("7", &[7]),
        ("5-5", &[5]),
        ("7,,0-1,,1", &[7, 0, 1, 1]),
        ("0x10-021", &[16, 17]),
        ("18446744073709551615", &[u64::MAX]),
        ("18446744073709551614-18446744073709551615", &[u64::MAX - 1, u64::MAX]),
        ("", &[]),
    ] {
        check(&alloc::format!("v={text}"), numbers(expected));
        check_traditional(&alloc::format!("v={text}"), Ok(numbers(expected)));
    }
    check("v.0=0-2,v.1=9", numbers(&[0, 1, 2, 9]));
    check_traditional("v=0-2,v=9,v=4-5", Ok(numbers(&[0, 1, 2, 9, 4, 5])));
    check(r#"{"v":[3,1,18446744073709551615]}"#, numbers(&[3, 1, u64::MAX]));
    assert_eq!(read("v=0-65535").map(|Ranges(all)| all.len()), Ok(65536));
    assert_eq!(serde_json::from_str::<Ranges>("[1,2]").ok(), Some(numbers(&[1, 2])));
}

#[test]
fn ranges_refuse_junk_by_key() {
    let junk = "numbers and ranges such as 0-3,7";
    for text in
        ["x", "1-", "-1", "1-2-3", "1,,", "1,,,,2", "0-x", "1 - 2", "1.5", "18446744073709551616"]
    {
        let found = text.replace(",,", ",");
        let said = alloc::format!("v: expected {junk}, found '{found}'");
        check_error::<Ranges>(&alloc::format!("v={text}"), &said);
    }
    check_error::<Ranges>(
        "v=3-1",
        "v: expected ranges that begin with the lesser number, found '3-1'",
    );
    for text in ["0-65536", "0-18446744073709551615"] {
        let said = alloc::format!("v: expected at most 65536 numbers, found '{text}'");
        check_error::<Ranges>(&alloc::format!("v={text}"), &said);
    }
    check_error::<Ranges>("v.0=0-65535,v.1=1", "v.1: expected at most 65536 numbers, found '1'");
    check_error::<Ranges>(
        "v.0=1,v.1=x",
        "v.1: expected numbers and ranges such as 0-3,7, found 'x'",
    );
    check_error::<Ranges>("v.a=1", "v: expected a list, found an object");
    check_error::<Ranges>(r#"{"v":"0-3"}"#, "v: expected a list, found '0-3'");
    check_error::<Ranges>(r#"{"v":["0-3"]}"#, "v.0: expected a number, found '0-3'");
    check_error::<Ranges>(
        r#"{"v":[-1]}"#,
        "v.0: expected a number from 0 to 18446744073709551615, found -1",
    );
}
