//! Tests.

use super::Property;
use alloc::string::ToString;

#[test]
fn a_word_names_its_property_and_no_other() {
    for property in Property::ALL {
        assert_eq!(property.word().parse(), Ok(*property));
        assert!(!property.about().is_empty());
    }
    let error = "guest".parse::<Property>().expect_err("no such property");
    assert_eq!(error.to_string(), "there is no property 'guest'");
}

#[test]
fn a_violation_says_its_property_first() {
    let violation = Property::Progress.broken("at the end task 1 can never run again".into());
    assert_eq!(violation.to_string(), "progress: at the end task 1 can never run again");
}
