//! Dirty bitmaps, to the granule: every command about bitmaps, and every write, has taken place at one moment between
//! its begin and its end, a transaction as a whole; and what the bitmaps are is what one such order makes them.
//!
//! *Sound*: what was written while a bitmap recorded is dirty. *Precise*: nothing else is, beyond its granularity. A
//! write that leaves the view unchanged is none.
//!
//! It is told of writes from where their data are down: before that, whoever reads the node may still find what was
//! there, and a bitmap that is cleared must not lose them.
//!
//! A bitmap is a node's, of all that is written to it; or a device's, of what is written through it, whatever node it
//! leads to. One that is *persistent* is stored when its node goes away, and there again when one of that name comes;
//! it may follow the data to another node, and is *unplaced* where it cannot be stored: with its node it is lost.

use crate::{Property, Violation};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use blockyard_units::ByteRange;
use core::fmt;

/// Whose a bitmap is, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BitmapOwner {
    /// A node's.
    Node(String),
    /// A device's.
    Device(String),
}

impl fmt::Display for BitmapOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Device(name) => write!(f, "device {name}"),
        }
    }
}

/// A bitmap by its owner and its own name.
pub type BitmapName = (BitmapOwner, String);

/// What happens to bitmaps.
#[derive(Clone, Debug)]
pub enum BitmapChange {
    /// A new one, clean.
    Add {
        /// Whose.
        name: BitmapName,
        /// Bytes a granule.
        granularity: u64,
        /// Whether writes are recorded in it.
        records: bool,
        /// Whether it outlives its node.
        persistent: bool,
        /// Whether it should, and cannot.
        unplaced: bool,
    },
    /// It is there no more.
    Remove(BitmapName),
    /// It is clean.
    Clear(BitmapName),
    /// From now on writes are recorded in it, or not.
    Record(BitmapName, bool),
    /// What is dirty in others is in this one too.
    Merge(BitmapName, Vec<BitmapName>),
    /// A write; if it was about the length of what its owner shows, that is the new one in bytes.
    Write(BitmapOwner, ByteRange, Option<u64>),
}

/// A bitmap as it is, or as it is to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitmapView {
    /// Bytes a granule.
    pub granularity: u64,
    /// Whether writes are recorded in it.
    pub records: bool,
    /// Whether it outlives its node.
    pub persistent: bool,
    /// Whether it should, and cannot.
    pub unplaced: bool,
    /// The dirty granules.
    pub dirty: BTreeSet<u64>,
}

type Bitmaps = BTreeMap<BitmapName, BitmapView>;

/// What there may be.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Possible {
    bitmaps: Bitmaps,
    /// Those of nodes that are not there.
    stored: Bitmaps,
    /// Which of those under way have taken place.
    done: BTreeSet<u64>,
}

/// Sees commands and writes begin and end; begins without bitmaps.
pub struct DirtyBitmaps {
    possible: BTreeSet<Possible>,
    under_way: BTreeMap<u64, Vec<BitmapChange>>,
    forgotten: BTreeSet<BitmapName>,
    count: u64,
}

impl Default for DirtyBitmaps {
    fn default() -> Self {
        let possible = BTreeSet::from([Default::default()]);
        let (under_way, forgotten) = (BTreeMap::new(), BTreeSet::new());
        Self { possible, under_way, forgotten, count: 0 }
    }
}

impl DirtyBitmaps {
    /// These begin, to take place at one moment; their number.
    pub fn begin(&mut self, changes: Vec<BitmapChange>) -> u64 {
        self.count += 1;
        self.under_way.insert(self.count, changes);
        self.count
    }

