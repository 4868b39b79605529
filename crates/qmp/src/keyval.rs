//! Dotted keys into values: `driver=qcow2,file.driver=file,file.filename=x`.
//!
//! A text is `key=value` pairs between commas; one comma at the end is ignored. A key is names
//! between dots: a name that is all digits is an index into a list, the others are members of
//! objects. `,,` stands for a comma within a value. All leaves are strings: only who asks for a
//! type knows what `1` is.
//!
//! The traditional form, QemuOpts, is the same with two liberties: a key may stand alone, which switches it on, or off
//! with `no` before it; and a key that is repeated keeps all of its values, as a list.
//!
//! Invariant `lists-are-whole`: a list that comes out has every index from 0 to its last.
//! Source: QEMU's documented key=value syntax. Differs: depth has a limit ([`MAX_DEPTH`]), because
//! values are walked recursively; keys of the traditional form obey the rules of dotted keys, and nest.

mod key;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::options::ParseError;
use crate::value::{Dict, Shape, Value};
use key::{Fragment, Name};

pub use key::{MAX_DEPTH, MAX_FRAGMENT_LEN};

/// How a text deviates from plain pairs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    DottedKeys,
    QemuOpts,
}

/// Reads dotted keys; the root is always a [`Value::Dict`]. A repeated key takes the last value.
/// With `implied_key`, the first pair may be a value alone: it goes under that key.
///
/// # Errors
/// Every kind of [`ParseError`] but `Json`; those name the whole key.
pub fn parse_keyval(text: &str, implied_key: Option<&str>) -> Result<Value, ParseError> {
    parse_pairs(text, implied_key, Form::DottedKeys)
}

/// Reads the traditional form: as [`parse_keyval`], but `key` alone is `key=on` and `nokey` is `key=off`, and a
/// repeated key is a list of its values, to be read in [`Mode::QemuOpts`](crate::Mode::QemuOpts).
///
/// # Errors
/// As [`parse_keyval`], without `MissingValue`.
pub fn parse_qemu_opts(text: &str, implied_key: Option<&str>) -> Result<Value, ParseError> {
    parse_pairs(text, implied_key, Form::QemuOpts)
}

fn parse_pairs(text: &str, implied_key: Option<&str>, form: Form) -> Result<Value, ParseError> {
    let mut root = Tree::Named(BTreeMap::new(), 0);
    let mut rest = text;
    if let Some(key) = implied_key.filter(|_| starts_with_value(text)) {
        let (value, after) = split_value(text);
        root.put(key, value, form)?;
        rest = after;
    }
    while !rest.is_empty() {
        let (key, value, after) = split_pair(rest, form)?;
        if key.is_empty() {
            return Err(ParseError::EmptyKey { at_bytes: text.len() - rest.len() });
        }
        root.put(key, value, form)?;
        rest = after;
    }
    root.finish("")
}

/// The first pair, whose key may be empty, and what comes after its comma.
fn split_pair(text: &str, form: Form) -> Result<(&str, String, &str), ParseError> {
    let end = text.find(['=', ',']).unwrap_or(text.len());
    let (key, after) = text.split_at(end);
    if let Some(after) = after.strip_prefix('=') {
        let (value, after) = split_value(after);
        return Ok((key, value, after));
    }
    let after = after.strip_prefix(',').unwrap_or(after);
    match (form, key.strip_prefix("no")) {
        (Form::QemuOpts, Some(key)) => Ok((key, "off".into(), after)),
        (Form::QemuOpts, None) => Ok((key, "on".into(), after)),
        (Form::DottedKeys, _) if key.is_empty() => Ok((key, String::new(), after)),
        (Form::DottedKeys, _) => Err(ParseError::MissingValue { key: key.into() }),
    }
}

/// Lays `later` over `earlier`: objects are merged member by member, lists are joined, of two
/// scalars the later wins.
///
/// # Errors
/// [`ParseError::Conflict`]: a key is one shape here and another there.
pub fn merge(earlier: Dict, later: Dict) -> Result<Dict, ParseError> {
    merge_at("", earlier, later)
}

fn merge_at(path: &str, mut merged: Dict, later: Dict) -> Result<Dict, ParseError> {
    for (name, value) in later {
        let Some(old) = merged.get_mut(&name) else {
            merged.insert(name, value);
            continue;
        };
        let key = join(path, &name);
        *old = match (core::mem::take(old), value) {
            (Value::Dict(old), Value::Dict(new)) => Value::Dict(merge_at(&key, old, new)?),
            (Value::List(mut old), Value::List(new)) => {
                old.extend(new);
                Value::List(old)
            }
            (old, new) if old.shape() == new.shape() => new,
            (old, new) => {
                let (earlier, later) = (old.shape(), new.shape());
                return Err(ParseError::Conflict { key, earlier, later });
            }
        };
    }
    Ok(merged)
}

