//! What the model of dirty bitmaps is told: commands from when they are asked for until their reply, writes from when
//! their data are down until they are marked; and at the end, what the bitmaps are.

use std::collections::{BTreeMap, BTreeSet};

use blockyard_block::{BitmapState, BlockLayer, Requester};
use blockyard_graph::{Graph, NodeAttributes, NodeKind, Parent, ROOT, Role};
use blockyard_models::{
    BitmapChange, BitmapName, BitmapOwner, BitmapView, DirtyBitmaps, Violation,
};
use blockyard_qmp::{Dict, Mode, Size, Value, take};
use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange, NodeId};

use crate::following::places_taken;

const PREFIX: &str = "block-dirty-bitmap-";
const BACKUP: &str = "blockdev-backup";
/// Bytes: the granularity of a device's bitmap if there is no medium to ask.
const GRANULARITY: u64 = 65536;

/// The model of one run.
pub(crate) struct Bitmaps {
    /// Commands write, writes add. Of no interest where there are no bitmaps at all.
    order: Option<Shared<()>>,
    /// The nodes and devices of which a command may be about a bitmap.
    owners: BTreeSet<String>,
    /// Stored ones follow the data.
    follow: bool,
    state: Quiet<State>,
}

#[derive(Default)]
struct State {
    model: DirtyBitmaps,
    graph: Graph,
    /// The bitmaps that backups are to have to do with, of commands under way; and that they have, by job.
    asked: Vec<(u64, Held)>,
    held: BTreeMap<String, Held>,
    /// The model's numbers of each write under way, one for each whose bitmaps it concerns.
    writes: BTreeMap<(NodeId, u64), Vec<u64>>,
}

impl Bitmaps {
    /// `owners`: the nodes and devices that may have a bitmap. `follow`: those that are stored follow the data.
    pub fn new(owners: BTreeSet<String>, follow: bool) -> Self {
        let order = (!owners.is_empty()).then(|| Shared::new(()));
        Self { order, owners, follow, state: Quiet::default() }
    }

    /// Whether writes and nodes are of interest: else nothing need be told of them.
    pub fn are_watched(&self) -> bool {
        self.order.is_some()
    }

    /// The nodes and devices that a command may be about bitmaps of.
    pub fn owners_in(command: &str, arguments: &Dict) -> BTreeSet<String> {
        let single = [(String::from(command), arguments.clone())];
        let all = single.into_iter().chain(actions_of(command, arguments));
        let about = all.filter(|(kind, data)| {
            let of_backup = kind == BACKUP && data.contains_key("bitmap");
            kind.starts_with(PREFIX) || of_backup
        });
        let text = |of: &Dict, key| of.get(key).and_then(Value::as_str).map(String::from);
        let named = |of: &Dict| text(of, "node").or_else(|| text(of, "device"));
        let owners = about.flat_map(|(_, data)| {
            let sources = data.get("bitmaps").and_then(Value::as_list).unwrap_or_default();
            let others = sources.iter().filter_map(|source| match source {
                Value::Dict(source) => named(source),
                _ => None,
            });
            others.chain(named(&data)).collect::<Vec<_>>()
        });
        owners.collect()
    }

    /// The nodes that take another's place by this command, or by a job that it starts.
    pub fn places_in(command: &str, arguments: &Dict) -> BTreeSet<String> {
        let single = [(String::from(command), arguments.clone())];
        let taken = single.into_iter().chain(actions_of(command, arguments));
        let place = |(kind, data): (String, Dict)| {
            let key = match kind.as_str() {
                "blockdev-snapshot" => "overlay",
                "blockdev-mirror" => "target",
                // Who is to be watched has to be named.
                "block-commit" => "base-node",
                _ => return None,
            };
            data.get(key).and_then(Value::as_str).map(String::from)
        };
        taken.filter_map(place).collect()
    }

    fn with<R>(&self, kind: Kind, look: impl FnOnce(&mut State) -> R) -> R {
        let order = self.order.as_ref().expect("what-has-bitmaps-is-watched");
        order.trusted([(kind, 0, 1)], |()| self.state.with(look))
    }

