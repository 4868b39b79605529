//! `blockdev-reopen`: gives nodes all of their options anew, all the nodes of a list or none.
//!
//! `read-only`, `auto-read-only`, `discard` and `detect-zeroes` may change, and so may the `limits` of a throttle, its
//! `throttle-group` and the nodes that are `file` and `backing`; by that filters are put in, taken out and replaced.
//! All other options must be as they were. The list becomes one edit, judged once on the final graph, in one drained
//! section; a `file` node's driver opens its disk anew when it prepares. What becomes read-only is written out before,
//! and what becomes writable and cannot be made ready for it stays read-only, and so does the list.
//!
//! Source: QEMU's documented blockdev-reopen.
//! Differs: a child is named, not defined in place, and never left out; it changes only if the edge leads where it
//! led when the command began.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use blockyard_block::{BlockError, Plan};
use blockyard_drivers::{Quorum, child_edges};
use blockyard_graph::{Edit, Graph, Parent};
use blockyard_jobs::Job;
use blockyard_units::NodeId;
use serde::Deserialize;

use crate::blockdev::{Blockdev, Child, General, Kind};
use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::nodes::node_named;
use crate::throttling::changes;
use crate::transaction::Action;
use crate::value::Dict;
use crate::visitor::Mode;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct BlockdevReopen {
    options: Vec<Dict>,
}

/// The options of a node that its driver was made with, by name.
pub(crate) type DriverOptions = BTreeMap<&'static str, String>;

/// A list of nodes that may be reopened.
pub(crate) struct Reopening(Vec<Node>);

struct Node {
    id: NodeId,
    general: General,
    /// Those of its driver, and what the driver is to be told of them, if any change.
    options: DriverOptions,
    changes: Option<Arc<dyn Any + Send + Sync>>,
    children: Vec<Change>,
}

/// Where an edge of a node led when the command began, and where it is to lead.
struct Change {
    name: &'static str,
    from: Option<NodeId>,
    to: Option<NodeId>,
}

impl Blockdev {
    /// What its driver is made with.
    pub fn driver_options(&self) -> DriverOptions {
        let mut driver_options = self.kind.driver_options();
        let force_share = if self.general.options.force_share { "on" } else { "off" };
        driver_options.insert("force-share", force_share.into());
        driver_options
    }
}

impl Kind {
    fn driver_options(&self) -> DriverOptions {
        let number = |name, number: &u64| (name, number.to_string());
        let size = |size: Option<u64>| size.map_or_else(String::new, |size| size.to_string());
        match self {
            Self::Blkdebug { rules, .. } => [("rules", format!("{rules:?}"))].into(),
            Self::CopyOnRead { bottom, .. } => {
                [("bottom", bottom.clone().unwrap_or_default())].into()
            }
            Self::File { filename, locking, cache, aio } => {
                let on_off = |on: bool| String::from(if on { "on" } else { "off" });
                let locking = if *locking { "auto" } else { "off" };
                let aio = aio.map_or_else(String::new, |aio| aio.word().into());
                [
                    ("filename", filename.clone()),
                    ("locking", locking.into()),
                    ("cache.direct", on_off(cache.direct)),
                    ("cache.no-flush", on_off(cache.no_flush)),
                    ("aio", aio),
                ]
                .into()
            }
            Self::Luks { key_secret, .. } => [("key-secret", key_secret.clone())].into(),
            Self::Memory { size } | Self::Null { size } => [number("size", size)].into(),
            Self::Overlay { size, cluster_size, .. } => {
                let size = size.map_or_else(String::new, |size| size.to_string());
                [("size", size), number("cluster-size", cluster_size)].into()
            }
            Self::Qcow2 { caches, checks, key_secret, .. } => [
                ("encrypt.key-secret", key_secret.clone().unwrap_or_default()),
                ("cache-size", size(caches.all)),
                ("l2-cache-size", size(caches.l2)),
                ("l2-cache-entry-size", size(caches.l2_entry)),
                ("refcount-cache-size", size(caches.refcount)),
                number("cache-clean-interval", &caches.clean_interval),
                ("overlap-check", format!("{checks:?}")),
            ]
            .into(),
            Self::Blklogwrites { options, .. } => [("options", format!("{options:?}"))].into(),
            Self::Quorum { options, .. } => [("options", format!("{options:?}"))].into(),
            Self::Blkverify { .. }
            | Self::Compress { .. }
            | Self::Dedup { .. }
            | Self::Preallocate { .. }
            | Self::Raw { .. }
            | Self::SnapshotAccess { .. } => DriverOptions::new(),
            Self::Throttle { held, .. } => held.driver_options(),
        }
    }