/// Whether the first pair is a value with no key: some text, and a comma or the end before any `=`.
fn starts_with_value(text: &str) -> bool {
    let end = text.find(['=', ',']).unwrap_or(text.len());
    end > 0 && !text[end..].starts_with('=')
}

/// The value up to the next single comma, with `,,` made one; and what comes after that comma.
fn split_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(',') {
        value.push_str(before);
        match after.strip_prefix(',') {
            Some(after) => {
                value.push(',');
                rest = after;
            }
            None => return (value, after),
        }
    }
    value.push_str(rest);
    (value, "")
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}

/// A value under construction: lists may still have gaps. Members carry the order in which they
/// came; the second field counts them. A leaf has one value, or those of a key that was repeated.
enum Tree {
    Leaf(Vec<String>),
    Named(BTreeMap<String, (usize, Tree)>, usize),
    Indexed(BTreeMap<u32, Tree>),
}

impl Tree {
    fn empty(shape: Shape) -> Self {
        match shape {
            Shape::Scalar => Self::Leaf(Vec::new()),
            Shape::List => Self::Indexed(BTreeMap::new()),
            Shape::Dict => Self::Named(BTreeMap::new(), 0),
        }
    }

    fn shape(&self) -> Shape {
        match self {
            Self::Leaf(_) => Shape::Scalar,
            Self::Indexed(_) => Shape::List,
            Self::Named(..) => Shape::Dict,
        }
    }

    /// Puts a value under a key; `self` is the root.
    fn put(&mut self, key: &str, value: String, form: Form) -> Result<(), ParseError> {
        let fragments = key::split(key)?;
        if matches!(fragments.first(), Some(Fragment { name: Name::Index(_), .. })) {
            return Err(ParseError::RootList { key: key.into() });
        }
        let mut node = self;
        for (depth, fragment) in fragments.iter().enumerate() {
            let shape = fragments.get(depth + 1).map_or(Shape::Scalar, |next| next.name.holder());
            node = node.child(&fragment.name, shape);
            if node.shape() != shape {
                let key = key[..fragment.end].into();
                return Err(ParseError::Conflict { key, earlier: node.shape(), later: shape });
            }
        }
        match node {
            Self::Leaf(values) if form == Form::QemuOpts => values.push(value),
            _ => *node = Self::Leaf([value].into()),
        }
        Ok(())
    }

    /// The child under a name, made with this shape if there is none.
    fn child(&mut self, name: &Name<'_>, shape: Shape) -> &mut Self {
        match (self, name) {
            (Self::Named(members, count), Name::Member(name)) => {
                if !members.contains_key(*name) {
                    *count += 1;
                }
                let order = *count;
                let made = || (order, Self::empty(shape));
                &mut members.entry((*name).into()).or_insert_with(made).1
            }
            (Self::Indexed(elements), Name::Index(index)) => {
                elements.entry(*index).or_insert_with(|| Self::empty(shape))
            }
            _ => unreachable!("a node has the shape that holds the next name"),
        }
    }

    /// The value, once every key is in.
    fn finish(self, path: &str) -> Result<Value, ParseError> {
        match self {
            Self::Leaf(values) => {
                let mut values: Vec<Value> = values.into_iter().map(Value::Str).collect();
                let only = (values.len() == 1).then(|| values.pop()).flatten();
                Ok(only.unwrap_or(Value::List(values)))
            }
            Self::Indexed(elements) => {
                let mut values = Vec::with_capacity(elements.len());
                for (expected, (index, element)) in (0..).zip(elements) {
                    let key = format!("{path}.{expected}");
                    if index != expected {
                        return Err(ParseError::Gap { key });
                    }
                    values.push(element.finish(&key)?);
                }
                Ok(Value::List(values))
            }
            Self::Named(members, _) => {
                let mut members: Vec<_> = members.into_iter().collect();
                members.sort_by_key(|(_, (order, _))| *order);
                let mut dict = Dict::new();
                for (name, (_, member)) in members {
                    let value = member.finish(&join(path, &name))?;
                    dict.insert(name, value);
                }
                Ok(Value::Dict(dict))
            }
        }
    }
}