    /// A command is asked for; its number, if it is about bitmaps.
    pub fn command_begins(
        &self,
        layer: &BlockLayer,
        command: &str,
        arguments: &Dict,
    ) -> Option<u64> {
        if Self::owners_in(command, arguments).is_empty() {
            return None;
        }
        let graph = layer.graph();
        let single = [(String::from(command), arguments.clone())];
        let all = single.into_iter().chain(actions_of(command, arguments));
        let (mut changes, mut asked) = (Vec::new(), Vec::new());
        for (kind, data) in all {
            if kind == BACKUP {
                let Some(held) = Held::by(layer, &graph, &data) else { continue };
                changes.extend(held.begins());
                asked.push(held);
            } else if let Some(kind) = kind.strip_prefix(PREFIX) {
                changes.extend(change(layer, &graph, kind, &data));
            }
        }
        Some(self.with(Kind::Write, |state| {
            let number = state.model.begin(changes);
            state.asked.extend(asked.into_iter().map(|held| (number, held)));
            number
        }))
    }

    /// Backups whose jobs have gone with this publication: what becomes of their bitmaps, in its drained section.
    fn backups_end(&self, what: &str, before: &Graph, after: &Graph) -> Result<(), Violation> {
        let well = what != "remove filter";
        let mut gone = before.jobs().filter(|(_, job)| after.job_by_name(job).is_none());
        gone.try_for_each(|(_, job)| {
            self.with(Kind::Write, |State { model, held, .. }| {
                let Some(held) = held.remove(job) else { return Ok(()) };
                let (bitmap, partly) = (held.bitmap.clone(), held.clears[1] && !well);
                let ends = model.begin(held.ends(well));
                model.end(ends, true)?;
                if partly {
                    model.forget(bitmap);
                }
                Ok(())
            })
        })
    }

    /// Its reply has come.
    pub fn command_ends(&self, number: u64, well: bool) -> Result<(), Violation> {
        self.with(Kind::Write, |state| {
            state.asked.retain(|(asked, _)| *asked != number);
            state.model.end(number, well)
        })
    }

    /// See [`blockyard_block::Observer::write_lands`].
    pub fn write_lands(
        &self,
        write: (NodeId, u64),
        requester: Requester,
        range: ByteRange,
        len: Option<ByteLen>,
    ) {
        self.with(Kind::Add, |State { model, graph, writes, .. }| {
            let node = graph.node(write.0).map(|node| BitmapOwner::Node(node.name.clone()));
            let devices = devices_concerned(graph, write.0, requester, len.is_some());
            let all = devices.into_iter().map(BitmapOwner::Device).chain(node);
            let of_interest = all.filter(|owner| {
                let (BitmapOwner::Node(name) | BitmapOwner::Device(name)) = owner;
                self.owners.contains(name)
            });
            let begin = |owner| {
                let change = BitmapChange::Write(owner, range, len.map(|len| len.0));
                model.begin(Vec::from([change]))
            };
            writes.insert(write, of_interest.map(begin).collect());
        });
    }

    /// See [`blockyard_block::Observer::write_is_marked`].
    pub fn write_is_marked(&self, write: (NodeId, u64)) -> Result<(), Violation> {
        self.with(Kind::Add, |State { model, writes, .. }| {
            let begun = writes.remove(&write).expect("a-write-lands-before-it-is-marked");
            begun.into_iter().try_for_each(|number| model.end(number, true))
        })
    }

    /// The graph has changed.
    ///
    /// # Errors
    /// A backup ended whose bitmap is not there.
    pub fn published(&self, what: &str, before: &Graph, after: &Graph) -> Result<(), Violation> {
        self.state.with(|state| {
            state.graph = after.clone();
            let comes = |(_, held): &(u64, Held)| {
                let there = |graph: &Graph| graph.job_by_name(&held.job).is_some();
                there(after) && !there(before)
            };
            let (begun, asked) = core::mem::take(&mut state.asked).into_iter().partition(comes);
            let begun: Vec<(u64, Held)> = begun;
            state.held.extend(begun.into_iter().map(|(_, held)| (held.job.clone(), held)));
            state.asked = asked;
        });
        let ended = self.backups_end(what, before, after);
        let moves = self.follow.then(|| places_taken(what, before, after));
        for (of, node) in moves.into_iter().flatten() {
            let (Some(of), Some(node)) = (before.node(of), after.node(node)) else { continue };
            let stores = stores(node);
            self.with(Kind::Write, |state| {
                state.model.node_takes_place(&of.name, &node.name, stores);
            });
        }
        for node in before.gone_nodes(after).filter_map(|node| before.node(node)) {
            self.with(Kind::Write, |state| state.model.node_is_gone(&node.name));
        }
        for (_, node) in after.nodes().filter(|(id, _)| before.node(*id).is_none()) {
            self.with(Kind::Write, |state| state.model.node_is_there(&node.name));
        }
        ended
    }

