//! What a command that was refused must not leave behind: the nodes and filters that it was to make.
//!
//! Only nodes that one step of the scenario names are looked for: another may have made a namesake.

use std::collections::BTreeMap;

use blockyard_qmp::{Dict, Value};

use crate::script::Script;
use crate::steps::Step;

/// How often the steps of a scenario define each node.
pub(crate) struct Defined(BTreeMap<String, u32>);

impl Defined {
    pub fn by(script: &Script) -> Self {
        let mut counts = BTreeMap::new();
        script.each_step(&mut |step| {
            if let Step::Execute { arguments, .. } = step {
                for name in names(arguments) {
                    *counts.entry(name.to_string()).or_default() += 1;
                }
            }
        });
        Self(counts)
    }

    /// The nodes that a command with these arguments was to make, and nobody else makes.
    pub fn alone<'a>(&'a self, arguments: &'a Dict) -> impl Iterator<Item = &'a str> {
        names(arguments).into_iter().filter(|name| self.0.get(*name) == Some(&1))
    }
}

/// The nodes that are defined in arguments, at any depth.
fn names(arguments: &Dict) -> Vec<&str> {
    let own = match arguments.contains_key("driver") {
        true => arguments.get("node-name"),
        false => arguments.get("filter-node-name"),
    };
    let mut found: Vec<&str> = own.and_then(Value::as_str).into_iter().collect();
    for (_, value) in arguments.iter() {
        let inside = match value {
            Value::List(items) => &items[..],
            other => core::slice::from_ref(other),
        };
        for value in inside {
            if let Value::Dict(dict) = value {
                found.extend(names(dict));
            }
        }
    }
    found
}
