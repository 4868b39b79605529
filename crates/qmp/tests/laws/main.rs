//! Laws of the option parser, over generated trees and junk with a fixed seed.
#![forbid(unsafe_code)]

mod trees;

use blockyard_qmp::{
    Dict, Mode, Options, Ranges, Reference, ReferenceOrNull, Size, Value, check_command, merge,
    parse_json, parse_keyval, parse_options, parse_qemu_opts, visit,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use serde::{Deserialize, Serialize};

fn config() -> Config {
    Config {
        cases: 1000,
        rng_seed: RngSeed::Fixed(0x6f70_7469_6f6e),
        failure_persistence: None,
        ..Config::default()
    }
}

/// Some of what options are made of. `PartialEq` of what is read tells whether two forms say the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Typed {
    flag: Option<bool>,
    count: u64,
    offset: i64,
    size: Size,
    share: f64,
    name: String,
    mode: Option<Letter>,
    list: Vec<i16>,
    inner: Option<Inner>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Letter {
    Off,
    On,
    WriteBlocking,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Inner {
    node_name: String,
    children: Vec<Inner>,
}

fn letter() -> impl Strategy<Value = Letter> {
    prop_oneof![Just(Letter::Off), Just(Letter::On), Just(Letter::WriteBlocking)]
}

fn inner() -> impl Strategy<Value = Inner> {
    let leaf = trees::any_text().prop_map(|node_name| Inner { node_name, children: Vec::new() });
    leaf.prop_recursive(2, 6, 3, |below| {
        let children = proptest::collection::vec(below, 0..3);
        (trees::any_text(), children)
            .prop_map(|(node_name, children)| Inner { node_name, children })
    })
}

fn typed() -> impl Strategy<Value = Typed> {
    let first = (any::<Option<bool>>(), any::<u64>(), any::<i64>(), any::<u64>(), -1e9..1e9);
    let second = (
        trees::any_text(),
        proptest::option::of(letter()),
        proptest::collection::vec(any::<i16>(), 0..4),
        proptest::option::of(inner()),
    );
    (first, second).prop_map(|((flag, count, offset, size, share), (name, mode, list, inner))| {
        Typed { flag, count, offset, size: Size(size), share, name, mode, list, inner }
    })
}

/// The tree as strings, with what dotted keys cannot say left out: `null`, and lists and objects that are empty.
fn as_texts(value: Value) -> Option<Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => Value::from(if flag { "on" } else { "off" }),
        Value::Str(text) => Value::Str(text),
        Value::List(values) if values.is_empty() => return None,
        Value::List(values) => Value::List(values.into_iter().filter_map(as_texts).collect()),
        Value::Dict(members) => Value::Dict(texts_of(members)),
        number => Value::from(number.to_string()),
    })
}

fn texts_of(members: Dict) -> Dict {
    members.into_iter().filter_map(|(name, value)| Some((name, as_texts(value)?))).collect()
}

/// `Typed` with defaults for what dotted keys leave out.
fn with_empty_lists(mut tree: Dict) -> Dict {
    fn fill(inner: &mut Dict) {
        if !inner.contains_key("children") {
            inner.insert("children", Value::List(Vec::new()));
        }
        if let Some(Value::List(children)) = inner.get_mut("children") {
            for child in children {
                let Value::Dict(child) = child else { panic!("children are objects") };
                fill(child);
            }
        }
    }
    if !tree.contains_key("list") {
        tree.insert("list", Value::List(Vec::new()));
    }
    if let Some(Value::Dict(inner)) = tree.get_mut("inner") {
        fill(inner);
    }
    tree
}

/// Reads a tree as whatever there is to be read; only that it returns matters.
fn read_as_everything(tree: &Value, mode: Mode) {
    drop(visit::<Typed>(tree, mode));
    drop(visit::<Inner>(tree, mode));
    drop(visit::<Reference>(tree, mode));
    drop(visit::<ReferenceOrNull>(tree, mode));
    let Some(members) = tree.as_dict() else { return };
    for (command, _) in blockyard_qmp::COMMANDS {
        drop(check_command(command, members, mode));
    }
    for (_, value) in members.iter() {
        drop(visit::<Size>(value, mode));
        drop(visit::<Ranges>(value, mode));
        drop(visit::<u64>(value, mode));
        drop(visit::<i8>(value, mode));
        drop(visit::<f64>(value, mode));
        drop(visit::<bool>(value, mode));
        drop(visit::<Vec<Letter>>(value, mode));
        drop(visit::<(u8, String)>(value, mode));
    }
}

