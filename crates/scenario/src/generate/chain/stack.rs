//! What stands between a chain and its device: nodes that pass the disk on, or keep it more than once.

use serde_json::{Value, json};

use super::ChainPlan;
use super::render::{DEVICE, Image};
use crate::generate::Alignment;
use crate::generate::Filter;
use crate::generate::render::{Parts, attempt, execute};

/// A node of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackNode {
    /// One that passes requests on.
    Filter(Filter),
    /// A quorum of what is below and as many disks of their own; all but one have to agree. So if one request fails,
    /// what can be read still can.
    Quorum {
        /// Disks; at least two.
        copies: usize,
        /// The first child that does not fail is believed.
        fifo: bool,
    },
}

impl StackNode {
    fn copies(self) -> usize {
        match self {
            Self::Filter(_) => 0,
            Self::Quorum { copies, .. } => copies.max(2),
        }
    }

    /// Its options over `below`, and its disks.
    fn options(self, name: &str, below: &str, disks: &[String]) -> Value {
        match self {
            Self::Filter(filter) => {
                let mut options = filter.options(name);
                options[filter.child()] = json!(below);
                options
            }
            Self::Quorum { fifo, .. } => {
                let children: Vec<&str> =
                    [below].into_iter().chain(disks.iter().map(String::as_str)).collect();
                let pattern = if fifo { "fifo" } else { "quorum" };
                json!({ "driver": "quorum", "node-name": name, "children": children,
                        "vote-threshold": children.len() - 1, "read-pattern": pattern })
            }
        }
    }
}

fn node(index: usize) -> String {
    format!("f{index}")
}

impl ChainPlan {
    /// Whether the chain's disk is to be the same as others, which begin with nothing.
    pub(super) fn has_copies(&self) -> bool {
        self.stack.iter().any(|node| node.copies() > 0)
    }

    fn disks(&self, index: usize) -> Vec<String> {
        (0..self.stack[index].copies()).map(|copy| format!("f{index}c{copy}")).collect()
    }

    /// Puts the nodes above the lowest disk; the name of the highest.
    pub(super) fn stack(&self, parts: &mut Parts) -> String {
        let mut below = String::from("l0");
        for (index, stacked) in self.stack.iter().enumerate() {
            let (name, disks) = (node(index), self.disks(index));
            for disk in &disks {
                let size = json!({ "size": self.len() });
                parts.disk(disk, Alignment::Byte, size);
            }
            let options = stacked.options(&name, &below, &disks);
            parts.setup.push(execute("blockdev-add", options));
            below = name;
        }
        below
    }

    /// Takes a copy from a quorum, if there is one.
    pub(super) fn remove_copy(&self, quorum: usize) -> Option<Value> {
        let copies = self.stack.iter().map(|node| node.copies()).enumerate();
        let quorums: Vec<(usize, usize)> = copies.filter(|(_, copies)| *copies > 0).collect();
        if quorums.is_empty() || self.faults > 0 {
            return None;
        }
        let (index, copies) = quorums[quorum % quorums.len()];
        let arguments = json!({ "parent": node(index), "child": format!("children.{copies}") });
        Some(attempt("x-blockdev-change", arguments))
    }

    /// Puts an overlay above the chain, below the stack, and one above each other disk.
    pub(super) fn snapshot_below(&self, parts: &mut Parts, name: &str, large: bool) -> [Value; 2] {
        // Of the highest node the chain is the first child, and its own disks come last.
        let copies: usize = self.stack.iter().map(|node| node.copies()).sum();
        let others = (0..copies).map(|copy| format!("{name}c{copy}"));
        let overlays: Vec<String> = [name.to_string()].into_iter().chain(others).collect();
        let mut last = Value::Null;
        for name in &overlays {
            let image = Image { name, len: self.len(), large, below: None };
            let options = image.make(parts, json!(null));
            if name == overlays.last().unwrap_or(name) {
                last = attempt("blockdev-add", options);
            } else {
                parts.setup.push(execute("blockdev-add", options));
            }
        }
        let arguments = json!({ "node": DEVICE, "overlays": overlays });
        [last, attempt("x-blockdev-snapshot-stack", arguments)]
    }
}
