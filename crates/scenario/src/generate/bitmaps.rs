//! What is done about dirty bitmaps: those of a device and of the nodes that it begins with, finer and coarser.
//!
//! What lies behind the end of a disk is in a coarse granule too, and the models know no ends. So a bitmap is merged
//! into no finer one, and where lengths change into none of another's.
//!
//! Not for: what the bitmaps are then; every refusal is fine.

use serde_json::{Value, json};

use super::AdminStep;
use super::draw::Source;
use super::render::{Device, attempt};

/// A change of a bitmap, alone or in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitmapStep {
    /// Which bitmap: the first ones are the device's, its lowest node's and so on, modulo those that there are.
    pub bitmap: usize,
    /// What becomes of it.
    pub change: BitmapChange,
}

/// What becomes of a bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitmapChange {
    /// It comes.
    Add {
        /// It does not record yet.
        disabled: bool,
    },
    /// It goes.
    Remove,
    /// It is clean.
    Clear,
    /// It records from now on, or no more.
    Record(bool),
    /// The coarser of it and the one of this index has what the finer has, too.
    Merge(usize),
}

/// Bytes: the granularity of each bitmap that there may be.
const GRANULARITIES: [u64; 4] = [512, 1024, 4096, 1024];
/// How many these are.
const BITMAPS: u32 = GRANULARITIES.len() as u32;

fn granularity(bitmap: usize) -> u64 {
    GRANULARITIES[bitmap % GRANULARITIES.len()]
}

/// Two times in three none at all; else there are two to begin with.
pub(super) fn draw(source: &mut Source<'_>) -> Vec<Vec<BitmapStep>> {
    if !source.one_in(3) {
        return Vec::new();
    }
    let count = source.one_of(&[3, 4, 6, 8]);
    let first =
        source.list(2, |source| BitmapStep { bitmap: source.index(BITMAPS), change: add(source) });
    let rest = source.list(count, |source| {
        let count = source.one_of(&[1, 1, 2, 3]);
        source.list(count, step)
    });
    first.into_iter().map(|step| vec![step]).chain(rest).collect()
}

fn add(source: &mut Source<'_>) -> BitmapChange {
    BitmapChange::Add { disabled: source.one_in(4) }
}

fn step(source: &mut Source<'_>) -> BitmapStep {
    let bitmap = source.index(BITMAPS);
    let change = match source.below(10) {
        0..2 => add(source),
        2 => BitmapChange::Remove,
        3 | 4 => BitmapChange::Clear,
        5 => BitmapChange::Record(false),
        6 => BitmapChange::Record(true),
        _ => BitmapChange::Merge(source.index(BITMAPS)),
    };
    BitmapStep { bitmap, change }
}

/// What somebody does about bitmaps of these devices and nodes, if anything; the first is a device.
pub(super) fn keeper(
    plan: &[Vec<BitmapStep>],
    owners: &[String],
    lengths_change: bool,
) -> Option<Vec<Value>> {
    let keeper = Keeper { owners, lengths_change };
    let all = plan.iter().filter(|changes| !changes.is_empty());
    let alone = |changes: &Vec<BitmapStep>| changes.len() == 1;
    let mut steps: Vec<Value> = all
        .flat_map(|changes| {
            let persistent = alone(changes).then(|| keeper.persistent(changes[0])).flatten();
            persistent.into_iter().chain(keeper.changes(changes))
        })
        .collect();
    steps.push(json!({ "execute": "query-block" }));
    (steps.len() > 1).then_some(steps)
}

struct Keeper<'o> {
    owners: &'o [String],
    lengths_change: bool,
}

impl Keeper<'_> {
    /// That every second bitmap of a node comes as one that is to be stored: where nothing can it is refused, unless
    /// bitmaps follow the data, and then comes as one that is not.
    fn persistent(&self, BitmapStep { bitmap, change }: BitmapStep) -> Option<Value> {
        let BitmapChange::Add { disabled } = change else { return None };
        let (node, name) = self.bitmap(bitmap);
        let stored = bitmap % 2 == 1 && *node != self.owners[0];
        let data = json!({ "node": node, "name": name, "granularity": granularity(bitmap),
                           "disabled": disabled, "persistent": true });
        stored.then(|| attempt("block-dirty-bitmap-add", data))
    }

    fn changes(&self, changes: &[BitmapStep]) -> Option<Value> {
        let mut changes: Vec<_> = changes.iter().filter_map(|step| self.change(*step)).collect();
        if changes.len() < 2 {
            return changes.pop().map(|(command, data)| attempt(command, data));
        }
        let actions = changes.into_iter().map(|(kind, data)| json!({ "type": kind, "data": data }));
        Some(attempt("transaction", json!({ "actions": actions.collect::<Vec<_>>() })))
    }

    fn change(&self, BitmapStep { bitmap, change }: BitmapStep) -> Option<(&'static str, Value)> {
        let (node, name) = self.bitmap(bitmap);
        Some(match change {
            BitmapChange::Add { disabled } => {
                let granularity = granularity(bitmap);
                let data = json!({ "node": node, "name": name, "granularity": granularity,
                                   "disabled": disabled });
                ("block-dirty-bitmap-add", data)
            }
            BitmapChange::Merge(other) => {
                let is_finer = granularity(bitmap) < granularity(other);
                let (finer, coarser) = if is_finer { (bitmap, other) } else { (other, bitmap) };
                let ((from, source), (node, target)) = (self.bitmap(finer), self.bitmap(coarser));
                if from != node && self.lengths_change {
                    return None;
                }
                let source = json!({ "node": from, "name": source });
                let data = json!({ "node": node, "target": target, "bitmaps": [source] });
                ("block-dirty-bitmap-merge", data)
            }
            BitmapChange::Remove => {
                ("block-dirty-bitmap-remove", json!({ "node": node, "name": name }))
            }
            BitmapChange::Clear => {
                ("block-dirty-bitmap-clear", json!({ "node": node, "name": name }))
            }
            BitmapChange::Record(on) => {
                let command =
                    if on { "block-dirty-bitmap-enable" } else { "block-dirty-bitmap-disable" };
                (command, json!({ "node": node, "name": name }))
            }
        })
    }

    /// Whose the bitmap of this index is, and its name.
    fn bitmap(&self, index: usize) -> (&String, String) {
        let index = index % GRANULARITIES.len();
        (&self.owners[index % self.owners.len()], format!("b{index}"))
    }
}

impl Device<'_> {
    /// Who does it.
    pub fn bitmap_keeper(&self) -> Option<(String, Vec<Value>)> {
        let owners = [vec![self.id()], self.nodes()].concat();
        let steps = keeper(&self.plan.bitmaps, &owners, self.changes_lengths())?;
        Some((format!("bitmaps{}", self.number), steps))
    }

    fn changes_lengths(&self) -> bool {
        let resizes = |step: &AdminStep| matches!(step, AdminStep::Resize { .. });
        self.plan.resizes || self.plan.admin.iter().any(resizes)
    }
}
