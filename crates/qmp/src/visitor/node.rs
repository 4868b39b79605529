//! One subtree as a serde deserializer: which kind of value does for which type.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};

use super::access::{Elements, Members, Variant};
use super::error::{self, Problem, VisitError};
use super::ranges::{RANGES_NAME, parse_ranges};
use super::{Mode, scalar};
use crate::value::Value;

/// A subtree and how to read it.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) value: &'a Value,
    pub(super) mode: Mode,
}

impl<'a> Node<'a> {
    /// What stands here where one value is wanted: of a repeated key the last.
    fn one(self) -> Self {
        match (self.mode, self.value) {
            (Mode::QemuOpts, Value::List(values)) => {
                Self { value: values.last().unwrap_or(self.value), ..self }
            }
            _ => self,
        }
    }

    /// The text, if strings are to be converted and this is one.
    fn convertible(self) -> Option<&'a str> {
        self.value.as_str().filter(|_| self.mode != Mode::Strict)
    }

    fn expected(self, what: impl Into<String>) -> VisitError {
        Problem::Expected { expected: what.into(), found: error::describe(self.value) }.into()
    }

    fn boolean(self) -> Result<bool, VisitError> {
        match self.convertible() {
            Some(text) => scalar::parse_bool(text)
                .ok_or_else(|| self.expected("on, off, yes, no, true or false")),
            None => self.value.as_bool().ok_or_else(|| self.expected("true or false")),
        }
    }

    /// A whole number in a range, which is that of `T`.
    fn integer<T: TryFrom<i128>>(self, min: i128, max: i128) -> Result<T, VisitError> {
        let number = match (self.value, self.convertible()) {
            (Value::Int(number), _) => Ok(i128::from(*number)),
            (Value::Uint(number), _) => Ok(i128::from(*number)),
            (Value::Float(_), _) => Err("a whole number"),
            (_, Some(text)) => scalar::parse_integer(text),
            _ => Err("a number"),
        };
        let number = number.map_err(|expected| self.expected(expected))?;
        let out_of_range = |_| self.expected(format!("a number from {min} to {max}"));
        T::try_from(number).map_err(out_of_range)
    }

    fn float(self) -> Result<f64, VisitError> {
        match (self.value, self.convertible()) {
            (Value::Int(number), _) => Some(*number as f64),
            (Value::Uint(number), _) => Some(*number as f64),
            (Value::Float(number), _) => Some(*number),
            (_, Some(text)) => scalar::parse_float(text),
            _ => None,
        }
        .ok_or_else(|| self.expected("a number"))
    }

    /// A size in bytes.
    fn size(self) -> Result<u64, VisitError> {
        match self.convertible() {
            Some(text) => scalar::parse_size(text).map_err(|expected| self.expected(expected)),
            None => self.integer(0, i128::from(u64::MAX)),
        }
    }

    fn text(self) -> Result<&'a str, VisitError> {
        self.value.as_str().ok_or_else(|| self.expected("a string"))
    }

    fn elements(self) -> Result<&'a [Value], VisitError> {
        match (self.mode, self.value) {
            (_, Value::List(values)) => Ok(values),
            (Mode::QemuOpts, Value::Str(_)) => Ok(core::slice::from_ref(self.value)),
            _ => Err(self.expected("a list")),
        }
    }

    /// Numbers, from texts also as ranges.
    fn ranges(self) -> Result<Vec<u64>, VisitError> {
        let mut numbers = Vec::new();
        if let Some(text) = self.convertible() {
            parse_ranges(text, &mut numbers).map_err(|expected| self.expected(expected))?;
            return Ok(numbers);
        }
        for (index, value) in self.elements()?.iter().enumerate() {
            let element = Self { value, ..self };
            let added = match element.convertible() {
                Some(text) => {
                    parse_ranges(text, &mut numbers).map_err(|expected| element.expected(expected))
                }
                None => element.integer(0, i128::from(u64::MAX)).map(|number| numbers.push(number)),
            };
            added.map_err(|error| error.within(index))?;
        }
        Ok(numbers)
    }
}

macro_rules! integers {
    ($($deserialize:ident $visit:ident $type:ty;)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
            visitor.$visit(self.one().integer(<$type>::MIN.into(), <$type>::MAX.into())?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = VisitError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Int(number) => visitor.visit_i64(*number),
            Value::Uint(number) => visitor.visit_u64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Str(text) => visitor.visit_borrowed_str(text),
            Value::List(values) => visitor.visit_seq(Elements::new(values, self.mode)),
            Value::Dict(members) => visitor.visit_map(Members::new(members, self.mode)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        visitor.visit_bool(self.one().boolean()?)
    }

    integers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        visitor.visit_f64(self.one().float()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        visitor.visit_borrowed_str(self.one().text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        self.deserialize_str(visitor)
    }

    /// What is there is something, even `null`: only the inner type knows whether it takes that.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            _ => Err(self.expected("null")),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, VisitError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, VisitError> {
        match name {
            scalar::SIZE_NAME => visitor.visit_u64(self.one().size()?),
            RANGES_NAME => visitor.visit_seq(SeqDeserializer::new(self.ranges()?.into_iter())),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        visitor.visit_seq(Elements::new(self.elements()?, self.mode))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, VisitError> {
        match self.value.as_list() {
            Some(values) if values.len() != len => Err(Problem::Expected {
                expected: format!("{len} elements"),
                found: format!("{}", values.len()),
            }
            .into()),
            _ => self.deserialize_seq(visitor),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, VisitError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        let members = self.value.as_dict().ok_or_else(|| self.expected("an object"))?;
        visitor.visit_map(Members::new(members, self.mode))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, VisitError> {
        let members = self.value.as_dict().ok_or_else(|| self.expected("an object"))?;
        if let Some((key, _)) = members.iter().find(|(key, _)| !fields.contains(key)) {
            return Err(VisitError::from(Problem::Unexpected { known: fields }).within(key));
        }
        visitor.visit_map(Members::new(members, self.mode))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, VisitError> {
        match self.one().value {
            Value::Str(text) => {
                let unit: StrDeserializer<'_, VisitError> = text.as_str().into_deserializer();
                visitor.visit_enum(unit)
            }
            Value::Dict(members) if members.len() == 1 => {
                visitor.visit_enum(Variant::new(members, self.mode))
            }
            _ => Err(self.expected(error::one_of(variants))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { i128 u128 bytes byte_buf }
}
