//! Edits of a large graph, and what nodes weigh that do nothing.

use crate::common::figure::{Absent, Row, Target, Unit};
use crate::common::layer::Layer;
use crate::common::machine::{processor_s, resident_kib};
use crate::common::qemu::Daemon;

const NODES: usize = 2000;
const STACK: usize = 200;
const EDITS: usize = 500;

/// Who takes commands, and what they cost.
trait Commands {
    fn execute(&mut self, command: &str, arguments: &mut dyn Iterator<Item = String>);
    fn processor_s(&self) -> f64;
    fn resident_kib(&self) -> f64;
}

impl Commands for Layer {
    fn execute(&mut self, command: &str, arguments: &mut dyn Iterator<Item = String>) {
        Layer::execute(self, command, arguments);
    }

    fn processor_s(&self) -> f64 {
        processor_s()
    }

    fn resident_kib(&self) -> f64 {
        resident_kib(std::process::id())
    }
}

impl Commands for Daemon {
    fn execute(&mut self, command: &str, arguments: &mut dyn Iterator<Item = String>) {
        Daemon::execute(self, command, arguments);
    }

    fn processor_s(&self) -> f64 {
        Daemon::processor_s(self)
    }

    fn resident_kib(&self) -> f64 {
        Daemon::resident_kib(self)
    }
}

fn null(name: &str) -> String {
    format!(r#"{{"driver": "null-co", "node-name": "{name}", "size": 65536}}"#)
}

fn raw(name: &str, file: &str) -> String {
    format!(r#"{{"driver": "raw", "node-name": "{name}", "file": "{file}"}}"#)
}

fn add_nodes(to: &mut dyn Commands) {
    to.execute("blockdev-add", &mut (0..NODES).map(|index| null(&format!("node{index}"))));
}

/// A node more and a node less, among 2,000.
fn pair_us(mut to: impl Commands) -> f64 {
    add_nodes(&mut to);
    let began_s = to.processor_s();
    for _ in 0..EDITS {
        to.execute("blockdev-add", &mut [null("more")].into_iter());
        let named = String::from(r#"{"node-name": "more"}"#);
        to.execute("blockdev-del", &mut [named].into_iter());
    }
    (to.processor_s() - began_s) * 1e6 / EDITS as f64
}

/// An edge that leads to another node, among 2,000.
fn replace_us(mut to: impl Commands) -> f64 {
    add_nodes(&mut to);
    to.execute("blockdev-add", &mut [raw("top", "node0")].into_iter());
    let began_s = to.processor_s();
    let reopened = |index| {
        let options = raw("top", if index % 2 == 0 { "node1" } else { "node0" });
        format!(r#"{{"options": [{options}]}}"#)
    };
    to.execute("blockdev-reopen", &mut (0..EDITS).map(reopened));
    (to.processor_s() - began_s) * 1e6 / EDITS as f64
}

/// A node on a node on a node, one command each.
fn stack_s(mut to: impl Commands) -> f64 {
    to.execute("blockdev-add", &mut [null("node0")].into_iter());
    let began_s = to.processor_s();
    let on_top = |index: usize| raw(&format!("node{index}"), &format!("node{}", index - 1));
    to.execute("blockdev-add", &mut (1..=STACK).map(on_top));
    to.processor_s() - began_s
}

fn node_kib(mut to: impl Commands) -> f64 {
    // The first one brings what all have in common.
    to.execute("blockdev-add", &mut [null("first")].into_iter());
    let before = to.resident_kib();
    add_nodes(&mut to);
    (to.resident_kib() - before) / NODES as f64
}

fn daemon() -> Result<Daemon, Absent> {
    Daemon::start()
}

pub const ROWS: &[Row] = &[
    Row {
        name: "edit-pair",
        what: "blockdev-add and -del among 2,000 nodes: processor time",
        unit: Unit::Microseconds,
        target: Target::AtMost(100.0),
        qemu: || Ok(pair_us(daemon()?)),
        ours: || Ok(pair_us(Layer::new())),
    },
    Row {
        name: "edit-replace",
        what: "blockdev-reopen with another child among 2,000 nodes",
        unit: Unit::Microseconds,
        target: Target::AtMost(100.0),
        qemu: || Ok(replace_us(daemon()?)),
        ours: || Ok(replace_us(Layer::new())),
    },
    Row {
        name: "stack",
        what: "a stack of 200 raw nodes, added one by one",
        unit: Unit::Seconds,
        target: Target::AtMost(0.05),
        qemu: || Ok(stack_s(daemon()?)),
        ours: || Ok(stack_s(Layer::new())),
    },
    Row {
        name: "node-memory",
        what: "resident size of an idle node, of 2,000",
        unit: Unit::Kib,
        target: Target::AtMost(4.0),
        qemu: || Ok(node_kib(daemon()?)),
        ours: || Ok(node_kib(Layer::new())),
    },
];
