//! The commands about the dirty bitmaps of nodes and devices, which are actions of a transaction too.
//!
//! On its own a command takes place at one moment, between two writes. In a transaction all of them take place in the
//! drained section, in their order, and those that have are undone, the last first, if the transaction fails.
//!
//! Source: QEMU's QMP reference. Differs: a truncation marks what it adds; errors name the bitmap, whose it is and its
//! holder. One that is stored with its node is changed in a drained section, as it is disowned before. The name of a
//! device stands for bitmaps of its own, which stay with it whatever its medium is; QEMU's for those of the node below
//! it, which vanish when a filter comes above that.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use blockyard_bitmap::DirtyBitmap;
use blockyard_block::{
    BitmapState, Bitmaps, BlockError, BlockLayer, Io, NamedBitmap, Node, Plan, Requester, Undo,
};
use blockyard_crypto::Hash;
use blockyard_graph::{Graph, Parent, ROOT};
use blockyard_units::{BackendId, ByteLen, Mutant, NodeId};
use serde::Deserialize;

use crate::error::QmpError;
use crate::monitor::Monitor;
use crate::nodes::{node_named, root_of_device};
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
    /// Each source by its owner, if that is another, and its name.
    Merge(Vec<(Option<String>, String)>),
}

/// Who has a bitmap.
#[derive(Clone)]
enum Owner {
    Node(Arc<Node>),
    Device(BackendId, Arc<Bitmaps>),
}

/// A command, typed.
pub(crate) struct BitmapCommand {
    /// The name of a node or a device.
    node: String,
    name: String,
    change: Change,
}

/// One whose owners are found.
pub(crate) struct BitmapAction {
    owner: Owner,
    name: String,
    change: Change,
    /// Of a merge.
    sources: Vec<(Owner, String)>,
    layer: BlockLayer,
}

/// Bytes: the granularity of a bitmap of which neither a command nor a node says it.
const GRANULARITY: ByteLen = ByteLen(65536);

impl Owner {
    /// By name, in a graph that may not be published yet, and in the layer.
    fn named(layer: &BlockLayer, graph: &Graph, name: &str) -> Result<Self, QmpError> {
        let Some(device) = graph.backend_by_name(name) else {
            return Self::node(layer, node_named(graph, name)?, name);
        };
        if layer.design().is_mutant(Mutant::VanishingBitmap) {
            return Self::node(layer, root_of_device(graph, name)?, name);
        }
        let bitmaps = layer.device_bitmaps(device);
        let gone = || QmpError::generic(format!("there is no device '{name}' any more"));
        Ok(Self::Device(device, bitmaps.ok_or_else(gone)?))
    }

    fn node(layer: &BlockLayer, id: NodeId, name: &str) -> Result<Self, QmpError> {
        let said = || format!("node '{name}' is added by the transaction that is to use it");
        layer.node_by_id(id).map(Self::Node).ok_or_else(|| QmpError::generic(said()))
    }