    /// At the end.
    pub fn judge(&self, layer: &BlockLayer) -> Result<(), Violation> {
        if !self.are_watched() {
            return Ok(());
        }
        let mut found = BTreeMap::new();
        let mut look = |owner: BitmapOwner, bitmaps: &blockyard_block::Bitmaps| {
            bitmaps.each(|bitmap| {
                let bits = bitmap.bits();
                let granularity = bits.granularity().0;
                let granules =
                    |area: ByteRange| area.start() / granularity..area.end().div_ceil(granularity);
                let dirty = bits.areas().flat_map(granules).collect();
                let BitmapState { persistent, unplaced, .. } = bitmap.state();
                let records = bitmap.is_recording();
                let view = BitmapView { granularity, records, persistent, unplaced, dirty };
                let name = (owner.clone(), String::from(bitmap.name()));
                found.insert(name, (view, bits.count()));
            });
        };
        let graph = layer.graph();
        for (id, attributes) in graph.nodes() {
            let Some(node) = layer.node_by_id(id) else { continue };
            look(BitmapOwner::Node(attributes.name.clone()), node.bitmaps());
        }
        for (id, name) in graph.backends() {
            let Some(bitmaps) = layer.device_bitmaps(id) else { continue };
            look(BitmapOwner::Device(name.into()), &bitmaps);
        }
        let views = found.iter().map(|(name, (view, _))| (name.clone(), view.clone()));
        self.state.with(|state| state.model.check(&views.collect()))?;
        let counted = |(_, (view, count)): &(&BitmapName, &(BitmapView, u64))| {
            view.dirty.len() as u64 != *count
        };
        match found.iter().find(counted) {
            Some((name, (view, count))) => Err(DirtyBitmaps::miscounted(name, view, *count)),
            None => Ok(()),
        }
    }
}

/// A bitmap that a backup has to do with: meanwhile another, which nobody sees, records what it would have.
struct Held {
    job: String,
    bitmap: BitmapName,
    granularity: u64,
    records: bool,
    /// What becomes of it if all was saved, and if not.
    clears: [bool; 2],
}

impl Held {
    fn by(layer: &BlockLayer, graph: &Graph, data: &Dict) -> Option<Self> {
        let text = |key| data.get(key).and_then(Value::as_str).map(String::from);
        let (name, device) = (text("bitmap")?, text("device")?);
        let root = |device| graph.child(Parent::Backend(device), ROOT);
        let node = graph.backend_by_name(&device).map_or(graph.node_by_name(&device), root)?;
        let node = layer.node_by_id(node)?;
        let looked = node
            .bitmaps()
            .look_at(&name, |bitmap| Ok((bitmap.bits().granularity().0, bitmap.is_recording())));
        let (granularity, records) = looked.ok()?;
        let mode = text("bitmap-mode").unwrap_or_default();
        Some(Self {
            job: text("job-id").unwrap_or(device),
            bitmap: (BitmapOwner::Node(node.name().into()), name),
            granularity,
            records,
            clears: [mode != "never", mode == "always"],
        })
    }

    fn hidden(&self) -> BitmapName {
        let (owner, name) = &self.bitmap;
        (owner.clone(), format!("{name} while job {} works", self.job))
    }

    fn begins(&self) -> [BitmapChange; 2] {
        let Self { granularity, records, .. } = *self;
        let (persistent, unplaced) = (false, false);
        let add =
            BitmapChange::Add { name: self.hidden(), granularity, records, persistent, unplaced };
        [add, BitmapChange::Record(self.bitmap.clone(), false)]
    }

    fn ends(self, well: bool) -> Vec<BitmapChange> {
        let (bitmap, hidden) = (self.bitmap.clone(), self.hidden());
        let mut changes = Vec::new();
        if self.clears[usize::from(!well)] {
            changes.push(BitmapChange::Clear(bitmap.clone()));
        }
        let merge = BitmapChange::Merge(bitmap.clone(), [hidden.clone()].into());
        let record = BitmapChange::Record(bitmap, self.records);
        changes.extend([merge, record, BitmapChange::Remove(hidden)]);
        changes
    }
}

