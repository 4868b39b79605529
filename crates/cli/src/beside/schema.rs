//! Arguments as a scenario has them, strings where numbers and truth values are meant, made into what the peer's own
//! schema asks for; and what it does not know.
//!
//! Source: QEMU's documentation of `query-qmp-schema` (SchemaInfo).

use std::collections::BTreeMap;

use blockyard_qmp::{Dict, Mode, Size, Value, visit};

/// What `query-qmp-schema` returned: types, commands and events by name.
pub(super) struct Schema(BTreeMap<String, Dict>);

fn text<'a>(entry: &'a Dict, key: &str) -> &'a str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(entry: &'a Dict, key: &str) -> impl Iterator<Item = &'a Dict> + use<'a> {
    let list = entry.get(key).and_then(Value::as_list).unwrap_or_default();
    list.iter().filter_map(Value::as_dict)
}

/// The same, one level deeper.
fn at(key: &str, why: &str) -> String {
    if why.starts_with(|c: char| c.is_ascii_lowercase() && !why.starts_with("QEMU"))
        && why.contains(": ")
    {
        return format!("{key}.{why}");
    }
    format!("{key}: {why}")
}

impl Schema {
    pub fn new(reply: &Value) -> Self {
        let entries = reply.as_list().unwrap_or_default().iter().filter_map(Value::as_dict);
        Self(entries.map(|entry| (text(entry, "name").to_string(), entry.clone())).collect())
    }

    /// A command's arguments, typed.
    ///
    /// # Errors
    /// What the peer does not have, or cannot take.
    pub fn typed(&self, command: &str, arguments: &Dict) -> Result<Value, String> {
        let entry = self.0.get(command).filter(|entry| text(entry, "meta-type") == "command");
        let entry = entry.ok_or_else(|| format!("QEMU has no command {command}"))?;
        let typed = self.value(text(entry, "arg-type"), &Value::Dict(arguments.clone()));
        typed.map_err(|why| format!("{command}: {why}"))
    }

    fn value(&self, of: &str, value: &Value) -> Result<Value, String> {
        let none = Dict::new();
        let entry = self.0.get(of).unwrap_or(&none);
        match (text(entry, "meta-type"), value) {
            ("builtin", value) => builtin(text(entry, "json-type"), value),
            ("enum", Value::Str(word)) => {
                let mut words = list(entry, "members").map(|member| text(member, "name"));
                if words.any(|known| known == word) {
                    return Ok(value.clone());
                }
                Err(format!("QEMU has no '{word}'"))
            }
            ("array", Value::List(items)) => {
                let of = text(entry, "element-type");
                let items = items.iter().enumerate().map(|(index, item)| {
                    self.value(of, item).map_err(|why| at(&index.to_string(), &why))
                });
                items.collect::<Result<Vec<_>, _>>().map(Value::List)
            }
            ("object", Value::Dict(members)) => self.object(entry, members).map(Value::Dict),
            ("alternate", value) => {
                let types = list(entry, "members").map(|member| text(member, "type"));
                let tried: Vec<_> = types.map(|of| self.value(of, value)).collect();
                let why = tried
                    .iter()
                    .filter_map(|tried| tried.as_ref().err())
                    .max_by_key(|why| why.len());
                let why = why.cloned().unwrap_or_default();
                tried.iter().find_map(|tried| tried.clone().ok()).ok_or(why)
            }
            _ => Err("QEMU takes something else".into()),
        }
    }

    fn object(&self, entry: &Dict, members: &Dict) -> Result<Dict, String> {
        let tag = members.get(text(entry, "tag")).and_then(Value::as_str);
        let variant = list(entry, "variants").find(|variant| Some(text(variant, "case")) == tag);
        let variant = variant.and_then(|variant| self.0.get(text(variant, "type")));
        let mut known =
            list(entry, "members").chain(variant.into_iter().flat_map(|of| list(of, "members")));
        let mut typed = Dict::new();
        // The tag first: an unknown word says more than that its members are unknown.
        let first = members.iter().filter(|(key, _)| *key == text(entry, "tag"));
        let rest = members.iter().filter(|(key, _)| *key != text(entry, "tag"));
        for (key, value) in first.chain(rest) {
            let mut all = list(entry, "members")
                .chain(variant.into_iter().flat_map(|of| list(of, "members")));
            let of = all.find(|member| text(member, "name") == key);
            let of = of.ok_or_else(|| at(key, "QEMU has no such argument"))?;
            let value = self.value(text(of, "type"), value).map_err(|why| at(key, &why))?;
            typed.insert(key, value);
        }
        let missing = known.find(|member| {
            !member.contains_key("default") && !members.contains_key(text(member, "name"))
        });
        match missing {
            Some(member) => Err(at(text(member, "name"), "QEMU needs it")),
            None => Ok(typed),
        }
    }
}

fn builtin(of: &str, value: &Value) -> Result<Value, String> {
    let wrong = || format!("QEMU takes {of}");
    match (of, value) {
        ("int" | "number", Value::Str(_)) => {
            let size = visit::<Size>(value, Mode::Strings).map_err(|_| wrong())?;
            Ok(Value::from(size.0))
        }
        ("boolean", Value::Str(word)) => match word.as_str() {
            "on" | "yes" | "true" | "y" => Ok(Value::Bool(true)),
            "off" | "no" | "false" | "n" => Ok(Value::Bool(false)),
            _ => Err(wrong()),
        },
        ("int" | "number", Value::Int(_) | Value::Uint(_))
        | ("number", Value::Float(_))
        | ("boolean", Value::Bool(_))
        | ("string", Value::Str(_))
        | ("null", Value::Null)
        | ("value", _) => Ok(value.clone()),
        _ => Err(wrong()),
    }
}