    /// They have taken place by now, or they never will.
    ///
    /// # Errors
    /// In no order could they.
    ///
    /// # Panics
    /// If they have not begun.
    pub fn end(&mut self, number: u64, took_place: bool) -> Result<(), Violation> {
        if took_place {
            self.possible = self.reachable();
        }
        let changes = self.under_way.remove(&number).expect("what-ends-has-begun");
        let possible = core::mem::take(&mut self.possible).into_iter();
        let fits = possible.filter_map(|mut possible| {
            (possible.done.remove(&number) == took_place).then_some(possible)
        });
        self.possible = fits.collect();
        match self.possible.is_empty() {
            true => broken(true, format!("took place, and in no order could: {changes:?}")),
            false => Ok(()),
        }
    }

    /// Of this one nothing is known any more.
    pub fn forget(&mut self, name: BitmapName) {
        self.each(|possible| drop(possible.bitmaps.remove(&name)));
        self.forgotten.insert(name);
    }

    /// A node is there no more: its persistent bitmaps are stored, and the others are gone.
    pub fn node_is_gone(&mut self, node: &str) {
        self.each(|Possible { bitmaps, stored, .. }| {
            take_those_of(stored, node);
            let gone = take_those_of(bitmaps, node).into_iter();
            stored.extend(gone.filter(|(_, bitmap)| bitmap.persistent && !bitmap.unplaced));
        });
    }

    /// A node has taken another's place: persistent bitmaps follow the data. `stores`: it can store them.
    pub fn node_takes_place(&mut self, of: &str, node: &str, stores: bool) {
        // Each command under way has taken place, or never will for these.
        self.possible = self.reachable();
        self.each(|Possible { bitmaps, .. }| {
            let (follow, stay): (Bitmaps, Bitmaps) =
                take_those_of(bitmaps, of).into_iter().partition(|(_, bitmap)| bitmap.persistent);
            bitmaps.extend(stay);
            for ((_, name), moved) in follow {
                let there = bitmaps.entry((BitmapOwner::Node(node.into()), name));
                let there = there.or_insert_with(|| BitmapView { records: false, ..moved.clone() });
                for granule in &moved.dirty {
                    there.mark(ByteRange::new(granule * moved.granularity, moved.granularity));
                }
                there.records |= moved.records;
                (there.persistent, there.unplaced) = (true, !stores);
            }
        });
    }

    /// A node has come, with the bitmaps that are stored.
    pub fn node_is_there(&mut self, node: &str) {
        self.each(|Possible { bitmaps, stored, .. }| {
            bitmaps.append(&mut take_those_of(stored, node))
        });
    }

    fn each(&mut self, change: impl Fn(&mut Possible)) {
        let all = core::mem::take(&mut self.possible).into_iter();
        let changed = all.map(|mut possible| {
            change(&mut possible);
            possible
        });
        self.possible = changed.collect();
    }

    /// These are all the bitmaps there are.
    ///
    /// # Errors
    /// No order makes them so.
    pub fn check(&self, found: &Bitmaps) -> Result<(), Violation> {
        let possible: Vec<Bitmaps> =
            self.reachable().into_iter().map(|possible| possible.bitmaps).collect();
        let found: Bitmaps =
            found.clone().into_iter().filter(|(name, _)| !self.forgotten.contains(name)).collect();
        if possible.contains(&found) {
            return Ok(());
        }
        let text = |(owner, name): &BitmapName| format!("bitmap {name} of {owner}");
        let always = |holds: &dyn Fn(&Bitmaps) -> bool| possible.iter().all(holds);
        for (name, bitmap) in possible.iter().flatten() {
            if !found.contains_key(name) && always(&|all| all.contains_key(name)) {
                return broken(true, format!("{} is gone", text(name)));
            }
            let lost = |granule: u64| {
                !is_dirty(&found, name, granule) && always(&|all| is_dirty(all, name, granule))
            };
            if let Some(granule) = bitmap.dirty.iter().find(|granule| lost(**granule)) {
                let name = text(name);
                return broken(true, format!("{name} lacks granule {granule}: it was written"));
            }
        }
        for (name, bitmap) in &found {
            let extra = |granule: u64| always(&|all| !is_dirty(all, name, granule));
            if let Some(granule) = bitmap.dirty.iter().find(|granule| extra(**granule)) {
                let name = text(name);
                return broken(false, format!("{name} has granule {granule}: nothing changed it"));
            }
        }
        broken(true, format!("no order of commands and writes makes of the bitmaps: {found:?}"))
    }