    /// What its driver takes when it is reopened.
    fn changeable(
        &self,
        monitor: &Monitor,
    ) -> Result<Option<Arc<dyn Any + Send + Sync>>, QmpError> {
        Ok(match self {
            Self::Preallocate { options, .. } => Some(Arc::new(*options)),
            Self::Throttle { held, .. } => Some(Arc::new(monitor.throttling(held)?)),
            _ => None,
        })
    }

    /// The children, by name; none where there is to be none.
    fn children(&self) -> Vec<(&'static str, Option<&Child>)> {
        match self {
            Self::File { .. } | Self::Memory { .. } | Self::Null { .. } => Vec::new(),
            Self::Blkdebug { image, .. } => [("image", Some(image))].into(),
            Self::Dedup { metadata, data } => {
                [("metadata", Some(metadata)), ("data", Some(data))].into()
            }
            Self::Blklogwrites { file, log, .. } => {
                [("file", Some(file)), ("log", Some(log))].into()
            }
            Self::Blkverify { raw, test } => [("raw", Some(raw)), ("test", Some(test))].into(),
            Self::Luks { file, header: Child::LeftOut, .. } => [("file", Some(file))].into(),
            Self::Luks { file, header, .. } => {
                [("file", Some(file)), ("header", Some(header))].into()
            }
            Self::Overlay { backing, .. } => [("backing", backing.as_ref())].into(),
            Self::Qcow2 { file, data_file, backing, .. } => {
                let data_file = ("data-file", Some(data_file));
                [("file", Some(file)), data_file, ("backing", backing.as_ref())].into()
            }
            Self::Quorum { children, .. } => {
                Quorum::CHILDREN.into_iter().zip(children.iter().map(Some)).collect()
            }
            Self::Compress { file }
            | Self::CopyOnRead { file, .. }
            | Self::Preallocate { file, .. }
            | Self::Raw { file }
            | Self::SnapshotAccess { file }
            | Self::Throttle { file, .. } => [("file", Some(file))].into(),
        }
    }
}

impl BlockdevReopen {
    /// Checks the options as far as that goes without a layer.
    pub fn check(&self, mode: Mode) -> Result<(), QmpError> {
        self.parsed(mode).map(drop)
    }

    fn parsed(&self, mode: Mode) -> Result<Vec<Blockdev>, QmpError> {
        let parse = |(index, options): (usize, &Dict)| {
            let parsed = Blockdev::parse(options.clone(), mode);
            Ok(parsed.map_err(|error| error.within(index).within("options"))?)
        };
        self.options.iter().enumerate().map(parse).collect()
    }
}

impl Monitor {
    pub(crate) fn reopening(
        &self,
        arguments: &BlockdevReopen,
        mode: Mode,
    ) -> Result<Reopening, QmpError> {
        let graph = self.layer().graph();
        let mut nodes: Vec<Node> = Vec::new();
        for (index, options) in arguments.parsed(mode)?.iter().enumerate() {
            let within = |error: QmpError| error.within(&format!("options.{index}"));
            let node = self.reopened(options, &graph).map_err(within)?;
            if nodes.iter().any(|other| other.id == node.id) {
                return Err(within(QmpError::generic("the node is in the list already")));
            }
            nodes.push(node);
        }
        Ok(Reopening(nodes))
    }

