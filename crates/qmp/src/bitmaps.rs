//! The commands about the dirty bitmaps of nodes, which are actions of a transaction too.
//!
//! On its own a command takes place at one moment, between two writes. In a transaction all of them take place in the
//! drained section, in their order, and those that have are undone, the last first, if the transaction fails.
//!
//! Source: QEMU's QMP reference. Differs: a truncation marks what it adds; errors name the node, the bitmap and its
//! holder. One that is stored with its node is changed in a drained section, as it is disowned before.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::{BitmapState, BlockError, Io, Node, NodeBitmap, Plan, Requester, Undo};
use blockyard_crypto::Hash;
use blockyard_graph::Graph;
use blockyard_units::{ByteLen, Design, Mutant, NodeId};
use serde::Deserialize;

use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::nodes::node_or_root;
use crate::query::dict;
use crate::transaction::Action;
use crate::value::{Dict, Reference, Value};
use crate::visitor::{Mode, Size, visit};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Add {
    node: String,
    name: String,
    granularity: Option<Size>,
    persistent: Option<bool>,
    disabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Named {
    node: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Merge {
    node: String,
    target: String,
    bitmaps: Vec<Reference>,
}

/// What all commands that change a bitmap are called.
const PREFIX: &str = "block-dirty-bitmap-";
const HASH: &str = "x-debug-block-dirty-bitmap-sha256";

/// What becomes of a bitmap.
enum Change {
    Add {
        granularity: Option<ByteLen>,
        enabled: bool,
        persistent: bool,
    },
    Remove,
    Clear,
    Record(bool),
    /// Each source by its node, if that is another, and its name.
    Merge(Vec<(Option<String>, String)>),
}

/// A command, typed.
pub(crate) struct BitmapCommand {
    node: String,
    name: String,
    change: Change,
}

/// One whose nodes are found.
pub(crate) struct BitmapAction {
    node: Arc<Node>,
    name: String,
    change: Change,
    /// Of a merge.
    sources: Vec<(Arc<Node>, String)>,
    design: Design,
    io: Io,
}

impl BitmapCommand {
    /// A command that changes a bitmap; nothing if this is none.
    pub fn parse(command: &str, value: &Value, mode: Mode) -> Result<Option<Self>, QmpError> {
        let Some(kind) = command.strip_prefix(PREFIX) else { return Ok(None) };
        let change = match kind {
            "add" => return visit::<Add>(value, mode)?.command().map(Some),
            "merge" => return visit::<Merge>(value, mode)?.command(mode).map(Some),
            "remove" => Change::Remove,
            "clear" => Change::Clear,
            "enable" => Change::Record(true),
            "disable" => Change::Record(false),
            _ => return Ok(None),
        };
        let Named { node, name } = visit(value, mode)?;
        Ok(Some(Self { node, name, change }))
    }

    /// Finds the nodes, in a graph that may not be published yet, and in the layer.
    pub fn resolve(self, monitor: &Monitor, graph: &Graph) -> Result<BitmapAction, QmpError> {
        let layer = monitor.layer();
        let found = |name: &str| {
            let id = node_or_root(graph, name)?;
            layer.node_by_id(id).ok_or_else(|| {
                let said = format!("node '{name}' is added by the transaction that is to use it");
                QmpError::generic(said)
            })
        };
        let Self { node, name, change } = self;
        let node = found(&node)?;
        let sources = match &change {
            Change::Merge(sources) => &sources[..],
            _ => &[],
        };
        let source = |(other, name): &(Option<String>, String)| {
            let node = other.as_ref().map_or_else(|| Ok(node.clone()), |other| found(other))?;
            Ok::<_, QmpError>((node, name.clone()))
        };
        let sources = sources.iter().map(source).collect::<Result<_, _>>()?;
        let io = Io::of_node(layer, &node, Requester::Node(node.id()));
        Ok(BitmapAction { node, name, change, sources, design: layer.design(), io })
    }
}

impl Add {
    fn command(self) -> Result<BitmapCommand, QmpError> {
        let Self { node, name, granularity, persistent, disabled } = self;
        let granularity = granularity.map(|size| ByteLen(size.0));
        if let Some(granularity) = granularity {
            let checked = DirtyBitmap::check_granularity(granularity);
            checked.map_err(|error| QmpError::generic(format!("granularity: {error}")))?;
        }
        let (enabled, persistent) = (disabled != Some(true), persistent == Some(true));
        let change = Change::Add { granularity, enabled, persistent };
        Ok(BitmapCommand { node, name, change })
    }
}

impl Merge {
    fn command(self, mode: Mode) -> Result<BitmapCommand, QmpError> {
        let source = |(index, source): (usize, &Reference)| match source {
            Reference::Name(name) => Ok((None, name.clone())),
            Reference::Definition(external) => {
                let external = visit::<Named>(&Value::Dict(external.clone()), mode);
                let within = |error| QmpError::from(error).within(&format!("bitmaps.{index}"));
                external.map(|Named { node, name }| (Some(node), name)).map_err(within)
            }
        };
        let sources = self.bitmaps.iter().enumerate().map(source);
        let change = Change::Merge(sources.collect::<Result<_, _>>()?);
        Ok(BitmapCommand { node: self.node, name: self.target, change })
    }
}

/// Of bitmaps of one shape, for a mutant.
fn merge_uncounted(to: &mut DirtyBitmap, from: &DirtyBitmap) {
    if to.granularity() == from.granularity() {
        to.merge_uncounted(from);
    } else {
        to.merge_from(from);
    }
}

impl BitmapAction {
    fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        [&self.node].into_iter().chain(self.sources.iter().map(|(node, _)| node)).map(|n| n.id())
    }

    /// Whether a bitmap that is stored with its node is to change, or to come.
    fn is_about_stored(&self) -> bool {
        match self.change {
            Change::Add { persistent, .. } => persistent,
            _ => self.node.stores_bitmap(&self.name),
        }
    }

    /// Does it, at one moment; how it is undone.
    ///
    /// # Errors
    /// It is refused; nothing has changed.
    fn done(&self) -> Result<Undo, BlockError> {
        let (node, name) = (self.node.clone(), self.name.clone());
        // What is undone is there, and nobody holds it: it was changed a moment ago.
        Ok(match &self.change {
            Change::Add { granularity, enabled, persistent } => {
                let granularity = granularity.unwrap_or_else(|| node.default_granularity());
                let state = BitmapState { persistent: *persistent, ..BitmapState::default() };
                node.add_named_bitmap(&self.io, &name, granularity, *enabled, state)?;
                Undo::new(move || drop(node.remove_named_bitmap(&name)))
            }
            Change::Remove => {
                let bitmap = node.remove_named_bitmap(&name)?;
                Undo::new(move || drop(node.put_back(bitmap)))
            }
            Change::Clear => {
                let before = node.change_bitmap(&name, NodeBitmap::clear)?;
                let undo = move |bitmap: &mut NodeBitmap| {
                    bitmap.unclear(&before);
                    Ok(())
                };
                Undo::new(move || drop(node.change_bitmap(&name, undo)))
            }
            Change::Record(on) => {
                let before = node.change_bitmap(&name, |bitmap| bitmap.set_recording(*on))?;
                let undo = move |bitmap: &mut NodeBitmap| bitmap.set_recording(before);
                Undo::new(move || drop(node.change_bitmap(&name, undo)))
            }
            Change::Merge(_) => {
                let before = self.merge()?;
                let undo = move |bitmap: &mut NodeBitmap| {
                    bitmap.restore(&before);
                    Ok(())
                };
                Undo::new(move || drop(node.change_bitmap(&name, undo)))
            }
        })
    }

    /// A mutant: it was refused, and is undone. A clear is from a backup that nobody has made.
    fn undo_though_not_done(&self) {
        let restore = |bitmap: &mut NodeBitmap| {
            let mut none = bitmap.bits().clone();
            none.clear();
            bitmap.restore(&none);
            Ok(())
        };
        // Who is undone without having been done does not care for what is refused.
        let _ = match self.change {
            Change::Clear => self.node.change_bitmap(&self.name, restore),
            Change::Add { .. } => self.node.remove_named_bitmap(&self.name).map(drop),
            _ => Ok(()),
        };
    }

    fn merge(&self) -> Result<DirtyBitmap, BlockError> {
        let stale = self.design.is_mutant(Mutant::MergeLeavesCountStale);
        let merge = if stale { merge_uncounted } else { DirtyBitmap::merge_from };
        let source =
            |(node, name): &(Arc<Node>, String)| node.look_at_bitmap(name, NodeBitmap::readable);
        let sources: Vec<NodeBitmap> = self.sources.iter().map(source).collect::<Result<_, _>>()?;
        self.node.change_bitmap(&self.name, |bitmap| bitmap.merge(&sources, merge))
    }
}

impl Action for BitmapAction {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        if let Some(gone) = self.nodes().find(|id| graph.node(*id).is_none()) {
            let name = if gone == self.node.id() { self.node.name() } else { "of a source" };
            return Err(BlockError::NotFound(format!("there is no node '{name}' any more")));
        }
        let (drained, disowned) = (self.nodes().collect(), [self.node.id()].into());
        Ok(Plan { drained, disowned, ..Plan::default() })
    }

    fn inside(&self) -> Result<Option<Undo>, BlockError> {
        let done = self.done();
        if done.is_err() && self.design.is_mutant(Mutant::BitmapClearUndoneThoughNotDone) {
            self.undo_though_not_done();
        }
        done.map(Some)
    }
}