/// Junk of the syntax's own signs, and options that had been right.
fn junk() -> impl Strategy<Value = String> {
    let right = prop_oneof![
        Just("driver=throttle,node-name=a,file.driver=memory,file.size=1.5K,limits.bps-total=1M"),
        Just(
            r#"{"driver":"raw","node-name":"a","file":{"driver":"null-co","size":18446744073709551615}}"#
        ),
        Just("v=0-3,,7,v.0=1,nofoo,foo,__com.a_b=1"),
    ];
    let wrong = (right, any::<prop::sample::Index>(), "[^a]{0,3}").prop_map(|(text, at, more)| {
        let letters: Vec<char> = text.chars().collect();
        let at = at.index(letters.len());
        letters[..at]
            .iter()
            .copied()
            .chain(more.chars())
            .chain(letters[at + 1..].iter().copied())
            .collect()
    });
    prop_oneof![
        wrong,
        "[abno019.,=_{}\"\\[\\]:+x-]{0,40}",
        "v=([0-9]{1,2}(-|,,|,v=)){0,8}[0-9]?",
        "[a-b]=[0-9a-fx.,KMGE-]{0,40}",
        "\\{\"a\":[0-9.eE\"\\[,{}+-]{0,30}",
        trees::any_text(),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn dotted_keys_and_back_give_the_same_tree_in_any_order(tree in trees::texts()) {
        let mut pairs = trees::pairs(&tree);
        let expected = Value::Dict(tree);
        let text = pairs.join(",");
        let read = parse_keyval(&text, None).expect(&text);
        prop_assert_eq!(&read, &expected, "{}", text);
        prop_assert_eq!(parse_qemu_opts(&text, None), Ok(read), "{}", text);
        pairs.reverse();
        let text = pairs.join(",");
        prop_assert_eq!(parse_keyval(&text, None), Ok(expected), "{}", text);
    }

    #[test]
    fn json_and_back_gives_the_same_tree(tree in trees::values()) {
        let text = tree.to_string();
        let read = parse_json(&text).expect(&text);
        prop_assert_eq!(&read, &tree, "{}", text);
        prop_assert_eq!(read.to_string(), text.as_str(), "order and kinds are kept");
        let other = serde_json::to_string(&tree).expect("a value is JSON");
        prop_assert_eq!(parse_json(&other), Ok(tree.clone()), "serde writes it too: {}", other);
        let copy = visit::<Value>(&tree, Mode::Strings);
        prop_assert_eq!(copy, Ok(tree), "untyped members stay as they are");
    }

    #[test]
    fn both_forms_give_the_same_typed_value(value in typed()) {
        let json = serde_json::to_string(&value).expect("a value is JSON");
        let tree = parse_json(&json).expect(&json).into_dict().expect("an object");
        // An absent member is not null, in either form.
        let strict: Dict = tree.clone().into_iter().filter(|(_, value)| *value != Value::Null).collect();
        prop_assert_eq!(visit::<Typed>(&strict.clone().into(), Mode::Strict), Ok(value.clone()));
        // What is right strictly is right, and the same, where strings would be converted.
        prop_assert_eq!(visit::<Typed>(&strict.into(), Mode::Strings), Ok(value.clone()));
        let text = trees::pairs(&texts_of(tree)).join(",");
        let read = parse_keyval(&text, None).expect(&text).into_dict().expect("an object");
        let read = Value::Dict(with_empty_lists(read));
        prop_assert_eq!(visit::<Typed>(&read, Mode::Strings), Ok(value.clone()), "{}", text);
        prop_assert_eq!(visit::<Typed>(&read, Mode::QemuOpts), Ok(value), "{}", text);
    }

    #[test]
    fn merging_two_texts_is_reading_one_after_the_other(a in trees::objects(), b in trees::objects()) {
        let pairs = [trees::pairs(&a), trees::pairs(&b)].concat().join(",");
        let whole = parse_keyval(&pairs, None).map_err(|error| error.to_string());
        let merged = merge(a.clone(), b).map(Value::Dict).map_err(|error| error.to_string());
        prop_assert_eq!(merged.is_ok(), whole.is_ok(), "{}: {:?}", pairs, whole);
        if whole.is_ok() {
            prop_assert_eq!(merged, whole, "{}", pairs);
        }
        prop_assert_eq!(merge(a.clone(), Dict::new()), Ok(a.clone()));
        prop_assert_eq!(merge(Dict::new(), a.clone()), Ok(a));
    }

    #[test]
    fn junk_is_an_error_or_a_value_and_never_a_panic(text in junk()) {
        let json = parse_json(&text).map(|value| (value, Mode::Strict));
        let keyval = parse_keyval(&text, Some("driver")).map(|value| (value, Mode::Strings));
        let options = parse_options(&text).map(|Options { value, mode }| (value, mode));
        let traditional = Options::parse_traditional(&text, Some("a"));
        let traditional = traditional.map(|Options { value, mode }| (value, mode));
        for (value, mode) in [json, keyval, options, traditional].into_iter().flatten() {
            read_as_everything(&value, mode);
        }
    }
}
