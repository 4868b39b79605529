//! The ways from a node to its children; each puts the child's key in front of the child's error.

use alloc::format;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::Mode;
use super::error::{Problem, VisitError, describe};
use super::node::Node;
use crate::value::{Dict, Value};

/// The elements of a list.
pub(super) struct Elements<'a> {
    values: &'a [Value],
    next_index: usize,
    mode: Mode,
}

impl<'a> Elements<'a> {
    pub(super) fn new(values: &'a [Value], mode: Mode) -> Self {
        Self { values, next_index: 0, mode }
    }
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = VisitError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, VisitError> {
        let index = self.next_index;
        let Some(value) = self.values.get(index) else { return Ok(None) };
        self.next_index += 1;
        let element = seed.deserialize(Node { value, mode: self.mode });
        element.map(Some).map_err(|error| error.within(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len() - self.next_index)
    }
}

/// The members of an object.
pub(super) struct Members<'a, I> {
    rest: I,
    /// Whose key has been handed out and whose value has not.
    current: Option<(&'a str, &'a Value)>,
    mode: Mode,
}

impl<'a> Members<'a, ()> {
    pub(super) fn new(
        members: &'a Dict,
        mode: Mode,
    ) -> Members<'a, impl ExactSizeIterator<Item = (&'a str, &'a Value)>> {
        Members { rest: members.iter(), current: None, mode }
    }
}

impl<'de, I: ExactSizeIterator<Item = (&'de str, &'de Value)>> MapAccess<'de> for Members<'de, I> {
    type Error = VisitError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, VisitError> {
        self.current = self.rest.next();
        let Some((key, _)) = self.current else { return Ok(None) };
        let name: StrDeserializer<'_, VisitError> = key.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, VisitError> {
        let (key, value) = self.current.take().expect("serde asks for a key before its value");
        seed.deserialize(Node { value, mode: self.mode }).map_err(|error| error.within(key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A variant with contents: an object of one member.
pub(super) struct Variant<'a> {
    name: &'a str,
    content: Node<'a>,
}

impl<'a> Variant<'a> {
    /// The only member of `members`.
    pub(super) fn new(members: &'a Dict, mode: Mode) -> Self {
        let (name, value) = members.iter().next().expect("a variant is an object of one member");
        Self { name, content: Node { value, mode } }
    }
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = VisitError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), VisitError> {
        let name: StrDeserializer<'_, VisitError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = VisitError;

    fn unit_variant(self) -> Result<(), VisitError> {
        let found = describe(self.content.value);
        let expected = format!("'{}' alone", self.name);
        Err(VisitError::from(Problem::Expected { expected, found }).within(self.name))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, VisitError> {
        seed.deserialize(self.content).map_err(|error| error.within(self.name))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, VisitError> {
        let content = self.content.deserialize_tuple(len, visitor);
        content.map_err(|error| error.within(self.name))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, VisitError> {
        let content = self.content.deserialize_struct("", fields, visitor);
        content.map_err(|error| error.within(self.name))
    }
}

/// A member that is not there: `None` for who asks for an option, missing for the others.
pub(super) struct Absent {
    pub(super) key: &'static str,
}

impl<'de> Deserializer<'de> for Absent {
    type Error = VisitError;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, VisitError> {
        Err(VisitError::missing_field(self.key))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, VisitError> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