/// Whether this is one of the commands here.
pub(crate) fn knows(command: &str) -> bool {
    command.starts_with(PREFIX) || command == HASH
}

/// As far as that goes without a layer.
pub(crate) fn check(command: &str, value: &Value, mode: Mode) -> Result<(), QmpError> {
    match command {
        HASH => Ok(visit::<Named>(value, mode).map(drop)?),
        _ => BitmapCommand::parse(command, value, mode).map(drop),
    }
}

impl Monitor {
    pub(crate) async fn change_bitmap(
        &self,
        command: &str,
        value: &Value,
        mode: Mode,
    ) -> Result<Value, QmpError> {
        let graph = self.layer().graph();
        if command == HASH {
            let Named { node, name } = visit(value, mode)?;
            return self.bitmap_hash(&graph, &node, &name);
        }
        if let Some(command) = BitmapCommand::parse(command, value, mode)? {
            let action = command.resolve(self, &graph)?;
            if action.is_about_stored() {
                self.take_place("change a stored bitmap", action).await?;
            } else {
                action.done()?.keep();
            }
        }
        Ok(Value::Dict(Dict::new()))
    }

    /// As QEMU has it: of a bit for each granule, in words of 64.
    fn bitmap_hash(&self, graph: &Graph, node: &str, name: &str) -> Result<Value, QmpError> {
        let node = self.layer().node_by_id(node_or_root(graph, node)?);
        let node = node.ok_or_else(|| QmpError::generic("the node is gone"))?;
        let bytes: Vec<u8> = node.look_at_bitmap(name, |bitmap| {
            let words = bitmap.bits().words();
            Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
        })?;
        let digest = Hash::Sha256.digest(&[&bytes]);
        let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(dict([("sha256", Value::from(text.as_str()))]))
    }
}

/// The bitmaps of a node, as queries tell of them.
pub(crate) fn query(node: &Node) -> Vec<Value> {
    let mut all = Vec::new();
    node.each_bitmap(|bitmap| {
        let (bits, state) = (bitmap.bits(), bitmap.state());
        let granularity = bits.granularity().0;
        let mut members = Vec::from([
            ("name", Value::from(bitmap.name())),
            // The last granule counts whole.
            ("count", Value::from(bits.count() * granularity)),
            ("granularity", Value::from(granularity)),
            ("recording", Value::Bool(bitmap.is_recording())),
            ("busy", Value::Bool(bitmap.holder().is_some())),
            ("persistent", Value::Bool(state.persistent)),
        ]);
        if state.inconsistent {
            members.push(("inconsistent", Value::Bool(true)));
        }
        all.push(dict(members));
    });
    all
}