/// Whether bitmaps can be stored with a node.
fn stores(node: &NodeAttributes) -> bool {
    node.driver == "qcow2"
}

/// The devices whose guests a write is of, or see that the node has become longer or shorter.
fn devices_concerned(
    graph: &Graph,
    node: NodeId,
    requester: Requester,
    resized: bool,
) -> Vec<String> {
    let shows_same = |id: &NodeId| {
        let above = graph.node(*id)?;
        let same = above.kind == NodeKind::Filter || above.driver == "raw";
        let mut children = graph.children(Parent::Node(*id));
        children.find(|edge| same && edge.roles.contains(Role::Primary)).map(|edge| edge.child)
    };
    let concerned = graph.backends().filter(|(id, _)| {
        let root = graph.child(Parent::Backend(*id), ROOT);
        let mut shown = std::iter::successors(root, shows_same);
        let sees = resized && shown.any(|shown| shown == node);
        sees || (!resized && requester == Requester::Backend(*id) && root == Some(node))
    });
    concerned.map(|(_, name)| name.into()).collect()
}

/// The actions of a transaction: what each does, and what it is told.
pub(crate) fn actions_of<'a>(
    command: &str,
    arguments: &'a Dict,
) -> impl Iterator<Item = (String, Dict)> + 'a {
    let actions = match arguments.get("actions") {
        Some(Value::List(actions)) if command == "transaction" => &actions[..],
        _ => &[],
    };
    actions.iter().filter_map(|action| {
        let Value::Dict(action) = action else { return None };
        let kind = action.get("type").and_then(Value::as_str)?;
        match action.get("data") {
            Some(Value::Dict(data)) => Some((kind.into(), data.clone())),
            _ => Some((kind.into(), Dict::new())),
        }
    })
}

/// What a command changes, if its arguments make sense.
fn change(layer: &BlockLayer, graph: &Graph, kind: &str, data: &Dict) -> Option<BitmapChange> {
    let text = |of: &Dict, key| of.get(key).and_then(Value::as_str).map(String::from);
    let owner = |name: String| match graph.backend_by_name(&name) {
        Some(_) => BitmapOwner::Device(name),
        None => BitmapOwner::Node(name),
    };
    let of = owner(text(data, "node")?);
    let name = || Some((of.clone(), text(data, "name")?));
    Some(match kind {
        "add" => {
            let size =
                take::<Option<Size>>(&mut data.clone(), "granularity", Mode::Strings).ok()?;
            let granularity = match size {
                Some(size) => size.0,
                None => {
                    let (BitmapOwner::Node(name) | BitmapOwner::Device(name)) = &of;
                    let root = |device| graph.child(Parent::Backend(device), ROOT);
                    let node =
                        graph.backend_by_name(name).map_or_else(|| graph.node_by_name(name), root);
                    let node = node.and_then(|node| layer.node_by_id(node));
                    node.map_or(GRANULARITY, |node| node.default_granularity().0)
                }
            };
            let is = |key| {
                let said = take::<Option<bool>>(&mut data.clone(), key, Mode::Strings).ok()?;
                Some(said == Some(true))
            };
            let (records, persistent) = (!is("disabled")?, is("persistent")?);
            let node = graph.node_by_name(&text(data, "node")?).and_then(|node| graph.node(node));
            let unplaced = persistent && node.is_some_and(|node| !stores(node));
            BitmapChange::Add { name: name()?, granularity, records, persistent, unplaced }
        }
        "remove" => BitmapChange::Remove(name()?),
        "clear" => BitmapChange::Clear(name()?),
        "enable" => BitmapChange::Record(name()?, true),
        "disable" => BitmapChange::Record(name()?, false),
        "merge" => {
            let Some(Value::List(sources)) = data.get("bitmaps") else { return None };
            let source = |source: &Value| match source {
                Value::Dict(other) => Some((owner(text(other, "node")?), text(other, "name")?)),
                _ => Some((of.clone(), source.as_str()?.into())),
            };
            let sources = sources.iter().map(source).collect::<Option<_>>()?;
            BitmapChange::Merge((of.clone(), text(data, "target")?), sources)
        }
        _ => return None,
    })
}