    fn reopened(&self, options: &Blockdev, graph: &Graph) -> Result<Node, QmpError> {
        let missing = || QmpError::generic("node-name: missing");
        let name = options.name.as_ref().ok_or_else(missing)?;
        let id = node_named(graph, name)?;
        let driver = graph.node(id).map_or("", |node| node.driver);
        let Some(driver_options) = self.driver_options(id) else {
            let message = format!("node '{name}' was not made by a command that gave its options");
            return Err(QmpError::generic(message));
        };
        let cannot = |option: &str, from: &str, to: &str| {
            let what = format!("{option}: node '{name}' cannot change it from '{from}' to '{to}'");
            Err(QmpError::generic(what))
        };
        if driver != options.driver {
            return cannot("driver", driver, options.driver);
        }
        let told = options.driver_options();
        for (option, to) in &told {
            let from = driver_options.get(option).map_or("", String::as_str);
            if from != to && !changes(option) {
                return cannot(option, from, to);
            }
        }
        let changes = match told == driver_options {
            true => None,
            false => options.kind.changeable(self)?,
        };
        let change = |(name, child): (&'static str, Option<&Child>)| {
            let from = graph.child(Parent::Node(id), name);
            let to = match child {
                None => None,
                Some(Child::LeftOut) if from.is_none() => None,
                Some(child) => wanted(graph, name, child)?,
            };
            Ok(Change { name, from, to })
        };
        let children = options.kind.children().into_iter().map(change);
        let children = children.collect::<Result<_, QmpError>>()?;
        Ok(Node { id, general: options.general, options: told, changes, children })
    }
}

fn wanted(graph: &Graph, name: &str, child: &Child) -> Result<Option<NodeId>, QmpError> {
    match child {
        Child::Named(node) => Ok(Some(node_named(graph, node)?)),
        Child::Defined(_) => {
            Err(QmpError::generic(format!("{name}: the name of a node is needed here")))
        }
        Child::LeftOut => Err(QmpError::generic(format!("{name}: missing"))),
    }
}

impl Node {
    fn plan(&self, graph: &Graph, edits: &mut Vec<Edit>) -> Result<(), BlockError> {
        let gone = || BlockError::NotFound("a node that was to be reopened is gone".into());
        let node = graph.node(self.id).ok_or_else(gone)?;
        let attributes = self.general.over(node.clone());
        if attributes != *node {
            edits.push(Edit::SetAttributes { id: self.id, attributes });
        }
        edits.extend(self.children.iter().filter_map(|change| change.edit(self.id, node.driver)));
        Ok(())
    }
}

impl Change {
    fn edit(&self, node: NodeId, driver: &str) -> Option<Edit> {
        let (parent, name) = (Parent::Node(node), String::from(self.name));
        match (self.from, self.to) {
            (from, to) if from == to => None,
            (expected @ Some(_), Some(new)) => {
                Some(Edit::ReplaceChild { parent, name, expected, new })
            }
            (expected, None) => Some(Edit::RemoveEdge { parent, name, expected }),
            (None, Some(new)) => {
                child_edges(node, driver, &[(self.name, new)]).pop().map(Edit::AddEdge)
            }
        }
    }
}

impl Action for Reopening {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let mut edits = Vec::new();
        self.0.iter().try_for_each(|node| node.plan(graph, &mut edits))?;
        let change = |node: &Node| Some((node.id, node.changes.clone()?));
        let options = self.0.iter().filter_map(change).collect();
        Ok(Plan { edits, options, ..Plan::default() })
    }

    fn commit(self: Box<Self>, monitor: &Monitor) -> Option<Arc<Job>> {
        monitor.note_reopened(self.0.into_iter().map(|node| (node.id, node.options)));
        None
    }
}
