//! What the model of dirty bitmaps is told: commands from when they are asked for until their reply, writes from when
//! their data are down until they are marked; and at the end, what the bitmaps are.

use std::collections::BTreeMap;

use blockyard_block::BlockLayer;
use blockyard_graph::{Graph, Parent, ROOT};
use blockyard_models::{BitmapChange, BitmapName, BitmapView, DirtyBitmaps, Violation};
use blockyard_qmp::{Dict, Mode, Size, Value, take};
use blockyard_sync::Shared;
use blockyard_sync::door::Kind;
use blockyard_sync::door::world::Quiet;
use blockyard_units::{ByteLen, ByteRange};

const PREFIX: &str = "block-dirty-bitmap-";

/// The model of one run.
pub(crate) struct Bitmaps {
    /// Commands write, writes add. Of no interest where there are no bitmaps at all.
    order: Option<Shared<()>>,
    state: Quiet<State>,
}

#[derive(Default)]
struct State {
    model: DirtyBitmaps,
    /// The model's number of each write under way, by its node and the node's own number.
    writes: BTreeMap<(String, u64), u64>,
}

impl Bitmaps {
    pub fn new(watched: bool) -> Self {
        Self { order: watched.then(|| Shared::new(())), state: Quiet::default() }
    }

    /// Whether writes and nodes are of interest: else nothing need be told of them.
    pub fn are_watched(&self) -> bool {
        self.order.is_some()
    }

    /// Whether a command may be about bitmaps.
    pub fn are_in(command: &str, arguments: &Dict) -> bool {
        command.starts_with(PREFIX)
            || actions_of(command, arguments).any(|(kind, _)| kind.starts_with(PREFIX))
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
        if !Self::are_in(command, arguments) {
            return None;
        }
        let graph = layer.graph();
        let single = [(String::from(command), arguments.clone())];
        let all = single.into_iter().chain(actions_of(command, arguments));
        let change =
            |(kind, data): (String, Dict)| change(layer, &graph, kind.strip_prefix(PREFIX)?, &data);
        let changes = all.filter_map(change).collect();
        Some(self.with(Kind::Write, |state| state.model.begin(changes)))
    }

    /// Its reply has come.
    pub fn command_ends(&self, number: u64, well: bool) -> Result<(), Violation> {
        self.with(Kind::Write, |state| state.model.end(number, well))
    }

    /// See [`blockyard_block::Observer::write_lands`].
    pub fn write_lands(&self, node: &str, number: u64, range: ByteRange, len: Option<ByteLen>) {
        let write = BitmapChange::Write(node.into(), range, len.map(|len| len.0));
        self.with(Kind::Add, |state| {
            let begun = state.model.begin(Vec::from([write]));
            state.writes.insert((node.into(), number), begun);
        });
    }

    /// See [`blockyard_block::Observer::write_is_marked`].
    pub fn write_is_marked(&self, node: &str, number: u64) -> Result<(), Violation> {
        self.with(Kind::Add, |state| {
            let begun = state.writes.remove(&(node.into(), number));
            state.model.end(begun.expect("a-write-lands-before-it-is-marked"), true)
        })
    }

    /// A node has left the graph.
    pub fn node_is_gone(&self, node: &str) {
        self.with(Kind::Write, |state| state.model.node_is_gone(node));
    }

    /// One has come.
    pub fn node_is_there(&self, node: &str) {
        self.with(Kind::Write, |state| state.model.node_is_there(node));
    }

    /// At the end.
    pub fn judge(&self, layer: &BlockLayer) -> Result<(), Violation> {
        if !self.are_watched() {
            return Ok(());
        }
        let mut found = BTreeMap::new();
        for (id, attributes) in layer.graph().nodes() {
            let Some(node) = layer.node_by_id(id) else { continue };
            node.each_bitmap(|bitmap| {
                let bits = bitmap.bits();
                let granularity = bits.granularity().0;
                let granules =
                    |area: ByteRange| area.start() / granularity..area.end().div_ceil(granularity);
                let dirty = bits.areas().flat_map(granules).collect();
                let (records, persistent) = (bitmap.is_recording(), bitmap.state().persistent);
                let view = BitmapView { granularity, records, persistent, dirty };
                let name = (attributes.name.clone(), String::from(bitmap.name()));
                found.insert(name, (view, bits.count()));
            });
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
    // A device stands for the node below it.
    let node = |name: String| {
        let below = |device| graph.node(graph.child(Parent::Backend(device), ROOT)?);
        match graph.backend_by_name(&name) {
            Some(device) => below(device).map(|node| node.name.clone()),
            None => Some(name),
        }
    };
    let of = node(text(data, "node")?)?;
    let name = || Some((of.clone(), text(data, "name")?));
    Some(match kind {
        "add" => {
            let size =
                take::<Option<Size>>(&mut data.clone(), "granularity", Mode::Strings).ok()?;
            let granularity = match size {
                Some(size) => size.0,
                None => layer.node(&of).ok()?.default_granularity().0,
            };
            let is = |key| {
                let said = take::<Option<bool>>(&mut data.clone(), key, Mode::Strings).ok()?;
                Some(said == Some(true))
            };
            let (records, persistent) = (!is("disabled")?, is("persistent")?);
            BitmapChange::Add { name: name()?, granularity, records, persistent }
        }
        "remove" => BitmapChange::Remove(name()?),
        "clear" => BitmapChange::Clear(name()?),
        "enable" => BitmapChange::Record(name()?, true),
        "disable" => BitmapChange::Record(name()?, false),
        "merge" => {
            let Some(Value::List(sources)) = data.get("bitmaps") else { return None };
            let source = |source: &Value| match source {
                Value::Dict(other) => Some((node(text(other, "node")?)?, text(other, "name")?)),
                _ => Some((of.clone(), source.as_str()?.into())),
            };
            let sources = sources.iter().map(source).collect::<Option<_>>()?;
            BitmapChange::Merge((of.clone(), text(data, "target")?), sources)
        }
        _ => return None,
    })
}
