//! Generated trees, and the dotted keys that say them.

use blockyard_qmp::{Dict, Value};
use proptest::collection::vec;
use proptest::prelude::*;

/// Levels below the root's members.
const DEPTH: u32 = 3;

/// A name as dotted keys have it, some with a downstream's prefix.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-d]", "[a-zA-Z][a-zA-Z0-9_-]{0,8}", "__[a-z]{1,3}\\.[a-z0-9-]{1,3}_[a-c]"]
}

/// Any text; proptest's own has no control characters.
pub fn any_text() -> impl Strategy<Value = String> {
    vec(prop_oneof![proptest::char::range('\0', ' '), any::<char>()], 0..8)
        .prop_map(String::from_iter)
}

/// Text with more commas and other signs of the syntax than text has.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[,=.a0]{0,6}", "[0-9]{1,3}[KMG]?", any_text()]
}

fn dict(members: Vec<(String, Value)>) -> Value {
    Value::Dict(members.into_iter().collect())
}

/// What dotted keys can say: texts, and lists and objects that are not empty; the root may be.
pub fn texts() -> impl Strategy<Value = Dict> {
    let leaf = text().prop_map(Value::Str).boxed();
    let member = leaf.prop_recursive(DEPTH, 40, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..4).prop_map(Value::List),
            vec((name(), inner), 1..4).prop_map(dict),
        ]
    });
    vec((name(), member), 0..5).prop_map(|members| members.into_iter().collect())
}

/// Objects of objects, with few names, so that two of them meet.
pub fn objects() -> impl Strategy<Value = Dict> {
    let name = || "[ab]";
    let leaf = text().prop_map(Value::Str).boxed();
    let member =
        leaf.prop_recursive(DEPTH, 12, 2, move |inner| vec((name(), inner), 1..3).prop_map(dict));
    vec((name(), member), 0..3).prop_map(|members| members.into_iter().collect())
}

/// What JSON can say.
pub fn values() -> impl Strategy<Value = Value> {
    let finite = any::<u64>()
        .prop_map(f64::from_bits)
        .prop_filter("JSON has none", |number| number.is_finite());
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        finite.prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(DEPTH, 40, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::List),
            vec((any_text(), inner), 0..4).prop_map(dict),
        ]
    })
}

/// A tree's pairs, in its order.
pub fn pairs(root: &Dict) -> Vec<String> {
    let mut pairs = Vec::new();
    root.iter().for_each(|(name, value)| write(name, value, &mut pairs));
    pairs
}

fn write(key: &str, value: &Value, pairs: &mut Vec<String>) {
    match value {
        Value::Str(text) => pairs.push(format!("{key}={}", text.replace(',', ",,"))),
        Value::List(values) => {
            let elements = values.iter().enumerate();
            elements.for_each(|(index, value)| write(&format!("{key}.{index}"), value, pairs));
        }
        Value::Dict(members) => {
            members.iter().for_each(|(name, value)| write(&format!("{key}.{name}"), value, pairs));
        }
        other => panic!("dotted keys have no word for {other}"),
    }
}