    /// A bitmap that says that another number of its granules is dirty.
    pub fn miscounted((owner, name): &BitmapName, view: &BitmapView, count: u64) -> Violation {
        let dirty = view.dirty.len();
        let message = format!("bitmap {name} of {owner} counts {count} granules and has {dirty}");
        Property::BitmapSoundness.broken(message)
    }

    /// What the bitmaps may be if some of those under way have taken place.
    fn reachable(&self) -> BTreeSet<Possible> {
        let mut all = self.possible.clone();
        let mut new: Vec<_> = all.iter().cloned().collect();
        while let Some(possible) = new.pop() {
            let left = self.under_way.iter().filter(|(n, _)| !possible.done.contains(n));
            for (number, changes) in left {
                let Some(bitmaps) = after(possible.bitmaps.clone(), changes) else { continue };
                let mut next = Possible { bitmaps, ..possible.clone() };
                next.done.insert(*number);
                if all.insert(next.clone()) {
                    new.push(next);
                }
            }
        }
        all
    }
}

/// Takes those of a node out.
fn take_those_of(all: &mut Bitmaps, node: &str) -> Bitmaps {
    let of = BitmapOwner::Node(node.into());
    let (taken, rest) = core::mem::take(all).into_iter().partition(|(name, _)| name.0 == of);
    *all = rest;
    taken
}

fn is_dirty(all: &Bitmaps, name: &BitmapName, granule: u64) -> bool {
    all.get(name).is_some_and(|bitmap| bitmap.dirty.contains(&granule))
}

/// What the changes make of the bitmaps; nothing, if they cannot take place.
fn after(mut all: Bitmaps, changes: &[BitmapChange]) -> Option<Bitmaps> {
    for change in changes {
        match change {
            BitmapChange::Add { name, granularity, records, persistent, unplaced } => {
                let (granularity, records) = (*granularity, *records);
                let (persistent, unplaced, dirty) = (*persistent, *unplaced, BTreeSet::new());
                let new = BitmapView { granularity, records, persistent, unplaced, dirty };
                if all.insert(name.clone(), new).is_some() {
                    return None;
                }
            }
            BitmapChange::Remove(name) => drop(all.remove(name)?),
            BitmapChange::Clear(name) => all.get_mut(name)?.dirty.clear(),
            BitmapChange::Record(name, records) => all.get_mut(name)?.records = *records,
            BitmapChange::Merge(target, sources) => {
                for source in sources {
                    let BitmapView { granularity, dirty, .. } = all.get(source)?.clone();
                    let target = all.get_mut(target)?;
                    for granule in dirty {
                        target.mark(ByteRange::new(granule * granularity, granularity));
                    }
                }
            }
            BitmapChange::Write(owner, range, len) => {
                for (_, bitmap) in all.iter_mut().filter(|((of, _), _)| of == owner) {
                    bitmap.write(*range, *len);
                }
            }
        }
    }
    Some(all)
}

impl BitmapView {
    fn mark(&mut self, range: ByteRange) {
        if !range.is_empty() {
            let end = range.end().div_ceil(self.granularity);
            self.dirty.extend(range.start() / self.granularity..end);
        }
    }

    fn write(&mut self, range: ByteRange, len: Option<u64>) {
        let len = len.unwrap_or(u64::MAX);
        self.dirty.retain(|granule| granule * self.granularity < len);
        if self.records {
            self.mark(range.intersection(&ByteRange::between(0, len)));
        }
    }
}

fn broken(unsound: bool, message: String) -> Result<(), Violation> {
    let property = if unsound { Property::BitmapSoundness } else { Property::BitmapPrecision };
    Err(property.broken(message))
}

#[cfg(test)]
mod tests;
