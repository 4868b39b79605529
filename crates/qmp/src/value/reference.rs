//! Members that either name a thing that exists or define one in place.
//!
//! Source: QMP's documented alternates of block devices: told apart by the kind of value alone, a
//! string or an object. The definition stays untyped, to be visited once its driver is known.

use alloc::string::String;
use core::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use super::serial::DictVisitor;
use super::{Dict, Value};

/// A string is the name of what exists; an object defines it in place.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference {
    /// The name of an existing thing; not checked, but not empty.
    Name(String),
    /// What to create; the mode in which it came is not kept here.
    Definition(Dict),
}

/// As [`Reference`], or a deliberate nothing: JSON's `null`, or the empty string for dotted keys,
/// which have no `null`. An absent member is `None` of `Option<ReferenceOrNull>`.
#[derive(Clone, Debug, PartialEq)]
pub enum ReferenceOrNull {
    /// Nothing here, even where there is a default.
    Null,
    /// Something.
    Reference(Reference),
}

impl From<Reference> for Value {
    fn from(reference: Reference) -> Self {
        match reference {
            Reference::Name(name) => Self::Str(name),
            Reference::Definition(members) => Self::Dict(members),
        }
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReferenceVisitor)
    }
}

impl<'de> Deserialize<'de> for ReferenceOrNull {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReferenceOrNullVisitor)
    }
}

struct ReferenceVisitor;

impl<'de> Visitor<'de> for ReferenceVisitor {
    type Value = Reference;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or an object")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Reference, E> {
        if name.is_empty() {
            return Err(E::invalid_value(de::Unexpected::Str(name), &self));
        }
        Ok(Reference::Name(name.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Reference, A::Error> {
        DictVisitor.visit_map(members).map(Reference::Definition)
    }
}

struct ReferenceOrNullVisitor;

impl<'de> Visitor<'de> for ReferenceOrNullVisitor {
    type Value = ReferenceOrNull;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, an object or null")
    }

    fn visit_unit<E: de::Error>(self) -> Result<ReferenceOrNull, E> {
        Ok(ReferenceOrNull::Null)
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<ReferenceOrNull, E> {
        Ok(match name {
            "" => ReferenceOrNull::Null,
            _ => ReferenceOrNull::Reference(Reference::Name(name.into())),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<ReferenceOrNull, A::Error> {
        ReferenceVisitor.visit_map(members).map(ReferenceOrNull::Reference)
    }
}
