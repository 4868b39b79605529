//! What stands between a chain and its device: nodes that pass the disk on, or keep it more than once.

use serde_json::{Value, json};

use super::ChainPlan;
use super::render::{DEVICE, Image};
use crate::generate::Alignment;
use crate::generate::Filter;
use crate::generate::render::{Parts, SECTOR, attempt, execute};

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
    /// One that has the highest image of the chain compress, where only filters are below it.
    Compress,
    /// One that encrypts.
    Luks,
    /// One that compares what is below with a disk of its own, where no request fails: after that the two differ.
    Blkverify,
    /// One that writes down what is written.
    Blklogwrites,
    /// One that allocates ahead.
    Preallocate,
}

impl StackNode {
    fn copies(self) -> usize {
        if let Self::Quorum { copies, .. } = self { copies.max(2) } else { 0 }
    }

    /// How many disks it has for itself.
    fn disks(self) -> usize {
        self.copies()
            + usize::from(matches!(self, Self::Luks | Self::Blkverify | Self::Blklogwrites))
    }

    /// Whether what is below it can compress what is written above it.
    fn passes_compressed(self) -> bool {
        matches!(self, Self::Filter(_) | Self::Compress | Self::Blklogwrites)
    }

    /// The name of the child whose disk it shows.
    fn child(self) -> &'static str {
        match self {
            Self::Filter(filter) => filter.child(),
            Self::Quorum { .. } => "children.0",
            Self::Compress | Self::Luks | Self::Blklogwrites | Self::Preallocate => "file",
            Self::Blkverify => "raw",
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
            Self::Compress => {
                json!({ "driver": "compress", "node-name": name, "discard": "unmap" })
            }
            Self::Luks => json!({ "driver": "luks", "node-name": name, "file": below,
                                  "header": disks[0], "key-secret": KEY }),
            Self::Blkverify => json!({ "driver": "blkverify", "node-name": name, "raw": below,
                                       "test": disks[0] }),
            Self::Blklogwrites => {
                json!({ "driver": "blklogwrites", "node-name": name, "file": below,
                        "log": disks[0], "log-super-update-interval": 2 })
            }
            Self::Preallocate => {
                json!({ "driver": "preallocate", "node-name": name, "file": below,
                        "prealloc-size": SECTOR, "prealloc-align": SECTOR, "discard": "unmap" })
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

/// The secret of those that encrypt.
const KEY: &str = "key";
const PASSPHRASE: &str = "open";

/// Bytes of the longest log.
const LOG: u64 = 1 << 20;

fn node(index: usize) -> String {
    format!("f{index}")
}

impl ChainPlan {
    /// Whether what the chain begins with is not what the device is to show: it is the same as other disks, which
    /// begin with nothing, or noise.
    pub(super) fn begins_with_nothing(&self) -> bool {
        self.stack.iter().any(|node| {
            matches!(node, StackNode::Quorum { .. } | StackNode::Luks | StackNode::Blkverify)
        })
    }

    /// The nodes that are there from the beginning, from below.
    fn first_nodes(&self) -> impl Iterator<Item = (usize, StackNode)> {
        let verifies = self.faults == 0;
        let nodes = self.stack.iter().copied().enumerate();
        nodes.filter(move |(_, node)| match node {
            StackNode::Compress => false,
            StackNode::Blkverify => verifies,
            _ => true,
        })
    }

    /// Puts the nodes above the lowest disk, but for those that need an image there; the name of the highest.
    pub(super) fn stack(&self, parts: &mut Parts) -> String {
        let mut below = String::from("l0");
        if self.stack.contains(&StackNode::Luks) {
            let secret = json!({ "qom-type": "secret", "id": KEY, "data": PASSPHRASE });
            parts.setup.push(execute("object-add", secret));
        }
        for (index, stacked) in self.first_nodes() {
            let (name, size) = (node(index), json!({ "size": self.len() }));
            let disk = match stacked {
                StackNode::Luks => json!({ "luks": { "passphrase": PASSPHRASE } }),
                StackNode::Blklogwrites => json!({ "size": SECTOR, "capacity": LOG }),
                _ => size,
            };
            let disks: Vec<String> =
                (0..stacked.disks()).map(|disk| format!("{name}c{disk}")).collect();
            for name in &disks {
                parts.disk(name, Alignment::Byte, disk.clone());
            }
            let options = stacked.options(&name, &below, &disks);
            parts.setup.push(execute("blockdev-add", options));
            below = name;
        }
        below
    }

    /// What makes the device show nothing, where it would show noise.
    pub(super) fn blank(&self) -> Option<Value> {
        let place = json!({ "device": DEVICE, "offset": 0, "length": self.len() });
        self.stack.contains(&StackNode::Luks).then(|| json!({ "write-zeroes": place }))
    }

    /// Puts those in that have an image below them compress.
    pub(super) fn compress(&self, parts: &mut Parts) {
        for (index, stacked) in self.stack.iter().enumerate() {
            if *stacked != StackNode::Compress {
                continue;
            }
            let passes_on = self.stack[..index].iter().all(|node| node.passes_compressed());
            if self.layers.is_empty() || !passes_on {
                return;
            }
            let above = self.first_nodes().find(|(above, _)| *above > index);
            let (parent, child) = match above {
                Some((above, stacked)) => (node(above), stacked.child()),
                None => (DEVICE.into(), "root"),
            };
            let new = StackNode::Compress.options(&node(index), "", &[]);
            let arguments = json!({ "parent": parent, "child": child, "new": new });
            parts.setup.push(execute("x-blockdev-replace-child", arguments));
        }
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
