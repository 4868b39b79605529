//! The value tree: what options are before anybody knows their types.
//!
//! Invariants: `unique-keys`: a [`Dict`] holds each key once; `smallest-integer`: an integer that
//! fits `i64` is [`Value::Int`], so equal numbers are equal values. Not for: text (the parsers),
//! types (the visitor).
//!
//! Differs: JSON numbers are not all floats: `i64`, `u64` and `f64` are kept apart, as block sizes
//! need.

mod reference;
mod serial;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use reference::{Reference, ReferenceOrNull};

/// One value of an option tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing, on purpose; not the same as an absent member.
    #[default]
    Null,
    /// A truth value.
    Bool(bool),
    /// Every integer that fits.
    Int(i64),
    /// Only integers above `i64::MAX`; [`Value::from`] a `u64` keeps to that.
    Uint(u64),
    /// A number written with a fraction or exponent, or an integer outside of `i64` and `u64`. JSON
    /// has no word for infinities and NaN: no parser makes them, and they are displayed as `null`.
    Float(f64),
    /// Text; every leaf that came from dotted keys.
    Str(String),
    /// Values in order.
    List(Vec<Value>),
    /// Members by name.
    Dict(Dict),
}

/// What a value is made of, for errors about values that do not fit together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Neither list nor object.
    Scalar,
    /// A list.
    List,
    /// An object.
    Dict,
}

/// Named members in the order of their first insertion; each name once. Lookups walk: option
/// dictionaries are short. Two are equal if they hold the same members, in any order.
#[derive(Clone, Debug, Default)]
pub struct Dict {
    members: Vec<(String, Value)>,
}

impl Value {
    /// The text, if this is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The number, if this is an integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The number, if this is an integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(number) => u64::try_from(*number).ok(),
            Self::Uint(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements, if this is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(values) => Some(values),
            _ => None,
        }
    }

    /// The members, if this is an object.
    pub fn as_dict(&self) -> Option<&Dict> {
        match self {
            Self::Dict(members) => Some(members),
            _ => None,
        }
    }

    /// The members, if this is an object.
    pub fn into_dict(self) -> Option<Dict> {
        match self {
            Self::Dict(members) => Some(members),
            _ => None,
        }
    }

    /// Whether scalar, list or object.
    pub fn shape(&self) -> Shape {
        match self {
            Self::List(_) => Shape::List,
            Self::Dict(_) => Shape::Dict,
            _ => Shape::Scalar,
        }
    }
}

impl Dict {
    /// No members.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value under a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// The value under a key, to be changed in place.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.members.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Whether there is a value under a key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Puts a value under a key: a new one last, a known one in the place of the old value, which
    /// is returned.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.get_mut(&key) {
            Some(old) => Some(core::mem::replace(old, value)),
            None => {
                self.members.push((key, value));
                None
            }
        }
    }

    /// Takes the value under a key out; the others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let index = self.members.iter().position(|(name, _)| name == key)?;
        Some(self.members.remove(index).1)
    }

    /// Members in order of insertion.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + DoubleEndedIterator {
        self.members.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl PartialEq for Dict {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl IntoIterator for Dict {
    type Item = (String, Value);
    type IntoIter = alloc::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.into_iter()
    }
}

/// Later members replace earlier ones of the same name.
impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Dict {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> Self {
        let mut dict = Self::new();
        for (key, value) in members {
            dict.insert(key, value);
        }
        dict
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "a value",
            Self::List => "a list",
            Self::Dict => "an object",
        })
    }
}

macro_rules! from {
    ($($type:ty => |$value:ident| $build:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $build
            }
        }
    )*};
}

from! {
    bool => |flag| Self::Bool(flag);
    i64 => |number| Self::Int(number);
    u64 => |number| i64::try_from(number).map_or(Self::Uint(number), Self::Int);
    f64 => |number| Self::Float(number);
    &str => |text| Self::Str(text.into());
    String => |text| Self::Str(text);
    Vec<Value> => |values| Self::List(values);
    Dict => |members| Self::Dict(members);
}