    fn bitmaps(&self) -> &Bitmaps {
        match self {
            Self::Node(node) => node.bitmaps(),
            Self::Device(_, bitmaps) => bitmaps,
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Node(node), Self::Node(other)) => node.id() == other.id(),
            (Self::Device(device, _), Self::Device(other, _)) => device == other,
            _ => false,
        }
    }

    /// The node whose writes are marked in its bitmaps, if there is one. Of a device, the one it leads to.
    fn marked_by(&self, graph: &Graph) -> Result<Option<NodeId>, BlockError> {
        let gone = |owner: &Bitmaps| {
            BlockError::NotFound(format!("there is no {} any more", owner.owner()))
        };
        match self {
            Self::Node(node) if graph.node(node.id()).is_some() => Ok(Some(node.id())),
            Self::Device(device, _) if graph.parent_name(Parent::Backend(*device)).is_some() => {
                Ok(graph.child(Parent::Backend(*device), ROOT))
            }
            Self::Node(_) | Self::Device(..) => Err(gone(self.bitmaps())),
        }
    }

    fn stores(&self, name: &str) -> bool {
        matches!(self, Self::Node(node) if node.stores_bitmap(name))
    }

    fn add(
        &self,
        layer: &BlockLayer,
        name: &str,
        (granularity, enabled, persistent): (Option<ByteLen>, bool, bool),
    ) -> Result<(), BlockError> {
        let view = |node: &Arc<Node>| Io::of_node(layer, node, Requester::Node(node.id()));
        let state = BitmapState { persistent, ..BitmapState::default() };
        let (device, bitmaps) = match self {
            Self::Device(device, bitmaps) => (*device, bitmaps),
            Self::Node(node) => {
                let granularity = granularity.unwrap_or_else(|| node.default_granularity());
                return node.add_named_bitmap(&view(node), name, granularity, enabled, state);
            }
        };
        if persistent {
            return Err(BlockError::Invalid(format!(
                "bitmap '{name}' of {} cannot be persistent: name the node that is to store it",
                bitmaps.owner()
            )));
        }
        let root = layer.graph().child(Parent::Backend(device), ROOT);
        let root = root.and_then(|root| layer.node_by_id(root));
        let len = root.as_ref().map_or(ByteLen(0), |node| node.len(&view(node)));
        let usual = || root.as_ref().map_or(GRANULARITY, |node| node.default_granularity());
        bitmaps.add(name, (len, granularity.unwrap_or_else(usual)), enabled, state)
    }
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

    /// Finds the nodes and devices, in a graph that may not be published yet, and in the layer.
    pub fn resolve(self, monitor: &Monitor, graph: &Graph) -> Result<BitmapAction, QmpError> {
        let layer = monitor.layer();
        let found = |name: &str| Owner::named(layer, graph, name);
        let Self { node, name, change } = self;
        let owner = found(&node)?;
        let sources = match &change {
            Change::Merge(sources) => &sources[..],
            _ => &[],
        };
        let source = |(other, name): &(Option<String>, String)| {
            let owner = other.as_ref().map_or_else(|| Ok(owner.clone()), |other| found(other))?;
            Ok::<_, QmpError>((owner, name.clone()))
        };
        let sources = sources.iter().map(source).collect::<Result<_, _>>()?;
        Ok(BitmapAction { owner, name, change, sources, layer: layer.clone() })
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
    fn owners(&self) -> impl Iterator<Item = &Owner> {
        [&self.owner].into_iter().chain(self.sources.iter().map(|(owner, _)| owner))
    }

    /// Whether a bitmap that is stored with its node is to change, or to come.
    fn is_about_stored(&self) -> bool {
        match self.change {
            Change::Add { persistent, .. } => persistent,
            _ => self.owner.stores(&self.name),
        }
    }

    /// Does it, at one moment; how it is undone.
    ///
    /// # Errors
    /// It is refused; nothing has changed.
    fn done(&self) -> Result<Undo, BlockError> {
        let (owner, name) = (self.owner.clone(), self.name.clone());
        let bitmaps = self.owner.bitmaps();
        // What is undone is there, and nobody holds it: it was changed a moment ago.
        Ok(match &self.change {
            Change::Add { granularity, enabled, persistent } => {
                owner.add(&self.layer, &name, (*granularity, *enabled, *persistent))?;
                Undo::new(move || drop(owner.bitmaps().remove(&name)))
            }
            Change::Remove => {
                let bitmap = bitmaps.remove(&name)?;
                Undo::new(move || drop(owner.bitmaps().put_back(bitmap)))
            }
            Change::Clear => {
                let before = bitmaps.change(&name, NamedBitmap::clear)?;
                let undo = move |bitmap: &mut NamedBitmap| {
                    bitmap.unclear(&before);
                    Ok(())
                };
                Undo::new(move || drop(owner.bitmaps().change(&name, undo)))
            }
            Change::Record(on) => {
                let before = bitmaps.change(&name, |bitmap| bitmap.set_recording(*on))?;
                let undo = move |bitmap: &mut NamedBitmap| bitmap.set_recording(before);
                Undo::new(move || drop(owner.bitmaps().change(&name, undo)))
            }
            Change::Merge(_) => {
                let before = self.merge()?;
                let undo = move |bitmap: &mut NamedBitmap| {
                    bitmap.restore(&before);
                    Ok(())
                };
                Undo::new(move || drop(owner.bitmaps().change(&name, undo)))
            }
        })
    }

    /// A mutant: it was refused, and is undone. A clear is from a backup that nobody has made.
    fn undo_though_not_done(&self) {
        let restore = |bitmap: &mut NamedBitmap| {
            let mut none = bitmap.bits().clone();
            none.clear();
            bitmap.restore(&none);
            Ok(())
        };
        // Who is undone without having been done does not care for what is refused.
        let _ = match self.change {
            Change::Clear => self.owner.bitmaps().change(&self.name, restore),
            Change::Add { .. } => self.owner.bitmaps().remove(&self.name).map(drop),
            _ => Ok(()),
        };
    }

    fn merge(&self) -> Result<DirtyBitmap, BlockError> {
        let stale = self.layer.design().is_mutant(Mutant::MergeLeavesCountStale);
        let merge = if stale { merge_uncounted } else { DirtyBitmap::merge_from };
        let (own, others): (Vec<_>, Vec<_>) =
            self.sources.iter().partition(|(owner, _)| owner.is(&self.owner));
        let own: Vec<&str> = own.into_iter().map(|(_, name)| name.as_str()).collect();
        let copy =
            |(owner, name): &(Owner, String)| owner.bitmaps().look_at(name, NamedBitmap::readable);
        let others = others.into_iter().map(copy).collect::<Result<Vec<_>, _>>()?;
        self.owner.bitmaps().merge(&self.name, &own, &others, merge)
    }
}

impl Action for BitmapAction {
    fn plan(&self, graph: &Graph) -> Result<Plan, BlockError> {
        let drained = self.owners().filter_map(|owner| owner.marked_by(graph).transpose());
        let drained = drained.collect::<Result<_, _>>()?;
        let disowned = match &self.owner {
            Owner::Node(node) => [node.id()].into(),
            Owner::Device(..) => Vec::new(),
        };
        Ok(Plan { drained, disowned, ..Plan::default() })
    }

    fn inside(&self) -> Result<Option<Undo>, BlockError> {
        let done = self.done();
        if done.is_err() && self.layer.design().is_mutant(Mutant::BitmapClearUndoneThoughNotDone) {
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
        let owner = Owner::named(self.layer(), graph, node)?;
        let bytes: Vec<u8> = owner.bitmaps().look_at(name, |bitmap| {
            let words = bitmap.bits().words();
            Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
        })?;
        let digest = Hash::Sha256.digest(&[&bytes]);
        let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(dict([("sha256", Value::from(text.as_str()))]))
    }
}

/// Bitmaps as queries tell of them; nothing if there are none.
pub(crate) fn query(bitmaps: &Bitmaps) -> Option<Value> {
    let mut all = Vec::new();
    bitmaps.each(|bitmap| {
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
        if state.unplaced {
            members.push(("x-unplaced", Value::Bool(true)));
        }
        all.push(dict(members));
    });
    (!all.is_empty()).then_some(Value::List(all))
}
